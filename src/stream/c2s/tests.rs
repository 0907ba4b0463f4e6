//! Negotiations in full, and each form of SECURITY classes 13, 14, 16, 17, 21 and 23.

/// Between authentication and a session.
mod before_session;
/// SASL over the wire.
mod login;

use super::*;
use crate::stream::sasl::keys::SALT_OCTETS;
use crate::stream::sasl::{Hash, Keys, encode_base64};
use crate::xmpp::error::{Condition as StanzaCondition, StanzaError};
use crate::xmpp::xml::{Bounds, Progress as Scanned, Scanner, StreamScope};

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.net' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const OUR_HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='ID' from='example.net' \
    version='1.0' xml:lang='en'>";
const PLAIN_PW: &str = "AGFsaWNlAHB3";

/// A negotiation with the engine's part around it.
struct Talk {
    negotiation: Negotiation,
    scope: StreamScope,
    tls: Tls,
    keys: Keys,
    domains: Vec<String>,
    limits: Limits,
}

impl Talk {
    fn new(negotiation: Negotiation, tls: Tls) -> Self {
        Self {
            negotiation,
            scope: StreamScope::closed(),
            tls,
            keys: Keys::derive("pw", &[3; SALT_OCTETS], 16).unwrap(),
            domains: vec!["example.net".into(), "example.org".into()],
            limits: Limits::default(),
        }
    }

    /// Under TLS with both channel bindings, header and features exchanged.
    fn secured() -> Self {
        let mut talk = Self::new(Negotiation::direct_tls(), Tls::Required);
        talk.negotiation.secured(bindings());
        talk.hears(HEADER).unwrap();
        talk
    }

    /// Authenticated as alice, header and features exchanged.
    fn authenticated() -> Self {
        let mut talk = Self::secured();
        talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
        talk.answers_keys().unwrap();
        talk.hears(HEADER).unwrap();
        talk
    }

    /// Feeds the items of `input`; gives all output and the last step.
    fn hears(&mut self, input: &str) -> Result<(String, Step), (String, StreamError)> {
        let mut out = Vec::new();
        let mut step = Step::Continue;
        let mut rest = input.as_bytes();
        while !rest.is_empty() {
            let (taken, next) = self.takes(rest, &mut out).map_err(|e| (text(&out), e))?;
            rest = &rest[taken..];
            step = next;
        }
        Ok((text(&out), step))
    }

    fn takes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, Step), StreamError> {
        let bounds = Bounds {
            octets_max: 10_000,
            depth_max: 64,
            attributes_max: 64,
            elements_max: 64,
        };
        let mut scanner = Scanner::new();
        let found = scanner.next(bytes, &self.scope, &bounds)?;
        let offer = Offer {
            domains: &self.domains,
            tls: self.tls,
            limits: &self.limits,
            secret: &[1; 32],
            iterations: 16,
            stream_id: "ID",
            nonce: "NONCE",
            caps: Some(Caps {
                node: "https://example.net/",
                ver: "VER=",
            }),
        };
        match found {
            Scanned::Header(octets) => {
                let header = scanner.header(bytes);
                self.negotiation.header(header, &offer, out)?;
                self.scope = self.scope.open(&header);
                Ok((octets, Step::Continue))
            }
            Scanned::Element(octets) => {
                let step = self
                    .negotiation
                    .element(scanner.element(bytes), &offer, out)?;
                if matches!(step, Step::Authenticated(_) | Step::StartTls) {
                    self.scope = StreamScope::closed();
                }
                Ok((octets, step))
            }
            other => panic!("{other:?} in {}", String::from_utf8_lossy(bytes)),
        }
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut Negotiation, &Offer<'_>, &Keys) -> T) -> T {
        let offer = Offer {
            domains: &self.domains,
            tls: self.tls,
            limits: &self.limits,
            secret: &[1; 32],
            iterations: 16,
            stream_id: "ID",
            nonce: "NONCE",
            caps: None,
        };
        run(&mut self.negotiation, &offer, &self.keys)
    }

    /// Storage finds the account; a PBKDF2 is done at once.
    fn answers_keys(&mut self) -> Result<(String, Step), (String, StreamError)> {
        let mut out = Vec::new();
        let step = self.with(|negotiation, offer, keys| {
            match negotiation.keys(Lookup::Known(keys), offer, &mut out)? {
                Step::Hash(job) => {
                    let salted = job.hash.stretch(&job.password, &job.salt, job.iterations);
                    negotiation.hashed(Some(salted.as_slice()), offer, &mut out)
                }
                step => Ok(step),
            }
        });
        let step = step.map_err(|e| (text(&out), e))?;
        if matches!(step, Step::Authenticated(_)) {
            self.scope = StreamScope::closed();
        }
        Ok((text(&out), step))
    }
}

