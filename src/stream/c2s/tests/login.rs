//! SASL over the wire: SECURITY classes 14, 16, 17 and 21.

use super::*;

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

/// Mechanism, initial response as it stands, condition.
const MALENCODED: [(&str, &str, &str); 9] = [
    ("GSSAPI", "", "invalid-mechanism"),
    ("scram-sha-1", "", "invalid-mechanism"),
    ("", "", "invalid-mechanism"),
    ("PLAIN", "!", "incorrect-encoding"),
    ("PLAIN", " AGFsaWNlAHB3", "incorrect-encoding"),
    ("PLAIN", "AGFsaWNlAHB3==", "incorrect-encoding"),
    ("PLAIN", "==", "incorrect-encoding"),
    ("PLAIN", "=", "malformed-request"),
    ("PLAIN", "<x/>", "malformed-request"),
];

/// Mechanism, initial response in plain text, condition.
const REFUSED: [(&str, &str, &str); 13] = [
    ("PLAIN", "\0alice\0pw\0x", "malformed-request"),
    ("PLAIN", "bob\0alice\0pw", "invalid-authzid"),
    ("PLAIN", "bob@example.net\0alice\0pw", "invalid-authzid"),
    ("PLAIN", "alice@example.org\0alice\0pw", "invalid-authzid"),
    ("PLAIN", "alice@example.net/x\0alice\0pw", "invalid-authzid"),
    ("PLAIN", "\0al ice\0pw", "not-authorized"),
    ("PLAIN", "\0alice@example.net\0pw", "not-authorized"),
    ("SCRAM-SHA-1", "n,,m=x,n=alice,r=a", "malformed-request"),
    ("SCRAM-SHA-1", "n,,n=alice,r=", "malformed-request"),
    (
        "SCRAM-SHA-1",
        "p=tls-exporter,,n=alice,r=a",
        "malformed-request",
    ),
    ("SCRAM-SHA-1", "y,,n=alice,r=a", "not-authorized"),
    (
        "SCRAM-SHA-1",
        "n,a=bob@example.net,n=alice,r=a",
        "invalid-authzid",
    ),
    ("SCRAM-SHA-1-PLUS", "n,,n=alice,r=a", "malformed-request"),
];

/// The form of each SASL failure, and that the next attempt is free.
#[test]
fn sasl_failures_have_their_conditions() {
    let long = format!("\0alice\0{}", "x".repeat(2_000));
    let encoded = REFUSED
        .into_iter()
        .chain([("PLAIN", &*long, "not-authorized")]);
    let encoded = encoded.map(|(mechanism, message, expected)| {
        (
            auth(mechanism, &encode_base64(message.as_bytes())),
            expected,
        )
    });
    let verbatim = MALENCODED.into_iter();
    let verbatim =
        verbatim.map(|(mechanism, content, expected)| (auth(mechanism, content), expected));
    let unnamed = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned();

    for (element, expected) in encoded
        .chain(verbatim)
        .chain([(unnamed, "invalid-mechanism")])
    {
        let mut talk = Talk::secured();
        let (out, step) = talk.hears(&element).unwrap();
        assert_eq!(out, failure(expected), "{element}");
        assert!(matches!(step, Step::Failed(_)), "{element}");
        talk.hears(&auth("PLAIN", PLAIN_PW)).unwrap();
        let (_, step) = talk.answers_keys().unwrap();
        assert!(matches!(step, Step::Authenticated(_)), "{element}");
    }
}

/// References and CDATA are the same text to every XML reader.
#[test]
fn the_message_may_be_written_in_any_way_that_xml_has() {
    for content in ["AGFsaWNlAHB&#51;", "<![CDATA[AGFsaWNlAHB3]]>"] {
        let (_, step) = Talk::secured().hears(&auth("PLAIN", content)).unwrap();
        assert!(matches!(step, Step::LoadKeys(_)), "{content}");
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

/// RFC 6120 section 6.4.4 asks for the answer whatever came before; as any failure it counts.
#[test]
fn an_abort_without_an_exchange_is_answered() {
    const ABORT: &str = "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    let mut talk = Talk::secured();
    let (out, _) = talk.hears(ABORT).unwrap();
    assert_eq!(out, failure("aborted"));
    let (_, step) = scram(&mut talk, "SCRAM-SHA-256", "n,,", &[]);
    assert!(matches!(step, Step::Authenticated(_)));

    let mut talk = Talk::secured();
    let outcomes = (0..100).map(|_| talk.hears(ABORT));
    let answered = outcomes.take_while(Result::is_ok).count();
    let maximum = Limits::default().sasl_attempts_max;
    assert_eq!(answered, maximum as usize - 1);
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
