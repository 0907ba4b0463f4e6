use proptest::prelude::*;

use super::*;

/// A stream that writes numbered messages and believes what it is told, and readers that come,
/// go, and come again from where they were.
struct Crowd {
    session: Session<u32>,
    scanner: Scanner,
    scratch: Vec<u8>,
    now: Moment,
    output: Vec<u8>,
    /// Messages that the stream wrote.
    written: u32,
    /// What the stream was told that we have.
    handled: u32,
    /// Octets of messages that were given to the stream by the session.
    tickets: u32,
    tabs: Vec<Tab>,
}

/// One who reads.
#[derive(Default)]
struct Tab {
    ticket: Option<u32>,
    kind: Option<Kind>,
    cursor: Option<Cursor>,
    has: Vec<u64>,
    gaps: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Attach(usize, u8),
    /// `true`: what was under way is lost.
    Detach(usize, bool),
    Ack(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4_u8).prop_map(Step::Write),
        5 => (0..3_usize, 0..3_u8).prop_map(|(tab, kind)| Step::Attach(tab, kind)),
        3 => (0..3_usize, any::<bool>()).prop_map(|(tab, lost)| Step::Detach(tab, lost)),
        1 => (0..3_usize).prop_map(Step::Ack),
        2 => (1..100_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

impl Crowd {
    fn new(rules: Rules) -> Self {
        let talk = Talk::open(rules);
        let mut crowd = Self {
            session: talk.session,
            scanner: Scanner::new(),
            scratch: Vec::new(),
            now: talk.now,
            output: Vec::new(),
            written: 0,
            handled: 0,
            tickets: 0,
            tabs: Vec::new(),
        };
        crowd.written = crowd.session.received;
        crowd.tabs.resize_with(3, Tab::default);
        for tab in &mut crowd.tabs {
            tab.cursor = Some(Cursor {
                epoch: 0xe,
                offset: 0,
            });
        }
        crowd
    }

    /// `lost`: a ticket whose client no longer hears.
    fn act(&mut self, actions: Vec<Action<u32>>, lost: Option<u32>) {
        let mut actions = actions;
        let mut taken = Vec::new();
        loop {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Stream(octets) => self.told(&octets),
                    Action::Event { ticket, event } if Some(ticket) != lost => {
                        let mut json = Vec::new();
                        event.write(&mut json);
                        let value = serde_json::from_slice(&json).unwrap();
                        self.tab(ticket).take(&value);
                        taken.push(ticket);
                    }
                    Action::Answer { ticket, answer } => {
                        let tab = self.tab(ticket);
                        tab.ticket = None;
                        if Some(ticket) != lost {
                            let page: Value = serde_json::from_slice(&answer.body).unwrap();
                            for event in page["events"].as_array().unwrap() {
                                tab.take(event);
                            }
                            let next = Cursor::parse(page["next"].as_str().unwrap());
                            assert_eq!(next, tab.cursor.or(next));
                            tab.cursor = next;
                        }
                    }
                    Action::Begin { .. } | Action::Event { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            let (output, now) = (&self.output, self.now);
            let (scanner, scratch) = (&mut self.scanner, &mut self.scratch);
            let octets = self
                .session
                .settle(output, ADDRESS, scanner, scratch, now, &mut actions);
            self.output.drain(..octets);
            let is_room = !taken.is_empty();
            for ticket in taken.drain(..) {
                self.session.taken(ticket, now, &mut actions);
            }
            if actions.is_empty() && !is_room {
                return;
            }
        }
    }

    /// Never more than was written, never less than before, and never what nobody was given.
    fn told(&mut self, octets: &[u8]) {
        let text = str::from_utf8(octets).unwrap();
        let handled = text.split('\'').nth(3).and_then(|h| h.parse::<u32>().ok());
        let handled = handled.unwrap_or_else(|| panic!("{text}"));
        assert!(self.handled <= handled && handled <= self.written, "{text}");
        self.handled = handled;
    }

    fn tab(&mut self, ticket: u32) -> &mut Tab {
        let mut tabs = self.tabs.iter_mut();
        tabs.find(|tab| tab.ticket == Some(ticket))
            .expect("a reader that is there")
    }

    fn step(&mut self, step: &Step) {
        let mut actions = Vec::new();
        let mut lost = None;
        match *step {
            Step::Write(count) => {
                for _ in 0..count {
                    self.written += 1;
                    let written = self.written;
                    let message = format!("<message id='{written}'><body>x</body></message>");
                    self.output.extend_from_slice(message.as_bytes());
                }
            }
            Step::Attach(at, kind) if self.tabs[at].ticket.is_none() => {
                let kind = [Kind::WebSocket, Kind::EventStream, poll()][usize::from(kind)];
                self.tickets += 1;
                let tab = &mut self.tabs[at];
                tab.ticket = Some(self.tickets);
                tab.kind = Some(kind);
                let cursor = tab.cursor;
                self.session
                    .attach(self.tickets, kind, cursor, ADDRESS, self.now, &mut actions);
            }
            Step::Detach(at, dies) => {
                if let Some(ticket) = self.tabs[at].ticket {
                    if dies {
                        // More comes, which this one does not hear.
                        lost = Some(ticket);
                        self.written += 1;
                        let message = format!("<message id='{}'/>", self.written);
                        self.output.extend_from_slice(message.as_bytes());
                        self.act(Vec::new(), lost);
                    }
                    self.session.detach(ticket, self.now, &mut actions);
                    self.act(actions, lost);
                    self.tabs[at].ticket = None;
                    return;
                }
            }
            Step::Ack(at) => {
                let tab = &self.tabs[at];
                if let (Some(ticket), Some(cursor), Some(Kind::WebSocket)) =
                    (tab.ticket, tab.cursor, tab.kind)
                {
                    let body = format!("{{\"type\":\"ack\",\"cursor\":\"{cursor}\"}}");
                    let asked = request::read(body.as_bytes(), None, &mut Scanner::new(), &BOUNDS);
                    self.session
                        .request(ticket, asked.unwrap(), self.now, &mut actions);
                }
            }
            Step::Wait(seconds) => {
                self.now = self.now.after(Duration::from_secs(seconds));
                self.session.expire(self.now, &mut actions);
            }
            Step::Attach(..) => {}
        }
        self.act(actions, lost);
    }
}

impl Tab {
    fn take(&mut self, event: &Value) {
        let id = Cursor::parse(event["id"].as_str().unwrap()).unwrap();
        match event["type"].as_str().unwrap() {
            "ready" => assert_eq!(Some(id), self.cursor),
            "gap" => {
                self.gaps += 1;
                self.cursor = Some(id);
            }
            _ => {
                // The very next one: nothing twice, nothing left out, nothing out of order.
                let cursor = self.cursor.unwrap();
                assert_eq!(id.offset, cursor.offset + 1);
                self.cursor = Some(id);
                self.has.push(id.offset);
            }
        }
    }
}

fn run(steps: &[Step], rules: Rules) -> Crowd {
    let mut crowd = Crowd::new(rules);
    for step in steps {
        crowd.step(step);
    }
    // In the end everybody reads.
    for at in 0..3 {
        crowd.step(&Step::Attach(at, 0));
    }
    for _ in 0..2 {
        crowd.step(&Step::Attach(0, 2));
        crowd.step(&Step::Attach(1, 2));
        crowd.step(&Step::Attach(2, 2));
    }
    assert!(crowd.output.is_empty());
    crowd
}

proptest! {
    /// Whoever comes and goes, whenever: each reader has every event once, in order.
    #[test]
    fn each_reader_has_every_event_once(steps in steps()) {
        let patient = Rules {
            grace: Duration::from_secs(1_000_000),
            replay: Duration::from_secs(1_000_000),
            replay_octets_max: 1_000_000,
            replay_events_max: 1_000_000,
            backlog_octets_max: 1_000_000,
            ..Rules::default()
        };
        let crowd = run(&steps, patient);
        for tab in &crowd.tabs {
            prop_assert_eq!(tab.gaps, 0);
            prop_assert_eq!(tab.cursor, Some(crowd.session.cursor()));
            let all: Vec<u64> = (1..crowd.session.next).collect();
            prop_assert_eq!(&tab.has, &all);
        }
    }

    /// Where little is kept there are gaps, each told; what comes is still in order and once.
    #[test]
    fn gaps_are_told(steps in steps()) {
        let forgetful = Rules {
            grace: Duration::from_secs(1_000_000),
            replay: Duration::from_secs(20),
            replay_octets_max: 300,
            replay_events_max: 3,
            backlog_octets_max: 500,
            ..Rules::default()
        };
        let crowd = run(&steps, forgetful);
        for tab in &crowd.tabs {
            prop_assert_eq!(tab.cursor, Some(crowd.session.cursor()));
        }
        prop_assert!(crowd.session.log.kept.len() <= 4, "{}", crowd.session.log.kept.len());
    }
}
