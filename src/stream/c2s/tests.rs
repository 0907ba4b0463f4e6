//! Negotiations in full, and each form of SECURITY classes 13, 14, 16, 17, 21 and 23.

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
                    negotiation.hashed(salted.as_slice(), offer, &mut out)
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

/// The client's side of SCRAM, over the wire.
fn scram(talk: &mut Talk, mechanism: &str, gs2: &str, channel: &[u8]) -> (String, Step) {
    let hash = if mechanism.contains("256") {
        Hash::Sha256
    } else {
        Hash::Sha1
    };
    let bare = "n=alice,r=abc";
    let first = encode_base64(format!("{gs2}{bare}").as_bytes());
    talk.hears(&auth(mechanism, &first)).unwrap();
    let (challenge, _) = talk.answers_keys().unwrap();
    let encoded = challenge.split(['>', '<']).nth(2).unwrap();
    let server_first =
        String::from_utf8(sasl::decode_base64(encoded.as_bytes()).unwrap().to_vec()).unwrap();
    assert!(server_first.starts_with("r=abcNONCE,s="));
    let salt = server_first
        .split(",s=")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    let salt = sasl::decode_base64(salt.as_bytes()).unwrap();
    let salted = hash.stretch(b"pw", &salt, 16);
    let binding = encode_base64(&[gs2.as_bytes(), channel].concat());
    let last = format!("c={binding},r=abcNONCE");
    let transcript = format!("{bare},{server_first},{last}");
    let client_key = hash.hmac(salted.as_slice(), &[b"Client Key"]);
    let stored_key = hash.digest(client_key.as_slice());
    let signature = hash.hmac(stored_key.as_slice(), &[transcript.as_bytes()]);
    let proof = encode_base64(client_key.xor(&signature).as_slice());
    let (out, step) = talk
        .hears(&response(&encode_base64(
            format!("{last},p={proof}").as_bytes(),
        )))
        .unwrap();
    let server_key = hash.hmac(salted.as_slice(), &[b"Server Key"]);
    let verifier = hash.hmac(server_key.as_slice(), &[transcript.as_bytes()]);
    let expected = format!("v={}", encode_base64(verifier.as_slice()));
    if matches!(step, Step::Authenticated(_)) {
        assert!(out.contains(&encode_base64(expected.as_bytes())));
    }
    (out, step)
}

#[test]
fn scram_works_over_the_wire_with_every_mechanism_and_binding() {
    for (mechanism, gs2, channel) in [
        ("SCRAM-SHA-1", "n,,", &[][..]),
        ("SCRAM-SHA-256", "n,,", &[]),
        ("SCRAM-SHA-256", "n,a=alice@example.net,", &[]),
        ("SCRAM-SHA-1-PLUS", "p=tls-exporter,,", &[5; 32]),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", &[5; 32]),
        ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,", &[6; 32]),
    ] {
        let (_, step) = scram(&mut Talk::secured(), mechanism, gs2, channel);
        assert!(matches!(step, Step::Authenticated(_)), "{mechanism} {gs2}");
    }
    let (out, step) = scram(
        &mut Talk::secured(),
        "SCRAM-SHA-256-PLUS",
        "p=tls-exporter,,",
        &[7; 32],
    );
    assert!(matches!(step, Step::Failed(Condition::NotAuthorized)));
    assert_eq!(out, failure("not-authorized"));
}

