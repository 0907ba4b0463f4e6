//! An address becomes a target: the server itself, an account of this shard, another shard, or
//! nobody.

use super::{deliver, serve};
use crate::session::ctx::{Core, Ctx};
use crate::session::parcel::Batch;
use crate::session::session::SessionKey;
use crate::store::ShardId;
use crate::xmpp::error::Condition;
use crate::xmpp::jid::{self, Jid, JidError};
use crate::xmpp::stanza::{Kind, Stanza};
use crate::xmpp::xml::Attr;
use crate::xmpp::xml::writer::escape_attr;

/// Where an address leads (RFC 6120 section 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// To a domain that is not served here.
    #[default]
    Elsewhere,
    /// To the server itself, which answers where the sender is.
    Server,
    /// To an account that this shard owns, if there is one.
    Account(ShardId),
}

impl Way {
    /// The way to an address in normal form.
    pub fn to(core: &Core, jid: &str) -> Self {
        let (bare, _) = jid::split_resource(jid);
        match jid::split_local(bare) {
            (_, domain) if !core.serves(domain) => Self::Elsewhere,
            (None, _) => Self::Server,
            (Some(_), _) => Self::Account(core.home(bare)),
        }
    }
}

/// To whom a stanza goes, remembered from stanza to stanza: who writes much writes to the same
/// address again, and then nothing of it is done twice.
#[derive(Default)]
pub struct Addressee {
    /// The attribute as it was received; empty: not to be compared with.
    raw: Vec<u8>,
    /// Normal form.
    jid: String,
    /// The bare JID as it stands in an attribute.
    bare_escaped: Vec<u8>,
    way: Way,
}

impl Addressee {
    /// Reads the `to` of a stanza.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn read(&mut self, core: &Core, to: Attr<'_>) -> Result<(), JidError> {
        if !self.raw.is_empty() && self.raw == to.raw {
            return Ok(());
        }
        let value = to.value();
        self.set(core, Jid::parse(&value)?.as_str());
        self.raw.extend_from_slice(to.raw);
        Ok(())
    }

    /// Takes an address in normal form.
    pub fn set(&mut self, core: &Core, jid: &str) {
        self.raw.clear();
        self.jid.clear();
        self.jid.push_str(jid);
        self.bare_escaped.clear();
        escape_attr(&mut self.bare_escaped, jid::split_resource(jid).0);
        self.way = Way::to(core, jid);
    }

    /// The address in normal form.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The bare JID, escaped for an attribute.
    pub fn bare_escaped(&self) -> &[u8] {
        &self.bare_escaped
    }

    /// Where it leads.
    pub const fn way(&self) -> Way {
        self.way
    }
}

/// Sends a stanza of one of our sessions along the way of its `to`.
pub fn route(ctx: &mut Ctx<'_>, session: Option<SessionKey>, stanza: &Stanza<'_>, way: Way) {
    match way {
        Way::Elsewhere => ctx.bounce(stanza, Condition::RemoteServerNotFound),
        Way::Server => serve::server(ctx, session, stanza),
        Way::Account(home) if home == ctx.shard => deliver::deliver(ctx, stanza, stanza.to),
        Way::Account(home) => ctx.fx.batch(home).push(stanza),
    }
}

/// Delivers what hooks and features posted to accounts of this shard, until nothing is left.
///
/// Bounded: an error is never answered with an error, and a broadcast causes no broadcast.
pub fn drain_local(ctx: &mut Ctx<'_>) {
    while !ctx.local.is_empty() {
        let mut batch = std::mem::take(&mut ctx.core.local);
        drain(ctx, &batch);
        batch.clear();
        if ctx.core.local.is_empty() {
            ctx.core.local = batch;
        }
    }
}

/// Delivers every parcel of a batch to its targets in this shard.
pub fn drain(ctx: &mut Ctx<'_>, batch: &Batch) {
    for (stanza, targets) in batch.iter() {
        for target in targets {
            let (bare, resource) = jid::split_resource(target);
            // Nearly always an account that is here: then its domain is one of ours.
            if let Some(account) = ctx.accounts.find(bare) {
                deliver::deliver_to(ctx, &stanza, target, account, resource);
                continue;
            }
            let (local, domain) = jid::split_local(bare);
            match (ctx.serves(domain), local) {
                (false, _) if stanza.kind != Kind::Presence => {
                    ctx.bounce(&stanza, Condition::RemoteServerNotFound);
                }
                (false, _) => {}
                (true, None) => serve::server(ctx, None, &stanza),
                (true, Some(_)) => deliver::deliver(ctx, &stanza, target),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::ctx::Setup;
    use crate::store::MessageId;
    use crate::testing::Plan;

    #[test]
    fn an_addressee_is_remembered_by_what_was_written_and_never_longer() {
        let core = Core::new(Setup {
            shard: 0,
            shards: 8,
            policy: Arc::new(Plan::default().policy()),
            hash_key: [1; 16],
            seed: [1; 32],
            next_id: MessageId(1),
        });
        let to = |raw| Attr {
            name: b"to",
            raw,
            quote: b'\'',
        };
        let juliet = Way::Account(core.home("juliet@localhost"));
        let mut addressee = Addressee::default();
        for (raw, expected) in [
            ("juliet@localhost/a", Some(("juliet@localhost/a", juliet))),
            ("juliet@localhost/a", Some(("juliet@localhost/a", juliet))),
            ("JULIET@localhost/a", Some(("juliet@localhost/a", juliet))),
            (
                "juliet@localhost/&#97;",
                Some(("juliet@localhost/a", juliet)),
            ),
            ("localhost", Some(("localhost", Way::Server))),
            ("a@elsewhere", Some(("a@elsewhere", Way::Elsewhere))),
            ("", None),
            ("@localhost", None),
            ("a@elsewhere", Some(("a@elsewhere", Way::Elsewhere))),
        ] {
            let read = addressee.read(&core, to(raw.as_bytes()));
            let found = read.ok().map(|()| (addressee.jid(), addressee.way()));
            assert_eq!(found, expected, "{raw}");
        }
        addressee.set(&core, "juliet@localhost");
        assert_eq!(addressee.read(&core, to(b"juliet@localhost")), Ok(()));
        assert_eq!(addressee.read(&core, to(b"")), Err(JidError::Domainpart));
    }
}
