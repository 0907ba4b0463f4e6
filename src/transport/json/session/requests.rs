//! What is asked for.

use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use super::remembered::Name;
use super::{Action, Answer, Phase, Session, TELL_STANZAS, answer, write_start};
use crate::base::time::Moment;
use crate::transport::json::Cursor;
use crate::transport::json::event::{Class, Event};
use crate::transport::json::outgoing::{self, Item};
use crate::transport::json::problem::{self, Foreign, Problem};
use crate::transport::json::request::{Asked, Message, Request};
use crate::transport::json::writer::Object;
use crate::xmpp::jid::Jid;

/// A message that the stream has not stored yet.
#[derive(Debug)]
pub(super) struct Sending<T> {
    /// Its number among our stanzas.
    pub number: u32,
    pub id: SmolStr,
    /// If its client named it.
    pub name: Option<Name>,
    /// What readers are told when it is stored.
    pub event: Arc<[u8]>,
    /// Requests over HTTP that wait for that.
    pub waiting: SmallVec<[T; 1]>,
}

/// A request that the stream has not answered yet.
#[derive(Debug)]
pub(super) struct Ask<T> {
    pub id: SmolStr,
    /// Who is asked, in normal form; nobody named: the own account.
    pub to: Option<Box<str>>,
    pub ticket: T,
    pub request_id: Option<Box<str>>,
    pub wanted: Wanted,
    pub since: Moment,
}

/// Most messages are shorter.
const MESSAGE_OCTETS: usize = 512;
/// How long an answer is waited for.
pub(super) const ASK_MAX: Duration = Duration::from_secs(300);

/// What goes into the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Roster,
    Payload,
}

