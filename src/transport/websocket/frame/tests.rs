use proptest::prelude::*;

use super::*;
use crate::transport::websocket::encode;

const BOUNDS: Bounds = Bounds {
    message_octets_max: 70_000,
    fragments_max: 8,
};

/// What came of octets: messages with their kind, and control frames.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

type Outcome = (Vec<Event>, Option<Refusal>);

/// Feeds pieces as a link would: what is not taken stays, in front of the next piece.
fn feed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, bounds: &Bounds) -> Outcome {
    let mut decoder = Decoder::new();
    let mut unread = Vec::new();
    let mut message = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let (taken, step) = match decoder.next(&unread, &mut message, bounds) {
                Ok(progress) => progress,
                Err(refusal) => return (events, Some(refusal)),
            };
            assert!(message.len() <= bounds.message_octets_max);
            unread.drain(..taken);
            events.push(match step {
                Step::Incomplete => {
                    assert!(unread.len() < UNREAD_OCTETS_MAX, "{}", unread.len());
                    break;
                }
                Step::Message(kind) => {
                    assert!(decoder.is_idle());
                    let payload = std::mem::take(&mut message);
                    match kind {
                        Kind::Text => Event::Text(String::from_utf8(payload).unwrap()),
                        Kind::Binary => Event::Binary(payload),
                    }
                }
                Step::Ping(payload) => Event::Ping(payload.as_slice().to_vec()),
                Step::Pong(payload) => Event::Pong(payload.as_slice().to_vec()),
                Step::Close(code) => {
                    events.push(Event::Close(code.map(Code::as_u16)));
                    return (events, None);
                }
            });
            if decoder.is_idle() {
                decoder = Decoder::new();
            }
        }
    }
    (events, None)
}

/// The outcome, which is the same wherever the octets are cut.
fn outcome(octets: &[u8]) -> Outcome {
    let whole = feed([octets], &BOUNDS);
    assert_eq!(feed(octets.chunks(1), &BOUNDS), whole, "octet by octet");
    // The middle of a long payload is like any other octet of it.
    let cuts = (0..octets.len()).filter(|cut| *cut < 400 || cut + 400 > octets.len());
    for cut in cuts {
        let (head, tail) = octets.split_at(cut);
        assert_eq!(feed([head, tail], &BOUNDS), whole, "cut at octet {cut}");
    }
    whole
}

const FINAL: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client frame, in the shortest form.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let head = encode::Head::new(Opcode::Text, payload.len());
    let mut octets = head.as_slice().to_vec();
    octets[0] = first;
    octets[1] |= 0x80;
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    octets.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    octets.extend(masked.map(|(octet, mask)| octet ^ mask));
    octets
}

fn text(payload: &str) -> Event {
    Event::Text(payload.to_owned())
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    let payload = [&code.to_be_bytes()[..], reason].concat();
    frame(FINAL | CLOSE, payload)
}

/// What is refused after these events.
fn check(name: &str, frames: &[Vec<u8>], events: &[Event], refusal: Option<Refusal>) {
    let octets = frames.concat();
    assert_eq!(outcome(&octets), (events.to_vec(), refusal), "{name}");
}

/// Section 5.7.
#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(outcome(hello), (vec![text("Hello")], None));
    let unmasked = b"\x81\x05\x48\x65\x6c\x6c\x6f";
    assert_eq!(outcome(unmasked), (vec![], Some(Refusal::Unmasked)));
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(outcome(pong), (vec![Event::Pong(b"Hello".to_vec())], None));
}

/// Autobahn 1: messages of all lengths at which the head changes.
#[test]
fn framing() {
    for octets in [0, 1, 125, 126, 127, 128, 0xffff, 0x1_0000] {
        let payload: Vec<u8> = (b'!'..=b'~').cycle().take(octets).collect();
        let as_text = Event::Text(String::from_utf8(payload.clone()).unwrap());
        let frames = [frame(FINAL | TEXT, &payload)];
        check("text", &frames, &[as_text], None);
        let payload: Vec<u8> = (0..=255).cycle().take(octets).collect();
        let frames = [frame(FINAL | BINARY, &payload)];
        check("binary", &frames, &[Event::Binary(payload)], None);
    }
}

