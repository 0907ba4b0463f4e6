//! Heads in any pieces, and each way in which one is refused (SECURITY classes 45 to 47, 49).

use proptest::prelude::*;

use super::super::Status;
use super::*;

/// What a test looks at.
type Seen = (
    usize,
    Method,
    Version,
    String,
    Option<String>,
    bool,
    Framing,
    bool,
);

fn see(request: &Request) -> Seen {
    (
        request.octets,
        request.method,
        request.version,
        request.path.to_string(),
        request.query.map(String::from),
        request.keep_alive,
        request.framing,
        request.expects_continue,
    )
}

/// Gives the octets in pieces that end at these offsets, as a link would.
fn feed(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<Seen>, Refusal> {
    let bounds = Bounds::default();
    let mut seen = 0;
    for end in ends {
        match parse(&bytes[..end], seen, &bounds)? {
            Progress::Incomplete => seen = end,
            Progress::Complete(request) => return Ok(Some(see(&request))),
        }
    }
    Ok(None)
}

/// Parses whole, cut once at every octet, and octet by octet; all must be the same.
fn parse_cut(bytes: &[u8]) -> Result<Option<Seen>, Refusal> {
    let whole = feed(bytes, [bytes.len()]);
    for cut in 0..=bytes.len() {
        assert_eq!(feed(bytes, [cut, bytes.len()]), whole, "cut at octet {cut}");
    }
    assert_eq!(feed(bytes, 1..=bytes.len()), whole, "octet by octet");
    whole
}

fn whole(bytes: &str) -> Request<'_> {
    match parse(bytes.as_bytes(), 0, &Bounds::default()) {
        Ok(Progress::Complete(request)) => request,
        other => panic!("{other:?}: {bytes:?}"),
    }
}

#[test]
fn a_request_of_a_browser_is_read() {
    let head = "POST /v1/send?to=juliet%40example.net HTTP/1.1\r\nHost: chat.example:5280\r\n\
        Content-Type: application/json\r\nContent-Length: 17\r\nCookie: a=b; encke=secret\r\n\
        Origin: https://app.example\r\nX-Other: \u{ff}\r\nUser-Agent: Mozilla/5.0\r\n\r\n";
    let bytes = [head.as_bytes(), b"{\"body\":\"hello\"}\n"].concat();
    let seen = parse_cut(&bytes).unwrap().unwrap();
    assert_eq!(
        seen,
        (
            head.len(),
            Method::Post,
            Version::Http11,
            "/v1/send".into(),
            Some("to=juliet%40example.net".into()),
            true,
            Framing::Sized(17),
            false
        )
    );
    let request = whole(head);
    assert_eq!(request.host, Some("chat.example:5280"));
    assert_eq!(request.header(Field::Origin), Some("https://app.example"));
    assert_eq!(request.fields.cookie("encke"), Some("secret"));
    let agents: Vec<_> = request.fields.named("user-agent").collect();
    assert_eq!(agents, [b"Mozilla/5.0"]);
}

#[test]
fn methods_versions_and_links_are_told_apart() {
    for (start, lines, method, keep_alive) in [
        ("GET / HTTP/1.1", "Host: a\r\n", Method::Get, true),
        (
            "HEAD / HTTP/1.1",
            "Host: a\r\nConnection: keep-alive\r\n",
            Method::Head,
            true,
        ),
        (
            "PUT / HTTP/1.1",
            "Host: a\r\nConnection: x, Close\r\n",
            Method::Put,
            false,
        ),
        (
            "PATCH / HTTP/1.1",
            "Connection: x\r\nHost: a\r\nConnection: close\r\n",
            Method::Patch,
            false,
        ),
        ("DELETE / HTTP/1.0", "", Method::Delete, false),
        (
            "OPTIONS * HTTP/1.0",
            "Connection: Keep-Alive\r\n",
            Method::Options,
            true,
        ),
        (
            "GET / HTTP/1.0",
            "Connection: keep-alive, close\r\n",
            Method::Get,
            false,
        ),
        ("GET http://a/ HTTP/1.1", "Host: A\r\n", Method::Get, true),
    ] {
        let head = format!("{start}\r\n{lines}\r\n");
        let seen = parse_cut(head.as_bytes()).unwrap().unwrap();
        assert_eq!((seen.1, seen.5), (method, keep_alive), "{head:?}");
        assert_eq!(seen.2 == Version::Http10, start.ends_with('0'));
        assert_eq!(method.name(), start.split(' ').next().unwrap());
    }
}