impl<T: Copy + PartialEq + 'static> Session<T> {
    /// Takes a request. A reader over WebSocket is answered among its events, others by
    /// [`Action::Answer`]; messages when they are stored. Then: [`Session::settle`].
    pub fn request(
        &mut self,
        ticket: T,
        asked: Asked<'_>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        let request_id = asked.request_id.as_deref().map(Box::from);
        match self.phase {
            Phase::Open => {}
            Phase::Login => return self.refuse(ticket, request_id, problem::NOT_READY, actions),
            Phase::Over => return self.refuse(ticket, request_id, problem::NO_SESSION, actions),
        }
        // Nobody would hear of it: what tells of it waits behind what nobody reads.
        let is_reading = matches!(asked.request, Request::Ack(_) | Request::Close);
        if self.readers.is_empty() && !is_reading && !self.has_room() {
            return self.refuse(ticket, request_id, problem::UNREAD, actions);
        }
        self.idle_since = now;
        let mut octets = Vec::new();
        match asked.request {
            Request::Message(message) => {
                return self.send(ticket, request_id, &message, now, actions);
            }
            Request::Presence(presence) => outgoing::write_presence(&mut octets, &presence),
            Request::Subscription { to, action, status } => {
                outgoing::write_subscription(&mut octets, &to, action, status.as_deref());
            }
            Request::Ack(cursor) => {
                self.confirm(cursor);
                self.tell(TELL_STANZAS, now, actions);
            }
            Request::PresenceGet => {
                let present = self.work.present.iter();
                let present: Vec<Event> = present.map(|(_, event)| event.clone()).collect();
                return self.answer_ask(ticket, request_id, 200, actions, |object| {
                    object.array("presences", &present, |out, event| {
                        event.write(out);
                    });
                });
            }
            Request::Subscribe { topic } => match self.rules.topics.find(&topic) {
                Some(topic) => actions.push(Action::Topic {
                    topic,
                    is_wanted: true,
                }),
                None => return self.refuse(ticket, request_id, problem::NO_TOPIC, actions),
            },
            Request::Unsubscribe { topic } => actions.push(Action::Topic {
                topic: (*topic).into(),
                is_wanted: false,
            }),
            Request::Ping => {}
            Request::Close => {
                self.answer_ask(ticket, request_id, 204, actions, |_| {});
                return self.finish(problem::NO_SESSION, actions);
            }
            request => return self.ask(ticket, request_id, &request, now, actions),
        }
        if octets.len() > self.rules.stanza_octets_max {
            return self.refuse(ticket, request_id, problem::TOO_LARGE, actions);
        }
        if !octets.is_empty() {
            self.sent = self.sent.wrapping_add(1);
            actions.push(Action::Stream(octets));
        }
        self.answer_ask(ticket, request_id, 204, actions, |_| {});
    }

    fn send(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        message: &Message<'_>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        let is_socket = self.is_socket(ticket);
        let given = message.message_id.as_deref().map(SmolStr::new);
        let name = given.as_deref().map(Name::of);
        if let Some(id) = &given {
            let mut sending = self.work.sending.iter_mut();
            if let Some(sending) = sending.find(|sending| sending.id == *id) {
                if !is_socket {
                    sending.waiting.push(ticket);
                }
                return;
            }
            if name.is_some_and(|name| self.work.remembered.has(name)) {
                return self.send_again(ticket, request_id, id, actions);
            }
        }
        if self.work.sending.len() >= self.rules.waiting_max {
            return self.refuse_message(ticket, request_id, given, problem::TOO_MANY, actions);
        }
        let id = given.unwrap_or_else(|| self.number());
        let mut octets = Vec::with_capacity(MESSAGE_OCTETS);
        outgoing::write_message(&mut octets, message, &id);
        if octets.len() > self.rules.stanza_octets_max {
            return self.refuse_message(ticket, request_id, Some(id), problem::TOO_LARGE, actions);
        }
        let mut event = Vec::with_capacity(MESSAGE_OCTETS);
        write_start(&mut event, Class::Sent);
        outgoing::describe_message(&mut event, message, &id);
        event.push(b'}');
        self.sent = self.sent.wrapping_add(1);
        self.work.sending.push_back(Sending {
            number: self.sent,
            id,
            name,
            event: event.into(),
            waiting: match is_socket {
                true => SmallVec::new(),
                false => smallvec![ticket],
            },
        });
        self.idle_since = now;
        actions.push(Action::Stream(octets));
    }

    /// The answer got lost, or the client is unsure.
    fn send_again(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        id: &str,
        actions: &mut Vec<Action<T>>,
    ) {
        match self.is_socket(ticket) {
            false => {
                let answer = stored_answer(id, None);
                actions.push(Action::Answer { ticket, answer });
            }
            true => self.answer_ask(ticket, request_id, 200, actions, |object| {
                object.text("message_id", id).text("state", "stored");
            }),
        }
    }

    /// A request that the stream answers.
    fn ask(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        request: &Request<'_>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        if self.work.asks.len() >= self.rules.waiting_max {
            self.give_asks_up(now, actions);
        }
        if self.work.asks.len() >= self.rules.waiting_max {
            return self.refuse(ticket, request_id, problem::TOO_MANY, actions);
        }
        let id = self.number();
        let mut octets = Vec::new();
        let wanted = match request {
            Request::Iq { to, set, payload } => {
                let class = if *set { "set" } else { "get" };
                outgoing::write_iq(&mut octets, class, &id, to.as_deref(), |writer| {
                    writer.raw(payload.as_bytes());
                });
                Wanted::Payload
            }
            Request::RosterGet => {
                outgoing::write_iq(&mut octets, "get", &id, None, |writer| {
                    outgoing::write_roster(writer, None::<Item<'_, [&str; 0]>>);
                });
                Wanted::Roster
            }
            request => {
                let item = match request {
                    Request::RosterSet {
                        address,
                        name,
                        groups,
                    } => (address, name.as_deref(), &**groups, false),
                    Request::RosterRemove { address } => (address, None, &[][..], true),
                    _ => return self.refuse(ticket, request_id, problem::INTERNAL, actions),
                };
                let (address, name, groups, removed) = item;
                outgoing::write_iq(&mut octets, "set", &id, None, |writer| {
                    outgoing::write_roster(
                        writer,
                        Some(Item {
                            address,
                            name,
                            removed,
                            groups: groups.iter().map(|group| &**group),
                        }),
                    );
                });
                Wanted::Nothing
            }
        };
        if octets.len() > self.rules.stanza_octets_max {
            return self.refuse(ticket, request_id, problem::TOO_LARGE, actions);
        }
        let to = match request {
            Request::Iq { to: Some(to), .. } => Jid::parse(to).ok(),
            _ => None,
        };
        self.due_by(now.after(ASK_MAX));
        self.work.asks.push(Ask {
            id,
            to: to.map(|to| to.as_str().into()),
            ticket,
            request_id,
            wanted,
            since: now,
        });
        self.sent = self.sent.wrapping_add(1);
        actions.push(Action::Stream(octets));
    }

    /// Those who were asked long ago will not answer any more.
    pub(super) fn give_asks_up(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        while let Some(at) = self
            .work
            .asks
            .iter()
            .position(|ask| ask.since.after(ASK_MAX) <= now)
        {
            let ask = self.work.asks.swap_remove(at);
            self.refuse(ask.ticket, ask.request_id, problem::ANSWER_TIMEOUT, actions);
        }
    }

    /// Answers with members that `write` writes; on a WebSocket only who gave the request a name
    /// is told that all is well.
    pub(super) fn answer_ask(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        status: u16,
        actions: &mut Vec<Action<T>>,
        write: impl FnOnce(&mut Object<'_>),
    ) {
        let mut json = Vec::new();
        let is_socket = self.is_socket(ticket);
        if is_socket && request_id.is_none() {
            return;
        }
        let mut object = Object::begin(&mut json);
        if is_socket {
            object
                .text("type", "answer")
                .text_if("request_id", request_id);
            object.number("status", status.into());
        }
        write(&mut object);
        object.end();
        if is_socket {
            return say(ticket, json, actions);
        }
        if status == 204 {
            json.clear();
        }
        let answer = answer(status, json);
        actions.push(Action::Answer { ticket, answer });
    }

    pub(super) fn refuse(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        why: Problem,
        actions: &mut Vec<Action<T>>,
    ) {
        if !self.is_socket(ticket) {
            let answer = Answer::refusal(why);
            return actions.push(Action::Answer { ticket, answer });
        }
        let json = refused(request_id, None, why.status, |object| {
            why.write_members(object)
        });
        say(ticket, json, actions);
    }

    /// A message is refused. Over WebSocket the answer says which, for messages need no other name.
    fn refuse_message(
        &mut self,
        ticket: T,
        request_id: Option<Box<str>>,
        id: Option<SmolStr>,
        why: Problem,
        actions: &mut Vec<Action<T>>,
    ) {
        if !self.is_socket(ticket) {
            return self.refuse(ticket, request_id, why, actions);
        }
        let json = refused(request_id, id, why.status, |object| {
            why.write_members(object)
        });
        say(ticket, json, actions);
    }

    /// A request could not be read ([`crate::transport::json::request::read`]), or is too much.
    pub fn refuse_request(
        &mut self,
        ticket: T,
        request_id: Option<&str>,
        why: Problem,
        actions: &mut Vec<Action<T>>,
    ) {
        self.refuse(ticket, request_id.map(Box::from), why, actions);
    }

    pub(super) fn refuse_ask(&mut self, ask: Ask<T>, why: &Foreign, actions: &mut Vec<Action<T>>) {
        if self.is_socket(ask.ticket) {
            let write = |object: &mut Object<'_>| why.write_members(object);
            let json = refused(ask.request_id, None, why.status, write);
            return say(ask.ticket, json, actions);
        }
        let answer = Answer::foreign(why);
        let ticket = ask.ticket;
        actions.push(Action::Answer { ticket, answer });
    }
}

fn refused(
    request_id: Option<Box<str>>,
    message_id: Option<SmolStr>,
    status: u16,
    write: impl FnOnce(&mut Object<'_>),
) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::begin(&mut json);
    object
        .text("type", "answer")
        .text_if("request_id", request_id)
        .text_if("message_id", message_id);
    object
        .number("status", status.into())
        .object("problem", write);
    object.end();
    json
}

fn say<T>(ticket: T, json: Vec<u8>, actions: &mut Vec<Action<T>>) {
    let event = Event {
        id: None,
        name: "answer",
        json: Arc::from(json),
    };
    actions.push(Action::Event { ticket, event });
}

/// What is told of a message that is stored; `cursor`: of the event that says so.
pub(super) fn stored_answer(id: &str, cursor: Option<Cursor>) -> Answer {
    let mut body = Vec::new();
    let mut object = Object::begin(&mut body);
    object.text("message_id", id).text("state", "stored");
    object.text_if("cursor", cursor.map(|cursor| cursor.to_string()));
    object.end();
    answer(200, body)
}