/// SECURITY class 14, and what a policy may allow.
#[test]
fn in_clear_there_is_only_what_policy_allows() {
    let mut talk = Talk::new(Negotiation::clear(), Tls::Required);
    talk.hears(HEADER).unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "NONSENSE"] {
        let (out, step) = talk.hears(&auth(mechanism, PLAIN_PW)).unwrap();
        assert_eq!(out, failure("encryption-required"));
        assert!(matches!(step, Step::Failed(Condition::EncryptionRequired)));
    }
    assert!(talk.negotiation.claimed().is_none());

    for (tls, starttls) in [(Tls::Optional, true), (Tls::Unavailable, false)] {
        let mut talk = Talk::new(Negotiation::clear(), tls);
        let (out, _) = talk.hears(HEADER).unwrap();
        assert_eq!(out.contains("<starttls"), starttls);
        assert!(!out.contains("<required/>"));
        assert!(out.contains("<mechanism>SCRAM-SHA-256</mechanism>"));
        assert!(out.contains("<mechanism>PLAIN</mechanism>"));
        assert!(!out.contains("-PLUS") && !out.contains("sasl-cb"));
        let (out, _) = talk.hears(&auth("SCRAM-SHA-1-PLUS", "bixh")).unwrap();
        assert_eq!(out, failure("invalid-mechanism"));
        let (_, step) = talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
        assert!(matches!(step, Step::LoadKeys(_)));
        let (_, step) = talk.answers_keys().unwrap();
        assert!(matches!(step, Step::Authenticated(_)));
    }
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
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
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

/// The form of each SASL failure, and that the next attempt is free.
#[test]
fn sasl_failures_have_their_conditions() {
    let oversized = encode_base64(format!("\0alice\0{}", "x".repeat(2_000)).as_bytes());
    for (element, expected) in [
        (auth("GSSAPI", ""), "invalid-mechanism"),
        (auth("scram-sha-1", ""), "invalid-mechanism"),
        (auth("", ""), "invalid-mechanism"),
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".into(),
            "invalid-mechanism",
        ),
        (auth("PLAIN", "!"), "incorrect-encoding"),
        (auth("PLAIN", " AGFsaWNlAHB3"), "incorrect-encoding"),
        (auth("PLAIN", "AGFsaWNlAHB3=="), "incorrect-encoding"),
        (auth("PLAIN", "=="), "incorrect-encoding"),
        (auth("PLAIN", "="), "malformed-request"),
        (auth("PLAIN", "<x/>"), "malformed-request"),
        (
            auth("PLAIN", &encode_base64(b"\0alice\0pw\0x")),
            "malformed-request",
        ),
        (
            auth("PLAIN", &encode_base64(b"bob\0alice\0pw")),
            "invalid-authzid",
        ),
        (
            auth("PLAIN", &encode_base64(b"bob@example.net\0alice\0pw")),
            "invalid-authzid",
        ),
        (
            auth("PLAIN", &encode_base64(b"alice@example.org\0alice\0pw")),
            "invalid-authzid",
        ),
        (
            auth("PLAIN", &encode_base64(b"alice@example.net/x\0alice\0pw")),
            "invalid-authzid",
        ),
        (
            auth("PLAIN", &encode_base64(b"\0al ice\0pw")),
            "not-authorized",
        ),
        (
            auth("PLAIN", &encode_base64(b"\0alice@example.net\0pw")),
            "not-authorized",
        ),
        (auth("PLAIN", &oversized), "not-authorized"),
        (auth("SCRAM-SHA-1", "="), "malformed-request"),
        (
            auth("SCRAM-SHA-1", &encode_base64(b"n,,m=x,n=alice,r=a")),
            "malformed-request",
        ),
        (
            auth("SCRAM-SHA-1", &encode_base64(b"n,,n=alice,r=")),
            "malformed-request",
        ),
        (
            auth(
                "SCRAM-SHA-1",
                &encode_base64(b"p=tls-exporter,,n=alice,r=a"),
            ),
            "malformed-request",
        ),
        (
            auth("SCRAM-SHA-1", &encode_base64(b"y,,n=alice,r=a")),
            "not-authorized",
        ),
        (
            auth(
                "SCRAM-SHA-1",
                &encode_base64(b"n,a=bob@example.net,n=alice,r=a"),
            ),
            "invalid-authzid",
        ),
        (
            auth("SCRAM-SHA-1-PLUS", &encode_base64(b"n,,n=alice,r=a")),
            "malformed-request",
        ),
    ] {
        let mut talk = Talk::secured();
        let (out, step) = talk.hears(&element).unwrap();
        assert_eq!(out, failure(expected), "{element}");
        assert!(matches!(step, Step::Failed(_)), "{element}");
        talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
        let (_, step) = talk.answers_keys().unwrap();
        assert!(matches!(step, Step::Authenticated(_)), "{element}");
    }
}

