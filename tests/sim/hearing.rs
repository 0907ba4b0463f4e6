use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use encke::base::time::Moment;
use encke::testing::World;
use serde_json::Value;

use super::{AROUND, Call, GRACE, Page, REPLAY, Reader, Session, Slip, Slow, TOPIC, VOLUME, What};
use crate::http::{Answer, Heard, field};
use crate::ledger::{Arrival, Ledger, number_of};
use crate::support::websocket::ALIVE;

/// What says that there is no session any more.
const OVER: [&str; 4] = ["no-session", "session-ended", "stopping", "grace-over"];
/// What may be answered at any time, and means: ask again.
const LATER: [u64; 4] = [408, 429, 503, 504];

impl Page {
    /// Reads what came and reacts.
    pub fn pump(&mut self, world: &mut World, ledger: &mut Ledger) -> bool {
        let (mut active, polled, answered) = self.pump_calls(world, ledger);
        active |= self.pump_readers(world, ledger);
        let now = world.now().mono;
        let mark = ledger.sent.len();
        let begun = |reader: &&Reader| reader.next.is_some() && !world.is_closed(reader.wire);
        let reads = self.readers.iter().any(|reader| begun(&reader));
        let is_current = self
            .readers
            .iter()
            .filter(begun)
            .any(|r| r.slow == Slow::No);
        if !is_current {
            self.note_time(world, ledger, REPLAY);
        }
        if let Some(session) = &mut self.session {
            if is_current {
                (session.current_at, session.current_mark) = (now, mark);
            } else if let Some(at) = polled {
                session.current_at = session.current_at.max(at);
                session.current_mark = mark;
            }
            if reads {
                session.contact_at = now;
            } else if let Some(at) = answered {
                session.contact_at = session.contact_at.max(at);
            }
        }
        active | self.go_on(world)
    }

    /// Was there too much or too long that nobody read?
    pub(super) fn note_time(&self, world: &World, ledger: &mut Ledger, limit: Duration) {
        let now = world.now().mono;
        if let Some(session) = &self.session
            && (now.since(session.current_at) >= limit
                || is_much(ledger, session.current_mark, &self.bare))
        {
            ledger.may_be_lost(&self.bare);
        }
    }

    /// Whether something came, and when the last poll and the last request were made of those that
    /// were answered.
    fn pump_calls(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
    ) -> (bool, Option<Moment>, Option<Moment>) {
        let (mut active, mut polled, mut answered) = (false, None, None);
        for mut call in std::mem::take(&mut self.calls) {
            let is_closed = world.is_closed(call.wire);
            let octets = world.read(call.wire);
            active |= !octets.is_empty();
            call.octets.extend_from_slice(&octets);
            let Some(answer) = Answer::read(&call.octets) else {
                match is_closed {
                    true => {
                        active = true;
                        self.unanswered(&call);
                    }
                    false => self.calls.push(call),
                }
                continue;
            };
            if answer.is_last() || is_closed || self.idle.is_some() || self.random.chance(50) {
                world.hang_up(call.wire);
            } else {
                self.idle = Some(call.wire);
            }
            if call.epoch == self.epoch && answer.status < 400 {
                let at = Some(call.at);
                polled = polled.max(at.filter(|_| matches!(call.what, What::Poll(_))));
                answered = answered.max(at);
            }
            self.take_answer(world, ledger, call, &answer);
        }
        (active, polled, answered)
    }

    fn take_answer(&mut self, world: &mut World, ledger: &mut Ledger, call: Call, answer: &Answer) {
        let (status, body) = (u64::from(answer.status), answer.json());
        if matches!(call.what, What::Leave) {
            let has_ended = [204, 404].contains(&status);
            assert!(has_ended || LATER.contains(&status), "{answer:?}");
            self.unheard &= !(has_ended && self.is_off());
            return;
        }
        if call.epoch != self.epoch {
            return;
        }
        match (&call.what, answer.status) {
            (What::Login, 201) => self.begin(world, ledger, call.at, answer, &body),
            (What::Login, _) => {
                ledger.note(|| format!("{} is not let in: {answer:?}", self.full()));
                assert!(self.is_frail || LATER.contains(&status), "{answer:?}");
                self.comes_back = self.random.chance(50);
            }
            (What::Poll(from), 200) => self.take_page(world, ledger, *from, &body),
            (What::Poll(_), 304) => assert!(answer.body.is_empty()),
            _ => {
                if let What::Message(_) = call.what {
                    self.unanswered(&call);
                }
                self.answered(world, ledger, &call.what, status, &body);
            }
        }
        if let (What::Poll(from), 200 | 304) = (&call.what, answer.status) {
            let tag = field(&answer.head, "ETag").expect("a cursor");
            let tag = tag.trim_matches('"');
            match answer.status {
                200 => assert_eq!(body["next"], tag),
                _ => assert_eq!(tag.split_once('-').unwrap().1, from.unwrap().to_string()),
            }
        }
    }

