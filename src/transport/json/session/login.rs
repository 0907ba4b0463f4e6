//! The stream until it is bound: header, SASL, binding, stream management, presence.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::{Action, Answer, Phase, Session, answer};
use crate::base::time::Moment;
use crate::transport::json::outgoing::{self, Item};
use crate::transport::json::problem::{self, Foreign, Problem};
use crate::transport::json::request::{self, Presence};
use crate::transport::json::writer::Object;
use crate::xmpp::jid::{self, BareJid};
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;
use crate::xmpp::xml::{Element, Tree};

/// What a session is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    /// Whose session it will be.
    pub account: BareJid,
    pub credentials: Credentials<'a>,
    /// The wish.
    pub resource: Option<Cow<'a, str>>,
    pub lang: Option<Cow<'a, str>>,
    /// What others see as soon as the session is open; `None`: nothing.
    pub presence: Option<Presence<'a>>,
}

/// Who wants in, and why we should believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// `PLAIN`. The user is the local part of the address.
    Password {
        user: Cow<'a, str>,
        password: Cow<'a, str>,
    },
    /// `OAUTHBEARER` (RFC 7628).
    Token(Cow<'a, str>),
    /// Any mechanism, with its first message in base64; the client does the rest by
    /// [`Session::respond`].
    Sasl {
        mechanism: Cow<'a, str>,
        initial: Cow<'a, str>,
    },
}

impl Opening<'_> {
    /// Whether all of it can be carried in XML, and names a mechanism as RFC 4422 section 3.1 has
    /// it.
    ///
    /// # Errors
    /// The answer.
    pub fn check(&self) -> Result<(), Problem> {
        let carried = |text: &Option<Cow<'_, str>>| text.as_deref().is_none_or(request::is_carried);
        let named = match &self.credentials {
            Credentials::Sasl { mechanism, initial } => {
                let letter =
                    |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
                (1..=20).contains(&mechanism.len())
                    && mechanism.bytes().all(letter)
                    && is_base64(initial)
            }
            Credentials::Password { user, password } => {
                !user.is_empty() && ![user, password].iter().any(|text| text.contains('\0'))
            }
            Credentials::Token(token) => {
                !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic())
            }
        };
        let all = carried(&self.resource) && carried(&self.lang);
        match all && named {
            true => Ok(()),
            false => Err(problem::WRONG_VALUE),
        }
    }
}

#[derive(Debug)]
pub(super) struct Login<T> {
    /// The request that waits.
    pub ticket: Option<T>,
    pub since: Moment,
    step: Step,
    account: BareJid,
    /// The full address, once it is bound.
    address: Box<str>,
    lang: Option<Box<str>>,
    resource: Option<Box<str>>,
    token: Box<str>,
    mechanism: Box<str>,
    /// The element that begins the login, until it is sent.
    auth: Zeroizing<Vec<u8>>,
    /// Whether the client can answer challenges.
    converses: bool,
    presence: Vec<u8>,
    /// What SASL said with its success.
    success: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Mechanisms,
    Authenticating,
    /// The client has to answer a challenge.
    Challenged,
    Binding,
    Bound,
    Enabling,
}

impl<T: Copy + PartialEq> Login<T> {
    pub fn begin(opening: &Opening<'_>, ticket: T, token: &str, now: Moment) -> Self {
        let (mechanism, initial) = match &opening.credentials {
            Credentials::Password { user, password } => {
                let plain = Zeroizing::new(format!("\0{user}\0{password}"));
                ("PLAIN", Zeroizing::new(BASE64_STANDARD.encode(&*plain)))
            }
            Credentials::Token(token) => {
                let bearer = Zeroizing::new(format!("n,,\x01auth=Bearer {token}\x01\x01"));
                let bearer = Zeroizing::new(BASE64_STANDARD.encode(&*bearer));
                ("OAUTHBEARER", bearer)
            }
            Credentials::Sasl { mechanism, initial } => {
                (&**mechanism, Zeroizing::new(initial.to_string()))
            }
        };
        let mut auth = Zeroizing::new(Vec::with_capacity(initial.len() + 96));
        let mut writer = Writer::new(&mut auth);
        writer
            .open("auth")
            .attr("xmlns", ns::SASL)
            .attr("mechanism", mechanism);
        // RFC 6120 section 6.4.2: an initial response of nothing.
        writer
            .text(if initial.is_empty() { "=" } else { &initial })
            .end("auth");
        let mut presence = Vec::new();
        if let Some(shown) = &opening.presence {
            outgoing::write_presence(&mut presence, shown);
        }
        Self {
            ticket: Some(ticket),
            since: now,
            step: Step::Mechanisms,
            account: opening.account.clone(),
            address: Box::default(),
            lang: opening.lang.as_deref().map(Into::into),
            resource: opening.resource.as_deref().map(Into::into),
            token: token.into(),
            mechanism: mechanism.into(),
            auth,
            converses: matches!(opening.credentials, Credentials::Sasl { .. }),
            presence,
            success: None,
        }
    }

