//! An address becomes a target: the server itself, an account of this shard, another shard, or
//! nobody.

use super::{deliver, serve};
use crate::session::ctx::Ctx;
use crate::session::parcel::Batch;
use crate::session::session::SessionKey;
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Kind, Stanza};

/// Sends a stanza of one of our sessions to where its `to` points (RFC 6120 section 10).
///
/// The server's own address is served where the sender is.
pub fn route(ctx: &mut Ctx<'_>, session: Option<SessionKey>, stanza: &Stanza<'_>) {
    let (bare, _) = jid::split_resource(stanza.to);
    let (local, domain) = jid::split_local(bare);
    if !ctx.serves(domain) {
        ctx.bounce(stanza, Condition::RemoteServerNotFound);
        return;
    }
    if local.is_none() {
        serve::server(ctx, session, stanza);
        return;
    }
    let home = ctx.home(bare);
    if home == ctx.shard {
        deliver::deliver(ctx, stanza, stanza.to);
    } else {
        ctx.fx.batch(home).push(stanza);
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
