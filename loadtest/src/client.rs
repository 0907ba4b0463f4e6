//! The client's side of RFC 6120: from the first header to a session that is bound, has its roster
//! and is available. It sees elements and appends octets; sockets and TLS are elsewhere.

use memchr::memmem;

use crate::args::Security;
use crate::failure::{Failure, example};
use crate::plan::Plan;
use crate::sasl::{Exchange, KeyCache, Mechanism};
use crate::scan;

/// What the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Handshake,
    /// The request for a WebSocket has been sent.
    Upgrade,
    Features,
    Proceed,
    Challenge,
    Success,
    /// Asks for the former session (XEP-0198).
    Resume,
    Bind,
    Session,
    Roster,
    Registration,
    /// A password has been posted, over JSON.
    Login,
    /// A topic has been asked for.
    Subscription,
    /// An event stream has been asked for.
    Events,
    /// Events come, and the first has not.
    Greeting,
    /// Logged in.
    Ready,
    /// The end of the stream has been sent.
    End,
}

impl Stage {
    /// For messages: "closed by the server while …".
    pub const fn situation(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Handshake => "in the TLS handshake",
            Self::Upgrade => "in the WebSocket handshake",
            Self::Features => "waiting for stream features",
            Self::Proceed => "waiting for the answer to <starttls/>",
            Self::Challenge => "waiting for a SASL challenge",
            Self::Success => "waiting for SASL success",
            Self::Resume => "resuming a session",
            Self::Bind => "binding a resource",
            Self::Session => "waiting for the session iq",
            Self::Roster => "waiting for the roster",
            Self::Registration => "registering in-band",
            Self::Login => "waiting for the answer to the login",
            Self::Subscription => "subscribing to the topic",
            Self::Events => "waiting for the event stream",
            Self::Greeting => "waiting for the event ready",
            Self::Ready => "logged in",
            Self::End => "waiting for the end of the stream",
        }
    }
}

/// What the owner of the session must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Go,
    /// Begin TLS; nothing may be left of the received octets.
    StartTls,
    /// The session is logged in.
    Ready,
    /// The former session is back; the server has got so many of our stanzas.
    Resumed(u32),
    /// The answer to [`PROBE`].
    Probed,
}

/// Asks the server for an answer: when it comes, everything sent before has been processed.
pub const PROBE: &[u8] = b"<iq type='get' id='probe'><ping xmlns='urn:xmpp:ping'/></iq>";

pub struct Client {
    pub stage: Stage,
    pub user: u32,
    secured: bool,
    authenticated: bool,
    /// The server demands the obsolete session iq.
    session_wanted: bool,
    pub sm: Sm,
    exchange: Option<Box<Exchange>>,
    /// What the session can be resumed by, or is to be.
    resumable: Option<Box<Resumable>>,
}

/// What outlives a connection: the id of the session, and how much came in it.
#[derive(Debug)]
pub struct Resumable {
    id: String,
    received: u32,
}

/// XEP-0198: counts in both directions.
#[derive(Clone, Copy, Default)]
pub struct Sm {
    pub enabled: bool,
    pub received: u32,
    pub sent: u32,
    pub acknowledged: u32,
}

impl Sm {
    pub fn unacknowledged(&self) -> u64 {
        if self.enabled {
            u64::from(self.sent.wrapping_sub(self.acknowledged))
        } else {
            0
        }
    }
}

impl Client {
    /// `former` is the session to resume, if there is one.
    pub fn new(user: u32, former: Option<Box<Resumable>>) -> Self {
        Self {
            stage: Stage::Connect,
            user,
            secured: false,
            authenticated: false,
            session_wanted: false,
            sm: Sm::default(),
            exchange: None,
            resumable: former,
        }
    }

    /// The socket is connected (and secured with Direct TLS, and upgraded where it becomes a
    /// WebSocket): opens the stream.
    pub fn open(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        self.stage = Stage::Features;
        out.extend_from_slice(plan.header.as_bytes());
    }