fn text(out: &[u8]) -> String {
    String::from_utf8(out.to_vec()).unwrap()
}

fn bindings() -> Bindings {
    Bindings {
        exporter: Some([5; 32]),
        end_point: Some(vec![6; 32].into()),
    }
}

fn auth(mechanism: &str, content: &str) -> String {
    format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{content}</auth>"
    )
}

fn response(content: &str) -> String {
    format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{content}</response>")
}

fn failure(condition: &str) -> String {
    format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
}

#[test]
fn a_client_goes_from_clear_to_a_bound_resource() {
    let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
    let (out, _) = talk.hears(HEADER).unwrap();
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes>\
         <idle-seconds>30</idle-seconds></limits>";
    assert_eq!(
        out,
        format!(
            "{OUR_HEADER}<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>\
             <required/></starttls>{limits}</stream:features>"
        )
    );
    let (out, step) = talk.hears(STARTTLS).unwrap();
    assert_eq!(out, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(matches!(step, Step::StartTls));
    assert!(talk.negotiation.is_waiting());

    talk.negotiation.secured(bindings());
    let (out, _) = talk.hears(HEADER).unwrap();
    assert_eq!(
        out,
        format!(
            "{OUR_HEADER}<stream:features><mechanisms \
             xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256-PLUS</mechanism>\
             <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
             <mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
             <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
             <channel-binding type='tls-exporter'/>\
             <channel-binding type='tls-server-end-point'/></sasl-channel-binding>\
             {limits}</stream:features>"
        )
    );
    let (_, step) = talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
    assert!(matches!(step, Step::LoadKeys(account) if account.as_str() == "alice@example.net"));
    let (out, step) = talk.answers_keys().unwrap();
    assert_eq!(out, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(matches!(step, Step::Authenticated(a) if a.as_str() == "alice@example.net"));

    let (out, _) = talk.hears(HEADER).unwrap();
    assert_eq!(
        out,
        format!(
            "{OUR_HEADER}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
             <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
             <sm xmlns='urn:xmpp:sm:3'/><ver xmlns='urn:xmpp:features:rosterver'/>\
             <sub xmlns='urn:xmpp:features:pre-approval'/><csi xmlns='urn:xmpp:csi:0'/>\
             <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
             node='https://example.net/' ver='VER='/>\
             <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes>\
             <idle-seconds>300</idle-seconds></limits></stream:features>"
        )
    );
    let bind = "<iq type='set' id='b&amp;1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <resource>balc\u{ff4f}ny</resource></bind></iq>";
    let (out, step) = talk.hears(bind).unwrap();
    assert_eq!(out, "");
    assert!(matches!(step, Step::Bind(Some(resource)) if &*resource == "balcony"));
    let mut out = Vec::new();
    talk.negotiation
        .bound(Ok("alice@example.net/balcony"), &mut out);
    assert_eq!(
        text(&out),
        "<iq type='result' id='b&amp;1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>alice@example.net/balcony</jid></bind></iq>"
    );
}

#[test]
fn starttls_is_refused_where_it_was_not_offered() {
    for mut talk in [Talk::secured(), {
        let mut talk = Talk::new(Negotiation::clear(), Tls::Unavailable);
        talk.hears(HEADER).unwrap();
        talk
    }] {
        let (out, error) = talk.hears(STARTTLS).unwrap_err();
        assert_eq!(out, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert_eq!(error.condition(), "policy-violation");
    }
}

#[test]
fn headers_are_checked_after_ours_is_sent() {
    let stream = "xmlns:stream='http://etherx.jabber.org/streams'";
    let client = "xmlns='jabber:client'";
    for (attributes, expected) in [
        (
            format!("{stream} {client} to='example.net' version='1.0'"),
            None,
        ),
        (
            format!("{stream} {client} to='EXAMPLE.org' version='1.0'"),
            None,
        ),
        (
            format!("{stream} {client} to='example.net' version='1.7'"),
            None,
        ),
        (
            format!("{stream} {client} to='example.net' version='2.0'"),
            None,
        ),
        (
            format!("{stream} {client} version='1.0'"),
            Some("host-unknown"),
        ),
        (
            format!("{stream} {client} to='' version='1.0'"),
            Some("host-unknown"),
        ),
        (
            format!("{stream} {client} to='a@example.net' version='1.0'"),
            Some("host-unknown"),
        ),
        (
            format!("{stream} {client} to='example.com' version='1.0'"),
            Some("host-unknown"),
        ),
        (
            format!("{stream} {client} to='example.net'"),
            Some("unsupported-version"),
        ),
        (
            format!("{stream} {client} to='example.net' version='0.9'"),
            Some("unsupported-version"),
        ),
        (
            format!("{stream} {client} to='example.net' version='x'"),
            Some("unsupported-version"),
        ),
        (
            format!("{stream} xmlns='jabber:server' to='example.net' version='1.0'"),
            Some("invalid-namespace"),
        ),
    ] {
        let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
        let mut out = Vec::new();
        let header = format!("<stream:stream {attributes}>");
        let outcome = talk.takes(header.as_bytes(), &mut out).map(drop);
        assert_eq!(
            outcome.err().map(StreamError::condition),
            expected,
            "{attributes}"
        );
        assert!(
            text(&out).starts_with("<?xml version='1.0'?><stream:stream "),
            "{attributes}"
        );
        assert_eq!(text(&out).contains("<stream:features>"), expected.is_none());
    }
}

#[test]
fn the_clients_address_is_told_back_in_normal_form() {
    let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
    let header = HEADER.replace("to=", "from='ALICE@Example.net/x' to=");
    let (out, _) = talk.hears(&header).unwrap();
    assert!(out.contains(" to='alice@example.net' "), "{out}");
    let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
    let (out, _) = talk
        .hears(&HEADER.replace("to=", "from='@&apos;' to="))
        .unwrap();
    assert!(out.starts_with(OUR_HEADER));
}

#[test]
fn an_error_before_any_header_still_gets_a_whole_stream() {
    let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
    let mut out = Vec::new();
    talk.with(|n, offer, _| n.close(StreamError::NotWellFormed, offer, &mut out));
    assert_eq!(
        text(&out),
        format!(
            "{OUR_HEADER}<stream:error><not-well-formed \
             xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
        )
    );
    let mut talk = Talk::secured();
    let mut out = Vec::new();
    talk.with(|n, offer, _| n.end(offer, &mut out));
    assert_eq!(text(&out), "</stream:stream>");
}

/// SECURITY class 23: whatever comes before authentication ends the stream and moves nothing.
#[test]
fn nothing_but_negotiation_passes_before_authentication() {
    for element in [
        "<message from='admin@example.net' to='bob@example.net'><body>x</body></message>",
        "<presence/>",
        "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<auth mechanism='PLAIN'>AGFsaWNlAHB3</auth>",
        "<x xmlns='urn:unknown'/>",
    ] {
        let mut clear = Talk::new(Negotiation::clear(), Tls::Optional);
        clear.hears(HEADER).unwrap();
        for mut talk in [clear, Talk::secured()] {
            let outcome = talk.hears(element).map_err(|(out, e)| (out, e.condition()));
            assert_eq!(
                outcome.unwrap_err(),
                (String::new(), "not-authorized"),
                "{element}"
            );
            let outcome = talk.hears(&auth("PLAIN", PLAIN_PW)).map_err(|(out, _)| out);
            assert_eq!(
                outcome.unwrap_err(),
                "",
                "the stream went on after {element}"
            );
        }
    }
}

#[test]
fn a_restart_cannot_be_skipped_or_change_the_domain() {
    let success = || {
        let mut talk = Talk::secured();
        talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
        talk.answers_keys().unwrap();
        talk
    };
    let (out, error) = success()
        .hears(&HEADER.replace("example.net", "example.org"))
        .unwrap_err();
    assert!(!out.contains("features"));
    assert_eq!(error, StreamError::HostUnknown);
    let mut talk = success();
    talk.scope = StreamScope::standard();
    let (_, error) = talk.hears("<iq type='set' id='1'/>").unwrap_err();
    assert_eq!(error, StreamError::NotAuthorized);
}

/// The box of a link that negotiates.
#[test]
fn a_negotiation_is_small() {
    let octets = size_of::<Negotiation>();
    assert!(octets <= 384, "{octets} octets");
}