    /// `asked_at`: what the session knows of its client begins there.
    fn begin(
        &mut self,
        world: &World,
        ledger: &mut Ledger,
        asked_at: Moment,
        answer: &Answer,
        body: &Value,
    ) {
        let now = world.now().mono;
        let token = body["session"].as_str().unwrap().to_owned();
        let cookie = field(&answer.head, "Set-Cookie");
        if let Some(cookie) = cookie {
            assert!(cookie.starts_with(&format!("encke-session={token};")));
        }
        let cursor = body["cursor"].as_str().unwrap();
        let (epoch, offset) = cursor.split_once('-').unwrap();
        assert_eq!(offset, "0");
        assert_eq!(body["jid"], self.full());
        ledger.note(|| format!("{} is in: {epoch}", self.full()));
        self.session = Some(Session {
            token,
            is_cookie: cookie.is_some(),
            epoch: epoch.to_owned(),
            at: 0,
            events: BTreeMap::new(),
            answered: BTreeMap::new(),
            came: BTreeSet::new(),
            current_at: asked_at,
            current_mark: 0,
            contact_at: asked_at,
            born: BTreeMap::new(),
            last_sent: None,
            missed: 0,
            is_over: self.is_late,
            has_gap: false,
            subscribed: None,
            published: BTreeSet::new(),
        });
        self.unheard = false;
        self.available = Some("chat".to_owned());
        self.view.clear();
        if let Some(session) = &mut self.session {
            session.current_at = session.current_at.min(now);
            session.current_mark = ledger.sent.len();
        }
    }

    /// What was asked for, over HTTP or a WebSocket.
    fn answered(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
        what: &What,
        status: u64,
        body: &Value,
    ) {
        let code = match &body["problem"] {
            Value::Null => &body["code"],
            problem => &problem["code"],
        };
        if let Some(code) = code.as_str().filter(|code| OVER.contains(code)) {
            let code = code.to_owned();
            return self.lose_session(world, ledger, &code);
        }
        let full = self.full();
        let is_later = self.is_frail || LATER.contains(&status);
        match what {
            What::Message(message) if status == 200 => {
                assert_eq!(body["state"], "stored");
                let id = body["message_id"].as_str().and_then(number_of);
                assert_eq!(id, Some(*message));
                if let Some(cursor) = body["cursor"].as_str() {
                    self.stored_at(*message, cursor);
                }
                self.stored(ledger, *message);
            }
            What::Message(message) => {
                assert!(is_later, "{full}: m{message}: {status} {body}");
                let others = self.outbox.iter().any(|out| out.over.is_some());
                for out in &mut self.outbox {
                    if out.message == *message {
                        out.over = None;
                        // What went out behind it is before it now.
                        ledger.sent[*message].repeated |= others;
                    }
                }
            }
            What::Presence if status == 204 => {}
            What::Presence => {
                assert!(is_later, "{full}: presence: {status} {body}");
                self.must_show = true;
            }
            What::Look if status == 200 => {
                let list = body["presences"].as_array().unwrap();
                let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
                let list = list.iter().map(|e| (text(e, "from"), text(e, "show")));
                self.looked = Some(list.collect());
            }
            What::Subscribe if status == 204 => {
                let published = ledger.published.len();
                if let Some(session) = &mut self.session {
                    session.subscribed.get_or_insert(published);
                }
            }
            What::Describe if status == 200 => {
                assert_eq!(body["jid"], full);
                let cursor = body["cursor"].as_str().unwrap();
                self.offset_of(cursor);
            }
            What::Acknowledge if status == 204 => {}
            What::Question => assert_ne!(code, "wrong-member", "{full}: {body}"),
            _ => assert!(is_later, "{full}: {what:?}: {status} {body}"),
        }
    }

    fn offset_of(&self, cursor: &str) -> u64 {
        let session = self.session.as_ref().expect("a session");
        let (epoch, offset) = cursor.split_once('-').unwrap();
        assert_eq!(epoch, session.epoch, "an epoch is of one session");
        offset.parse().unwrap()
    }

