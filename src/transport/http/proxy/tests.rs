//! Both versions, in any pieces.

use proptest::prelude::*;

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the whole octets give; any shorter part of an accepted header must be incomplete, and a
/// refusal must stay what it is once it is there.
fn look(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let trusted = Networks::new(["127.0.0.1"]).unwrap();
    let whole = parse(bytes, PEER, &trusted);
    for cut in 0..bytes.len() {
        let part = parse(&bytes[..cut], PEER, &trusted);
        assert!(
            part == Ok(Progress::Incomplete) || part == whole,
            "cut at octet {cut}: {part:?} and {whole:?}"
        );
    }
    whole
}

fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, content].concat()
}

fn told(bytes: &[u8]) -> (Option<String>, bool) {
    let followed = [bytes, b"GET / HTTP/1.1\r\n"].concat();
    match look(&followed) {
        Ok(Progress::Complete(octets, origin)) => {
            assert_eq!(octets, bytes.len());
            (origin.address.map(|a| a.to_string()), origin.is_secured)
        }
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[test]
fn lines_are_read() {
    for (line, address) in [
        (
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
            Some("192.0.2.1:56324"),
        ),
        ("PROXY TCP4 0.0.0.0 10.0.0.1 0 65535\r\n", Some("0.0.0.0:0")),
        (
            "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
            Some("[2001:db8::1]:1"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            Some("192.0.2.1:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN what ever it says\r\n", None),
    ] {
        assert_eq!(
            told(line.as_bytes()),
            (address.map(String::from), false),
            "{line}"
        );
    }
}

#[test]
fn other_lines_are_refused() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY\r\n",
        "PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\r\n",
        "\r\n\r\n\0\r\nQUIT\r",
        "\r\n\r\nGET",
    ] {
        assert_eq!(
            look(line.as_bytes()),
            Err(ProxyError::Malformed),
            "{line:?}"
        );
    }
    let long = |octets: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(octets - 16));
    assert!(matches!(
        look(long(107).as_bytes()),
        Ok(Progress::Complete(107, _))
    ));
    assert_eq!(look(long(108).as_bytes()), Err(ProxyError::TooLong));
    assert_eq!(look(&long(108).as_bytes()[..107]), Err(ProxyError::TooLong));
}

#[test]
fn binary_headers_are_read() {
    let four = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 187];
    let mut six = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    six.extend([0; 15]);
    six.extend([1, 0, 1, 0, 2]);
    let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let plain = [0x20, 0, 5, 0, 0, 0, 0, 0];
    let alpn = [1, 0, 2, b'h', b'2'];
    let address = Some("192.0.2.1:56324".to_owned());
    for (command, family, content, expected) in [
        (PROXY, TCP4, four.to_vec(), (address.clone(), false)),
        (
            PROXY,
            TCP4,
            [&four[..], &alpn, &tls].concat(),
            (address.clone(), true),
        ),
        (PROXY, TCP4, [&four[..], &plain].concat(), (address, false)),
        (
            PROXY,
            TCP6,
            six,
            (Some("[2001:db8::1]:1".to_owned()), false),
        ),
        (
            PROXY,
            UNIX_STREAM,
            [&[0; 216][..], &tls].concat(),
            (None, true),
        ),
        (PROXY, UNSPECIFIED, vec![1, 2, 3], (None, false)),
        (LOCAL, UNSPECIFIED, vec![], (None, false)),
        (LOCAL, TCP4, vec![1], (None, false)),
    ] {
        assert_eq!(told(&binary(command, family, &content)), expected);
    }
}

#[test]
fn other_binary_headers_are_refused() {
    let four = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 187];
    let with = |more: &[u8]| [&four[..], more].concat();
    for (command, family, content) in [
        (0x11, TCP4, four.to_vec()),
        (0x31, TCP4, four.to_vec()),
        (0x22, TCP4, four.to_vec()),
        (PROXY, 0x12, four.to_vec()),
        (PROXY, 0x41, four.to_vec()),
        (PROXY, TCP4, four[..11].to_vec()),
        (PROXY, TCP6, vec![0; 35]),
        (PROXY, UNIX_STREAM, vec![0; 215]),
        (PROXY, TCP4, with(&[1])),
        (PROXY, TCP4, with(&[1, 0])),
        (PROXY, TCP4, with(&[1, 0, 2, 0])),
        (PROXY, TCP4, with(&[0x20, 0, 0])),
    ] {
        let header = binary(command, family, &content);
        assert_eq!(
            look(&header),
            Err(ProxyError::Malformed),
            "{}",
            header.escape_ascii()
        );
    }
    let long = binary(LOCAL, UNSPECIFIED, &[0; 521]);
    assert_eq!(look(&long), Err(ProxyError::TooLong));
    assert!(matches!(
        look(&binary(LOCAL, UNSPECIFIED, &[0; 520])),
        Ok(Progress::Complete(536, _))
    ));
}

#[test]
fn a_stranger_is_not_heard() {
    let trusted = Networks::new(["10.0.0.0/8"]).unwrap();
    for bytes in [&b""[..], b"PROXY UNKNOWN\r\n", b"GET"] {
        assert_eq!(parse(bytes, PEER, &trusted), Err(ProxyError::Untrusted));
    }
}

proptest! {
    #[test]
    fn no_octets_panic(
        family in any::<u8>(),
        content in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = look(&binary(PROXY, family, &content));
        let _ = look(&[LINE_START, &content].concat());
    }
}
