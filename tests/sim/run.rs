//! One run: everything follows from its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use encke::base::limits::Limits;
use encke::engine::{Entry, HttpPolicy};
use encke::store::crash_files::Faults;
use encke::store::{Kind, Refusal};
use encke::testing::{Crash, Keeping, Network, Plan, Plant, Random, WireId, World};
use encke::transport::json::topic::Topics;

use crate::device::{Device, State};
use crate::http::Answer;
use crate::ledger::Ledger;
use crate::page::{Page, Slip, TOPIC};

/// Who has it may publish.
const KEY: &str = "0123456789abcdef";

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Style {
    pub steps: usize,
    pub shards: u16,
    pub keeping: Keeping,
    pub plant: Plant,
    pub network: Network,
    /// Whether limits are tiny.
    pub tight: bool,
    /// Whether storage refuses now and then.
    pub refuses: bool,
    /// Crashes and restarts, in a thousand steps.
    pub crashes: usize,
    /// Who speaks the JSON protocol.
    pub pages: Pages,
    /// Whether they say much.
    pub long: bool,
    pub slip: Slip,
}

/// Who speaks the JSON protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    Nobody,
    /// Some accounts have a page beside their devices.
    Some,
    /// All accounts have pages, and devices stay at home.
    Only,
}

impl Style {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut of_pages = Random::new(seed ^ 0x7ab);
        Self {
            steps: 150 + random.below(250),
            shards: 1 + random.below(3) as u16,
            keeping: *random.pick(&[Keeping::Memory, Keeping::Device]),
            plant: Plant::Nothing,
            network: *random.pick(&[Network::Whole, Network::Pieces]),
            tight: random.chance(30),
            refuses: random.chance(30),
            crashes: *random.pick(&[0, 0, 3, 10]),
            pages: *of_pages.pick(&[Pages::Nobody, Pages::Some, Pages::Only]),
            long: of_pages.chance(20),
            slip: Slip::None,
        }
    }

    fn limits(&self) -> Limits {
        let limits = Limits {
            resumption_timeout: Duration::from_secs(60),
            account_idle_timeout: Duration::from_secs(20),
            ..Limits::default()
        };
        if !self.tight {
            return limits;
        }
        Limits {
            link_output_octets_max: 4_096,
            link_output_high_water_octets: 512,
            queue_stanzas_max: 24,
            queue_octets_max: 8_192,
            ack_request_octets: 256,
            offline_messages_max: 8,
            loading_stanzas_max: 3,
            account_idle_timeout: Duration::from_millis(500),
            ..limits
        }
    }
}

/// A run.
pub struct Run {
    style: Style,
    random: Random,
    world: World,
    devices: Vec<Device>,
    pages: Vec<Page>,
    /// Choices about pages: runs without any are what they were.
    page_random: Random,
    /// A program that publishes, while it waits for its answer.
    publisher: Option<(WireId, Vec<u8>)>,
    accounts: Vec<String>,
    /// Who sees whom: watcher and watched.
    sees: Vec<(usize, usize)>,
    ledger: Ledger,
    questions: usize,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("ENCKE_SEED").is_some() {
            let history = &self.ledger.history;
            for line in &history[history.len().saturating_sub(400)..] {
                eprintln!("  {line}");
            }
        }
    }
}

/// Plays the run of `seed`.
pub fn play(seed: u64, style: Style) {
    let mut run = Run::new(seed, style);
    run.set_up();
    for _ in 0..run.style.steps {
        run.step();
        run.world.check();
    }
    run.finish();
}

