//! Vectors of the RFCs, and each form of SECURITY classes 16 to 20.

use super::*;

const SECRET: [u8; 32] = [9; 32];

fn terms<'a>(bindings: &'a Bindings, nonce: &'a str) -> Terms<'a> {
    Terms {
        bindings,
        nonce,
        secret: &SECRET,
        iterations: 4096,
    }
}

/// Keys as they come from `password`, with a salt and iterations of our choice.
fn entry(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Entry {
    let salted = hash.stretch(password.as_bytes(), salt, iterations);
    let client_key = hash.hmac(salted.as_slice(), &[b"Client Key"]);
    let stored_key = hash.digest(client_key.as_slice());
    let server_key = hash.hmac(salted.as_slice(), &[b"Server Key"]);
    Entry::new(
        hash,
        salt,
        iterations,
        stored_key.as_slice(),
        server_key.as_slice(),
    )
    .unwrap()
}

fn keys(entries: &[Entry]) -> Keys {
    Keys::from_entries(entries.to_vec()).unwrap()
}

fn look(progress: Result<Progress, Condition>) -> (Claim, Exchange) {
    match progress {
        Ok(Progress::Look(claim, exchange)) => (claim, exchange),
        other => panic!("no claim: {other:?}"),
    }
}

fn challenge(progress: Result<Progress, Condition>) -> (String, Exchange) {
    match progress {
        Ok(Progress::Challenge(message, exchange)) => {
            (String::from_utf8(message).unwrap(), exchange)
        }
        other => panic!("no challenge: {other:?}"),
    }
}

fn outcome(progress: Result<Progress, Condition>) -> Result<String, Condition> {
    match progress? {
        Progress::Success(message) => Ok(String::from_utf8(message).unwrap()),
        other => panic!("no end: {other:?}"),
    }
}

/// RFC 5802 section 5 and RFC 7677 section 3.
#[test]
fn the_examples_of_the_rfcs_hold() {
    let none = Bindings::default();
    for (hash, nonce, salt, first, server_first, last, server_last) in [
        (
            Hash::Sha1,
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
             p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            Hash::Sha256,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ] {
        let terms = terms(&none, nonce);
        let salt = decode_base64(salt.as_bytes()).unwrap();
        let keys = keys(&[entry(hash, "pencil", &salt, 4096)]);
        let mechanism = Mechanism::Scram(hash, Binding::Without);
        let (claim, exchange) = look(Exchange::begin(mechanism, Some(first.as_bytes()), &terms));
        assert_eq!((&*claim.name, claim.authzid), ("user", None));
        let (message, exchange) =
            challenge(exchange.look_up(Lookup::Known(&keys), "user@localhost", &terms));
        assert_eq!(message, server_first);
        let end = outcome(exchange.respond(last.as_bytes(), &terms));
        assert_eq!(end.as_deref(), Ok(server_last));
    }
}

/// Values of a client written apart from this one, over Python's `hmac` and `hashlib`: a name to
/// be escaped, a password beyond ASCII, channel binding to the octets 0 to 31.
#[test]
fn channel_binding_agrees_with_another_implementation() {
    let bindings = Bindings {
        exporter: Some(std::array::from_fn(|i| i as u8)),
        end_point: None,
    };
    let terms = terms(&bindings, "SERVER");
    for (hash, stored_key, server_key, proof, signature) in [
        (
            Hash::Sha1,
            "k6kX2U52BFOYaFzkkpnTtlkspj4=",
            "d7IyVXj7R3VJedsdKZysIOKzX5A=",
            "bxVEwlA88ygGDmG0XaXWQ4drPxY=",
            "v=/VzI4iVN70JjdaHXV7wFNeoEOXQ=",
        ),
        (
            Hash::Sha256,
            "okM69n9uzOhYD1Izwt7xMCzPNzPQv4s/OynPZZSwQAA=",
            "Q0tAvMD6Tow0O4Qs6PLZUSkKIqN6s3ItgY2qnQ9pyWo=",
            "XvxF537r9IX7JzLFzDH4Maa+2AtsGDVuQpp2eq7Es2w=",
            "v=v6YGT57we2plVPdSiMfrnUoybYMQujmWPS/eNLce3tA=",
        ),
    ] {
        let entry = entry(hash, "p\u{e4}ss", b"0123456789abcdef", 4096);
        assert_eq!(encode_base64(entry.stored_key().as_slice()), stored_key);
        assert_eq!(encode_base64(entry.server_key().as_slice()), server_key);
        let keys = keys(&[entry]);
        let first = b"p=tls-exporter,,n=us=2Cer=3D,r=clientnonce";
        let mechanism = Mechanism::Scram(hash, Binding::Plus);
        let (claim, exchange) = look(Exchange::begin(mechanism, Some(first), &terms));
        assert_eq!(claim.name, "us,er=");
        let (message, exchange) =
            challenge(exchange.look_up(Lookup::Known(&keys), "us,er=@b", &terms));
        assert_eq!(
            message,
            "r=clientnonceSERVER,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"
        );
        let last = format!(
            "c=cD10bHMtZXhwb3J0ZXIsLAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f,\
             r=clientnonceSERVER,p={proof}"
        );
        let end = outcome(exchange.respond(last.as_bytes(), &terms));
        assert_eq!(end.as_deref(), Ok(signature));
    }
}

/// A client that does everything right but what a test changes.
struct Client<'a> {
    mechanism: &'a str,
    password: &'a str,
    gs2_header: &'a str,
    /// What goes into `c=`.
    binding: Vec<u8>,
    /// Replaces the nonce in the final message.
    nonce: Option<&'a str>,
}

impl<'a> Client<'a> {
    fn new(mechanism: &'a str, gs2_header: &'a str, channel: &[u8]) -> Self {
        let binding = [gs2_header.as_bytes(), channel].concat();
        Self {
            mechanism,
            password: "pw",
            gs2_header,
            binding,
            nonce: None,
        }
    }

    fn run(&self, bindings: &Bindings, found: Lookup<'_>) -> Result<String, Condition> {
        let terms = terms(bindings, "SERVER");
        let mechanism =
            Mechanism::offered(self.mechanism, bindings).ok_or(Condition::InvalidMechanism)?;
        let Mechanism::Scram(hash, _) = mechanism else {
            panic!("not SCRAM")
        };
        let bare = "n=alice,r=CLIENT";
        let first = format!("{}{bare}", self.gs2_header);
        let (_, exchange) = look(Ok(Exchange::begin(
            mechanism,
            Some(first.as_bytes()),
            &terms,
        )?));
        let (server_first, exchange) = challenge(exchange.look_up(found, "alice@b", &terms));

        let mut fields = server_first.split(',');
        let nonce = fields.next().unwrap().strip_prefix("r=").unwrap();
        let salt = fields.next().unwrap().strip_prefix("s=").unwrap();
        let iterations = fields.next().unwrap().strip_prefix("i=").unwrap();
        let salt = decode_base64(salt.as_bytes()).unwrap();
        let salted = hash.stretch(self.password.as_bytes(), &salt, iterations.parse().unwrap());
        let last = format!(
            "c={},r={}",
            encode_base64(&self.binding),
            self.nonce.unwrap_or(nonce)
        );
        let transcript = format!("{bare},{server_first},{last}");
        let proof = scram::client_proof(hash, &salted, &transcript);
        outcome(exchange.respond(format!("{last},p={proof}").as_bytes(), &terms))
    }
}

fn bound() -> Bindings {
    Bindings {
        exporter: Some([5; 32]),
        end_point: Some(vec![6; 48].into()),
    }
}

/// SECURITY classes 17 and 18.
#[test]
fn channel_binding_cannot_be_changed_or_stripped() {
    let keys = Keys::derive("pw", &[1; 16], 16).unwrap();
    let (bound, unbound) = (bound(), Bindings::default());
    let end_point_only = Bindings {
        exporter: None,
        ..bound.clone()
    };
    let (exporter, end_point) = (&[5; 32][..], &[6; 48][..]);
    let plus = "SCRAM-SHA-256-PLUS";
    let without = "SCRAM-SHA-1";
    let malformed = Err(Condition::MalformedRequest);
    let refused = Err(Condition::NotAuthorized);
    let good = Ok(());

    for (link, mechanism, gs2_header, channel, expected) in [
        (&bound, plus, "p=tls-exporter,,", exporter, good),
        (&bound, plus, "p=tls-server-end-point,,", end_point, good),
        (
            &bound,
            "SCRAM-SHA-1-PLUS",
            "p=tls-exporter,,",
            exporter,
            good,
        ),
        (
            &end_point_only,
            plus,
            "p=tls-server-end-point,,",
            end_point,
            good,
        ),
        (
            &end_point_only,
            plus,
            "p=tls-exporter,,",
            exporter,
            malformed,
        ),
        (&bound, plus, "p=tls-exporter,,", end_point, refused),
        (&bound, plus, "p=tls-exporter,,", &[5; 31], refused),
        (&bound, plus, "p=tls-exporter,,", b"", refused),
        (&bound, plus, "p=tls-unique,,", b"x", malformed),
        (&bound, plus, "n,,", b"", malformed),
        (&bound, plus, "y,,", b"", malformed),
        (
            &unbound,
            plus,
            "p=tls-exporter,,",
            b"",
            Err(Condition::InvalidMechanism),
        ),
        (&bound, without, "n,,", b"", good),
        (&bound, without, "y,,", b"", refused),
        (&unbound, without, "n,,", b"", good),
        (&unbound, without, "y,,", b"", good),
        (&bound, without, "p=tls-exporter,,", exporter, malformed),
        (&unbound, without, "p=tls-exporter,,", exporter, malformed),
        (&bound, without, "n,,", b"x", refused),
    ] {
        let client = Client::new(mechanism, gs2_header, channel);
        let end = client.run(link, Lookup::Known(&keys)).map(drop);
        assert_eq!(end, expected, "{mechanism} {gs2_header} {channel:?}");
    }
}

/// SECURITY class 18: what was negotiated cannot be told otherwise later.
#[test]
fn the_final_message_must_repeat_what_the_first_said() {
    let keys = Keys::derive("pw", &[1; 16], 16).unwrap();
    let known = Lookup::Known(&keys);
    let run = |change: fn(&mut Client<'_>)| {
        let mut client = Client::new("SCRAM-SHA-256", "n,,", b"");
        change(&mut client);
        client.run(&bound(), known).map(drop)
    };
    assert_eq!(run(|_| ()), Ok(()));
    let refused = Err(Condition::NotAuthorized);
    assert_eq!(run(|c| c.binding = b"y,,".to_vec()), refused);
    assert_eq!(run(|c| c.binding = b"n,a=bob,".to_vec()), refused);
    assert_eq!(run(|c| c.binding = b"p=tls-exporter,,".to_vec()), refused);
    assert_eq!(run(|c| c.nonce = Some("CLIENT")), refused);
    assert_eq!(run(|c| c.nonce = Some("CLIENTSERVERx")), refused);
    assert_eq!(run(|c| c.nonce = Some("SERVER")), refused);
    assert_eq!(run(|c| c.password = "pw2"), refused);
}

/// SECURITY class 20: the same answers in the same number of steps, and the same again when
/// asked again.
#[test]
fn an_unknown_account_looks_like_a_wrong_password() {
    let bindings = Bindings::default();
    let terms = terms(&bindings, "SERVER");
    let keys = Keys::derive("pw", &[1; 16], terms.iterations).unwrap();
    let ask = |found, account, mechanism| {
        let first = Some(&b"n,,n=alice,r=CLIENT"[..]);
        let (_, exchange) = look(Exchange::begin(mechanism, first, &terms));
        let (message, exchange) = challenge(exchange.look_up(found, account, &terms));
        let proof = encode_base64(&[0; 64][..mechanism_octets(mechanism)]);
        let last = format!("c=biws,r=CLIENTSERVER,p={proof}");
        (message, outcome(exchange.respond(last.as_bytes(), &terms)))
    };
    let mut salts = Vec::new();
    for hash in [Hash::Sha1, Hash::Sha256] {
        let mechanism = Mechanism::Scram(hash, Binding::Without);
        let (known, known_end) = ask(Lookup::Known(&keys), "alice@b", mechanism);
        let (unknown, unknown_end) = ask(Lookup::Unknown, "alice@b", mechanism);
        assert_eq!(known.len(), unknown.len());
        assert_eq!(known.rsplit(',').next(), unknown.rsplit(',').next());
        assert_eq!(known_end, Err(Condition::NotAuthorized));
        assert_eq!(unknown_end, known_end);
        assert_eq!(ask(Lookup::Unknown, "alice@b", mechanism).0, unknown);
        assert_ne!(ask(Lookup::Unknown, "bob@b", mechanism).0, unknown);
        salts.push(unknown);
    }
    assert_ne!(
        salts[0], salts[1],
        "one salt for two hash functions would give a decoy away"
    );
}

fn mechanism_octets(mechanism: Mechanism) -> usize {
    match mechanism {
        Mechanism::Scram(hash, _) => hash.octets(),
        Mechanism::Plain => 0,
    }
}

/// SECURITY class 20 for PLAIN, and its plain use.
#[test]
fn a_password_costs_one_pbkdf2_whoever_asks() {
    let bindings = bound();
    let terms = terms(&bindings, "SERVER");
    let keys = Keys::derive("pw", &[1; 16], terms.iterations).unwrap();
    let sha1_only = super::tests::keys(&[entry(Hash::Sha1, "pw", b"salt", 16)]);
    let run = |found, password: &str| {
        let message = format!("\0alice\0{password}");
        let plain = Exchange::begin(Mechanism::Plain, Some(message.as_bytes()), &terms);
        let (_, exchange) = look(plain);
        let Ok(Progress::Stretch(job, exchange)) = exchange.look_up(found, "alice@b", &terms)
        else {
            panic!("no job");
        };
        let cost = (job.hash, job.iterations, job.salt.len(), job.password.len());
        let salted = job.hash.stretch(&job.password, &job.salt, job.iterations);
        (cost, outcome(exchange.stretched(salted.as_slice())))
    };
    let (right, end) = run(Lookup::Known(&keys), "pw");
    assert_eq!(end, Ok(String::new()));
    let (wrong, end) = run(Lookup::Known(&keys), "px");
    assert_eq!(end, Err(Condition::NotAuthorized));
    let (unknown, end) = run(Lookup::Unknown, "pw");
    assert_eq!(end, Err(Condition::NotAuthorized));
    assert_eq!(right, wrong);
    assert_eq!(wrong, unknown);
    let disabled = Lookup::Disabled(&keys);
    assert_eq!(run(disabled, "pw").1, Err(Condition::AccountDisabled));
    assert_eq!(run(disabled, "px").1, Err(Condition::NotAuthorized));
    let client = Client::new("SCRAM-SHA-256", "n,,", b"");
    let end = client.run(&Bindings::default(), disabled);
    assert_eq!(end, Err(Condition::AccountDisabled));
    assert_eq!(run(Lookup::Known(&sha1_only), "pw").1, Ok(String::new()));
}

#[test]
fn a_hash_function_without_keys_is_like_an_unknown_account() {
    let sha256 = keys(&[entry(Hash::Sha256, "pw", b"0123456789abcdef", 4096)]);
    let client = Client::new("SCRAM-SHA-1", "n,,", b"");
    let end = client.run(&Bindings::default(), Lookup::Known(&sha256));
    assert_eq!(end, Err(Condition::NotAuthorized));
}

#[test]
fn a_message_that_nobody_waits_for_ends_the_attempt() {
    let none = Bindings::default();
    let terms = terms(&none, "SERVER");
    let first = Some(&b"n,,n=alice,r=CLIENT"[..]);
    let mechanism = Mechanism::Scram(Hash::Sha1, Binding::Without);
    let (_, exchange) = look(Exchange::begin(mechanism, first, &terms));
    assert_eq!(
        exchange
            .respond(b"c=biws,r=CLIENTSERVER,p=AAAA", &terms)
            .err(),
        Some(Condition::MalformedRequest)
    );
    let (_, exchange) = look(Exchange::begin(mechanism, first, &terms));
    assert_eq!(
        exchange.stretched(b"").err(),
        Some(Condition::TemporaryAuthFailure)
    );
    let (_, exchange) = look(Exchange::begin(mechanism, first, &terms));
    let unavailable = exchange.look_up(Lookup::Unavailable, "alice@b", &terms);
    assert_eq!(unavailable.err(), Some(Condition::TemporaryAuthFailure));
}

#[test]
fn a_client_may_begin_without_an_initial_response() {
    let none = Bindings::default();
    let terms = terms(&none, "SERVER");
    for (mechanism, message) in [
        (
            Mechanism::Scram(Hash::Sha1, Binding::Without),
            &b"n,,n=alice,r=CLIENT"[..],
        ),
        (Mechanism::Plain, b"\0alice\0pw"),
    ] {
        let (empty, exchange) = challenge(Exchange::begin(mechanism, None, &terms));
        assert_eq!(empty, "");
        assert_eq!(look(exchange.respond(message, &terms)).0.name, "alice");
        let begun = Exchange::begin(mechanism, Some(b""), &terms);
        assert_eq!(begun.err(), Some(Condition::MalformedRequest));
    }
}

#[test]
fn base64_is_strict() {
    for encoded in [
        "=", "A", "AA", "AAA", "AAAA=", "AB==", "AA==\n", " AA==", "AA-_", "AA==AA==",
    ] {
        let decoded = decode_base64(encoded.as_bytes());
        assert_eq!(
            decoded.err(),
            Some(Condition::IncorrectEncoding),
            "{encoded:?}"
        );
    }
    assert_eq!(*decode_base64(b"AA==").unwrap(), [0]);
    assert!(decode_base64(b"").unwrap().is_empty());
}

#[test]
fn proofs_of_another_length_are_malformed() {
    let none = Bindings::default();
    let terms = terms(&none, "SERVER");
    for (proof, expected) in [
        ("AAAA", Condition::MalformedRequest),
        ("A", Condition::IncorrectEncoding),
        (&encode_base64(&[0; 32]), Condition::MalformedRequest),
        (&encode_base64(&[0; 20]), Condition::NotAuthorized),
    ] {
        let first = Some(&b"n,,n=alice,r=CLIENT"[..]);
        let mechanism = Mechanism::Scram(Hash::Sha1, Binding::Without);
        let (_, exchange) = look(Exchange::begin(mechanism, first, &terms));
        let (_, exchange) = challenge(exchange.look_up(Lookup::Unknown, "alice@b", &terms));
        let last = format!("c=biws,r=CLIENTSERVER,p={proof}");
        assert_eq!(
            outcome(exchange.respond(last.as_bytes(), &terms)),
            Err(expected),
            "{proof}"
        );
    }
}