    /// The TLS handshake has ended.
    pub fn on_secured(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        self.secured = true;
        self.open(plan, out);
    }

    /// Logs out. What has come is acknowledged first, or the server would deliver it again.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::End;
        if self.sm.enabled {
            self.acknowledge(out);
        }
        out.extend_from_slice(b"<presence type='unavailable'/></stream:stream>");
    }

    /// The connection is lost: what the next one may resume.
    pub fn former(self) -> Option<Box<Resumable>> {
        let mut former = self.resumable?;
        if self.sm.enabled {
            former.received = self.sm.received;
        }
        Some(former)
    }

    /// Takes one top-level element, appends what follows from it.
    pub fn receive(
        &mut self,
        element: &[u8],
        plan: &Plan,
        keys: &mut KeyCache,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        let name = scan::name(element);
        match name {
            b"stream:error" => return Err(self.refusal("stream error", element)),
            b"failed" if self.stage == Stage::Resume => return Ok(self.on_not_resumed(plan, out)),
            b"failure" | b"stream:failure" => return Err(self.refusal("refused", element)),
            b"?xml" => return Ok(Step::Go),
            _ => {}
        }
        match (self.stage, name) {
            (Stage::Features, b"stream:features" | b"features") => {
                self.on_features(element, plan, out)
            }
            (Stage::Proceed, b"proceed") => {
                self.stage = Stage::Handshake;
                Ok(Step::StartTls)
            }
            (Stage::Challenge, b"challenge") => self.on_challenge(element, plan, keys, out),
            (Stage::Success, b"success") => self.on_success(element, plan, out),
            (Stage::Resume, b"resumed") => Ok(self.on_resumed(element)),
            (Stage::Bind, b"iq") => self.on_bound(element, plan, out),
            (Stage::Session, b"iq") => {
                self.result("session", element)?;
                self.settle(plan, out);
                Ok(Step::Go)
            }
            (Stage::Registration, b"iq") => self.on_registration(element, out),
            (Stage::Roster | Stage::Ready | Stage::End, _) => self.on_stanza(name, element, out),
            _ => Err(self.unexpected(element)),
        }
    }

    fn on_features(
        &mut self,
        features: &[u8],
        plan: &Plan,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        let offers = |what: &str| memmem::find(features, what.as_bytes()).is_some();
        if plan.security == Security::Starttls && !self.secured {
            if !offers("urn:ietf:params:xml:ns:xmpp-tls") {
                return Err(Failure::new("STARTTLS is not offered", example(features)));
            }
            self.stage = Stage::Proceed;
            out.extend_from_slice(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            return Ok(Step::Go);
        }
        if self.authenticated {
            if plan.ack_every.is_some() && !offers("urn:xmpp:sm:3") {
                return Err(Failure::new(
                    "stream management is not offered",
                    example(features),
                ));
            }
            self.session_wanted = session_is_wanted(features);
            self.resume_or_bind(plan, out);
            return Ok(Step::Go);
        }
        if plan.register {
            self.register(plan, out);
            return Ok(Step::Go);
        }
        let offered = |m: &Mechanism| offers(&format!(">{}<", m.name()));
        let chosen = match plan.mechanism {
            Some(mechanism) => Some(mechanism).filter(offered),
            None => Mechanism::ALL.into_iter().find(offered),
        };
        let Some(mechanism) = chosen else {
            return Err(Failure::new(
                "no usable SASL mechanism is offered",
                example(features),
            ));
        };
        self.authenticate(mechanism, plan, out);
        Ok(Step::Go)
    }

    fn resume_or_bind(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        if let Some(former) = &self.resumable {
            self.stage = Stage::Resume;
            let (id, h) = (&former.id, former.received);
            let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>");
            out.extend_from_slice(resume.as_bytes());
            return;
        }
        self.stage = Stage::Bind;
        out.extend_from_slice(b"<iq type='set' id='bind'><bind xmlns='");
        out.extend_from_slice(b"urn:ietf:params:xml:ns:xmpp-bind'><resource>");
        out.extend_from_slice(plan.resource.as_bytes());
        out.extend_from_slice(b"</resource></bind></iq>");
    }

    fn on_resumed(&mut self, element: &[u8]) -> Step {
        self.on_acknowledgement(element);
        self.sm.enabled = true;
        self.sm.received = self.resumable.as_ref().map_or(0, |former| former.received);
        self.sm.sent = self.sm.acknowledged;
        self.stage = Stage::Ready;
        Step::Resumed(self.sm.acknowledged)
    }

    /// The server does not have the former session any more: a new one is bound.
    fn on_not_resumed(&mut self, plan: &Plan, out: &mut Vec<u8>) -> Step {
        self.resumable = None;
        self.resume_or_bind(plan, out);
        Step::Go
    }

    fn authenticate(&mut self, mechanism: Mechanism, plan: &Plan, out: &mut Vec<u8>) {
        let user = format!("{}{}", plan.prefix, self.user);
        let (response, exchange) = Exchange::begin(mechanism, &user, &plan.password);
        self.stage = if exchange.is_some() {
            Stage::Challenge
        } else {
            Stage::Success
        };
        self.exchange = exchange.map(Box::new);
        out.extend_from_slice(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='");
        out.extend_from_slice(mechanism.name().as_bytes());
        out.extend_from_slice(b"'>");
        out.extend_from_slice(response.as_bytes());
        out.extend_from_slice(b"</auth>");
    }

    fn on_challenge(
        &mut self,
        element: &[u8],
        plan: &Plan,
        keys: &mut KeyCache,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        let challenge = scan::text(element, "challenge").unwrap_or_default();
        let Some(exchange) = self.exchange.as_mut() else {
            return Err(self.unexpected(element));
        };
        let response = exchange
            .answer(challenge, &plan.password, keys)
            .map_err(|why| Failure::new(format!("SASL: {why}"), example(element)))?;
        self.stage = Stage::Success;
        out.extend_from_slice(b"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>");
        out.extend_from_slice(response.as_bytes());
        out.extend_from_slice(b"</response>");
        Ok(Step::Go)
    }

    fn on_success(
        &mut self,
        element: &[u8],
        plan: &Plan,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        if let Some(exchange) = self.exchange.take() {
            let proof = scan::text(element, "success").unwrap_or_default();
            if !exchange.verify(proof) {
                return Err(Failure::new(
                    "SASL: wrong server signature",
                    example(element),
                ));
            }
        }
        self.authenticated = true;
        self.open(plan, out);
        Ok(Step::Go)
    }

    fn on_bound(
        &mut self,
        element: &[u8],
        plan: &Plan,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        self.result("bind", element)?;
        if self.session_wanted {
            self.stage = Stage::Session;
            out.extend_from_slice(b"<iq type='set' id='session'><session xmlns='");
            out.extend_from_slice(b"urn:ietf:params:xml:ns:xmpp-session'/></iq>");
        } else {
            self.settle(plan, out);
        }
        Ok(Step::Go)
    }

    /// What every client sends as soon as it is bound, in one go.
    fn settle(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        self.stage = Stage::Roster;
        if plan.ack_every.is_some() {
            out.extend_from_slice(match plan.resume {
                true => b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>".as_slice(),
                false => b"<enable xmlns='urn:xmpp:sm:3'/>",
            });
        }
        out.extend_from_slice(b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
        out.extend_from_slice(b"<presence/>");
        self.sm.sent = 2;
    }

    /// Anything that comes when the session is bound, except messages of a chat.
    fn on_stanza(
        &mut self,
        name: &[u8],
        element: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        match name {
            b"r" => self.acknowledge(out),
            b"a" => self.on_acknowledgement(element),
            b"enabled" => self.on_enabled(element),
            b"failed" => return Err(self.refusal("stream management refused", element)),
            b"message" | b"presence" => self.sm.received = self.sm.received.wrapping_add(1),
            b"iq" => {
                self.sm.received = self.sm.received.wrapping_add(1);
                let head = scan::head(element);
                let id = scan::attribute(head, "id").unwrap_or_default();
                if self.stage == Stage::Roster && id == b"roster" {
                    self.result("roster", element)?;
                    self.stage = Stage::Ready;
                    return Ok(Step::Ready);
                }
                if id == b"probe" {
                    // An error is an answer too: some servers do not know pings.
                    return Ok(Step::Probed);
                }
                if matches!(scan::attribute(head, "type"), Some(b"get" | b"set")) {
                    self.answer_iq(head, id, out);
                }
            }
            _ => {}
        }
        Ok(Step::Go)
    }

    fn on_enabled(&mut self, element: &[u8]) {
        self.sm.enabled = true;
        let head = scan::head(element);
        let may = matches!(scan::attribute(head, "resume"), Some(b"true" | b"1"));
        if let Some(id) = scan::attribute(head, "id").filter(|_| may) {
            self.resumable = Some(Box::new(Resumable {
                id: String::from_utf8_lossy(id).into_owned(),
                received: 0,
            }));
        }
    }

    pub fn acknowledge(&mut self, out: &mut Vec<u8>) {
        let ack = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.sm.received);
        out.extend_from_slice(ack.as_bytes());
    }

    fn on_acknowledgement(&mut self, element: &[u8]) {
        let h = scan::attribute(scan::head(element), "h");
        let h = h
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| h.parse().ok());
        self.sm.acknowledged = h.unwrap_or(self.sm.acknowledged);
    }

    /// Servers ping; a client that does not answer is thrown out.
    fn answer_iq(&mut self, head: &[u8], id: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"<iq type='result' id='");
        out.extend_from_slice(id);
        if let Some(from) = scan::attribute(head, "from") {
            out.extend_from_slice(b"' to='");
            out.extend_from_slice(from);
        }
        out.extend_from_slice(b"'/>");
        self.sm.sent = self.sm.sent.wrapping_add(1);
    }

    fn register(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        self.stage = Stage::Registration;
        let iq = format!(
            "<iq type='set' id='register' to='{}'><query xmlns='jabber:iq:register'><username>{}{}\
             </username><password>{}</password></query></iq>",
            plan.domain, plan.prefix, self.user, plan.password
        );
        out.extend_from_slice(iq.as_bytes());
    }

    /// An account that exists already is as good as a new one.
    fn on_registration(&mut self, element: &[u8], out: &mut Vec<u8>) -> Result<Step, Failure> {
        let done = self.result("registration", element);
        if done.is_err() && scan::condition(element) != "conflict" {
            return done.map(|()| Step::Go);
        }
        self.stage = Stage::End;
        out.extend_from_slice(b"</stream:stream>");
        Ok(Step::Ready)
    }

    fn result(&self, what: &str, element: &[u8]) -> Result<(), Failure> {
        match scan::attribute(scan::head(element), "type") {
            Some(b"result") => Ok(()),
            _ => Err(self.refusal(&format!("{what} refused"), element)),
        }
    }

    fn refusal(&self, what: &str, element: &[u8]) -> Failure {
        let kind = format!("{what}: {}", scan::condition(element));
        let situation = self.stage.situation();
        Failure::new(kind, format!("while {situation}: {}", example(element)))
    }

    fn unexpected(&self, element: &[u8]) -> Failure {
        let kind = format!("unexpected answer while {}", self.stage.situation());
        Failure::new(kind, example(element))
    }
}

/// RFC 3921 demanded the session iq; RFC 6121 servers that still offer it mark it optional.
fn session_is_wanted(features: &[u8]) -> bool {
    let Some(start) = memmem::find(features, b"urn:ietf:params:xml:ns:xmpp-session") else {
        return false;
    };
    let rest = &features[start..];
    let end = memmem::find(rest, b"</session>").unwrap_or(0);
    memmem::find(&rest[..end], b"<optional").is_none()
}
