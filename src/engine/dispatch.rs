//! [`FEATURES`] as the engine asks them: by phase, by request, by nonza.

use std::sync::LazyLock;

use crate::features::{Asked, FEATURES, IqRoute, NonzaRoute, Verdict};
use crate::session::account::AccountKey;
use crate::session::ctx::Ctx;
use crate::session::session::SessionKey;
use crate::xmpp::stanza::Stanza;

type SessionHook = fn(&mut Ctx<'_>, SessionKey, &Stanza<'_>) -> Verdict;
type AccountHook = fn(&mut Ctx<'_>, AccountKey, &Stanza<'_>) -> Verdict;

/// The hooks that every message meets, picked out of [`FEATURES`] once.
struct Hooks {
    outgoing: Vec<SessionHook>,
    incoming: Vec<AccountHook>,
    delivering: Vec<SessionHook>,
}

static HOOKS: LazyLock<Hooks> = LazyLock::new(|| Hooks {
    outgoing: FEATURES
        .iter()
        .filter_map(|feature| feature.outgoing)
        .collect(),
    incoming: FEATURES
        .iter()
        .filter_map(|feature| feature.incoming)
        .collect(),
    delivering: FEATURES
        .iter()
        .filter_map(|feature| feature.delivering)
        .collect(),
});

/// A phase at which a session's stanza may be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Outgoing,
    Delivering,
}

/// Asks the hooks of `phase` until one does not pass.
pub fn ask(ctx: &mut Ctx<'_>, phase: Phase, session: SessionKey, stanza: &Stanza<'_>) -> Verdict {
    let hooks = match phase {
        Phase::Outgoing => &HOOKS.outgoing,
        Phase::Delivering => &HOOKS.delivering,
    };
    for hook in hooks {
        let verdict = hook(ctx, session, stanza);
        if verdict != Verdict::Pass {
            return verdict;
        }
    }
    Verdict::Pass
}

/// Asks the hooks that see what reaches an account.
pub fn incoming(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) -> Verdict {
    for hook in &HOOKS.incoming {
        let verdict = hook(ctx, account, stanza);
        if verdict != Verdict::Pass {
            return verdict;
        }
    }
    Verdict::Pass
}

/// Tells who cares that a session sent presence.
pub fn presence(ctx: &mut Ctx<'_>, session: SessionKey, stanza: &Stanza<'_>) {
    for hook in FEATURES.iter().filter_map(|feature| feature.presence) {
        hook(ctx, session, stanza);
    }
}

/// Tells who cares that presence came to an account's bare JID.
pub fn presence_in(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) {
    for hook in FEATURES.iter().filter_map(|feature| feature.presence_in) {
        hook(ctx, account, stanza);
    }
}

/// Tells who cares that a session was bound.
pub fn bound(ctx: &mut Ctx<'_>, session: SessionKey) {
    for hook in FEATURES.iter().filter_map(|feature| feature.bound) {
        hook(ctx, session);
    }
}

/// Tells who cares that a session ends.
pub fn ended(ctx: &mut Ctx<'_>, session: SessionKey) {
    for hook in FEATURES.iter().filter_map(|feature| feature.ended) {
        hook(ctx, session);
    }
}

/// Who answers a request for this payload.
pub fn iq(asked: Asked, namespace: &str, name: &str) -> Option<&'static IqRoute> {
    let routes = FEATURES.iter().flat_map(|feature| feature.iq);
    let fits = |route: &&IqRoute| {
        route.asked == asked && route.name == name && route.namespace == namespace
    };
    routes.into_iter().find(fits)
}

/// Who takes this nonza.
pub fn nonza(namespace: &str, name: &str) -> Option<&'static NonzaRoute> {
    let routes = FEATURES.iter().flat_map(|feature| feature.nonza);
    routes
        .into_iter()
        .find(|route| route.name == name && route.namespace == namespace)
}