#[test]
fn an_expectation_is_noticed() {
    let head =
        |version: &str| format!("PUT / {version}\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n");
    assert!(whole(&head("HTTP/1.1")).expects_continue);
    assert!(!whole(&head("HTTP/1.0")).expects_continue);
}

#[test]
fn an_upgrade_needs_both_fields_and_no_body() {
    for (lines, expected) in [
        (
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
            true,
        ),
        ("Connection: upgrade\r\nUpgrade: h2c, WebSocket\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Connection: upgrade\r\n", false),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
            false,
        ),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(whole(&head).wants_upgrade("websocket"), expected, "{lines}");
    }
}

/// SECURITY class 45, and everything else that has a variant.
#[test]
fn each_fault_is_refused_by_its_name() {
    use Refusal::*;
    let long = "a".repeat(8_192);
    for (head, refusal) in [
        ("GET / HTTP/1.1\nHost: a\n\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed),
        ("G\n", BareLineFeed),
        ("\n", RequestLine),
        ("\r\r", RequestLine),
        ("\r\n\r\n", RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\n", RequestLine),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("\x16\x03\x01", RequestLine),
        ("GET\r\nHost: a\r\n\r\n", RequestLine),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", RequestLine),
        ("GET /\r\nHost: a\r\n\r\n", RequestLine),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / XTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", RequestLine),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET(/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1\r\n\rHost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", VersionUnsupported),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", VersionUnsupported),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VersionUnsupported),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", MethodUnknown),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", MethodUnknown),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            MethodRefused,
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", FieldName),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
            FieldName,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\u{b}: b\r\n\r\n", FieldName),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 1\r\n\r\n",
            FieldName,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            FieldName,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", FieldValue),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n",
            FieldValue,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nOrigin: b\r\n\r\n",
            FieldTwice,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nauthorization: b\r\n\r\n",
            FieldTwice,
        ),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm),
        ("GET /<script> HTTP/1.1\r\nHost: a\r\n\r\n", TargetOctet),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", TargetOctet),
        ("GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n", Escape),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", PathNotNormal),
        ("GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", PathNotNormal),
        ("GET / HTTP/1.1\r\n\r\n", HostMissing),
        ("GET http://a/ HTTP/1.1\r\n\r\n", HostMissing),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HostTwice),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", HostTwice),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HostMalformed),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
            Expectation,
        ),
    ] {
        assert_eq!(parse_cut(head.as_bytes()), Err(refusal), "{head:?}");
    }
    let head = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(feed(head.as_bytes(), [head.len()]), Err(TargetTooLong));
    let latin = b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: \xe4\r\n\r\n";
    assert_eq!(parse_cut(latin), Err(FieldNotText));
    let latin = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: x=\xe4; encke=1\r\n\r\n";
    assert!(parse_cut(latin).unwrap().is_some());
    let latin = b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(parse_cut(latin), Err(RequestLine));
}

