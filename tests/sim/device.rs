//! A client program: a resource of an account, with or without stream management.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke::engine::Entry;
use encke::testing::{HEADER, Item, PASSWORD, Reader, WireId, World};

use crate::bosh::Bosh;
use crate::ledger::Ledger;
use crate::support::dom::Dom;
use crate::support::websocket::{HANDSHAKE, Incoming, PING, said};

/// Where a device is on its way to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Off,
    /// The first features come next.
    Opening,
    Authenticating,
    /// The second features come next.
    Restarted,
    Resuming,
    Binding,
    /// Bound; stream management may still be on its way.
    Ready,
}

/// A client program.
pub struct Device {
    pub account: usize,
    pub bare: String,
    pub resource: String,
    /// Whether it wants stream management.
    pub manages: bool,
    pub state: State,
    pub wire: Option<WireId>,
    ear: Ear,
    /// Its link, when that is requests of HTTP; its `wire` is nobody's then.
    bosh: RefCell<Option<Bosh>>,
    pub management: Option<Management>,
    /// Whether it went before it heard that it can be resumed: the server may wait for it.
    pub unheard: bool,
    /// Whether it has just gone in order, and the server may not have read that yet.
    pub says_goodbye: bool,
    /// Numbers its sessions: order is promised within one.
    pub epoch: usize,
    pub priority: i8,
    /// The show of its last presence, while it is available.
    pub available: Option<String>,
    /// Full JIDs that it believes to be available, with their show.
    pub view: BTreeMap<String, String>,
    /// Requests to the server without an answer.
    pub asked: BTreeSet<String>,
    /// Requests whose answer may come, again or at all.
    repeated: BTreeSet<String>,
    /// Messages sent on the present session.
    pub sent: Vec<usize>,
    /// Links that it said goodbye on: what a kernel took there was delivered.
    retired: Vec<(WireId, Ear, usize)>,
    /// What it will answer acknowledgement requests with: nothing, when lazy.
    pub lazy: bool,
}

/// What a device reads with: on a WebSocket through its frames.
#[derive(Default)]
struct Ear {
    frames: Option<Incoming>,
    reader: Reader,
}

impl Ear {
    fn receive(&mut self, octets: &[u8], items: &mut Vec<Item>) {
        match &mut self.frames {
            None => self.reader.receive(octets, items),
            Some(frames) => {
                let text = frames.receive(octets);
                self.reader.receive(text.as_bytes(), items);
            }
        }
    }
}

/// XEP-0198 as a client keeps it.
#[derive(Default)]
pub struct Management {
    /// Empty until `<enabled/>` came.
    pub id: String,
    pub received: u32,
    pub sent: u32,
    pub acknowledged: u32,
    /// What the server has not acknowledged: the octets, and the message if it is one.
    pub open: VecDeque<(String, Option<usize>)>,
}

impl Device {
    pub fn new(account: usize, bare: &str, resource: &str, manages: bool) -> Self {
        Self {
            account,
            bare: bare.into(),
            resource: resource.into(),
            manages,
            state: State::Off,
            wire: None,
            ear: Ear::default(),
            bosh: RefCell::default(),
            management: None,
            unheard: false,
            says_goodbye: false,
            epoch: 0,
            priority: 0,
            available: None,
            view: BTreeMap::new(),
            asked: BTreeSet::new(),
            repeated: BTreeSet::new(),
            sent: Vec::new(),
            retired: Vec::new(),
            lazy: false,
        }
    }