impl Run {
    fn new(seed: u64, style: Style) -> Self {
        let mut random = Random::new(seed);
        let names = ["romeo", "juliet", "nurse", "mercutio", "tybalt", "paris"];
        let count = 3 + random.below(4);
        let accounts: Vec<String> = names[..count]
            .iter()
            .map(|name| format!("{name}@localhost"))
            .collect();
        let mut devices = Vec::new();
        for (account, bare) in accounts.iter().enumerate() {
            for resource in ["phone", "desk", "web"].iter().take(1 + random.below(3)) {
                let manages = random.chance(65);
                let mut device = Device::new(account, bare, resource, manages);
                device.priority = if random.chance(15) { -1 } else { 0 };
                device.lazy = random.chance(20);
                devices.push(device);
            }
        }
        let mut page_random = Random::new(seed ^ 0xbead);
        let mut pages = Vec::new();
        for (account, bare) in accounts.iter().enumerate() {
            let count = match style.pages {
                Pages::Nobody => 0,
                Pages::Some => page_random.below(3),
                Pages::Only => 1 + page_random.below(2),
            };
            for resource in ["tab", "app"].iter().take(count) {
                let choices = Random::new(page_random.number());
                let mut page = Page::new(account, bare, resource, choices);
                page.priority = if page_random.chance(15) { -1 } else { 0 };
                page.is_frail = style.tight || style.refuses;
                page.slip = style.slip;
                pages.push(page);
            }
        }
        let topics = Topics::new([&*format!("{TOPIC}:{KEY}")]).unwrap();
        let http = HttpPolicy {
            topics,
            ..HttpPolicy::default()
        };
        let world = World::new(Plan {
            shards: style.shards,
            seed: random.number(),
            keeping: style.keeping,
            plant: style.plant,
            network: style.network,
            limits: style.limits(),
            accounts: accounts.clone(),
            offer_tls: false,
            entry: Entry::Clear,
            http,
        });
        Self {
            style,
            random,
            world,
            devices,
            pages,
            page_random,
            publisher: None,
            accounts,
            sees: Vec::new(),
            ledger: Ledger::default(),
            questions: 0,
        }
    }

    /// Some accounts see some others, by approval before the request.
    fn set_up(&mut self) {
        for watched in 0..self.accounts.len() {
            for watcher in 0..self.accounts.len() {
                if watched != watcher && self.random.chance(50) {
                    self.sees.push((watcher, watched));
                }
            }
        }
        let first: Vec<usize> = (0..self.accounts.len())
            .map(|account| {
                self.devices
                    .iter()
                    .position(|d| d.account == account)
                    .unwrap()
            })
            .collect();
        for &device in &first {
            let page = self.random.chance(40);
            self.devices[device].connect(&mut self.world, page);
        }
        self.rest();
        for (watcher, watched) in self.sees.clone() {
            for (who, whom, class) in [
                (watched, watcher, "subscribed"),
                (watcher, watched, "subscribe"),
            ] {
                let to = &self.accounts[whom];
                let text = format!("<presence to='{to}' type='{class}'/>");
                self.devices[first[who]].stanza(&mut self.world, &text, None);
                self.rest();
            }
        }
    }

