//! What the sessions of a run are for, and how they are dealt to threads.

use std::time::Duration;

/// So many sessions of each sort, and what they do. Every kind of scenario is one of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Pairs that talk; two sessions each.
    pub pairs: usize,
    pub chat: Option<Chat>,
    /// Groups whose members all have each other in their rosters.
    pub groups: usize,
    pub presence: Option<Presence>,
    /// Sessions that come and go.
    pub churning: usize,
    pub churn: Option<Churn>,
    /// Sessions that log in and stay.
    pub idle: usize,
    /// Sessions that log in once and out again at once.
    pub passing: usize,
    /// Sessions that listen to a topic, and what comes there.
    pub listening: usize,
    pub broadcast: Option<Broadcast>,
    /// White space is sent in each session that often.
    pub keepalive: Option<Duration>,
    /// How sessions get lost, and come back.
    pub cut: Option<Cut>,
    /// Whose connections are cut.
    pub ends: Ends,
}

impl Task {
    pub fn sessions(&self) -> usize {
        let ends = self.pairs * 2 + self.groups * self.group_size();
        ends + self.churning + self.idle + self.passing + self.listening + self.publishing()
    }

    /// One publishes where there is a topic.
    pub fn publishing(&self) -> usize {
        usize::from(self.broadcast.is_some())
    }