    pub fn full(&self) -> String {
        format!("{}/{}", self.bare, self.resource)
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether what is on its way to it in an answer is counted by nobody yet: it must not lose
    /// that.
    pub fn is_between(&self) -> bool {
        let managed = self.management.as_ref().is_some_and(|m| !m.id.is_empty());
        let bound = matches!(self.state, State::Binding | State::Ready);
        self.bosh.borrow().is_some() && bound && !managed
    }

    /// Connects, as a web page or not.
    pub fn connect(&mut self, world: &mut World, page: bool) {
        self.ear = Ear::default();
        self.state = State::Opening;
        *self.bosh.get_mut() = None;
        // What was answered to a client that counts nothing is not kept for it.
        if page && self.manages && self.epoch.is_multiple_of(2) {
            *self.bosh.get_mut() = Some(Bosh::new(1_000));
            self.wire = Some(world.connect_to(Entry::Http));
            return self.write(world, HEADER);
        }
        if page {
            self.ear.frames = Some(Incoming::default());
            let wire = world.connect_to(Entry::Http);
            world.write(wire, HANDSHAKE.as_bytes());
            self.wire = Some(wire);
        } else {
            self.wire = Some(world.connect());
        }
        self.write(world, HEADER);
    }

    /// One item.
    fn write(&self, world: &mut World, text: &str) {
        let Some(wire) = self.wire else { return };
        if let Some(bosh) = &mut *self.bosh.borrow_mut() {
            return bosh.say(text);
        }
        match self.ear.frames {
            None => world.write(wire, text.as_bytes()),
            Some(_) => world.write(wire, &said(text)),
        }
    }

    /// A web page asks whether its link lives, or loses that of a request.
    pub fn ping(&self, world: &mut World) {
        if let Some(wire) = self.bosh.borrow().as_ref().and_then(Bosh::any_wire) {
            world.hang_up(wire);
        }
        if let (Some(wire), Some(_)) = (self.wire, &self.ear.frames) {
            world.write(wire, PING);
        }
    }

    /// Sends a nonza.
    pub fn nonza(&self, world: &mut World, text: &str) {
        self.write(world, text);
    }

    /// Sends a stanza; it counts.
    pub fn stanza(&mut self, world: &mut World, text: &str, message: Option<usize>) {
        if let Some(management) = &mut self.management {
            management.sent = management.sent.wrapping_add(1);
            management.open.push_back((text.to_owned(), message));
        }
        self.sent.extend(message);
        self.write(world, text);
    }

    /// Sends a request that the server must answer once.
    pub fn ask(&mut self, world: &mut World, id: &str, text: &str) {
        self.asked.insert(id.into());
        self.stanza(world, text, None);
    }

    pub fn acknowledge(&self, world: &mut World) {
        if let Some(management) = self.management.as_ref().filter(|m| !m.id.is_empty()) {
            let h = management.received;
            self.write(world, &format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        }
    }

    pub fn presence(&mut self, world: &mut World, show: &str) {
        let priority = self.priority;
        self.available = Some(show.into());
        let text =
            format!("<presence><show>{show}</show><priority>{priority}</priority></presence>");
        self.stanza(world, &text, None);
    }

    /// The link breaks. What a kernel took for a client that counts nothing was delivered.
    pub fn hang_up(&mut self, world: &mut World, ledger: &mut Ledger) {
        let Some(wire) = self.wire.take() else { return };
        if let Some(bosh) = self.bosh.get_mut() {
            bosh.hang_up(world);
        } else if self.management.is_none() {
            self.pump_octets(world, wire, ledger);
            let ear = std::mem::take(&mut self.ear);
            self.retired.push((wire, ear, self.epoch));
        }
        world.hang_up(wire);
        self.went_off(ledger);
    }

    /// Says goodbye.
    pub fn leave(&mut self, world: &mut World, ledger: &mut Ledger) {
        self.write(world, "</stream:stream>");
        if let Some(wire) = self.wire.take() {
            world.set_room(wire, None);
            let ear = std::mem::take(&mut self.ear);
            if let Some(bosh) = self.bosh.get_mut() {
                // It waits for no answer: the server may not hear that it goes.
                bosh.pump(world);
                world.hang_up(wire);
                self.unheard = true;
            } else if self.management.is_none() {
                self.retired.push((wire, ear, self.epoch));
            }
        }
        self.end_session(ledger);
        self.says_goodbye = true;
        self.state = State::Off;
    }

    fn went_off(&mut self, ledger: &mut Ledger) {
        self.state = State::Off;
        self.wire = None;
        if self
            .management
            .as_ref()
            .is_none_or(|management| management.id.is_empty())
        {
            self.unheard |= self.management.is_some();
            self.end_session(ledger);
        }
    }

    /// Nothing of the former session counts any more.
    pub fn end_session(&mut self, ledger: &mut Ledger) {
        ledger.session_over(&self.full(), self.epoch);
        self.management = None;
        self.epoch += 1;
        self.available = None;
        self.view.clear();
        // An answer may still come, to the next session of that name.
        self.repeated.append(&mut self.asked);
        self.sent.clear();
    }

    /// The process crashed: the link is gone.
    pub fn lost_server(&mut self, world: &mut World, ledger: &mut Ledger) {
        if let Some(wire) = self.wire
            && self.bosh.get_mut().is_none()
        {
            self.pump_octets(world, wire, ledger);
        }
        self.went_off(ledger);
    }

    /// Reads what came and reacts.
    pub fn pump(&mut self, world: &mut World, ledger: &mut Ledger) -> bool {
        self.pump_retired(world, ledger);
        let Some(wire) = self.wire else { return false };
        if self.bosh.get_mut().is_some() {
            return self.pump_bosh(world, ledger);
        }
        let active = self.pump_octets(world, wire, ledger);
        if self.wire.is_some() && world.is_closed(wire) {
            self.pump_octets(world, wire, ledger);
            self.went_off(ledger);
            return true;
        }
        active
    }

    fn pump_bosh(&mut self, world: &mut World, ledger: &mut Ledger) -> bool {
        let Some(bosh) = self.bosh.get_mut() else {
            return false;
        };
        let before = bosh.progress();
        let text = bosh.pump(world);
        let (active, over) = (bosh.progress() != before, bosh.is_over);
        let mut items = Vec::new();
        self.ear.receive(text.as_bytes(), &mut items);
        self.take(world, ledger, &items);
        if over {
            if let Some(wire) = self.wire {
                world.hang_up(wire);
            }
            self.went_off(ledger);
        }
        active || over || !text.is_empty()
    }

    fn pump_retired(&mut self, world: &mut World, ledger: &mut Ledger) {
        let full = self.full();
        for (wire, ear, epoch) in &mut self.retired {
            let mut items = Vec::new();
            ear.receive(&world.read(*wire), &mut items);
            for item in items {
                let Item::Element(text) = item else { continue };
                let dom = Dom::parse(&text).unwrap_or_else(|why| panic!("{why}")).0;
                if dom.is("jabber:client", "message") {
                    ledger.received(&full, *epoch, &dom);
                }
            }
        }
        self.retired
            .retain(|(wire, ..)| !world.is_closed(*wire) || world.has_octets(*wire));
    }

    fn pump_octets(&mut self, world: &mut World, wire: WireId, ledger: &mut Ledger) -> bool {
        let octets = world.read(wire);
        let mut items = Vec::new();
        self.ear.receive(&octets, &mut items);
        self.take(world, ledger, &items);
        !octets.is_empty()
    }

    fn take(&mut self, world: &mut World, ledger: &mut Ledger, items: &[Item]) {
        for item in items {
            if let Item::Element(text) = item {
                let dom = Dom::parse(text).unwrap_or_else(|why| panic!("{why}")).0;
                self.element(world, ledger, &dom);
            }
        }
    }

    fn element(&mut self, world: &mut World, ledger: &mut Ledger, dom: &Dom) {
        match (dom.namespace.as_str(), dom.name.as_str()) {
            ("jabber:client", _) => self.incoming(world, ledger, dom),
            ("urn:xmpp:sm:3", _) => self.management_element(world, ledger, dom),
            (_, "features") => self.features(world),
            (_, "success") => {
                self.state = State::Restarted;
                self.write(world, HEADER);
            }
            (_, "failure") => {
                // Storage refused to say who we are; there is another time.
                ledger.refused_login(&self.full());
            }
            (_, "error") => ledger.stream_error(&self.full(), dom),
            _ => panic!("{} got {dom}", self.full()),
        }
    }

    fn features(&mut self, world: &mut World) {
        if self.state == State::Opening {
            self.state = State::Authenticating;
            let local = self.bare.split('@').next().unwrap_or_default();
            let plain = STANDARD.encode(format!("\0{local}\0{PASSWORD}"));
            let auth = format!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
            );
            return self.write(world, &auth);
        }
        if let Some(management) = &self.management {
            self.state = State::Resuming;
            let (id, h) = (&management.id, management.received);
            let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>");
            return self.write(world, &resume);
        }
        self.bind(world);
    }

    fn bind(&mut self, world: &mut World) {
        self.state = State::Binding;
        let resource = &self.resource;
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        );
        self.write(world, &bind);
    }

