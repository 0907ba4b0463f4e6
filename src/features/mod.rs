//! One extension, one file. [`FEATURES`] is the only registration point; the engine, service
//! discovery, documentation and tests are derived from it.

use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Iq};
use crate::session::session::SessionKey;
use crate::xmpp::error::{StanzaError, StreamError};
use crate::xmpp::stanza::Stanza;
use crate::xmpp::xml::Element;

/// What a hook decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stanza goes on.
    Pass,
    /// The hook took care of it.
    Consumed,
    /// The sender gets this error.
    Bounce(StanzaError),
}

/// The specification behind a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xep {
    pub number: u16,
    pub version: &'static str,
}

/// Who must be asked for an [`IqRoute`] to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The server's own address.
    Server,
    /// The asker's own account: no `to`, or the own bare JID.
    Own,
    /// The bare JID of any account, also somebody else's.
    Account,
}

/// Which requests a feature answers.
pub struct IqRoute {
    pub namespace: &'static str,
    pub name: &'static str,
    pub asked: Asked,
    pub get: Option<fn(&mut Ctx<'_>, &Iq<'_>)>,
    pub set: Option<fn(&mut Ctx<'_>, &Iq<'_>)>,
}

/// A nonza of a bound stream: a top-level element that is no stanza.
pub struct NonzaRoute {
    pub namespace: &'static str,
    pub name: &'static str,
    pub take: fn(&mut Ctx<'_>, SessionKey, Element<'_>) -> Result<(), StreamError>,
}

/// A feature, whole. Hooks name the phase of the stanza's way at which they are asked; within a
/// phase the order of [`FEATURES`] holds.
pub struct Feature {
    pub xep: Option<Xep>,
    /// Announced by the server's own address.
    pub disco: &'static [&'static str],
    /// Announced by every account's bare JID.
    pub account_disco: &'static [&'static str],
    pub iq: &'static [IqRoute],
    pub nonza: &'static [NonzaRoute],
    /// A session sends a message, iq or directed presence; at the sender's home.
    pub outgoing: Option<fn(&mut Ctx<'_>, SessionKey, &Stanza<'_>) -> Verdict>,
    /// A message, iq or presence reaches an account, before a session is chosen.
    pub incoming: Option<fn(&mut Ctx<'_>, AccountKey, &Stanza<'_>) -> Verdict>,
    /// One session is about to get a stanza.
    pub delivering: Option<fn(&mut Ctx<'_>, SessionKey, &Stanza<'_>) -> Verdict>,
    /// A session sent presence of any type, to somebody or to all.
    pub presence: Option<fn(&mut Ctx<'_>, SessionKey, &Stanza<'_>)>,
    /// Presence of any type but `error` was addressed to an account's bare JID.
    pub presence_in: Option<fn(&mut Ctx<'_>, AccountKey, &Stanza<'_>)>,
    /// A session was bound.
    pub bound: Option<fn(&mut Ctx<'_>, SessionKey)>,
    /// A session is about to end; it is still in its account.
    pub ended: Option<fn(&mut Ctx<'_>, SessionKey)>,
}

impl Feature {
    /// A feature that does nothing.
    pub const NONE: Self = Self {
        xep: None,
        disco: &[],
        account_disco: &[],
        iq: &[],
        nonza: &[],
        outgoing: None,
        incoming: None,
        delivering: None,
        presence: None,
        presence_in: None,
        bound: None,
        ended: None,
    };
}

/// Everything that is served, in the order in which hooks are asked.
///
/// Blocking is asked before whoever would copy what it stops; subscriptions see initial presence
/// before the session is available.
pub const FEATURES: &[&Feature] = &[
    &blocking::FEATURE,
    &carbons::FEATURE,
    &csi::FEATURE,
    &roster::FEATURE,
    &subscription::FEATURE,
    &presence::FEATURE,
    &disco::FEATURE,
    &disco::CAPS,
    &disco::CONTACTS,
    &announced::OFFLINE,
    &announced::DELAY,
    &announced::HINTS,
    &announced::SID,
    &announced::STREAM_LIMITS,
    &announced::STREAM_MANAGEMENT,
    &last::FEATURE,
    &ping::FEATURE,
    &private::FEATURE,
    &session_request::FEATURE,
    &time::FEATURE,
    &vcard::FEATURE,
    &version::FEATURE,
];

pub mod announced;
pub mod blocking;
pub mod carbons;
pub mod csi;
pub mod disco;
pub mod last;
pub mod ping;
pub mod presence;
pub mod private;
pub mod roster;
pub mod session_request;
pub mod subscription;
pub mod time;
pub mod vcard;
pub mod version;