    /// The header of the stream, before and after the login.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        let mut writer = Writer::new(&mut out);
        writer.open("stream:stream");
        writer
            .attr("xmlns", ns::CLIENT)
            .attr("xmlns:stream", ns::STREAMS)
            .attr("version", "1.0")
            .attr("to", self.account.domain());
        if let Some(lang) = &self.lang {
            writer.attr("xml:lang", lang);
        }
        writer.text("");
        out
    }

    fn bind(&self) -> Vec<u8> {
        let mut out = Vec::new();
        outgoing::write_iq(&mut out, "set", BIND, None, |writer| {
            writer.open("bind").attr("xmlns", ns::BIND);
            if let Some(resource) = &self.resource {
                writer.open("resource").text(resource).end("resource");
            }
            writer.end("bind");
        });
        out
    }
}

impl<T: Copy + PartialEq + 'static> Session<T> {
    /// The client's answer to a challenge, in base64. Then: [`Session::settle`].
    pub fn respond(&mut self, ticket: T, response: &str, actions: &mut Vec<Action<T>>) {
        let login = match &mut self.login {
            Some(login) if login.step == Step::Challenged => login,
            _ => {
                let answer = Answer::refusal(problem::NOT_DUE);
                return actions.push(Action::Answer { ticket, answer });
            }
        };
        if !is_base64(response) {
            let answer = Answer::refusal(problem::WRONG_VALUE);
            return actions.push(Action::Answer { ticket, answer });
        }
        login.ticket = Some(ticket);
        login.step = Step::Authenticating;
        let mut octets = Vec::new();
        let mut writer = Writer::new(&mut octets);
        writer.open("response").attr("xmlns", ns::SASL);
        writer.text(response).end("response");
        actions.push(Action::Stream(octets));
    }

    /// An element before the session is open.
    pub(super) fn hear_login(
        &mut self,
        element: Element<'_>,
        address: &str,
        scratch: &mut Vec<u8>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        let Some(login) = &mut self.login else {
            return;
        };
        match (login.step, element.local()) {
            (Step::Mechanisms, "features") => self.authenticate(&element.tree(), actions),
            (Step::Authenticating, "challenge") if login.converses => {
                login.step = Step::Challenged;
                let Some(ticket) = login.ticket.take() else {
                    return;
                };
                let mut body = Vec::new();
                let mut object = Object::begin(&mut body);
                object
                    .text("session", &login.token)
                    .text("challenge", &element.text());
                object.end();
                let answer = answer(200, body);
                actions.push(Action::Answer { ticket, answer });
            }
            (Step::Authenticating, "success") => {
                let said = element.text();
                login.success = Some(said).filter(|said| !said.is_empty() && login.converses);
                login.step = Step::Binding;
                actions.push(Action::Stream(login.header()));
            }
            (Step::Authenticating, "failure") => self.refuse_login(&element.tree(), actions),
            (Step::Binding, "features") => {
                login.step = Step::Bound;
                actions.push(Action::Stream(login.bind()));
            }
            (Step::Bound, "iq") => self.bound(element, actions),
            (Step::Enabling, "enabled") => self.begin(actions),
            (Step::Enabling, "message" | "presence") => {
                self.hear_early(element, address, scratch, now);
            }
            // Nothing was asked yet; who asks something hears nothing, as of a client that is slow.
            (Step::Enabling, "iq") => {}
            _ => self.finish(problem::INTERNAL, actions),
        }
    }

    fn authenticate(&mut self, features: &Tree, actions: &mut Vec<Action<T>>) {
        let Some(login) = &mut self.login else {
            return;
        };
        let mechanisms = features.child(ns::SASL, "mechanisms");
        let mut mechanisms = mechanisms.into_iter().flat_map(Tree::children);
        if !mechanisms.any(|offered| offered.text() == *login.mechanism) {
            return self.finish(problem::NO_MECHANISM, actions);
        }
        login.step = Step::Authenticating;
        actions.push(Action::Stream(std::mem::take(&mut *login.auth)));
    }

    fn refuse_login(&mut self, failure: &Tree, actions: &mut Vec<Action<T>>) {
        let mut why = Foreign::read(failure, ns::SASL);
        if why.status == 400 {
            // Whatever it was, the client is not who it says.
            why.status = 401;
        }
        // Before the stream ends: until then it is known who must wait.
        self.end_by(&why, actions);
        actions.push(Action::Stream(b"</stream:stream>".to_vec()));
    }

    /// The end that the stream gave a reason for.
    pub(super) fn end_by(&mut self, why: &Foreign, actions: &mut Vec<Action<T>>) {
        let mut closed = Vec::new();
        let mut object = Object::begin(&mut closed);
        object
            .text("type", "closed")
            .object("problem", |object| why.write_members(object));
        object.end();
        self.end(&closed, &Answer::foreign(why), actions);
    }

    fn bound(&mut self, iq: Element<'_>, actions: &mut Vec<Action<T>>) {
        let tree = iq.tree();
        let address = tree.child(ns::BIND, "bind");
        let address = address.and_then(|bind| bind.child(ns::BIND, "jid"));
        let Some(address) = address.filter(|_| tree.attr("type") == Some("result")) else {
            let error = tree.child(ns::CLIENT, "error").map(Foreign::of_stanza);
            return match error {
                Some(why) => {
                    actions.push(Action::Stream(b"</stream:stream>".to_vec()));
                    self.end_by(&why, actions);
                }
                None => self.finish(problem::INTERNAL, actions),
            };
        };
        let address = address.text();
        let own = jid::split_resource(&address).0;
        let Some(login) = &mut self.login else {
            return;
        };
        if login.account.as_str() != own {
            return self.finish(problem::WRONG_ACCOUNT, actions);
        }
        login.address = address.into();
        login.step = Step::Enabling;
        let enable = b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
        actions.push(Action::Stream(enable.to_vec()));
    }

    /// Stanzas count from here on. The answer comes before the roster, so that a reader with its
    /// cursor misses nothing.
    fn begin(&mut self, actions: &mut Vec<Action<T>>) {
        let Some(login) = self.login.take() else {
            return;
        };
        self.phase = Phase::Open;
        let mut octets = Vec::new();
        outgoing::write_iq(&mut octets, "set", CARBONS, None, |writer| {
            writer
                .open("enable")
                .attr("xmlns", ns::CARBONS)
                .close_empty();
        });
        outgoing::write_iq(&mut octets, "get", ROSTER, None, |writer| {
            outgoing::write_roster(writer, None::<Item<'_, [&str; 0]>>);
        });
        octets.extend_from_slice(&login.presence);
        self.sent = 2 + u32::from(!login.presence.is_empty());
        self.awaits_roster = true;
        self.deadline = self.earliest();
        actions.push(Action::Stream(octets));
        if let Some(ticket) = login.ticket {
            let mut body = Vec::new();
            let mut object = Object::begin(&mut body);
            object
                .text("session", &login.token)
                .text("jid", &login.address)
                .text("cursor", &self.cursor().to_string())
                .text_if("success", login.success);
            object.end();
            let answer = answer(201, body);
            actions.push(Action::Answer { ticket, answer });
        }
    }
}

fn is_base64(text: &str) -> bool {
    let sign = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
    text.bytes().all(sign)
}

/// Identifiers of our own requests while the session begins.
const BIND: &str = "encke-bind";
const CARBONS: &str = "encke-carbons";
pub(super) const ROSTER: &str = "encke-roster";