/// Section 5.2: the least octets, no top bit.
#[test]
fn lengths_have_one_form() {
    let head = |length: &[u8]| [&[FINAL | BINARY], length, &[0; 4][..]].concat();
    let cases: [(&[u8], Option<Refusal>); 9] = [
        (&[0xfe, 0, 0], Some(Refusal::Length)),
        (&[0xfe, 0, 125], Some(Refusal::Length)),
        (&[0xfe, 0, 126], None),
        (&[0xff, 0, 0, 0, 0, 0, 0, 0, 5], Some(Refusal::Length)),
        (&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Some(Refusal::Length)),
        (&[0xff, 0, 0, 0, 0, 0, 1, 0, 0], None),
        (&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(Refusal::Length)),
        (&[0xff; 9], Some(Refusal::Length)),
        (
            &[0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            Some(Refusal::TooLarge),
        ),
    ];
    for (length, refusal) in cases {
        assert_eq!(outcome(&head(length)), (vec![], refusal), "{length:x?}");
    }
}

/// Autobahn 2.
#[test]
fn pings_and_pongs() {
    let ping = |payload: &[u8]| Event::Ping(payload.to_vec());
    let cases: [&[u8]; 4] = [b"", b"Hello, world!", b"\x00\xff\xfe\xfd", &[0xfe; 125]];
    for payload in cases {
        check(
            "2.1-2.4",
            &[frame(FINAL | PING, payload)],
            &[ping(payload)],
            None,
        );
    }
    let long = [frame(FINAL | PING, [0xfe; 126])];
    check("2.5", &long, &[], Some(Refusal::LongControl));
    check(
        "2.7",
        &[frame(FINAL | PONG, "")],
        &[Event::Pong(vec![])],
        None,
    );
    let frames = [frame(FINAL | PONG, "unasked"), frame(FINAL | PING, "x")];
    let events = [Event::Pong(b"unasked".to_vec()), ping(b"x")];
    check("2.9", &frames, &events, None);
    let frames: Vec<_> = (0..10_u8).map(|n| frame(FINAL | PING, [n])).collect();
    let events: Vec<_> = (0..10_u8).map(|n| ping(&[n])).collect();
    check("2.10", &frames, &events, None);
}

/// Autobahn 3.
#[test]
fn reserved_bits() {
    let hello = frame(FINAL | TEXT, "Hello");
    for bits in 1..=7_u8 {
        for opcode in [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG] {
            let bad = frame(FINAL | bits << 4 | opcode, "x");
            let after = frame(FINAL | PING, "");
            let refusal = Some(Refusal::ReservedBits);
            check(
                "3.x",
                &[hello.clone(), bad, after],
                &[text("Hello")],
                refusal,
            );
        }
    }
}

/// Autobahn 4.
#[test]
fn reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in ["", "reserved"] {
            for fin in [0, FINAL] {
                let frames = [frame(FINAL | TEXT, "Hello"), frame(fin | opcode, payload)];
                let refusal = Some(Refusal::ReservedOpcode);
                check("4.x", &frames, &[text("Hello")], refusal);
            }
        }
    }
}

/// Autobahn 5.
#[test]
fn fragments() {
    let ping = Event::Ping(b"ping".to_vec());
    let whole = text("fragment1fragment2");
    let one = || frame(TEXT, "fragment1");
    let two = || frame(FINAL | CONTINUATION, "fragment2");
    let more = |payload: &str| frame(CONTINUATION, payload);
    let asked = || frame(FINAL | PING, "ping");
    let control = Some(Refusal::FragmentedControl);
    check("5.1", &[frame(PING, "a"), frame(FINAL, "b")], &[], control);
    check("5.2", &[frame(PONG, "a"), frame(FINAL, "b")], &[], control);
    check("close", &[frame(CLOSE, "")], &[], control);
    check(
        "5.3-5.5",
        &[one(), two()],
        std::slice::from_ref(&whole),
        None,
    );
    let frames = [one(), asked(), two()];
    check("5.6-5.8", &frames, &[ping.clone(), whole.clone()], None);
    let orphan = Some(Refusal::NothingToContinue);
    for fin in [0, FINAL] {
        let frames = [frame(fin, "no start"), frame(FINAL | TEXT, "Hello")];
        check("5.9-5.14", &frames, &[], orphan);
    }
    let inside = Some(Refusal::Interrupted);
    check(
        "5.15",
        &[one(), two(), frame(0, "3"), frame(FINAL | TEXT, "4")],
        &[whole],
        orphan,
    );
    for opcode in [TEXT, BINARY, FINAL | TEXT, FINAL | BINARY] {
        check("5.18", &[one(), frame(opcode, "fragment2")], &[], inside);
        check(
            "after a ping",
            &[one(), asked(), frame(opcode, "")],
            std::slice::from_ref(&ping),
            inside,
        );
    }
    let frames = [
        one(),
        more("2"),
        asked(),
        more("3"),
        more("4"),
        asked(),
        frame(FINAL, "5"),
    ];
    let events = [ping.clone(), ping, text("fragment12345")];
    check("5.19-5.20", &frames, &events, None);
    let frames = [frame(TEXT, ""), more(""), frame(FINAL, "")];
    check("6.1.2", &frames, &[text("")], None);
    let frames = [frame(BINARY, [0xff]), frame(FINAL, [0xfe])];
    check("binary", &frames, &[Event::Binary(vec![0xff, 0xfe])], None);
    let frames = [frame(TEXT, ""), more("mid"), frame(FINAL, "")];
    check("6.1.3", &frames, &[text("mid")], None);
    let frames = [one(), frame(FINAL | CLOSE, ""), two()];
    check("close inside", &frames, &[Event::Close(None)], None);
}

