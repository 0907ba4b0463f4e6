//! A client's stream from its first octet to its resource (RFC 6120 sections 4 to 7).
//!
//! The engine scans stream items and gives headers to [`Negotiation::header`], elements to
//! [`Negotiation::element`]; each appends its answer to `out` and says by a [`Step`] what must
//! happen next. While [`Negotiation::is_waiting`] holds the engine keeps what it reads to itself.
//! On an error the engine calls [`Negotiation::close`] and closes the link. Once bound or
//! resumed, the negotiation is dropped.

/// Resource binding, and what may come instead of it.
mod binding;
/// What is announced, and our header.
mod features;

use std::mem;

use zeroize::Zeroizing;

use crate::base::limits::Limits;
use crate::stream::sasl::{
    self, Bindings, Condition, Exchange, HashJob, Lookup, Mechanism, Progress, Terms,
};
use crate::xmpp::error::StreamError;
use crate::xmpp::jid::{BareJid, Jid, prepare_domain};
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;
use crate::xmpp::xml::{Element, Header};

/// What the server offers to this client. Made anew for each call; all borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Domains served, in normal form; the first speaks where the client names none of them.
    pub domains: &'a [String],
    pub tls: Tls,
    pub limits: &'a Limits,
    /// Hides unknown accounts; the same for the life of the installation.
    pub secret: &'a [u8; 32],
    /// PBKDF2 iterations of accounts made by this server.
    pub iterations: u32,
    /// 128 fresh random bits, written out: the identity of the next stream.
    pub stream_id: &'a str,
    /// 128 fresh random bits or more, printable, without commas.
    pub nonce: &'a str,
    /// The server's own capabilities.
    pub caps: Option<Caps<'a>>,
}

/// What a link in clear may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nothing but STARTTLS.
    Required,
    /// STARTTLS, or log in as it is.
    Optional,
    /// Log in as it is: there is no certificate.
    Unavailable,
}

/// XEP-0115: what the server would answer to disco.
#[derive(Clone, Copy, Debug)]
pub struct Caps<'a> {
    pub node: &'a str,
    /// The base64 of the SHA-1 hash.
    pub ver: &'a str,
}

/// What the engine does next.
#[derive(Debug)]
pub enum Step {
    /// Goes on reading.
    Continue,
    /// Begins TLS once `out` is written. Octets that are read already close the link instead
    /// (SECURITY class 13). Then: [`Negotiation::secured`].
    StartTls,
    /// Asks storage for this account. Then: [`Negotiation::keys`].
    LoadKeys(BareJid),
    /// Has this done where it delays nobody. Then: [`Negotiation::hashed`].
    Hash(HashJob),
    /// The attempt failed; [`Negotiation::claimed`] says for whom. The client may try again.
    Failed(Condition),
    /// The peer is this account. A new header comes next, in a fresh scope; the link may move.
    Authenticated(BareJid),
    /// Gives the account a session with this resource, in normal form, or one of the server's
    /// choice. Then: [`Negotiation::bound`].
    Bind(Option<Box<str>>),
    /// Looks for a session of the account. Then: [`Negotiation::not_resumed`], or the session
    /// answers and the negotiation is dropped.
    Resume { previd: Box<str>, handled: u32 },
}

/// What a client stream may do next. Boxed in its link until a resource is bound.
#[derive(Debug)]
pub struct Negotiation {
    state: State,
    channel: Channel,
    /// The domain that the client asked for; empty before.
    domain: Box<str>,
    /// Whether our header of the stream in hand is written.
    opening: Opening,
    claimed: Option<BareJid>,
    failures: u8,
}

/// Consumed by each item, so that one which must not come finds nothing to go on from.
#[derive(Debug)]
enum State {
    /// TLS is being set up.
    Handshake,
    /// The client's header is due.
    Header(Stage),
    /// Features were sent.
    Open(Stage),
    /// A challenge was sent.
    Challenged(Exchange),
    /// Storage was asked for keys.
    Looking(Exchange),
    /// A PBKDF2 was asked for.
    Stretching(Exchange),
    /// A session is being made for the iq of this `id`.
    Binding(BareJid, Box<str>),
    /// A session is being looked for.
    Resuming(BareJid),
    /// An error was returned.
    Over,
}

#[derive(Debug)]
enum Stage {
    Anonymous,
    Authenticated(BareJid),
}