/// SECURITY class 45.
#[test]
fn no_body_has_two_lengths() {
    use Refusal::*;
    for (lines, expected) in [
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Sized(0))),
        ("Content-Length:\t7 \r\n", Ok(Framing::Sized(7))),
        ("Content-Length: 007\r\n", Ok(Framing::Sized(7))),
        (
            "Content-Length: 18446744073709551615\r\n",
            Ok(Framing::Sized(u64::MAX)),
        ),
        (
            "Content-Length: 18446744073709551616\r\n",
            Err(ContentLength),
        ),
        ("Content-Length:\r\n", Err(ContentLength)),
        ("Content-Length: +7\r\n", Err(ContentLength)),
        ("Content-Length: -7\r\n", Err(ContentLength)),
        ("Content-Length: 7 7\r\n", Err(ContentLength)),
        ("Content-Length: 7, 7\r\n", Err(ContentLength)),
        ("Content-Length: 7,\r\n", Err(ContentLength)),
        ("Content-Length: 0x7\r\n", Err(ContentLength)),
        ("Content-Length: 7.0\r\n", Err(ContentLength)),
        ("Content-Length: 1e1\r\n", Err(ContentLength)),
        ("Content-Length: \u{667}\r\n", Err(ContentLength)),
        (
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            Err(ContentLengthTwice),
        ),
        (
            "Content-Length: 0\r\nX: y\r\ncontent-length: 44\r\n",
            Err(ContentLengthTwice),
        ),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding:\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: identity\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: xchunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked,\r\n", Err(TransferEncoding)),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            Err(TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            Err(TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            Err(LengthAndEncoding),
        ),
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            Err(LengthAndEncoding),
        ),
        (
            "Content-Length: 4\r\nTransfer-Encoding: x\r\n",
            Err(LengthAndEncoding),
        ),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let found = parse_cut(head.as_bytes()).map(|seen| seen.unwrap().6);
        assert_eq!(found, expected, "{lines:?}");
        if let Err(refusal) = expected {
            assert_eq!(refusal.status(), Status::BadRequest);
        }
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse_cut(old), Err(TransferEncodingTooOld));
}

/// SECURITY class 46.
#[test]
fn bounds_hold_at_their_very_octet() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let padded = |octets: usize| {
        let padding = octets - start.len() - 4;
        format!("{start}{}\r\n\r\n", "x".repeat(padding)).into_bytes()
    };
    let most = Bounds::default().head_octets_max;
    assert!(feed(&padded(most), [most]).unwrap().is_some());
    let more = padded(most + 1);
    for ends in [
        [10, most + 1],
        [most - 1, most],
        [most, most + 1],
        [most - 2, most + 1],
    ] {
        assert_eq!(feed(&more, ends), Err(Refusal::HeadTooLong), "{ends:?}");
    }
    assert_eq!(feed(&more, [most - 1]), Ok(None));

    let endless = [&b"GET /"[..], "a".repeat(most).as_bytes()].concat();
    assert_eq!(
        feed(&endless, [100, endless.len()]),
        Err(Refusal::TargetTooLong)
    );

    let target = |octets: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(octets - 1));
    let most = Bounds::default().target_octets_max;
    assert!(
        feed(target(most).as_bytes(), [most + 17])
            .unwrap()
            .is_some()
    );
    let refused = feed(target(most + 1).as_bytes(), [most + 18]);
    assert_eq!(refused, Err(Refusal::TargetTooLong));

    let fields = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert!(parse_cut(fields(FIELDS_MAX).as_bytes()).unwrap().is_some());
    let refused = parse_cut(fields(FIELDS_MAX + 1).as_bytes());
    assert_eq!(refused, Err(Refusal::TooManyFields));
    let few = Bounds {
        fields_max: 2,
        ..Bounds::default()
    };
    let three = fields(3);
    let refused = parse(three.as_bytes(), 0, &few);
    assert!(matches!(refused, Err(Refusal::TooManyFields)));
}

/// The end of a head is looked for once: what was seen is not looked at again.
#[test]
fn what_was_seen_is_not_searched_again() {
    let bytes = b"GET / HTTP/1.0\nX: y\r\n\r\n";
    assert!(matches!(
        parse(bytes, 0, &Bounds::default()),
        Err(Refusal::BareLineFeed)
    ));
    // The fault is before what is new, so only the parser of whole heads could see it.
    assert!(matches!(
        parse(bytes, 15, &Bounds::default()),
        Ok(Progress::Complete(_))
    ));
}