    /// Which event says that a message is stored.
    fn stored_at(&mut self, message: usize, cursor: &str) {
        let offset = self.offset_of(cursor);
        if let Some(session) = &mut self.session {
            session.answered.insert(offset, message);
            if let Some(event) = session.events.get(&offset) {
                let id = event["message_id"].as_str().and_then(number_of);
                assert_eq!(id, Some(message), "{event} is not m{message}");
            }
        }
    }

    fn stored(&mut self, ledger: &mut Ledger, message: usize) {
        ledger.covered(message);
        self.outbox.retain(|out| out.message != message);
    }

    /// There is no session any more, which must have a reason.
    fn lose_session(&mut self, world: &mut World, ledger: &mut Ledger, code: &str) {
        let Some(session) = &self.session else {
            return;
        };
        let full = self.full();
        ledger.note(|| format!("{full} has no session any more: {code}"));
        let alone = world.now().mono.since(session.contact_at);
        assert!(
            session.is_over || self.is_frail || alone >= GRACE,
            "{full}: {code}, though it was there {alone:?} ago"
        );
        self.cut_all(world, ledger);
        self.forget(ledger);
        self.comes_back = self.random.chance(85);
    }

    fn pump_readers(&mut self, world: &mut World, ledger: &mut Ledger) -> bool {
        let mut active = false;
        let epoch = self.epoch;
        let mut left = Vec::new();
        for mut reader in std::mem::take(&mut self.readers) {
            let is_closed = world.is_closed(reader.wire);
            let octets = world.read(reader.wire);
            active |= !octets.is_empty();
            for heard in reader.ear.receive(&octets) {
                if self.epoch == epoch {
                    self.hear(world, ledger, &mut reader, heard);
                }
            }
            if self.epoch != epoch {
                world.hang_up(reader.wire);
            } else if is_closed || reader.is_over {
                active = true;
                world.hang_up(reader.wire);
                self.reader_gone(reader);
            } else {
                left.push(reader);
            }
        }
        if self.epoch != epoch {
            left.drain(..).for_each(|reader| world.hang_up(reader.wire));
        }
        self.readers = left;
        active
    }

    fn hear(&mut self, world: &mut World, ledger: &mut Ledger, reader: &mut Reader, heard: Heard) {
        let event = match heard {
            Heard::Ping => {
                if reader.slow == Slow::No {
                    world.write(reader.wire, ALIVE);
                }
                return;
            }
            Heard::End => {
                reader.is_over = true;
                return;
            }
            Heard::Refused(answer) => {
                reader.is_over = true;
                let (status, body) = (u64::from(answer.status), answer.json());
                return match body["code"].as_str() {
                    Some(code) if OVER.contains(&code) => self.lose_session(world, ledger, code),
                    _ => assert!(LATER.contains(&status), "{answer:?}"),
                };
            }
            Heard::Event(event) => event,
        };
        match event["type"].as_str().unwrap() {
            "closed" => {
                let code = event["problem"]["code"].as_str().unwrap();
                self.lose_session(world, ledger, code);
            }
            "answer" => self.hear_answer(world, ledger, reader, &event),
            "ready" => {
                assert_eq!(event["jid"], self.full());
                assert_eq!(reader.next, None, "a reader begins once");
                let at = self.offset_of(event["id"].as_str().unwrap());
                match reader.from {
                    Some(from) => assert_eq!(at, from, "a reader is where it says"),
                    None => self.begin_behind(world, ledger, at),
                }
                reader.next = Some(at + 1);
            }
            "gap" => {
                assert_eq!(reader.next, None, "a reader begins once");
                let at = self.hear_gap(world, ledger, reader.from, &event);
                reader.next = Some(at + 1);
            }
            _ => {
                if self.slip == Slip::SkipsEvents && self.random.chance(2) {
                    return;
                }
                let offset = self.offset_of(event["id"].as_str().unwrap());
                assert_eq!(Some(offset), reader.next, "{}: {event}", self.full());
                reader.next = Some(offset + 1);
                self.take_event(ledger, offset, event);
            }
        }
    }