/// SECURITY class 16: the one identity that may be named is one's own, in any spelling.
#[test]
fn ones_own_address_is_a_good_authzid() {
    for message in [
        &b"alice@example.net\0alice\0pw"[..],
        b"ALICE@Example.NET\0Alice\0pw",
    ] {
        let mut talk = Talk::secured();
        let (_, step) = talk.hears(&auth("PLAIN", &encode_base64(message))).unwrap();
        assert!(matches!(step, Step::LoadKeys(a) if a.as_str() == "alice@example.net"));
        assert!(matches!(
            talk.answers_keys().unwrap().1,
            Step::Authenticated(_)
        ));
    }
}

#[test]
fn an_exchange_can_be_abandoned() {
    let first = encode_base64(b"n,,n=alice,r=abc");
    for (element, expected) in [
        (
            "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned(),
            "aborted",
        ),
        (auth("PLAIN", PLAIN_PW), "malformed-request"),
        (response(""), "malformed-request"),
        (response("="), "malformed-request"),
        (response("!"), "incorrect-encoding"),
    ] {
        let mut talk = Talk::secured();
        talk.hears(&auth("SCRAM-SHA-256", &first)).unwrap();
        talk.answers_keys().unwrap();
        let (out, _) = talk.hears(&element).unwrap();
        assert_eq!(out, failure(expected));
        let (_, step) = scram(&mut talk, "SCRAM-SHA-256", "n,,", &[]);
        assert!(matches!(step, Step::Authenticated(_)));
    }
    let mut talk = Talk::secured();
    talk.hears(&auth("SCRAM-SHA-256", &first)).unwrap();
    talk.answers_keys().unwrap();
    let (_, error) = talk.hears("<message/>").unwrap_err();
    assert_eq!(error, StreamError::NotAuthorized);
}

