use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A client that sends its requests in whatever order and as often as it likes, within the window,
/// over links that break, and the server behind its session.
struct World {
    session: Session<u32>,
    scanner: Scanner,
    scratch: Vec<u8>,
    now: Moment,
    tickets: u32,
    /// Of the next request that the client makes.
    rid: u64,
    /// Made and not answered.
    open: Vec<u64>,
    /// What each ticket asked.
    asked: BTreeMap<u32, u64>,
    /// What the client has, by number.
    answers: BTreeMap<u64, String>,
    output: Vec<u8>,
    written: u32,
    /// What came out on the server's side.
    taken: Vec<u64>,
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A new request is made. It need not arrive.
    Make,
    /// A request without an answer arrives, once more if it did before.
    Send(prop::sample::Index),
    /// As `Send`, but the link breaks before the answer is there.
    Lose(prop::sample::Index),
    /// The stream writes an item.
    Write,
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Make),
        6 => any::<prop::sample::Index>().prop_map(Event::Send),
        2 => any::<prop::sample::Index>().prop_map(Event::Lose),
        3 => Just(Event::Write),
        1 => (1..20_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..80)
}

fn payload(rid: u64) -> String {
    format!("<body{NAMESPACE} rid='{rid}' to='a' hold='2'><r xmlns='urn:r' n='{rid}'/></body>")
}

impl World {
    fn new() -> Self {
        let mut scanner = Scanner::new();
        let first = payload(FIRST);
        let request = request::read(first.as_bytes(), &mut scanner, &BOUNDS).unwrap();
        let rules = Rules {
            repeats_max: u8::MAX,
            inactivity: Duration::from_secs(1_000_000),
            // Of two answers that carry something, one is too much.
            replay_octets_max: 150,
            ..Rules::default()
        };
        let mut actions = Vec::new();
        let session = Session::create(request, 0, "SID", &rules, Moment(0), &mut actions);
        let mut world = Self {
            session: session.unwrap(),
            scanner,
            scratch: Vec::new(),
            now: Moment(0),
            tickets: 0,
            rid: FIRST + 1,
            open: vec![FIRST],
            asked: BTreeMap::from([(0, FIRST)]),
            answers: BTreeMap::new(),
            output: Vec::new(),
            written: 0,
            taken: Vec::new(),
        };
        world.carry_out(actions, false);
        world.settle(false);
        world
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Make => {
                // No further ahead of what is not answered than requests were granted.
                if self.open.first().is_none_or(|open| self.rid < open + 3) {
                    self.open.push(self.rid);
                    self.rid += 1;
                }
            }
            Event::Send(index) => self.send(index, false),
            Event::Lose(index) => self.send(index, true),
            Event::Write => {
                self.output.extend_from_slice(
                    format!("<w xmlns='urn:w' n='{}'/>", self.written).as_bytes(),
                );
                self.written += 1;
                self.settle(false);
            }
            Event::Wait(seconds) => {
                self.now = self.now.after(Duration::from_secs(*seconds));
                let mut actions = Vec::new();
                self.session.expire(self.now, &mut actions);
                self.carry_out(actions, false);
                self.settle(false);
            }
        }
    }

    fn send(&mut self, index: &prop::sample::Index, loses: bool) {
        if self.open.is_empty() {
            return;
        }
        self.arrive(*index.get(&self.open), loses);
    }

    fn arrive(&mut self, rid: u64, loses: bool) {
        self.tickets += 1;
        self.asked.insert(self.tickets, rid);
        let payload = payload(rid);
        let mut actions = Vec::new();
        let request = request::read(payload.as_bytes(), &mut self.scanner, &BOUNDS).unwrap();
        self.session
            .receive(request, self.tickets, self.now, &mut actions);
        self.carry_out(actions, loses);
        self.settle(loses);
        if loses {
            self.asked.remove(&self.tickets);
            self.session.gone(self.tickets, self.now);
        }
    }

    fn settle(&mut self, loses: bool) {
        let mut actions = Vec::new();
        let (scanner, scratch) = (&mut self.scanner, &mut self.scratch);
        let session = &mut self.session;
        let taken = session.settle(&self.output, scanner, scratch, self.now, &mut actions);
        self.output.drain(..taken);
        self.carry_out(actions, loses);
    }

    /// Answers to the newest ticket do not arrive when the link `loses` them.
    fn carry_out(&mut self, actions: Vec<Action<'_, u32>>, loses: bool) {
        for action in actions {
            match action {
                Action::Elements(elements) => {
                    let text = String::from_utf8(elements.into_owned()).unwrap();
                    let number = text.split('\'').nth(3).unwrap();
                    self.taken.push(number.parse().unwrap());
                }
                Action::Answer {
                    ticket,
                    status: 200,
                    body,
                } => {
                    // One answer for each request of HTTP.
                    let rid = self.asked.remove(&ticket).unwrap();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    assert!(!body.contains("terminate"), "{body}");
                    if body.contains("type='error'") || loses && ticket == self.tickets {
                        continue;
                    }
                    self.open.retain(|open| *open != rid);
                    let former = self.answers.insert(rid, body.clone());
                    assert!(former.is_none_or(|former| former == body));
                }
                Action::Open(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everything arrives at last, the oldest first.
    fn conclude(&mut self) {
        for _ in 0..100 {
            if self.open.is_empty() && self.output.is_empty() {
                break;
            }
            if self.open.is_empty() {
                self.event(&Event::Make);
            }
            for rid in self.open.clone() {
                if self.open.contains(&rid) {
                    self.arrive(rid, false);
                }
            }
            self.now = self.now.after(Duration::from_secs(60));
            let mut actions = Vec::new();
            self.session.expire(self.now, &mut actions);
            self.carry_out(actions, false);
        }
    }
}

const FIRST: u64 = 1_000;

proptest! {
    /// What either side sends arrives at the other exactly once and in order, whatever the network
    /// does with the requests, and no request of HTTP is answered twice.
    #[test]
    fn everything_arrives_once_and_in_order(events in events()) {
        let mut world = World::new();
        for event in &events {
            world.event(event);
        }
        world.conclude();
        prop_assert!(world.open.is_empty() && world.output.is_empty());
        let made: Vec<u64> = (FIRST..world.rid).collect();
        prop_assert_eq!(&world.taken, &made);
        prop_assert_eq!(world.answers.keys().copied().collect::<Vec<_>>(), made);
        let received: String = world.answers.into_values().collect();
        let items = received.split("<w xmlns='urn:w' n='").skip(1);
        let items: Vec<u32> = items.map(|item| item.split('\'').next().unwrap().parse().unwrap())
            .collect();
        prop_assert_eq!(items, (0..world.written).collect::<Vec<_>>());
    }
}