#[test]
fn pipelined_requests_follow_each_other() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n\
        Content-Length: 2\r\n\r\nhi\r\nPOST /3 HTTP/1.1\r\nHost: a\r\n\
        Transfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\nGET /4 HTTP/1.0\r\n\r\n";
    let all = requests(bytes, &[bytes.len()]).unwrap();
    let expected = [("/1", ""), ("/2", "hi"), ("/3", "ho"), ("/4", "")];
    let expected = expected.map(|(path, body)| (path.to_owned(), body.to_owned()));
    assert_eq!(all, expected);
    for cut in 0..=bytes.len() {
        assert_eq!(
            requests(bytes, &[cut, bytes.len()]).unwrap(),
            all,
            "cut at octet {cut}"
        );
    }
    let ends: Vec<usize> = (1..=bytes.len()).collect();
    assert_eq!(requests(bytes, &ends).unwrap(), all);

    // The body of one request is never the head of the next.
    let smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 37\r\n\r\n\
        GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        requests(smuggled, &[smuggled.len()]),
        Err(Refusal::ContentLengthTwice)
    );
}

/// Paths and bodies of all requests on a link, whose octets come in pieces that end here.
fn requests(bytes: &[u8], ends: &[usize]) -> Result<Vec<(String, String)>, Refusal> {
    let bounds = Bounds::default();
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut body: Option<super::super::Body> = None;
    let (mut start, mut seen) = (0, 0);
    for end in ends {
        loop {
            let unread = &bytes[start..*end];
            if let (Some(state), Some((_, out))) = (&mut body, found.last_mut()) {
                let taken = state.take(unread, out)?;
                start += taken.octets;
                if !taken.done {
                    break;
                }
                body = None;
                continue;
            }
            match parse(unread, seen, &bounds)? {
                Progress::Incomplete => {
                    seen = unread.len();
                    break;
                }
                Progress::Complete(request) => {
                    found.push((request.path.to_string(), Vec::new()));
                    body = Some(super::super::Body::new(request.framing, 100)?);
                    start += request.octets;
                    seen = 0;
                }
            }
        }
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ok(found
        .into_iter()
        .map(|(path, body)| (path, text(body)))
        .collect())
}

proptest! {
    /// What is written by the rules is read as it was meant.
    #[test]
    fn a_written_head_is_read(
        segments in proptest::collection::vec("[a-z0-9@~!:+,;=]{1,8}", 0..4),
        query in "([a-z0-9=&%?/]{0,12})?",
        fields in proptest::collection::vec(
            ("X-[A-Za-z0-9-]{1,8}", "([!-~]([ -~]{0,8}[!-~])?)?"),
            0..8,
        ),
        length in any::<u64>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let path = format!("/{}", segments.join("/"));
        let line = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let lines: String = fields.iter().map(line).collect();
        let head = format!(
            "PUT {path}?{query} HTTP/1.1\r\n{lines}Host: a\r\nContent-Length: {length}\r\n\r\n"
        );
        let request = whole(&head);
        prop_assert_eq!(&*request.path, &path);
        prop_assert_eq!(request.query, Some(&*query));
        prop_assert_eq!(request.framing, Framing::Sized(length));
        for (name, _) in &fields {
            let expected = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let expected = expected.map(|(_, value)| value.as_bytes());
            prop_assert!(request.fields.named(name).eq(expected));
        }
        let cut = cut.index(head.len());
        prop_assert_eq!(feed(head.as_bytes(), [cut, head.len()]), Ok(Some(see(&request))));
    }

    #[test]
    fn no_octets_panic(
        line in "(GET|POST|[A-Z]{1,3}) [ -~]{0,9} HTTP/1.[01]\r\n",
        fields in "([A-Za-z-]{1,4}: ?[ -~]{0,4}\r?\n){0,3}\r\n",
    ) {
        let _ = parse_cut([line, fields].concat().as_bytes());
    }
}
