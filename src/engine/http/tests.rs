//! Requests against the whole engine, cut at every octet.

use std::time::Duration;

use crate::base::limits::Limits;
use crate::engine::Entry;
use crate::testing::{Plan, WireId, World};

/// Peers that pipeline, do not read, or never stop.
mod hostile;
/// The less usual requests.
mod manners;
/// Sessions of the JSON protocol.
mod session;

fn world() -> World {
    World::new(Plan {
        entry: Entry::Http,
        accounts: vec!["romeo@localhost".into(), "juliet@localhost".into()],
        ..Plan::default()
    })
}

/// What the server answers to these octets on one link, and whether it closes it.
fn ask(octets: &str) -> (String, bool) {
    let mut world = world();
    let wire = world.connect();
    world.write(wire, octets.as_bytes());
    world.settle();
    let whole = read(&mut world, wire);
    let closed = world.is_closed(wire);
    for cut in 1..octets.len() {
        let wire = world.connect();
        for piece in [&octets[..cut], &octets[cut..]] {
            world.write(wire, piece.as_bytes());
            world.settle();
        }
        assert_eq!(read(&mut world, wire), whole, "cut at {cut}");
        assert_eq!(world.is_closed(wire), closed, "cut at {cut}");
    }
    (whole, closed)
}

fn read(world: &mut World, wire: WireId) -> String {
    String::from_utf8(world.read(wire)).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:5280\r\n\r\n")
}

fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[test]
fn requests_of_one_link_are_answered_in_order() {
    let (answers, closed) = ask(&(get("/healthz") + &get("/nowhere") + &get("/readyz")));
    let statuses: Vec<&str> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| status_of(&answers[at..]))
        .collect();
    assert_eq!(statuses, ["200", "404", "200"]);
    assert!(answers.ends_with("ready\n"), "{answers}");
    assert!(!closed);
}

#[test]
fn what_a_client_asks_for_last_ends_the_link() {
    let (answer, closed) =
        ask("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /readyz");
    assert_eq!((status_of(&answer), closed), ("200", true));
    assert!(
        answer.ends_with("ok\n"),
        "nothing more is answered: {answer}"
    );
    let (answer, closed) = ask("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!((status_of(&answer), closed), ("200", true));
}

#[test]
fn only_the_methods_of_a_path_are_served() {
    let (answer, closed) = ask("DELETE /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((status_of(&answer), closed), ("405", false));
    assert!(answer.contains("Allow: GET, HEAD\r\n"), "{answer}");
    let (answer, _) = ask("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"));
}

/// A body that nobody wants is read and forgotten, or the next request would be made of it.
#[test]
fn a_body_belongs_to_its_request() {
    let inner = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    let sized = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
        inner.len()
    );
    let chunked = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    );
    for request in [sized, chunked] {
        let (answer, closed) = ask(&(request + &get("/nowhere")));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
        assert!(answer.contains("ok\n") && !answer.contains("ready"));
        assert!(!closed);
    }
}

/// SECURITY class 45: what two parties could read in two ways is read by nobody.
#[test]
fn ambiguous_requests_are_refused_and_the_link_is_closed() {
    let heads = [
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: +5",
        "Content-Length : 5",
        "X: a\r\n folded",
    ];
    for head in heads {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
        let (answer, closed) = ask(&(request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((status_of(&answer), closed), ("400", true), "{head}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
    }
}

/// SECURITY class 46.
#[test]
fn who_is_slow_is_told_so_and_who_says_nothing_is_closed() {
    let mut world = world();
    let (slow, mute) = (world.connect(), world.connect());
    world.write(slow, b"GET / HT");
    world.settle();
    world.advance(Duration::from_secs(25));
    let answer = read(&mut world, slow);
    assert_eq!((status_of(&answer), world.is_closed(slow)), ("408", true));
    assert_eq!(read(&mut world, mute), "");
    assert!(world.is_closed(mute));
    // Between requests there is more time.
    let idle = world.connect();
    world.write(idle, get("/healthz").as_bytes());
    world.settle();
    world.advance(Duration::from_secs(50));
    assert!(!world.is_closed(idle));
    world.advance(Duration::from_secs(30));
    assert!(world.is_closed(idle));
}

#[test]
fn a_long_head_and_a_long_body_are_refused() {
    let mut world = World::new(Plan {
        entry: Entry::Http,
        limits: Limits {
            http_head_octets_max: 1_024,
            ..Limits::default()
        },
        ..Plan::default()
    });
    let cases = [
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(2_000)), "414"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(2_000)),
            "431",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n".into(),
            "413",
        ),
    ];
    for (request, status) in cases {
        let wire = world.connect();
        world.write(wire, request.as_bytes());
        world.settle();
        let answer = read(&mut world, wire);
        assert_eq!((status_of(&answer), world.is_closed(wire)), (status, true));
    }
}