    fn hear_answer(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
        reader: &mut Reader,
        event: &Value,
    ) {
        assert!(event["id"].is_null());
        let id = event["request_id"]
            .as_str()
            .unwrap_or_else(|| panic!("{event}"));
        let status = event["status"].as_u64().unwrap();
        let what = match number_of(id) {
            Some(message) => What::Message(message),
            None => reader.asked.remove(id).expect("one answer to a request"),
        };
        self.answered(world, ledger, &what, status, event);
    }

    /// Events behind `from` are lost. Returns the last of them.
    fn hear_gap(
        &mut self,
        world: &World,
        ledger: &mut Ledger,
        from: Option<u64>,
        event: &Value,
    ) -> u64 {
        let full = self.full();
        let from = from.expect("who names no place misses nothing");
        let at = self.offset_of(event["id"].as_str().unwrap());
        assert_eq!(self.offset_of(event["after"].as_str().unwrap()), from);
        assert!(at > from, "{full}: {event}");
        self.begin_behind(world, ledger, at);
        at
    }

    /// A reader begins behind this event, because nothing before is kept.
    fn begin_behind(&mut self, world: &World, ledger: &mut Ledger, at: u64) {
        self.check_forgotten(world, ledger, at);
        let full = self.full();
        if let Some(session) = &mut self.session
            && at > session.at
        {
            ledger.note(|| format!("{full} misses events up to {at}"));
            ledger.may_be_lost(&self.bare);
            let born = (session.current_at, session.current_mark);
            session.born.insert(at, born);
            session.at = at;
            session.has_gap = true;
        }
    }

    /// Events up to here are kept no longer, which must have a reason.
    fn check_forgotten(&self, world: &World, ledger: &Ledger, at: u64) {
        let Some(session) = self.session.as_ref().filter(|_| at > 0) else {
            return;
        };
        let now = (session.current_at, session.current_mark);
        let (born, mark) = *session.born.get(&at).unwrap_or(&now);
        let age = world.now().mono.since(born);
        assert!(
            // In a tight run next to nothing is kept.
            age >= REPLAY || self.is_frail || is_much(ledger, mark, &self.bare),
            "{}: event {at} is gone and at most {age:?} old",
            self.full()
        );
    }

    fn take_page(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
        from: Option<u64>,
        page: &Value,
    ) {
        let mut at = from;
        for event in page["events"].as_array().unwrap() {
            if event["type"] == "gap" {
                assert_eq!(at, from, "a gap comes first");
                at = Some(self.hear_gap(world, ledger, from, event));
                continue;
            }
            let offset = self.offset_of(event["id"].as_str().unwrap());
            match at {
                Some(at) => assert_eq!(offset, at + 1, "{}: {page}", self.full()),
                None => self.begin_behind(world, ledger, offset - 1),
            }
            at = Some(offset);
            self.take_event(ledger, offset, event.clone());
        }
        let next = self.offset_of(page["next"].as_str().unwrap());
        assert!(at.is_none_or(|at| at == next), "{page}");
    }

    /// An event of the session, for the first time or again.
    fn take_event(&mut self, ledger: &mut Ledger, offset: u64, event: Value) {
        let full = self.full();
        let Some(session) = &mut self.session else {
            return;
        };
        if offset <= session.at {
            if let Some(first) = session.events.get(&offset) {
                assert_eq!(first, &event, "{full}: all readers get the same");
            }
            return;
        }
        assert_eq!(offset, session.at + 1, "{full}: a hole before {event}");
        session.at = offset;
        let born = (session.current_at, session.current_mark);
        session.born.insert(offset, born);
        session.events.insert(offset, event.clone());
        match event["type"].as_str().unwrap() {
            "message" => self.take_message(ledger, &event),
            "carbon" => {
                let id = event["message"]["message_id"].as_str().and_then(number_of);
                if let Some(message) = id {
                    let is_new = session.came.insert((message, "carbon"));
                    let repeated = ledger.sent[message].repeated;
                    assert!(is_new || repeated, "{full}: a second copy: {event}");
                }
            }
            "sent" => self.take_sent(ledger, offset, &event),
            "failure" if event["of"] == "message" => {
                if let Some(message) = event["message_id"].as_str().and_then(number_of) {
                    let arrival = Arrival {
                        message,
                        from: None,
                        is_error: true,
                        is_delayed: false,
                        stanza_id: None,
                    };
                    ledger.came(&full, self.epoch, &arrival);
                }
            }
            "presence" => {
                let from = event["from"].as_str().unwrap().to_owned();
                match event["show"].as_str().unwrap() {
                    "offline" => {
                        self.view.remove(&from);
                    }
                    show => {
                        self.view.insert(from, show.to_owned());
                    }
                }
            }
            "topic" => {
                assert_eq!(event["topic"], TOPIC);
                let number = event["data"].as_u64().unwrap() as usize;
                assert!(number < ledger.published.len(), "{full}: {event}");
                assert!(session.published.insert(number), "{full}: twice: {event}");
            }
            "missed" => session.missed += event["count"].as_u64().unwrap(),
            "failure" | "roster" | "subscription" => {}
            _ => panic!("{full} got {event}"),
        }
    }