    fn bound(&mut self, world: &mut World) {
        self.state = State::Ready;
        self.unheard = false;
        if self.manages {
            self.write(world, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            self.management = Some(Management::default());
        }
        self.presence(world, "chat");
    }

    fn management_element(&mut self, world: &mut World, ledger: &mut Ledger, dom: &Dom) {
        let h = dom.attr("h").and_then(|h| h.parse::<u32>().ok());
        match dom.name.as_str() {
            "enabled" => {
                if let Some(management) = &mut self.management {
                    management.id = dom.attr("id").unwrap_or_default().into();
                    management.received = 0;
                }
            }
            "r" if !self.lazy => self.acknowledge(world),
            "r" => {}
            "a" => self.acknowledged(ledger, h.expect("an h")),
            "resumed" => {
                self.state = State::Ready;
                self.acknowledged(ledger, h.expect("an h"));
                self.send_again(world, ledger);
            }
            "failed" => {
                if self.state == State::Resuming {
                    // The journal may know less than we were told.
                    let known = self.management.as_ref().map_or(0, |m| m.acknowledged);
                    if let Some(h) = h.filter(|h| h.wrapping_sub(known) < u32::MAX / 2) {
                        self.acknowledged(ledger, h);
                    }
                    self.end_session(ledger);
                    self.bind(world);
                }
            }
            _ => panic!("{} got {dom}", self.full()),
        }
    }

    /// The server has taken responsibility for the first `h` stanzas.
    fn acknowledged(&mut self, ledger: &mut Ledger, h: u32) {
        let full = self.full();
        let Some(management) = &mut self.management else {
            return;
        };
        let news = h.wrapping_sub(management.acknowledged) as usize;
        assert!(
            news <= management.open.len(),
            "{full}: h={h} acknowledges more than the {} that were sent, after {}",
            management.sent,
            management.acknowledged
        );
        management.acknowledged = h;
        for (_, message) in management.open.drain(..news) {
            if let Some(message) = message {
                ledger.covered(message);
            }
        }
    }

    fn send_again(&mut self, world: &mut World, ledger: &mut Ledger) {
        let Some(management) = &mut self.management else {
            return;
        };
        management.sent = management
            .acknowledged
            .wrapping_add(management.open.len() as u32);
        for message in management.open.iter().filter_map(|(_, message)| *message) {
            ledger.sent[message].repeated = true;
        }
        let again: Vec<String> = management
            .open
            .iter()
            .map(|(text, _)| text.clone())
            .collect();
        for text in again {
            if let Some(rest) = text.strip_prefix("<iq id='") {
                let id = rest.split('\'').next().unwrap_or_default();
                self.repeated.insert(id.to_owned());
            }
            self.write(world, &text);
        }
    }

    fn incoming(&mut self, world: &mut World, ledger: &mut Ledger, dom: &Dom) {
        if self.state == State::Binding {
            if dom.attr("id") == Some("bind") {
                match dom.attr("type") {
                    Some("result") => self.bound(world),
                    _ => self.write(world, "</stream:stream>"),
                }
            }
            return;
        }
        let counted = self
            .management
            .as_mut()
            .filter(|management| !management.id.is_empty());
        if let Some(management) = counted {
            management.received = management.received.wrapping_add(1);
        }
        match dom.name.as_str() {
            "message" => ledger.received(&self.full(), self.epoch, dom),
            "presence" => self.saw(dom),
            "iq" => self.iq(world, dom),
            _ => panic!("{} got {dom}", self.full()),
        }
    }

    fn saw(&mut self, dom: &Dom) {
        let from = dom.attr("from").unwrap_or_default().to_owned();
        match dom.attr("type") {
            None => {
                let show = dom
                    .child("show")
                    .map(|show| show.text.clone())
                    .unwrap_or_default();
                self.view.insert(from, show);
            }
            Some("unavailable") => {
                self.view.remove(&from);
                if !from.contains('/') {
                    self.view
                        .retain(|jid, _| !jid.starts_with(&format!("{from}/")));
                }
            }
            Some(_) => {}
        }
    }

    fn iq(&mut self, world: &mut World, dom: &Dom) {
        let id = dom.attr("id").unwrap_or_default().to_owned();
        match dom.attr("type") {
            Some("result" | "error") => {
                let ours = id.starts_with('q');
                let first = self.asked.remove(&id);
                let again = self.repeated.contains(&id);
                assert!(
                    !ours || first || again,
                    "{}: a second answer: {dom}",
                    self.full()
                );
            }
            _ => {
                let to = dom.attr("from").unwrap_or_default();
                let to = if to.is_empty() {
                    String::new()
                } else {
                    format!(" to='{to}'")
                };
                self.stanza(world, &format!("<iq type='result' id='{id}'{to}/>"), None);
            }
        }
    }
}