#[derive(Debug)]
enum Channel {
    Clear,
    Secured(Bindings),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Due,
    Written,
}

type Stepped = Result<Step, StreamError>;

impl Negotiation {
    /// A link in clear. Its header is due.
    pub fn clear() -> Self {
        Self::new(State::Header(Stage::Anonymous))
    }

    /// A link that begins with TLS (XEP-0368). [`Self::secured`] is due.
    pub fn direct_tls() -> Self {
        Self::new(State::Handshake)
    }

    /// The handshake is done. A header is due, in a fresh scope; nothing from before counts.
    pub fn secured(&mut self, bindings: Bindings) {
        self.channel = Channel::Secured(bindings);
        self.domain = Box::default();
        self.opening = Opening::Due;
        self.state = State::Header(Stage::Anonymous);
    }

    /// Whether the engine owes an answer: it must not give items now.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.state,
            State::Handshake
                | State::Looking(_)
                | State::Stretching(_)
                | State::Binding(..)
                | State::Resuming(_)
        )
    }

    /// The account, once authenticated.
    pub fn account(&self) -> Option<&BareJid> {
        match &self.state {
            State::Header(Stage::Authenticated(account))
            | State::Open(Stage::Authenticated(account))
            | State::Binding(account, _)
            | State::Resuming(account) => Some(account),
            _ => None,
        }
    }

    /// Whom the last attempt claimed to be, also after an error that ended the stream.
    pub fn claimed(&self) -> Option<&BareJid> {
        self.claimed.as_ref()
    }

    /// Takes the client's header; appends ours and the features of the state.
    ///
    /// # Errors
    /// A header that is not due, of another namespace or version, or for a domain that is not
    /// served here. Our header is written even then (RFC 6120 section 4.9.1.2).
    pub fn header(
        &mut self,
        header: Header<'_>,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let State::Header(stage) = mem::replace(&mut self.state, State::Over) else {
            return Err(StreamError::BadFormat);
        };
        let domain = served(header, offer.domains);
        let from = domain.or(offer.domains.first().map(String::as_str));
        // The client's own address is told back and believed nowhere (section 4.7.1).
        let peer = header.attr("from");
        let peer = peer.as_deref().and_then(|from| Jid::parse(from).ok());
        self.opening = Opening::Written;
        features::write_header(out, offer, from, peer.as_ref().map(Jid::bare));

        if header.default_namespace() != ns::CLIENT {
            return Err(StreamError::InvalidNamespace);
        }
        if !matches!(header.version(), Some((1.., _))) {
            return Err(StreamError::UnsupportedVersion);
        }
        let domain = domain.ok_or(StreamError::HostUnknown)?;
        match &stage {
            Stage::Anonymous => features::write_anonymous(out, offer, &self.channel),
            Stage::Authenticated(account) if account.domain() == domain => {
                features::write_authenticated(out, offer);
            }
            Stage::Authenticated(_) => return Err(StreamError::HostUnknown),
        }
        self.domain = domain.into();
        self.state = State::Open(stage);
        Ok(())
    }

    /// Takes an element of the client; appends the answer, if there is one.
    ///
    /// # Errors
    /// Whatever may not come now. The stream is over.
    pub fn element(
        &mut self,
        element: Element<'_>,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
    ) -> Stepped {
        match mem::replace(&mut self.state, State::Over) {
            State::Open(Stage::Anonymous) => self.anonymous(element, offer, out),
            State::Challenged(exchange) => self.response(exchange, element, offer, out),
            State::Open(Stage::Authenticated(account)) => self.authenticated(account, element, out),
            // A restart is due, and the client goes on as if it were not.
            State::Header(_) => Err(StreamError::NotAuthorized),
            State::Over => Err(StreamError::BadFormat),
            State::Handshake
            | State::Looking(_)
            | State::Stretching(_)
            | State::Binding(..)
            | State::Resuming(_) => Err(StreamError::InternalServerError),
        }
    }

    /// Continues after [`Step::LoadKeys`].
    ///
    /// # Errors
    /// After `limits.sasl_attempts_max` failures the stream is over.
    pub fn keys(&mut self, found: Lookup<'_>, offer: &Offer<'_>, out: &mut Vec<u8>) -> Stepped {
        let State::Looking(exchange) = mem::replace(&mut self.state, State::Over) else {
            return Err(StreamError::InternalServerError);
        };
        let account = self.claimed.as_ref().map_or("", BareJid::as_str);
        let outcome = exchange.look_up(found, account, &self.terms(offer));
        self.proceed(outcome, offer, out)
    }

    /// Continues after [`Step::Hash`] with the octets of the digest; without them nobody can tell
    /// now.
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub fn hashed(
        &mut self,
        salted: Option<&[u8]>,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
    ) -> Stepped {
        let State::Stretching(exchange) = mem::replace(&mut self.state, State::Over) else {
            return Err(StreamError::InternalServerError);
        };
        let outcome = match salted {
            Some(salted) => exchange.stretched(salted),
            None => Err(Condition::TemporaryAuthFailure),
        };
        self.proceed(outcome, offer, out)
    }

    /// Appends the end of the stream for this error, with a header before it where none was sent.
    pub fn close(&mut self, error: StreamError, offer: &Offer<'_>, out: &mut Vec<u8>) {
        self.open_for_close(offer, out);
        error.write(out);
        out.extend_from_slice(features::END);
    }

    /// Appends the end of the stream, as an answer to the client's or without a reason.
    pub fn end(&mut self, offer: &Offer<'_>, out: &mut Vec<u8>) {
        self.open_for_close(offer, out);
        out.extend_from_slice(features::END);
    }

    fn new(state: State) -> Self {
        Self {
            state,
            channel: Channel::Clear,
            domain: Box::default(),
            opening: Opening::Due,
            claimed: None,
            failures: 0,
        }
    }

    fn open_for_close(&mut self, offer: &Offer<'_>, out: &mut Vec<u8>) {
        if self.opening == Opening::Due {
            let from = offer.domains.first().map(String::as_str);
            features::write_header(out, offer, from, None);
        }
        self.opening = Opening::Written;
        self.state = State::Over;
    }

    /// Before authentication there are STARTTLS and SASL, and nothing is routed
    /// (SECURITY class 23).
    fn anonymous(&mut self, el: Element<'_>, offer: &Offer<'_>, out: &mut Vec<u8>) -> Stepped {
        if el.is(ns::TLS, "starttls") {
            return self.start_tls(offer, out);
        }
        let aborts = el.is(ns::SASL, "abort");
        if !aborts && !el.is(ns::SASL, "auth") {
            return Err(StreamError::NotAuthorized);
        }
        self.claimed = None;
        if aborts {
            // The exchange may have failed while this was on its way (RFC 6120 section 6.4.4).
            return self.fail(Condition::Aborted, offer, out);
        }
        let outcome = self.begin(el, offer);
        self.proceed(outcome, offer, out)
    }

    fn start_tls(&mut self, offer: &Offer<'_>, out: &mut Vec<u8>) -> Stepped {
        let mut writer = Writer::new(out);
        match (&self.channel, offer.tls) {
            (Channel::Clear, Tls::Required | Tls::Optional) => {
                writer.open("proceed").attr("xmlns", ns::TLS).close_empty();
                self.opening = Opening::Due;
                self.state = State::Handshake;
                Ok(Step::StartTls)
            }
            _ => {
                writer.open("failure").attr("xmlns", ns::TLS).close_empty();
                Err(StreamError::PolicyViolation("STARTTLS is not offered"))
            }
        }
    }

    fn begin(&self, el: Element<'_>, offer: &Offer<'_>) -> Result<Progress, Condition> {
        if matches!(self.channel, Channel::Clear) && offer.tls == Tls::Required {
            return Err(Condition::EncryptionRequired);
        }
        let terms = self.terms(offer);
        let name = el.attr("mechanism").ok_or(Condition::InvalidMechanism)?;
        let mechanism =
            Mechanism::offered(&name, terms.bindings).ok_or(Condition::InvalidMechanism)?;
        let initial = payload(el)?;
        Exchange::begin(mechanism, initial.as_deref().map(Vec::as_slice), &terms)
    }

    fn response(
        &mut self,
        exchange: Exchange,
        el: Element<'_>,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
    ) -> Stepped {
        let outcome = if el.is(ns::SASL, "response") {
            payload(el).and_then(|message| {
                let message = message.unwrap_or_default();
                exchange.respond(&message, &self.terms(offer))
            })
        } else if el.is(ns::SASL, "abort") {
            Err(Condition::Aborted)
        } else if el.is(ns::SASL, "auth") {
            // One attempt at a time; the old one is lost with the new one.
            Err(Condition::MalformedRequest)
        } else {
            return Err(StreamError::NotAuthorized);
        };
        self.proceed(outcome, offer, out)
    }

    /// Turns what the exchange wants into what goes over the wire and what the engine does.
    fn proceed(
        &mut self,
        outcome: Result<Progress, Condition>,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
    ) -> Stepped {
        match outcome {
            Ok(Progress::Challenge(message, exchange)) => {
                write_message(out, "challenge", &message);
                self.state = State::Challenged(exchange);
                Ok(Step::Continue)
            }
            Ok(Progress::Look(claim, exchange)) => match self.resolve(&claim) {
                Ok(account) => {
                    self.claimed = Some(account.clone());
                    self.state = State::Looking(exchange);
                    Ok(Step::LoadKeys(account))
                }
                Err(condition) => self.fail(condition, offer, out),
            },
            Ok(Progress::Stretch(job, exchange)) => {
                self.state = State::Stretching(exchange);
                Ok(Step::Hash(job))
            }
            Ok(Progress::Success(message)) => {
                let account = self
                    .claimed
                    .take()
                    .ok_or(StreamError::InternalServerError)?;
                write_message(out, "success", &message);
                self.opening = Opening::Due;
                self.state = State::Header(Stage::Authenticated(account.clone()));
                Ok(Step::Authenticated(account))
            }
            Err(condition) => self.fail(condition, offer, out),
        }
    }

    /// Whose account a claim means. Nobody acts as somebody else (SECURITY class 16).
    fn resolve(&self, claim: &sasl::Claim) -> Result<BareJid, Condition> {
        let account = Jid::from_parts(Some(&claim.name), &self.domain, None)
            .map_err(|_| Condition::NotAuthorized)?
            .to_bare();
        match &claim.authzid {
            None => Ok(account),
            Some(authzid) if BareJid::parse(authzid).as_ref() == Ok(&account) => Ok(account),
            Some(_) => Err(Condition::InvalidAuthzid),
        }
    }

    fn fail(&mut self, condition: Condition, offer: &Offer<'_>, out: &mut Vec<u8>) -> Stepped {
        let mut writer = Writer::new(out);
        writer.open("failure").attr("xmlns", ns::SASL);
        writer.open(condition.as_str()).close_empty();
        writer.end("failure");
        self.failures = self.failures.saturating_add(1);
        if self.failures >= offer.limits.sasl_attempts_max {
            self.state = State::Over;
            return Err(StreamError::PolicyViolation("too many failed logins"));
        }
        self.state = State::Open(Stage::Anonymous);
        Ok(Step::Failed(condition))
    }

    fn terms<'a>(&'a self, offer: &Offer<'a>) -> Terms<'a> {
        let bindings = match &self.channel {
            Channel::Clear => UNBOUND,
            Channel::Secured(bindings) => bindings,
        };
        Terms {
            bindings,
            nonce: offer.nonce,
            secret: offer.secret,
            iterations: offer.iterations,
        }
    }
}

