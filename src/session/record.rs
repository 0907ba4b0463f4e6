//! A resumable session written down at shutdown ([`crate::store::Kind::Session`]).
//!
//! Format 1: octet 1; resource, presence, directed addresses, counters, then every stanza that the
//! client has not acknowledged, with its traits and its id. Texts and octets have their length (4
//! octets, big-endian) before them.

use super::account::AccountKey;
use super::queue::Pool;
use super::roster::Reader;
use super::session::{Flags, Management, Session};
use crate::store::{MessageId, StreamId};
use crate::xmpp::stanza::Traits;

const FORMAT: u8 = 1;

/// The record of a session. `None`: it cannot be resumed.
pub fn encode(session: &Session) -> Option<(StreamId, Vec<u8>)> {
    let management = session.management.as_deref()?;
    let mut record = vec![FORMAT];
    put(&mut record, session.resource().as_bytes());
    record.extend_from_slice(&session.flags.to_bits().to_be_bytes());
    record.push(session.priority as u8);
    put(&mut record, session.presence.as_deref().unwrap_or_default());
    let directed = session
        .directed
        .as_deref()
        .map(Vec::as_slice)
        .unwrap_or_default();
    number(&mut record, directed.len() as u32);
    for jid in directed {
        put(&mut record, jid.as_bytes());
    }
    number(&mut record, management.resume_seconds);
    number(&mut record, management.handled());
    number(&mut record, management.acknowledged);
    number(&mut record, session.queue.unacknowledged() as u32);
    for (mark, element) in session.queue.open() {
        record.extend_from_slice(&mark.traits.to_bits().to_be_bytes());
        record.extend_from_slice(&mark.id.0.to_be_bytes());
        put(&mut record, &element);
    }
    Some((management.id, record))
}

/// The session of a record, detached. `None`: damaged, or of a format not known here.
pub fn decode(
    record: &[u8],
    account: AccountKey,
    bare: &str,
    stream: StreamId,
    pool: &mut Pool,
) -> Option<Session> {
    let mut reader = Reader(record);
    if reader.octet()? != FORMAT {
        return None;
    }
    let mut session = Session::detached(account, bare, reader.text()?);
    session.flags = Flags::from_bits(u16::from_be_bytes(reader.take(2)?.try_into().ok()?));
    session.flags.clear(Flags::PAUSED);
    session.flags.clear(Flags::ACK_LISTED);
    session.flags.clear(Flags::ASK_TIMER);
    session.priority = reader.octet()? as i8;
    let presence = reader.octets()?;
    session.presence = session.is_available().then(|| presence.into());
    let directed: Option<Vec<_>> = (0..reader.number()?)
        .map(|_| reader.text().map(Box::from))
        .collect();
    session.directed = directed.filter(|list| !list.is_empty()).map(Box::new);
    let mut management = Management::new(stream, reader.number()?);
    management.received = reader.number()?;
    management.told = management.received;
    management.acknowledged = reader.number()?;
    session.management = Some(Box::new(management));
    session.queue.count_from_here();
    for _ in 0..reader.number()? {
        let traits = Traits::from_bits(u16::from_be_bytes(reader.take(2)?.try_into().ok()?));
        let id = MessageId(u64::from_be_bytes(reader.take(8)?.try_into().ok()?));
        session.queue.restore(pool, traits, id, reader.octets()?);
    }
    Some(session)
}

/// The journaled messages that a record holds; none if it is damaged.
pub fn journaled(record: &[u8]) -> Vec<MessageId> {
    let mut pool = Pool::default();
    let account = AccountKey::from_bits(0);
    let session = decode(record, account, "", StreamId(0), &mut pool);
    let Some(session) = session else {
        return Vec::new();
    };
    let marks = session
        .queue
        .open()
        .filter(|(mark, _)| mark.traits.has(Traits::JOURNALED));
    marks.map(|(mark, _)| mark.id).collect()
}

fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    number(record, bytes.len() as u32);
    record.extend_from_slice(bytes);
}

fn number(record: &mut Vec<u8>, number: u32) {
    record.extend_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::{Draft, Kind, Type};

    fn sample(pool: &mut Pool) -> Session {
        let account = AccountKey::from_bits(0);
        let mut session = Session::detached(account, "romeo@example.net", "orchard");
        session.flags.set(Flags::AVAILABLE);
        session.flags.set(Flags::CARBONS);
        session.priority = -3;
        session.presence = Some(b"<show>away</show>".as_slice().into());
        session.directed = Some(Box::new(vec!["nurse@example.net/room".into()]));
        let mut management = Management::new(StreamId(9), 77);
        (management.received, management.acknowledged) = (12, 5);
        session.management = Some(Box::new(management));
        session.queue.count_from_here();
        let draft = Draft::new(Kind::Message, Type::Chat, "j@x/y", "romeo@example.net", b"")
            .with_content(b"<body>hi</body>".to_vec())
            .with_traits(Traits::STORABLE);
        session
            .queue
            .push(pool, &draft.as_stanza(), "romeo@example.net");
        session
    }

    #[test]
    fn a_session_comes_back_with_its_presence_and_its_queue() {
        let mut pool = Pool::default();
        let session = sample(&mut pool);
        let (stream, written) = encode(&session).unwrap();
        let back = decode(
            &written,
            session.account,
            "romeo@example.net",
            stream,
            &mut pool,
        );
        let back = back.unwrap();
        assert_eq!(
            (&back.jid, back.priority, back.flags),
            (&session.jid, -3, session.flags)
        );
        assert_eq!(
            (&back.presence, &back.directed),
            (&session.presence, &session.directed)
        );
        let open = |session: &Session| -> Vec<(Traits, Vec<u8>)> {
            session
                .queue
                .open()
                .map(|(mark, octets)| (mark.traits, octets.to_vec()))
                .collect()
        };
        assert_eq!(open(&back), open(&session));
        assert_eq!(encode(&back).unwrap().1, written);
    }

    #[test]
    fn a_cut_record_is_refused() {
        let mut pool = Pool::default();
        let session = sample(&mut pool);
        let (stream, written) = encode(&session).unwrap();
        for cut in 0..written.len() {
            let back = decode(&written[..cut], session.account, "r@x", stream, &mut pool);
            assert!(back.is_none(), "cut at {cut}");
        }
    }
}