#[test]
fn host_meta_says_how_this_host_is_reached() {
    let (answer, _) = ask(&get("/.well-known/host-meta"));
    assert!(
        answer.contains("Access-Control-Allow-Origin: *\r\n"),
        "{answer}"
    );
    let link = "<Link rel='urn:xmpp:alt-connections:websocket' href='ws://localhost:5280/ws'/>";
    assert!(answer.contains(link), "{answer}");
    let (answer, _) = ask(&get("/.well-known/host-meta.json"));
    let link =
        "{\"rel\":\"urn:xmpp:alt-connections:websocket\",\"href\":\"ws://localhost:5280/ws\"}";
    assert!(answer.contains(link), "{answer}");
}

fn handshake(more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

const XMPP: &str = "Sec-WebSocket-Protocol: xmpp\r\n";

#[test]
fn a_handshake_is_taken_or_told_what_it_lacks() {
    let (answer, closed) = ask(&handshake(XMPP));
    assert_eq!((status_of(&answer), closed), ("101", false));
    let accepted = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert!(answer.contains(accepted), "{answer}");
    let own = format!("{XMPP}Origin: http://chat.example\r\n");
    assert_eq!(status_of(&ask(&handshake(&own)).0), "101");
    let foreign = format!("{XMPP}Origin: http://evil.example\r\n");
    let refused = [
        (handshake(&foreign), "403"),
        (handshake(""), "400"),
        (handshake(XMPP).replace("Version: 13", "Version: 8"), "426"),
        (handshake(XMPP).replace("Upgrade: websocket\r\n", ""), "400"),
        (handshake(XMPP).replace("GET", "POST"), "405"),
        (handshake(XMPP).replace("HTTP/1.1", "HTTP/1.0"), "400"),
    ];
    for (request, status) in refused {
        let (answer, _) = ask(&request);
        assert_eq!(status_of(&answer), status, "{request}");
    }
}

/// RFC 6455 section 5.5: a ping is answered between messages, a close by a close.
#[test]
fn control_frames_are_answered() {
    let mut world = world();
    let wire = world.connect();
    world.write(wire, handshake(XMPP).as_bytes());
    world.settle();
    read(&mut world, wire);
    world.write(wire, b"\x89\x82\0\0\0\0hi\x8a\x80\0\0\0\0");
    world.settle();
    assert_eq!(world.read(wire), b"\x8a\x02hi");
    world.write(wire, b"\x88\x82\0\0\0\0\x03\xe8");
    world.settle();
    assert_eq!(world.read(wire), b"\x88\x02\x03\xe8");
    assert!(world.is_closed(wire));
}

/// SECURITY class 42: the right code, and the socket is closed.
#[test]
fn broken_frames_end_the_socket_with_their_code() {
    let cases: [(&[u8], u16); 6] = [
        (b"\x81\x02hi", 1002),
        (b"\xc1\x82\0\0\0\0hi", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x82\x82\0\0\0\0hi", 1003),
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
        (b"\x81\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 1009),
    ];
    for (frames, code) in cases {
        let mut world = world();
        let wire = world.connect();
        world.write(wire, handshake(XMPP).as_bytes());
        world.settle();
        read(&mut world, wire);
        world.write(wire, frames);
        world.settle();
        let answer = world.read(wire);
        assert_eq!(answer.first(), Some(&0x88), "{frames:x?}: {answer:x?}");
        assert_eq!(
            answer.get(2..4),
            Some(&code.to_be_bytes()[..]),
            "{frames:x?}"
        );
        assert!(world.is_closed(wire));
    }
}