/// Which of our domains the header is for.
fn served<'a>(header: Header<'_>, domains: &'a [String]) -> Option<&'a str> {
    let to = header.attr("to")?;
    let to = prepare_domain(&to).ok()?;
    domains
        .iter()
        .map(String::as_str)
        .find(|&domain| domain == to)
}

/// The message inside a SASL element; `None` when there is none, which `=` is not.
fn payload(el: Element<'_>) -> Result<Option<Zeroizing<Vec<u8>>>, Condition> {
    if el.children().next().is_some() {
        return Err(Condition::MalformedRequest);
    }
    let decode = |encoded: &[u8]| match encoded {
        b"" => Ok(None),
        b"=" => Ok(Some(Zeroizing::default())),
        _ => sasl::decode_base64(encoded).map(Some),
    };
    let content = el.content();
    match content.iter().any(|b| matches!(b, b'&' | b'<')) {
        false => decode(content),
        true => decode(Zeroizing::new(el.text()).as_bytes()),
    }
}

fn write_message(out: &mut Vec<u8>, name: &str, message: &[u8]) {
    let mut writer = Writer::new(out);
    writer.open(name).attr("xmlns", ns::SASL);
    if !message.is_empty() {
        writer.text(&sasl::encode_base64(message));
    }
    writer.end(name);
}

const UNBOUND: &Bindings = &Bindings {
    exporter: None,
    end_point: None,
};

#[cfg(test)]
mod tests;