/// SECURITY class 42: whatever the peer goes on sending, it costs no more than the bounds.
#[test]
fn bounds_hold_over_fragments() {
    let large = Some(Refusal::TooLarge);
    let octets = BOUNDS.message_octets_max;
    let half = frame(BINARY, vec![1; octets / 2]);
    let rest = frame(FINAL, vec![2; octets - octets / 2]);
    let (events, refusal) = outcome(&[half.clone(), rest].concat());
    assert_eq!((events.len(), refusal), (1, None), "just so much");
    let rest = frame(CONTINUATION, vec![2; octets - octets / 2 + 1]);
    // The head alone tells: neither mask nor payload is there.
    let told = half.len() + 4;
    let octets = [half, rest].concat();
    assert_eq!(feed([&octets[..told]], &BOUNDS), (vec![], large));
    check("over fragments", &[octets], &[], large);
    check(
        "at once",
        &[frame(FINAL | TEXT, "a".repeat(70_001))],
        &[],
        large,
    );

    let many = Some(Refusal::TooManyFragments);
    let eight = |last: u8| {
        let mut frames = vec![frame(TEXT, "")];
        frames.extend((0..6).map(|_| frame(CONTINUATION, "")));
        frames.push(frame(last, "x"));
        frames
    };
    check("just so many", &eight(FINAL), &[text("x")], None);
    let mut frames = eight(CONTINUATION);
    frames.push(frame(FINAL, ""));
    check("endless", &frames, &[], many);
}

/// Autobahn 6: text is UTF-8 as a whole, and refused as soon as it cannot become so.
#[test]
fn text_is_utf8() {
    let greeting = "κόσμε Hello-µ@ßöäüàá-UTF-8!! 😀\u{10ffff}\u{ffff}\u{0}";
    for cut in 0..=greeting.len() {
        let (a, b) = greeting.as_bytes().split_at(cut);
        let frames = [
            frame(TEXT, a),
            frame(FINAL | PING, "\u{fe}"),
            frame(FINAL, b),
        ];
        let events = [Event::Ping("\u{fe}".into()), text(greeting)];
        check("6.2", &frames, &events, None);
    }
    let octets: Vec<_> = greeting.as_bytes().iter().take(8).collect();
    let mut frames: Vec<_> = octets.iter().map(|o| frame(CONTINUATION, [**o])).collect();
    frames[0][0] = TEXT;
    frames[7][0] = FINAL;
    check("6.2.4", &frames, &[text(&greeting[..8])], None);
    let wrong: [&[u8]; 20] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"ok\xe2\x82",
        b"ok\xf0\x9f\x98",
        b"ok\xc3",
    ];
    let refusal = Some(Refusal::NotUtf8);
    for payload in wrong {
        check("6.3-6.21", &[frame(FINAL | TEXT, payload)], &[], refusal);
        let frames = [frame(TEXT, payload), frame(FINAL, "")];
        check("in fragments", &frames, &[], refusal);
        let (a, b) = payload.split_at(payload.len() / 2);
        let frames = [frame(TEXT, a), frame(FINAL, b)];
        check("cut", &frames, &[], refusal);
    }
}

/// Autobahn 6.4: nobody waits for the end of what is wrong already.
#[test]
fn wrong_text_is_refused_before_its_end() {
    let endless = [frame(TEXT, b"\xf4\x90"), frame(CONTINUATION, "")].concat();
    let head = 6;
    assert_eq!(feed([&endless[..head + 1]], &BOUNDS).1, None);
    assert_eq!(
        feed([&endless[..head + 2]], &BOUNDS).1,
        Some(Refusal::NotUtf8)
    );
}

