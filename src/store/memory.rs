//! A backend without files: for tests of what lies above storage.

use hashbrown::HashMap;

use super::answer::{holds, read};
use super::backup::{Frozen, FrozenBody, FrozenMessage};
use super::index::memory::MemoryIndex;
use super::index::{Edit, Edits, Index, IndexError};
use super::{
    Backend, Change, MessageId, Op, Ops, Recovered, Replies, Reply, StreamId, Ticket, Unsettled,
};

/// Rows, messages and the handled table in memory. Answers come when the real ones would:
/// writes and messages at [`Backend::commit`], a settled message at once.
#[derive(Default)]
pub struct MemoryBackend {
    index: MemoryIndex,
    messages: HashMap<MessageId, Message, foldhash::fast::RandomState>,
    handled: HashMap<StreamId, u32, foldhash::fast::RandomState>,
    waiting: Vec<Option<Ticket>>,
    last_id: MessageId,
}

struct Message {
    owner: Box<str>,
    octets: Box<[u8]>,
    /// Its place in `waiting`, until it is committed.
    waiting: Option<usize>,
}

impl MemoryBackend {
    /// What a journal would know after a crash at this instant with nothing lost.
    pub fn recovered(&self) -> Recovered {
        let mut unsettled: Vec<Unsettled> = self
            .messages
            .iter()
            .map(|(id, message)| Unsettled {
                id: *id,
                owner: message.owner.clone(),
                octets: message.octets.clone(),
            })
            .collect();
        unsettled.sort_by_key(|message| message.id);
        Recovered {
            unsettled,
            handled: self.handled.iter().map(|(id, h)| (*id, *h)).collect(),
            next_id: MessageId(self.last_id.0 + 1),
            damage: Vec::new(),
        }
    }

    fn write(&mut self, ops: &Ops, changes: &[Change]) -> Result<(), IndexError> {
        let edits: Edits<'_> = changes.iter().filter_map(|c| Edit::of(c, ops)).collect();
        self.index.apply(&edits, 0)?;
        for change in changes {
            if let Change::Settle { id } = change {
                // Its ticket stays: the commit that makes the change durable answers it.
                self.messages.remove(id);
            }
        }
        Ok(())
    }

    fn journal(&mut self, ops: &Ops, ticket: Option<Ticket>, op: &Op, replies: &mut Replies) {
        let Op::Journal {
            id,
            owner,
            octets,
            stream,
            handled,
        } = op
        else {
            return;
        };
        self.settle(*id, replies);
        self.last_id = self.last_id.max(*id);
        self.handled.insert(*stream, *handled);
        let message = Message {
            owner: String::from_utf8_lossy(ops.octets(owner)).into(),
            octets: ops.octets(octets).into(),
            waiting: Some(self.waiting.len()),
        };
        self.waiting.push(ticket);
        self.messages.insert(*id, message);
    }

    fn settle(&mut self, id: MessageId, replies: &mut Replies) {
        let place = self
            .messages
            .remove(&id)
            .and_then(|message| message.waiting);
        let ticket = place.and_then(|place| self.waiting[place].take());
        replies.extend(ticket.map(|ticket| (ticket, Reply::Done)));
    }

    fn execute_one(&mut self, ops: &Ops, ticket: Option<Ticket>, op: &Op, replies: &mut Replies) {
        let reply = match op {
            Op::Write { require, changes } => match holds(&self.index, ops, require) {
                Ok(true) => match self.write(ops, changes) {
                    Ok(()) => {
                        self.waiting.push(ticket);
                        return;
                    }
                    Err(error) => Reply::Refused(error.into()),
                },
                Ok(false) => Reply::Conflict,
                Err(error) => Reply::Refused(error.into()),
            },
            Op::Journal { .. } => return self.journal(ops, ticket, op, replies),
            Op::Settle { id } => return self.settle(*id, replies),
            Op::Forget { stream } => {
                self.handled.remove(stream);
                return;
            }
            _ => match (read(&self.index, ops, op), ticket) {
                (Some(reply), _) => reply,
                (None, Some(ticket)) => match ops.hash_job(ticket, op) {
                    Some(job) => job.derive(),
                    None => return,
                },
                (None, None) => return,
            },
        };
        replies.extend(ticket.map(|ticket| (ticket, reply)));
    }
}

impl Backend for MemoryBackend {
    fn execute(&mut self, batch: &Ops, replies: &mut Replies) {
        for (ticket, op) in batch.iter() {
            self.execute_one(batch, *ticket, op, replies);
        }
    }

    fn commit(&mut self, replies: &mut Replies) {
        let done = self.waiting.drain(..).flatten();
        replies.extend(done.map(|ticket| (ticket, Reply::Done)));
        for message in self.messages.values_mut() {
            message.waiting = None;
        }
    }

    fn freeze(&self) -> Result<Frozen, IndexError> {
        let messages = self.recovered().unsettled.into_iter();
        let frozen = messages.map(|message| FrozenMessage {
            id: message.id,
            body: FrozenBody::Here {
                owner: message.owner.into_boxed_bytes(),
                octets: message.octets,
            },
        });
        Ok(Frozen {
            rows: self.index.snapshot()?,
            messages: frozen.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, Require, TicketKey};

    fn ticket(number: u64) -> Option<Ticket> {
        let key = TicketKey::from_bits(number);
        Some(Ticket { shard: 0, key })
    }

    fn numbers(replies: &Replies) -> Vec<u64> {
        replies
            .iter()
            .map(|(ticket, _)| ticket.key.to_bits())
            .collect()
    }

    #[test]
    fn a_message_is_answered_when_committed_or_settled_and_once() {
        let mut backend = MemoryBackend::default();
        let mut replies = Replies::new();
        let mut ops = Ops::default();
        for id in 1..=2 {
            let owner = ops.keep(b"juliet@example.net");
            let octets = ops.keep(b"<message/>");
            let op = Op::Journal {
                id: MessageId(id),
                owner,
                octets,
                stream: StreamId(7),
                handled: id as u32,
            };
            ops.push(ticket(id), op);
        }
        ops.push(None, Op::Settle { id: MessageId(1) });
        backend.execute(&ops, &mut replies);
        assert_eq!(numbers(&replies), [1]);
        backend.commit(&mut replies);
        assert_eq!(numbers(&replies), [1, 2]);
        let left = backend.recovered();
        assert_eq!(left.unsettled.len(), 1);
        assert_eq!(left.handled, [(StreamId(7), 2)]);
        assert_eq!(left.next_id, MessageId(3));
    }

    #[test]
    fn a_write_whose_precondition_fails_changes_nothing() {
        let mut backend = MemoryBackend::default();
        let mut replies = Replies::new();
        let mut ops = Ops::default();
        let owner = ops.keep(b"juliet@example.net");
        let (kind, key) = (Kind::Credentials, 0..0);
        for number in [1, 2] {
            let require = Require::Absent {
                owner: owner.clone(),
                kind,
                key: key.clone(),
            };
            let changes = vec![Change::Put {
                owner: owner.clone(),
                kind,
                key: key.clone(),
                value: owner.clone(),
            }];
            ops.push(ticket(number), Op::Write { require, changes });
        }
        ops.push(ticket(3), Op::Get { owner, kind, key });
        backend.execute(&ops, &mut replies);
        backend.commit(&mut replies);
        assert_eq!(numbers(&replies), [2, 3, 1]);
        assert_eq!(replies[0].1, Reply::Conflict);
        assert!(matches!(replies[1].1, Reply::Value(Some(_))));
        assert_eq!(replies[2].1, Reply::Done);
    }
}
