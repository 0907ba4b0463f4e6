use super::*;

fn new(seed: u64) -> WebSocket {
    WebSocket::new(Subprotocol::Xmpp, seed)
}

/// The answer to the handshake of a link with this seed.
fn answer(seed: u64) -> Vec<u8> {
    let accept = accepted(&new(seed).key());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         SEC-WEBSOCKET-ACCEPT:  {accept}\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
    )
    .into_bytes()
}

fn from_server(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..126 => frame.push(payload.len() as u8),
        126..65_536 => {
            frame.push(LENGTH_16);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(LENGTH_64);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn upgraded() -> WebSocket {
    WebSocket {
        upgraded: true,
        ..new(7)
    }
}

/// What a server reads: opcodes and payloads of our frames.
fn unpacked(mut octets: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = octets {
        assert_eq!(first & !OPCODE, FIN);
        assert_ne!(second & MASKED, 0, "a client masks all it sends");
        let (length, rest) = match second & !MASKED {
            LENGTH_16 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            LENGTH_64 => {
                let length = u64::from_be_bytes(*rest.first_chunk().unwrap());
                (length as usize, &rest[8..])
            }
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let (payload, rest) = rest.split_at(length);
        let payload = payload.iter().enumerate().map(|(n, o)| o ^ mask[n % 4]);
        let payload = String::from_utf8(payload.collect()).unwrap();
        frames.push((first & OPCODE, payload));
        octets = rest;
    }
    assert!(octets.is_empty());
    frames
}

fn packed(items: &str) -> Vec<(u8, String)> {
    let mut out = Vec::new();
    upgraded().pack(items.as_bytes(), &mut out);
    unpacked(&out)
}

fn refusal(octets: &[u8]) -> Failure {
    let mut bytes = octets.to_vec();
    let news = new(3).receive(&mut bytes, 0, &mut Vec::new());
    news.expect_err("refused")
}

fn fault(octets: &[u8]) -> String {
    let news = upgraded().receive(&mut octets.to_vec(), 0, &mut Vec::new());
    news.expect_err("a fault").kind
}

#[test]
fn the_key_is_answered_as_in_the_rfc() {
    let accept = accepted("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let keys = [1, 2].map(|seed| new(seed).key());
    assert_ne!(keys[0], keys[1]);
    assert_eq!(STANDARD.decode(&keys[0]).unwrap().len(), 16);
}

#[test]
fn each_item_is_a_message_and_declares_its_namespace() {
    let open = open("example.org");
    let items = format!(
        "{open}<presence/><iq type='get' id='1'><q xmlns='a'/></iq><r xmlns='urn:xmpp:sm:3'/>\
         </stream:stream>"
    );
    let framing = "xmlns='urn:ietf:params:xml:ns:xmpp-framing'";
    let expected = [
        &open,
        "<presence xmlns='jabber:client'/>",
        "<iq xmlns='jabber:client' type='get' id='1'><q xmlns='a'/></iq>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        &format!("<close {framing}/>"),
    ];
    let packed = packed(&items);
    let texts: Vec<&str> = packed.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, expected);
    assert!(packed.iter().all(|(opcode, _)| *opcode == TEXT));
    assert!(matches!(next(open.as_bytes()), Item::Header(_)));
}

#[test]
fn white_space_becomes_a_ping() {
    assert_eq!(packed(" "), [(PING, String::new())]);
}

#[test]
fn lengths_around_their_bounds_are_written_and_read() {
    for length in [125, 126, 127, 65_535, 65_536, 70_001] {
        let open = "<a xmlns='b'>".len();
        let item = format!("<a xmlns='b'>{}</a>", "x".repeat(length - open - 4));
        assert_eq!(packed(&item), [(TEXT, item.clone())]);
        let mut bytes = from_server(FIN | TEXT, item.as_bytes());
        let news = upgraded().receive(&mut bytes, 0, &mut Vec::new());
        assert_eq!(news.unwrap(), News::None);
        assert_eq!(bytes, item.as_bytes());
    }
}

#[test]
fn a_mask_of_eight_is_a_mask_of_four() {
    for length in 0..40u8 {
        let clear: Vec<u8> = (0..length).collect();
        let mut masked = clear.clone();
        apply([1, 2, 4, 8], &mut masked);
        let expected = clear.iter().zip([1, 2, 4, 8].iter().cycle());
        let expected: Vec<u8> = expected.map(|(octet, mask)| octet ^ mask).collect();
        assert_eq!(masked, expected);
    }
}

/// All that a server may say, in two pieces cut at every octet, then octet by octet.
#[test]
fn it_reads_the_same_wherever_it_is_cut() {
    let mut wire = answer(7);
    let long = format!("<iq>{}</iq>", "y".repeat(200));
    wire.extend(from_server(FIN | TEXT, b"<open xmlns='f'/>"));
    wire.extend(from_server(FIN | PING, b"why"));
    wire.extend(from_server(TEXT, b"<mess"));
    wire.extend(from_server(FIN | PONG, b""));
    wire.extend(from_server(CONTINUATION, b""));
    wire.extend(from_server(FIN | CONTINUATION, b"age/>"));
    wire.extend(from_server(FIN | TEXT, long.as_bytes()));
    wire.extend(from_server(FIN | TEXT, b"<close xmlns='f'/>"));
    wire.extend(from_server(FIN | CLOSE, b"\x03\xe8bye"));
    let text = format!("<open xmlns='f'/><message/>{long}<close xmlns='f'/>");
    let octets: Vec<&[u8]> = wire.chunks(1).collect();
    let cuts = (0..wire.len()).map(|cut| {
        let (one, two) = wire.split_at(cut);
        vec![one, two]
    });
    for pieces in cuts.chain([octets]) {
        let mut link = new(7);
        // What was there before stays as it is.
        let mut bytes = b"kept".to_vec();
        let (mut out, mut upgrades, mut closed) = (Vec::new(), 0, None);
        for piece in pieces {
            let start = bytes.len();
            bytes.extend_from_slice(piece);
            match link.receive(&mut bytes, start, &mut out).unwrap() {
                News::None => {}
                News::Upgraded => upgrades += 1,
                News::Closed { code, reason } => closed = Some((code, reason)),
            }
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("kept{text}"));
        assert_eq!(unpacked(&out), [(PONG, "why".to_owned())]);
        assert_eq!(closed, Some((Some(1000), "bye".to_owned())));
        assert!(upgrades <= 1 && link.held.capacity() == 0);
    }
}

#[test]
fn a_whole_answer_is_news() {
    let mut bytes = answer(9);
    bytes.extend(from_server(FIN | TEXT, b"<a/>"));
    let news = new(9).receive(&mut bytes, 0, &mut Vec::new());
    assert_eq!(
        (news.unwrap(), bytes.as_slice()),
        (News::Upgraded, &b"<a/>"[..])
    );
}

#[test]
fn a_handshake_that_fails_says_why() {
    let refused = refusal(b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\nanother origin");
    assert_eq!(refused.kind, "WebSocket refused: HTTP 403");
    assert_eq!(refused.detail, "HTTP/1.1 403 Forbidden: another origin");
    assert!(!refused.is_passing());
    assert!(refusal(b"HTTP/1.1 503 Later\r\n\r\n").is_passing());
    let other = refusal(b"<?xml version='1.0'?>");
    assert_eq!(other.kind, "the server sent no HTTP");
    assert_eq!(
        refusal(&answer(4)).kind,
        "WebSocket: wrong Sec-WebSocket-Accept"
    );
    let without = String::from_utf8(answer(3)).unwrap();
    let without = without.replace("Sec-WebSocket-Protocol: xmpp\r\n", "");
    assert!(
        refusal(without.as_bytes())
            .kind
            .ends_with("subprotocol xmpp")
    );
    let endless = [
        b"HTTP/1.1 101 Yes\r\n".as_slice(),
        &[b'a'; ANSWER_OCTETS_MAX],
    ]
    .concat();
    assert_eq!(refusal(&endless).kind, "WebSocket: endless answer");
}

#[test]
fn frames_that_no_server_may_send_are_told() {
    for (octets, said) in [
        (&[0xc1, 0][..], "a reserved bit"),
        (&[0x81, 0x80], "a masked frame"),
        (&[0x82, 0], "binary data"),
        (&[0x83, 0], "a reserved opcode"),
        (&[0x8b, 0], "a reserved opcode"),
        (&[0x80, 0], "a continuation of nothing"),
        (&[0x01, 0, 0x81, 0], "a message within a message"),
        (&[0x89, 126], "a long or cut control frame"),
        (&[0x09, 0], "a long or cut control frame"),
    ] {
        assert_eq!(fault(octets), format!("WebSocket: the server sent {said}"));
    }
}

/// Also where a message is in fragments, or empty.
#[test]
fn a_message_of_json_is_a_line_wherever_it_is_cut() {
    let mut wire = Vec::new();
    wire.extend(from_server(FIN | TEXT, b"{1}"));
    wire.extend(from_server(TEXT, b"{"));
    wire.extend(from_server(FIN | PING, b"why"));
    wire.extend(from_server(FIN | CONTINUATION, b"2}"));
    wire.extend(from_server(FIN | TEXT, b""));
    wire.extend(from_server(FIN | TEXT, b"{3}"));
    let octets: Vec<&[u8]> = wire.chunks(1).collect();
    let cuts = (0..=wire.len()).map(|cut| {
        let (one, two) = wire.split_at(cut);
        vec![one, two]
    });
    for pieces in cuts.chain([octets]) {
        let mut link = WebSocket {
            upgraded: true,
            ..WebSocket::new(Subprotocol::Encke, 7)
        };
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            let start = bytes.len();
            bytes.extend_from_slice(piece);
            link.receive(&mut bytes, start, &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), "{1}\n{2}\n\n{3}\n");
    }
}