/// Autobahn 7.
#[test]
fn closing() {
    let last = |code| [Event::Close(code)];
    check("7.1.1", &[frame(FINAL | CLOSE, "")], &last(None), None);
    let frames = [
        close(1000, b""),
        frame(FINAL | TEXT, "late"),
        frame(FINAL | PING, ""),
    ];
    check("7.1.2-7.1.6", &frames, &last(Some(1000)), None);
    check(
        "7.3.2",
        &[frame(FINAL | CLOSE, "a")],
        &[],
        Some(Refusal::CloseCode),
    );
    check(
        "7.3.4",
        &[close(1000, b"Hello World!")],
        &last(Some(1000)),
        None,
    );
    check(
        "7.3.5",
        &[close(1000, &[b'*'; 123])],
        &last(Some(1000)),
        None,
    );
    check(
        "7.3.6",
        &[close(1000, &[b'*'; 124])],
        &[],
        Some(Refusal::LongControl),
    );
    check(
        "7.5.1",
        &[close(1000, b"\xce\xba\xed\xa0\x80")],
        &[],
        Some(Refusal::NotUtf8),
    );
    check(
        "cut reason",
        &[close(1000, b"\xce")],
        &[],
        Some(Refusal::NotUtf8),
    );
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    ] {
        check("7.7", &[close(code, b"")], &last(Some(code)), None);
    }
    for code in [3000, 3999, 4000, 4999] {
        check("7.7", &[close(code, b"")], &last(Some(code)), None);
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 0xffff,
    ] {
        check("7.9", &[close(code, b"")], &[], Some(Refusal::CloseCode));
    }
}

#[test]
fn every_refusal_has_its_code() {
    for (refusal, code) in [
        (Refusal::Unmasked, 1002),
        (Refusal::Length, 1002),
        (Refusal::NotUtf8, 1007),
        (Refusal::TooManyFragments, 1008),
        (Refusal::TooLarge, 1009),
    ] {
        assert_eq!(refusal.code().as_u16(), code);
    }
}

#[test]
fn the_wide_mask_is_the_narrow_one() {
    for length in 0..40_usize {
        for cut in 0..=length {
            let mut octets: Vec<u8> = (0..length as u8).collect();
            let key = [0x12, 0x34, 0x56, 0x78];
            let mut mask = key;
            unmask(&mut octets[..cut], &mut mask);
            unmask(&mut octets[cut..], &mut mask);
            let narrow = (0..length as u8).zip(key.iter().cycle());
            let narrow: Vec<u8> = narrow.map(|(octet, mask)| octet ^ mask).collect();
            assert_eq!(octets, narrow, "{length} {cut}");
        }
    }
}

/// A message and where it is cut into frames.
fn messages() -> impl Strategy<Value = Vec<(Result<String, Vec<u8>>, Vec<usize>, [u8; 4])>> {
    let payload = prop_oneof![
        "\\PC{0,300}".prop_map(Ok),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Err),
    ];
    let cuts = proptest::collection::vec(0..300_usize, 0..5);
    proptest::collection::vec((payload, cuts, any::<[u8; 4]>()), 0..5)
}

proptest! {
    /// What a client writes is read, in whatever pieces it comes.
    #[test]
    fn messages_survive_frames_and_cuts(messages in messages(), piece in 1..200_usize) {
        let mut octets = Vec::new();
        let mut expected = Vec::new();
        for (payload, mut cuts, mask) in messages {
            let (kind, bytes, event) = match &payload {
                Ok(payload) => (TEXT, payload.as_bytes(), text(payload)),
                Err(payload) => (BINARY, &payload[..], Event::Binary(payload.clone())),
            };
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut from, mut first) = (0, kind);
            for cut in cuts.into_iter().filter(|cut| *cut <= bytes.len()) {
                let fin = if cut == bytes.len() { FINAL } else { 0 };
                let at = octets.len();
                octets.extend(frame(fin | first, &bytes[from..cut]));
                remask(&mut octets[at..], cut - from, mask);
                (from, first) = (cut, CONTINUATION);
                if fin != 0 {
                    break;
                }
            }
            expected.push(event);
        }
        prop_assert_eq!(feed(octets.chunks(piece), &BOUNDS), (expected, None));
    }

    /// What the server writes is a frame, but for the mask, that a client may send back.
    #[test]
    fn what_we_write_could_be_read(payload in "\\PC{0,2000}") {
        let mut out = Vec::new();
        encode::write_text(&mut out, &payload);
        let head = out.len() - payload.len();
        out[1] |= 0x80;
        out.splice(head..head, [0; 4]);
        let bounds = Bounds { message_octets_max: usize::MAX, fragments_max: 1 };
        prop_assert_eq!(feed([&out[..]], &bounds), (vec![text(&payload)], None));
    }

    #[test]
    fn anything_at_all_has_one_outcome(octets: Vec<u8>, piece in 1..9_usize) {
        prop_assert_eq!(feed(octets.chunks(piece), &BOUNDS), feed([&octets[..]], &BOUNDS));
    }
}

/// Another key for a frame of [`frame`].
fn remask(frame: &mut [u8], payload_octets: usize, key: [u8; 4]) {
    let mask_at = frame.len() - payload_octets - 4;
    let (mask, payload) = frame[mask_at..].split_at_mut(4);
    for (at, octet) in payload.iter_mut().enumerate() {
        *octet ^= mask[at % 4] ^ key[at % 4];
    }
    mask.copy_from_slice(&key);
}