    fn take_message(&mut self, ledger: &mut Ledger, event: &Value) {
        let Some(message) = event["message_id"].as_str().and_then(number_of) else {
            return;
        };
        if self.slip == Slip::LosesMessages && self.random.chance(20) {
            return;
        }
        let full = self.full();
        let text = event["body"].as_str().unwrap();
        assert_eq!(
            text.split(' ').next(),
            Some(&*message.to_string()),
            "{event}"
        );
        let repeated = ledger.sent[message].repeated;
        let stanza_id = event["stanza_id"]["id"].as_str().map(str::to_owned);
        if let Some(known) = self.known.get(&message)
            && !repeated
        {
            assert!(known.is_some(), "{full}: not to be known again: {event}");
            assert_eq!(known, &stanza_id, "{full}: it came under another name");
            return ledger.note(|| format!("{full} got m{message} again"));
        }
        self.known.insert(message, stanza_id.clone());
        let arrival = Arrival {
            message,
            from: event["from"].as_str(),
            is_error: false,
            is_delayed: !event["delay"].is_null(),
            stanza_id,
        };
        ledger.came(&full, self.epoch, &arrival);
    }

    fn take_sent(&mut self, ledger: &mut Ledger, offset: u64, event: &Value) {
        let full = self.full();
        let message = event["message_id"].as_str().and_then(number_of);
        let message = message.expect("a name of ours");
        assert_eq!(event["to"], ledger.sent[message].to, "{event}");
        assert_eq!(full, ledger.sent[message].from, "{event}");
        let repeated = ledger.sent[message].repeated;
        if let Some(session) = &mut self.session {
            let is_new = session.came.insert((message, "sent"));
            assert!(is_new, "{full}: a second time: {event}");
            let answered = session.answered.get(&offset).copied();
            assert_eq!(answered.unwrap_or(message), message, "{event}");
            if !repeated {
                let last = session.last_sent.replace(message);
                assert!(last.is_none_or(|last| last < message), "{full}: {event}");
            }
        }
        self.stored(ledger, message);
    }

    /// At rest, in a session: everything is answered, everything that was published came.
    pub fn check(&self, ledger: &mut Ledger) {
        let full = self.full();
        let Some(session) = &self.session else {
            return;
        };
        let unsaid: Vec<usize> = self.outbox.iter().map(|out| out.message).collect();
        assert!(unsaid.is_empty(), "{full}: nothing was heard of {unsaid:?}");
        for call in &self.calls {
            assert!(
                matches!(call.what, What::Poll(_)),
                "{full}: {:?}",
                call.what
            );
        }
        for reader in &self.readers {
            assert!(reader.asked.is_empty(), "{full}: {:?}", reader.asked);
            assert_eq!(
                reader.next,
                Some(session.at + 1),
                "{full}: it lacks something"
            );
        }
        for (offset, message) in &session.answered {
            let event = session.events.get(offset);
            let is_there = event.is_none_or(|event| event["type"] == "sent");
            assert!(is_there, "{full}: m{message} at {offset}: {event:?}");
        }
        if let Some(from) = session.subscribed.filter(|_| !session.has_gap) {
            for (number, is_answered) in ledger.published.iter().enumerate().skip(from) {
                let came = session.published.contains(&number) || session.missed > 0;
                assert!(came || !is_answered, "{full}: no publication {number}");
            }
        }
    }

    /// What it would not know after a gap.
    pub fn may_be_wrong(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_gap)
    }
}

/// Whether what an account had to do with since the messages before `mark` may exceed what is kept.
/// Some of those before come late.
fn is_much(ledger: &Ledger, mark: usize, bare: &str) -> bool {
    let late = ledger.sent[mark.saturating_sub(20)..].iter();
    let near = late.filter(|sent| sent.to.starts_with(bare) || sent.from.starts_with(bare));
    near.map(|sent| sent.octets + AROUND).sum::<usize>() > VOLUME
}