    /// One thing happens, then the world takes some steps.
    fn step(&mut self) {
        let chance = match self.style.pages {
            Pages::Nobody => 0,
            Pages::Some => 40,
            Pages::Only => 85,
        };
        if self.page_random.chance(chance) {
            self.step_of_a_page();
            return self.go_on();
        }
        let device = self.random.below(self.devices.len());
        match self.random.below(100) {
            0..=37 => self.message(device),
            38..=47 => self.question(device),
            48..=53 => self.presence(device),
            54..=61 => self.come(device),
            62..=66 => self.go(device),
            67..=72 => self.acknowledge(device),
            73..=77 => self.narrow(device),
            78..=82 => self.let_time_pass(),
            83..=86 => self.trouble(),
            87..=90 if self.random.below(100) < self.style.crashes * 10 => self.crash(),
            _ => self.come(device),
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        for _ in 0..self.random.below(6) {
            self.world.step();
            self.pump();
        }
    }

    fn step_of_a_page(&mut self) {
        let at = self.page_random.below(self.pages.len());
        let Some(page) = self.pages.get_mut(at) else {
            return;
        };
        let (world, ledger) = (&mut self.world, &mut self.ledger);
        match self.page_random.below(100) {
            0..=37 => {
                let to = self.page_random.below(self.accounts.len());
                let (all, bare) = (self.page_random.chance(60), self.accounts[to].clone());
                let to = self.page_random.below(self.devices.len());
                let to = match (all, self.page_random.chance(70)) {
                    (true, _) => bare,
                    (false, true) => format!("{bare}/tab"),
                    (false, false) => self.devices[to].full(),
                };
                let octets =
                    match self.style.long && !self.style.tight && self.page_random.chance(15) {
                        true => self.page_random.below(30_000),
                        false => self.page_random.below(200),
                    };
                self.pages[at].send(ledger, &to, octets);
            }
            38..=47 => page.ask(world),
            48..=53 => {
                let show = *self.page_random.pick(&["away", "chat", "dnd", "xa"]);
                page.show(world, show);
            }
            54..=65 => page.come(world),
            66..=72 => page.go(world, ledger),
            73..=80 => page.turn(world),
            81..=85 => {
                let room = self.page_random.chance(50);
                let room = room.then(|| self.page_random.below(700));
                page.narrow(world, room);
            }
            86..=90 => {
                // Longer than a session waits, or than what was given is kept.
                if self.page_random.chance(20) {
                    let seconds = *self.page_random.pick(&[61, 125]);
                    self.ledger.note(|| format!("{seconds} seconds pass"));
                    self.world.advance(Duration::from_secs(seconds));
                }
                self.let_time_pass();
            }
            91..=92 => self.trouble(),
            93 if self.page_random.below(100) < self.style.crashes * 10 => self.crash(),
            _ => self.publish(),
        }
    }

    /// A program tells all who subscribed, one thing after the other.
    fn publish(&mut self) {
        if self.publisher.is_some() || self.pages.is_empty() {
            return;
        }
        let body = self.ledger.published.len().to_string();
        self.ledger.published.push(false);
        let wire = self.world.connect_to(Entry::Http);
        let request = format!(
            "POST /v1/topics/{TOPIC} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.world.write(wire, request.as_bytes());
        self.publisher = Some((wire, Vec::new()));
    }

    fn pump_publisher(&mut self) {
        let Some((wire, octets)) = &mut self.publisher else {
            return;
        };
        octets.extend_from_slice(&self.world.read(*wire));
        let answer = Answer::read(octets);
        if answer.is_none() && !self.world.is_closed(*wire) {
            return;
        }
        let answer = answer.map(|answer| answer.status);
        assert!(
            [None, Some(202), Some(408), Some(503)].contains(&answer),
            "{answer:?}"
        );
        if let Some(last) = self.ledger.published.last_mut() {
            *last = answer == Some(202);
        }
        self.world.hang_up(*wire);
        self.publisher = None;
    }

    fn message(&mut self, device: usize) {
        if !self.devices[device].is_ready() {
            return;
        }
        let to = self.random.below(self.devices.len());
        let mut to = match self.random.chance(50) {
            true => self.devices[to].full(),
            false => self.devices[to].bare.clone(),
        };
        if !self.pages.is_empty() && self.page_random.chance(30) {
            to = self.page_random.pick(&self.pages).full();
        }
        let device = &mut self.devices[device];
        let message = self.ledger.send(&device.full(), device.epoch, &to);
        self.ledger
            .note(|| format!("{} sends m{message} to {to}", device.full()));
        let fill = "x".repeat(self.random.below(200));
        let text = format!(
            "<message to='{to}' type='chat' id='m{message}'><body>{message} {fill}</body></message>"
        );
        device.stanza(&mut self.world, &text, Some(message));
        if device.management.is_some() && self.random.chance(40) {
            device.nonza(&mut self.world, "<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    fn question(&mut self, device: usize) {
        if !self.devices[device].is_ready() {
            return;
        }
        self.questions += 1;
        let id = format!("q{}", self.questions);
        let payload = match self.random.below(6) {
            0 => "type='get' to='localhost'><ping xmlns='urn:xmpp:ping'/>",
            1 => "type='get'><query xmlns='jabber:iq:roster'/>",
            2 => "type='set'><query xmlns='jabber:iq:private'><n xmlns='urn:n'>x</n></query>",
            3 => "type='get'><query xmlns='jabber:iq:private'><n xmlns='urn:n'/></query>",
            4 => "type='set'><vCard xmlns='vcard-temp'><FN>F</FN></vCard>",
            _ => "type='get' to='nobody@localhost'><vCard xmlns='vcard-temp'/>",
        };
        let text = format!("<iq id='{id}' {payload}</iq>");
        self.devices[device].ask(&mut self.world, &id, &text);
    }

    fn presence(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if !device.is_ready() {
            return;
        }
        let show = *self.random.pick(&["away", "chat", "dnd", "xa"]);
        device.presence(&mut self.world, show);
    }

    fn come(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if device.state == State::Off {
            self.ledger.note(|| format!("{} comes", device.full()));
            device.connect(&mut self.world, self.random.chance(40));
        }
    }

    fn go(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if device.state == State::Off || device.is_between() {
            return;
        }
        if device.is_ready() && self.random.chance(25) {
            self.ledger.note(|| format!("{} leaves", device.full()));
            device.leave(&mut self.world, &mut self.ledger);
        } else {
            self.ledger.note(|| format!("{} is cut", device.full()));
            device.hang_up(&mut self.world, &mut self.ledger);
        }
    }

    fn acknowledge(&mut self, device: usize) {
        let device = &self.devices[device];
        if device.is_ready() {
            device.acknowledge(&mut self.world);
            device.ping(&mut self.world);
        }
    }

    /// A client reads slowly, or fast again.
    fn narrow(&mut self, device: usize) {
        let Some(wire) = self.devices[device].wire else {
            return;
        };
        let room = match self.random.chance(50) {
            true => Some(self.random.below(700)),
            false => None,
        };
        self.world.set_room(wire, room);
    }

    fn let_time_pass(&mut self) {
        let millis = *self.random.pick(&[1, 40, 150, 2_500, 15_000]);
        self.world.pass(Duration::from_millis(millis));
        if self.random.chance(10) {
            self.ledger.note(|| "a minute passes".into());
            self.world.advance(Duration::from_secs(61));
        }
        for seat in 0..usize::from(self.style.shards) {
            self.world.turn(seat);
        }
        for page in &mut self.pages {
            page.flushed();
        }
        self.pump();
    }

    fn trouble(&mut self) {
        let stalls = self.random.chance(40);
        self.world.stall(stalls);
        if !self.style.refuses {
            return;
        }
        let refusal = *self
            .random
            .pick(&[None, None, Some(Refusal::Full), Some(Refusal::Failed)]);
        self.ledger.note(|| format!("storage refuses: {refusal:?}"));
        self.world.refuse(refusal);
        let calls = 1 + self.random.below(30) as u64;
        let faults = match self.random.below(4) {
            0 => Faults {
                failure: Some(calls),
                ..Faults::default()
            },
            1 => Faults {
                full: Some(calls),
                ..Faults::default()
            },
            _ => Faults::default(),
        };
        self.world.set_faults(faults);
    }

    fn crash(&mut self) {
        if self.devices.iter().any(Device::is_between) {
            return;
        }
        for page in &mut self.pages {
            page.loses_server(&self.world, &mut self.ledger);
        }
        if self.random.chance(30) {
            self.calm();
            self.ledger.note(|| "the server stops and starts".into());
            // A server that stops reads no more: it writes down who may come back.
            for device in &mut self.devices {
                device.unheard |= std::mem::take(&mut device.says_goodbye);
            }
            self.world.stop();
        } else {
            let how = *self.random.pick(&[Crash::Killed, Crash::PowerLost]);
            self.ledger.note(|| format!("the server crashes: {how:?}"));
            self.world.crash(how);
        }
        for device in &mut self.devices {
            device.lost_server(&mut self.world, &mut self.ledger);
        }
    }

    fn pump(&mut self) -> bool {
        let mut active = false;
        for device in &mut self.devices {
            active |= device.pump(&mut self.world, &mut self.ledger);
        }
        for page in &mut self.pages {
            active |= page.pump(&mut self.world, &mut self.ledger);
        }
        self.pump_publisher();
        active
    }

    /// Everything that can happen happens.
    fn rest(&mut self) {
        for _ in 0..10_000 {
            self.world.settle();
            for page in &mut self.pages {
                page.flushed();
            }
            if !self.pump() {
                for device in &mut self.devices {
                    device.says_goodbye = false;
                }
                return;
            }
        }
        panic!("clients and server never come to rest");
    }

    /// No more trouble.
    fn calm(&mut self) {
        self.world.stall(false);
        self.world.refuse(None);
        self.world.set_faults(Faults::default());
        for device in &self.devices {
            if let Some(wire) = device.wire {
                self.world.set_room(wire, None);
            }
        }
        for page in &mut self.pages {
            page.widen(&mut self.world);
        }
        for _ in 0..4 {
            self.world.commit();
        }
    }

    fn finish(&mut self) {
        self.calm();
        self.rest();
        for page in &mut self.pages {
            // Who sleeps would not hear what became of it.
            if page.is_open() {
                page.come(&mut self.world);
            }
        }
        self.rest();
        self.world.advance(Duration::from_secs(3));
        self.rest();
        self.publish();
        for page in self.pages.iter_mut().filter(|page| page.is_open()) {
            page.look(&mut self.world);
        }
        self.rest();
        self.check_the_living();
        for device in &mut self.devices {
            if device.is_ready() {
                device.leave(&mut self.world, &mut self.ledger);
            } else {
                device.hang_up(&mut self.world, &mut self.ledger);
                device.end_session(&mut self.ledger);
            }
        }
        for page in &mut self.pages {
            page.leave(&mut self.world, &mut self.ledger);
        }
        self.rest();
        for page in &mut self.pages {
            page.close(&mut self.world);
        }
        // What a page asked last may wait as long, and its session is missed after another time.
        self.world.advance(Duration::from_secs(130));
        self.rest();
        self.collect();
        self.ledger.check(self.style.refuses || self.style.tight);
        self.check_empty();
    }

    /// Who is connected: every question has its answer, everything sent is the server's, and
    /// presence is as the model has it.
    fn check_the_living(&mut self) {
        for device in self.devices.iter().filter(|device| device.is_ready()) {
            let name = device.full();
            assert!(
                device.asked.is_empty(),
                "{name}: no answer to {:?}",
                device.asked
            );
            for &message in &device.sent {
                self.ledger.covered(message);
            }
        }
        for page in &self.pages {
            page.check(&mut self.ledger);
        }
        let mut views = Vec::new();
        for device in self.devices.iter().filter(|device| device.is_ready()) {
            views.push((device.account, device.full(), device.view.clone()));
        }
        for page in self.pages.iter().filter(|page| page.is_open()) {
            if !page.may_be_wrong() {
                views.push((page.account, page.full(), page.view.clone()));
            }
            // What it was told when it asked has not itself.
            let mut looked = page.looked.clone().expect("an answer");
            let own = page.available.clone().expect("a presence");
            assert_eq!(looked.insert(page.full(), own), None);
            views.push((page.account, page.full(), looked));
        }
        for (account, name, view) in views {
            let model = self.model_of(account);
            // A session that waits to be resumed is as it was last seen; any other that is not
            // there must have been heard to go.
            let clean = |view: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                let known = view.iter().filter(|(jid, _)| !self.is_uncertain(jid));
                known
                    .map(|(jid, show)| (jid.clone(), show.clone()))
                    .collect()
            };
            let (view, model) = (clean(&view), clean(&model));
            if view != model {
                self.ledger.history.push(format!("{name} sees {view:?}"));
            }
            assert_eq!(view, model, "{name} sees something else");
        }
    }

    /// Who is available for somebody of an account.
    fn model_of(&self, account: usize) -> BTreeMap<String, String> {
        let is_visible = |other: usize| other == account || self.sees.contains(&(account, other));
        let devices = self.devices.iter();
        let devices = devices.map(|one| (one.account, one.full(), one.available.clone()));
        let pages = self.pages.iter();
        let pages = pages.map(|one| (one.account, one.full(), one.available.clone()));
        let visible = devices
            .chain(pages)
            .filter(|(other, ..)| is_visible(*other));
        visible
            .filter_map(|(_, full, available)| Some((full, available?)))
            .collect()
    }

    /// Whether nobody can say if this one is there.
    fn is_uncertain(&self, jid: &str) -> bool {
        let devices = self.devices.iter().any(|other| {
            let waits = other.management.is_some() || other.unheard;
            other.full() == jid && !other.is_ready() && waits
        });
        let mut pages = self.pages.iter();
        devices || pages.any(|page| page.full() == jid && !page.is_open() && page.unheard)
    }

    /// A new device of every account takes what waits.
    fn collect(&mut self) {
        let first = self.devices.len();
        for (account, bare) in self.accounts.iter().enumerate() {
            self.devices
                .push(Device::new(account, bare, "collector", false));
        }
        for at in first..self.devices.len() {
            self.devices[at].connect(&mut self.world, false);
            self.rest();
            assert!(
                self.devices[at].is_ready(),
                "{} is not let in",
                self.devices[at].full()
            );
        }
        for at in first..self.devices.len() {
            self.devices[at].leave(&mut self.world, &mut self.ledger);
        }
        self.rest();
    }

    fn check_empty(&mut self) {
        self.world.advance(Duration::from_secs(41));
        self.world.settle();
        assert!(
            self.world.is_empty(),
            "something is left: {:?}",
            self.world.reports()
        );
        for report in self.world.reports() {
            assert_eq!(report.accounts, 0, "an account stays in memory: {report:?}");
            assert_eq!(report.tube_entries, 0, "a tube leaves a trace: {report:?}");
        }
        let rows = self.world.depot().rows(Kind::Offline);
        assert_eq!(rows, 0, "rows of the offline store that nobody got");
    }
}
