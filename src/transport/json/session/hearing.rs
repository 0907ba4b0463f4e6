//! What the stream wrote.

use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use super::requests::{Ask, Sending, Wanted};
use super::{Action, Phase, Session, TELL_STANZAS, login, write_start};
use crate::base::time::Moment;
use crate::transport::json::event::Class;
use crate::transport::json::incoming::{self, UNBOUNDED};
use crate::transport::json::outgoing;
use crate::transport::json::problem::{self, Foreign};
use crate::transport::json::writer::Object;
use crate::xmpp::jid;
use crate::xmpp::ns;
use crate::xmpp::xml::{Element, Progress, Scanner, StreamScope, Tree};

/// The roster of who has no contacts, which many share.
static NOBODY: LazyLock<Arc<[u8]>> =
    LazyLock::new(|| Arc::from(*br#"{"type":"roster","whole":true,"items":[]}"#));

/// How much more room there is for what stands before an answer.
const AWAITED_FACTOR: usize = 4;

impl<T: Copy + PartialEq + 'static> Session<T> {
    /// Takes whole items from the front of `output`, which the stream wrote for TCP, and gives
    /// readers what they mean. Returns the octets of those that were taken. To be called after each
    /// input and whenever the stream wrote something. `address` is the full one, empty before it is
    /// bound; `scratch` is for reuse.
    pub fn settle(
        &mut self,
        output: &[u8],
        address: &str,
        scanner: &mut Scanner,
        scratch: &mut Vec<u8>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) -> usize {
        let mut taken = 0;
        while self.wants_output()
            && let Some(rest) = output.get(taken..).filter(|rest| !rest.is_empty())
        {
            let is_header = rest.starts_with(b"<?xml") || rest.starts_with(b"<stream:stream");
            let scope = match is_header {
                true => StreamScope::closed(),
                false => StreamScope::standard(),
            };
            scanner.reset();
            taken += match scanner.next(rest, &scope, &UNBOUNDED) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Blank(octets) | Progress::Header(octets)) => octets,
                Ok(Progress::Element(octets)) => {
                    self.hear(scanner.element(rest), address, scratch, now, actions);
                    octets
                }
                Ok(Progress::End(octets)) => {
                    self.abandon(problem::SESSION_ENDED, actions);
                    octets
                }
                Err(_) => {
                    self.abandon(problem::INTERNAL, actions);
                    rest.len()
                }
            };
            // What was given makes room for more.
            if !self.has_room() {
                self.give(now, actions);
            }
        }
        if self.phase == Phase::Open {
            self.give(now, actions);
            self.tell(TELL_STANZAS, now, actions);
        }
        taken
    }

    /// Whether [`Session::settle`] would take output. While nobody reads, what does not fit any
    /// more stays with the stream, which has bounds of its own and stores what exceeds them.
    pub fn wants_output(&self) -> bool {
        match self.phase {
            Phase::Login => true,
            Phase::Open => self.has_room() || self.is_awaited(),
            Phase::Over => false,
        }
    }

    /// Whether somebody reads, or there is room for what somebody will.
    pub(super) fn has_room(&self) -> bool {
        self.log.backlog_octets < self.rules.backlog_octets_max
    }

    /// Whether an answer is due, which the stream writes behind all that came before it.
    fn is_awaited(&self) -> bool {
        let waits = |sending: &Sending<T>| !sending.waiting.is_empty();
        let awaited = !self.work.asks.is_empty() || self.work.sending.iter().any(waits);
        awaited && self.log.backlog_octets < self.rules.backlog_octets_max * AWAITED_FACTOR
    }

    fn hear(
        &mut self,
        element: Element<'_>,
        address: &str,
        scratch: &mut Vec<u8>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        if element.is(ns::STREAMS, "error") {
            let mut why = Foreign::read(&element.tree(), ns::STREAM_ERRORS);
            if why.status == 400 {
                why.status = problem::SESSION_ENDED.status;
            }
            return self.end_by(&why, actions);
        }
        if self.phase == Phase::Login {
            return self.hear_login(element, address, scratch, now, actions);
        }
        match element.local_octets() {
            b"message" | b"presence" => self.hear_event(element, address, scratch, now),
            b"iq" => {
                let before = self.received;
                self.received = self.received.wrapping_add(1);
                self.hear_iq(&element.tree(), address, before, scratch, now, actions);
            }
            b"a" if element.namespace() == ns::SM => {
                let handled = element.attr("h").and_then(|h| h.parse().ok());
                if let Some(handled) = handled {
                    self.stored(handled, now, actions);
                }
            }
            b"r" if element.namespace() == ns::SM => {
                let mut octets = Vec::with_capacity(48);
                self.write_handled(&mut octets);
                actions.push(Action::Stream(octets));
            }
            _ => {}
        }
    }

    fn hear_event(
        &mut self,
        stanza: Element<'_>,
        address: &str,
        scratch: &mut Vec<u8>,
        now: Moment,
    ) {
        let before = self.received;
        self.received = self.received.wrapping_add(1);
        self.keep_stanza(stanza, address, before, scratch, now);
    }

    /// Somebody knew the address as soon as it was bound: the stream does not count stanzas yet.
    pub(super) fn hear_early(
        &mut self,
        stanza: Element<'_>,
        address: &str,
        scratch: &mut Vec<u8>,
        now: Moment,
    ) {
        self.keep_stanza(stanza, address, self.received, scratch, now);
    }

    fn keep_stanza(
        &mut self,
        stanza: Element<'_>,
        address: &str,
        before: u32,
        scratch: &mut Vec<u8>,
        now: Moment,
    ) {
        scratch.clear();
        let own = jid::split_resource(address).0;
        if let Some(class) = incoming::describe(scratch, stanza, own, write_start) {
            scratch.push(b'}');
            self.keep_written(class, before, scratch, now);
            if class == Class::Presence {
                self.note_presence(stanza, address);
            }
        }
    }

    /// For readers that come later: the stream says each presence once.
    fn note_presence(&mut self, presence: Element<'_>, address: &str) {
        let from = presence.attr("from");
        let Some(from) = from.as_deref().filter(|from| **from != *address) else {
            return;
        };
        let Some(event) = self.events_from(self.next - 1).next() else {
            return;
        };
        let (rules, work) = (&self.rules, &mut *self.work);
        if let Some(at) = work.present.iter().position(|(who, _)| **who == *from) {
            let (_, former) = work.present.swap_remove(at);
            work.present_octets -= former.json.len();
        }
        let octets = work.present_octets + event.json.len();
        let has_room = work.present.len() < rules.present_max && octets <= rules.present_octets_max;
        if presence.attr("type").is_none() && has_room {
            work.present_octets = octets;
            work.present.push((from.into(), event));
        }
    }

    /// The stream has the first `handled` stanzas of ours for good (XEP-0198). Streams of ours say
    /// so unasked; to ask would bring the answer before the journal's.
    fn stored(&mut self, handled: u32, now: Moment, actions: &mut Vec<Action<T>>) {
        while let Some(sending) = self.work.sending.front() {
            // In the order of counters that wrap around.
            if handled.wrapping_sub(sending.number) > u32::MAX / 2 {
                break;
            }
            if let Some(sending) = self.work.sending.pop_front() {
                self.keep_shared(Class::Sent, self.received, sending.event, now);
                let cursor = self.cursor();
                for ticket in sending.waiting {
                    let answer = super::requests::stored_answer(&sending.id, Some(cursor));
                    actions.push(Action::Answer { ticket, answer });
                }
                if let Some(name) = sending.name {
                    let names_max = self.rules.remembered_max;
                    self.work.remembered.add(name, now, names_max);
                    self.due_by(now.after(self.rules.remembered));
                }
            }
        }
    }

    fn hear_iq(
        &mut self,
        iq: &Tree,
        address: &str,
        before: u32,
        scratch: &mut Vec<u8>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        let id = iq.attr("id").unwrap_or_default();
        let from = iq.attr("from");
        match iq.attr("type") {
            Some("result" | "error")
                if self.awaits_roster && id == login::ROSTER && is_own(from, address) =>
            {
                self.awaits_roster = false;
                self.keep_roster(iq, true, before, scratch, now);
            }
            Some("result" | "error") => self.answered(iq, id, address, actions),
            Some(class) => {
                let is_push = class == "set" && iq.child(ns::ROSTER, "query").is_some();
                // RFC 6121 section 2.1.6: from nobody else.
                let is_own = is_own(from, address);
                if is_push && is_own {
                    self.keep_roster(iq, false, before, scratch, now);
                }
                let is_ping = class == "get" && iq.child(ns::PING, "ping").is_some();
                let accepted = is_ping || (is_push && is_own);
                self.reply(id, from, accepted, actions);
            }
            None => {}
        }
    }

    fn keep_roster(
        &mut self,
        iq: &Tree,
        whole: bool,
        before: u32,
        scratch: &mut Vec<u8>,
        now: Moment,
    ) {
        let Some(query) = iq.child(ns::ROSTER, "query") else {
            return;
        };
        scratch.clear();
        write_start(scratch, Class::Roster);
        let mut object = Object::go_on(scratch);
        object.flag("whole", whole);
        incoming::write_items(&mut object, query);
        scratch.push(b'}');
        let json = match **scratch == **NOBODY {
            true => NOBODY.clone(),
            false => Arc::from(&**scratch),
        };
        self.keep_shared(Class::Roster, before, json, now);
    }

    /// Others ask a client for this or that; here are only answers that need nobody.
    fn reply(&mut self, id: &str, to: Option<&str>, accepted: bool, actions: &mut Vec<Action<T>>) {
        let mut octets = Vec::new();
        let class = if accepted { "result" } else { "error" };
        outgoing::write_iq(&mut octets, class, id, to, |writer| {
            if !accepted {
                writer.open("error").attr("type", "cancel");
                writer
                    .open("service-unavailable")
                    .attr("xmlns", ns::STANZA_ERRORS);
                writer.close_empty().end("error");
            }
        });
        self.sent = self.sent.wrapping_add(1);
        actions.push(Action::Stream(octets));
    }

    /// An answer to a request of the client.
    fn answered(&mut self, iq: &Tree, id: &str, address: &str, actions: &mut Vec<Action<T>>) {
        // Anybody can send what looks like an answer; only who was asked gives one.
        let from = iq.attr("from");
        let is_asked = |ask: &Ask<T>| match &ask.to {
            None => is_own(from, address),
            Some(to) => from == Some(to) || (from.is_none() && is_own(Some(to), address)),
        };
        let mut asks = self.work.asks.iter();
        let found = asks.position(|ask| ask.id == id && is_asked(ask));
        let Some(ask) = found.map(|at| self.work.asks.swap_remove(at)) else {
            return;
        };
        if iq.attr("type") == Some("error") {
            let error = iq.child(ns::CLIENT, "error").map(Foreign::of_stanza);
            let why = error.unwrap_or_else(|| Foreign::of_stanza(&Tree::default()));
            return self.refuse_ask(ask, &why, actions);
        }
        let payloads: SmallVec<[&Tree; 1]> = iq.children().collect();
        let status = if ask.wanted == Wanted::Nothing {
            204
        } else {
            200
        };
        self.answer_ask(
            ask.ticket,
            ask.request_id,
            status,
            actions,
            |object| match (ask.wanted, payloads.first()) {
                (Wanted::Roster, Some(query)) => incoming::write_items(object, query),
                (Wanted::Payload, Some(payload)) => {
                    object.text("xml", &incoming::document(payload));
                }
                _ => {}
            },
        );
    }
}

/// Whether a stanza is of the account of this address itself, for which the server speaks.
fn is_own(from: Option<&str>, address: &str) -> bool {
    let own = jid::split_resource(address).0;
    from.is_none_or(|from| from == own || from == address)
}