    pub fn group_size(&self) -> usize {
        self.presence.map_or(0, |presence| presence.group_size)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chat {
    pub pace: Pace,
    pub body_octets: usize,
    pub answer: Answer,
    pub address: Address,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: so many are under way in each pair.
    Window(u32),
    /// Open loop: so many a second over all pairs, whatever the server does.
    Rate(f64),
    /// The even end sends so many, a burst at a time, to a peer that is not there yet.
    Store { messages: u32, burst: u32 },
    /// Both ends send so many right before the connections are cut.
    Cut(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Answer {
    /// The receiver of a message sends the next one: both ends talk.
    Echo,
    /// The sender sends the next one when its message has arrived: one end talks, one listens.
    OneWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Address {
    Bare,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Presence {
    /// Everybody's contacts, and oneself.
    pub group_size: usize,
    /// Presence changes in a second over all sessions, in an open loop.
    pub changes_per_second: f64,
    pub subscriptions: Subscriptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subscriptions {
    /// Ask each contact, which approves (RFC 6121 section 3.1). What exists already stays.
    Ask,
    /// Put each contact on the roster first, as clients with an "add" button do, then ask it.
    Roster,
    /// They exist, from an earlier run or an import.
    Exist,
}

/// One publishes, many listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    pub topics: Topics,
    pub topic: String,
    /// What lets the publisher in.
    pub key: Option<String>,
    /// What stands before the topic in the paths of nchan.
    pub subscribe_path: String,
    pub publish_path: String,
    /// Events in a second, in an open loop.
    pub events_per_second: f64,
    pub event_octets: usize,
}

/// Who has the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Topics {
    Encke,
    /// nginx with the module nchan: it knows no logins.
    Nchan,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// How long a session stays.
    pub stay: Duration,
    /// The share of departures, in percent, that are a cut instead of a good-bye.
    pub abrupt: u32,
}

/// How sessions get lost. All come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cut {
    /// The connection is reset, as by a machine that was switched off and on.
    Reset,
    /// The connection is closed without the end of the stream.
    Close,
    /// The server goes away by itself, or is killed by somebody else, and comes back.
    Server,
}

/// Which ends of a pair lose their connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ends {
    /// Both.
    #[default]
    Both,
    /// One. What the other one sends is acknowledged to it, and so must arrive.
    One,
}

/// What a place of a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Talk,
    Watch,
    Churn,
    Idle,
    Pass,
    Listen,
    Publish,
}

/// The share of one thread. Its places are numbered by role in the order of [`Role`].
#[derive(Clone, Debug)]
pub struct Deal {
    thread: usize,
    threads: usize,
    group_size: usize,
    /// Where the places of each role end.
    ends: [usize; ROLES.len()],
    /// The first user of each role, over all threads.
    bases: [usize; ROLES.len()],
}

const ROLES: [Role; 7] = [
    Role::Talk,
    Role::Watch,
    Role::Churn,
    Role::Idle,
    Role::Pass,
    Role::Listen,
    Role::Publish,
];

impl Deal {
    pub fn new(task: &Task, threads: usize, thread: usize) -> Self {
        let size = task.group_size().max(1);
        let sorts = [
            (task.pairs, 2),
            (task.groups, size),
            (task.churning, 1),
            (task.idle, 1),
            (task.passing, 1),
            (task.listening, 1),
            (task.publishing(), 1),
        ];
        let (mut ends, mut bases) = ([0; ROLES.len()], [0; ROLES.len()]);
        let (mut end, mut base) = (0, 0);
        for (sort, (units, unit)) in sorts.into_iter().enumerate() {
            bases[sort] = base;
            base += units * unit;
            end += (units / threads + usize::from(thread < units % threads)) * unit;
            ends[sort] = end;
        }
        Self {
            thread,
            threads,
            group_size: size,
            ends,
            bases,
        }
    }

    pub fn sessions(&self) -> usize {
        self.ends[ROLES.len() - 1]
    }

    /// The places of a role.
    pub fn places(&self, role: Role) -> std::ops::Range<usize> {
        let sort = role as usize;
        let start = if sort == 0 { 0 } else { self.ends[sort - 1] };
        start..self.ends[sort]
    }

    /// The first user of a role, over all threads.
    pub fn first_user(&self, role: Role) -> usize {
        self.bases[role as usize]
    }

    pub fn role(&self, place: usize) -> Role {
        let sort = self.ends.iter().position(|&end| place < end);
        ROLES[sort.unwrap_or(ROLES.len() - 1)]
    }

    /// The number of the user at a place, over all threads. Pairs and groups stay within a thread,
    /// so that what they send each other is sent and received by one clock.
    pub fn user(&self, place: usize) -> usize {
        let role = self.role(place);
        let unit = match role {
            Role::Talk => 2,
            Role::Watch => self.group_size,
            _ => 1,
        };
        let within = place - self.places(role).start;
        let index = (within / unit * self.threads + self.thread) * unit + within % unit;
        self.bases[role as usize] + index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Task {
        Task {
            pairs: 7,
            groups: 5,
            presence: Some(Presence {
                group_size: 4,
                changes_per_second: 1.0,
                subscriptions: Subscriptions::Ask,
            }),
            churning: 3,
            idle: 11,
            passing: 2,
            listening: 5,
            broadcast: Some(Broadcast {
                topics: Topics::Nchan,
                topic: "news".to_owned(),
                key: None,
                subscribe_path: "/sub/".to_owned(),
                publish_path: "/pub/".to_owned(),
                events_per_second: 1.0,
                event_octets: 100,
            }),
            ..Task::default()
        }
    }

    #[test]
    fn every_user_is_dealt_once() {
        let task = mixed();
        for threads in 1..9 {
            let mut users = Vec::new();
            for thread in 0..threads {
                let deal = Deal::new(&task, threads, thread);
                users.extend((0..deal.sessions()).map(|place| deal.user(place)));
            }
            users.sort_unstable();
            let all: Vec<usize> = (0..task.sessions()).collect();
            assert_eq!(users, all, "{threads} threads");
        }
    }

    #[test]
    fn pairs_and_groups_are_neighbours_in_one_thread() {
        let deal = Deal::new(&mixed(), 2, 1);
        for place in deal.places(Role::Talk).step_by(2) {
            assert_eq!(deal.user(place) ^ 1, deal.user(place + 1));
        }
        let watching = deal.places(Role::Watch);
        let first = deal.user(watching.start);
        let group: Vec<usize> = watching.take(4).map(|place| deal.user(place)).collect();
        assert_eq!(group, (first..first + 4).collect::<Vec<_>>());
    }

    #[test]
    fn places_have_the_role_of_their_range() {
        let deal = Deal::new(&mixed(), 1, 0);
        let count = |role| deal.places(role).len();
        let counts = ROLES.map(count);
        assert_eq!(counts, [14, 20, 3, 11, 2, 5, 1]);
        assert_eq!(deal.role(0), Role::Talk);
        assert_eq!(deal.role(14), Role::Watch);
        assert_eq!(deal.role(49), Role::Pass);
        assert_eq!(deal.role(55), Role::Publish);
    }
}