#[test]
fn the_client_may_wait_for_an_empty_challenge() {
    let mut talk = Talk::secured();
    let (out, _) = talk.hears(&auth("PLAIN", "")).unwrap();
    assert_eq!(out, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let (_, step) = talk.hears(&response(PLAIN_PW)).unwrap();
    assert!(matches!(step, Step::LoadKeys(_)));
    assert!(matches!(
        talk.answers_keys().unwrap().1,
        Step::Authenticated(_)
    ));
}

/// SECURITY class 21.
#[test]
fn the_fifth_failure_ends_the_stream() {
    let mut talk = Talk::secured();
    let wrong = auth("PLAIN", &encode_base64(b"\0alice\0wrong"));
    for attempt in 1..=5 {
        talk.hears(&wrong).unwrap();
        let outcome = talk.answers_keys();
        assert_eq!(
            talk.negotiation.claimed().unwrap().as_str(),
            "alice@example.net"
        );
        match outcome {
            Ok((out, Step::Failed(Condition::NotAuthorized))) => {
                assert!(attempt < 5);
                assert_eq!(out, failure("not-authorized"));
            }
            Err((out, error)) => {
                assert_eq!(attempt, 5);
                assert_eq!(out, failure("not-authorized"));
                assert_eq!(error.condition(), "policy-violation");
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn storage_trouble_is_no_wrong_password() {
    let mut talk = Talk::secured();
    talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
    let mut out = Vec::new();
    let step = talk.with(|n, offer, _| n.keys(Lookup::Unavailable, offer, &mut out));
    assert!(matches!(
        step,
        Ok(Step::Failed(Condition::TemporaryAuthFailure))
    ));
    assert_eq!(text(&out), failure("temporary-auth-failure"));
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

#[test]
fn before_binding_only_binding_and_resuming_are_served() {
    let error = |class: &str, condition: &str| {
        format!(
            "<iq type='error' id='1'><error type='{class}'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
    };
    let failed = |condition: &str| {
        format!(
            "<failed xmlns='urn:xmpp:sm:3'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
        )
    };
    let bind = |content: &str| {
        format!(
            "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             {content}</bind></iq>"
        )
    };
    let mut talk = Talk::authenticated();
    for (element, expected) in [
        (
            "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>".into(),
            error("cancel", "not-allowed"),
        ),
        (
            "<iq type='set' id='1'/>".into(),
            error("modify", "bad-request"),
        ),
        (
            bind("<resource>a\u{7f}b</resource>"),
            error("modify", "bad-request"),
        ),
        (
            bind(&format!("<resource>{}</resource>", "x".repeat(1_024))),
            error("modify", "bad-request"),
        ),
        (
            "<enable xmlns='urn:xmpp:sm:3'/>".into(),
            failed("unexpected-request"),
        ),
        (
            "<r xmlns='urn:xmpp:sm:3'/>".into(),
            failed("unexpected-request"),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' h='1'/>".into(),
            failed("bad-request"),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' previd='x'/>".into(),
            failed("bad-request"),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' previd='x' h='abc'/>".into(),
            failed("bad-request"),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' previd='x' h='-1'/>".into(),
            failed("bad-request"),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' previd='x' h='4294967296'/>".into(),
            failed("bad-request"),
        ),
    ] {
        let (out, step) = talk.hears(&element).unwrap();
        assert_eq!(out, expected, "{element}");
        assert!(matches!(step, Step::Continue), "{element}");
    }
    for (element, expected) in [
        (bind(""), None),
        (bind("<resource/>"), None),
        (bind("<resource>r</resource>"), Some("r")),
    ] {
        let (_, step) = talk.hears(&element).unwrap();
        assert!(
            matches!(&step, Step::Bind(r) if r.as_deref() == expected),
            "{step:?}"
        );
        assert!(talk.negotiation.is_waiting());
        let mut out = Vec::new();
        let conflict = StanzaError::new(StanzaCondition::ResourceConstraint);
        talk.negotiation.bound(Err(conflict), &mut out);
        assert_eq!(text(&out), error("wait", "resource-constraint"));
    }
    for (element, expected) in [
        ("<message to='bob@example.net'/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        ("<iq type='result' id='1'/>", "not-authorized"),
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
            "not-authorized",
        ),
        (STARTTLS, "not-authorized"),
        ("<x xmlns='urn:unknown'/>", "unsupported-stanza-type"),
    ] {
        let (_, error) = Talk::authenticated().hears(element).unwrap_err();
        assert_eq!(error.condition(), expected, "{element}");
    }
}

#[test]
fn a_resumption_that_fails_leaves_the_way_to_binding_open() {
    let mut talk = Talk::authenticated();
    let resume = "<resume xmlns='urn:xmpp:sm:3' h='4294967295' previd='a&amp;b'/>";
    let (_, step) = talk.hears(resume).unwrap();
    assert!(
        matches!(&step, Step::Resume { previd, handled: u32::MAX } if &**previd == "a&b"),
        "{step:?}"
    );
    assert_eq!(
        talk.negotiation.account().unwrap().as_str(),
        "alice@example.net"
    );
    let mut out = Vec::new();
    talk.negotiation
        .not_resumed(StanzaCondition::ItemNotFound, Some(7), &mut out);
    assert_eq!(
        text(&out),
        "<failed xmlns='urn:xmpp:sm:3' h='7'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    let bind = "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    assert!(matches!(talk.hears(bind).unwrap().1, Step::Bind(None)));
}

/// The box of a link that negotiates.
#[test]
fn a_negotiation_is_small() {
    let octets = size_of::<Negotiation>();
    assert!(octets <= 384, "{octets} octets");
}
