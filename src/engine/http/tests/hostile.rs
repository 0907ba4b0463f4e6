//! Over HTTP, and what begins as HTTP.

use std::fmt::Write as _;
use std::time::Duration;

use crate::engine::Entry;
use crate::testing::{Plan, WireId, World};

fn world() -> World {
    World::new(Plan {
        entry: Entry::Http,
        accounts: vec!["romeo@localhost".into(), "juliet@localhost".into()],
        ..Plan::default()
    })
}

fn read(world: &mut World, wire: WireId) -> String {
    world.settle();
    String::from_utf8(world.read(wire)).unwrap()
}

/// A request of BOSH. `sid` is empty in the first one of a session.
fn post(sid: &str, rid: u64, more: &str, content: &str) -> String {
    let mut body = format!("<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' {more}");
    if !sid.is_empty() {
        write!(body, " sid='{sid}'").unwrap();
    }
    write!(body, ">{content}</body>").unwrap();
    let head = "POST /http-bind HTTP/1.1\r\nHost: localhost";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const BEGIN: &str = "to='localhost' ver='1.6' wait='5' hold='1'";

/// Begins a session with the request 10 on a wire, which is free again then.
fn begin(world: &mut World, wire: WireId) -> String {
    world.write(wire, post("", 10, BEGIN, "").as_bytes());
    let answer = read(world, wire);
    let sid = answer.split_once(" sid='").expect(&answer).1;
    sid.split_once('\'').unwrap().0.to_owned()
}

/// The answer to a request that waits sets the next one of its link free, which may be for the same
/// session.
#[test]
fn a_request_behind_one_that_waits_is_taken_when_that_is_answered() {
    let mut world = world();
    let wire = world.connect();
    let sid = begin(&mut world, wire);
    let pipeline = post(&sid, 11, "", "") + &post(&sid, 12, "", "");
    world.write(wire, pipeline.as_bytes());
    assert_eq!(read(&mut world, wire), "");
    world.advance(Duration::from_secs(6));
    let answer = read(&mut world, wire);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(!answer.contains("terminate"), "{answer}");
    world.advance(Duration::from_secs(6));
    let answer = read(&mut world, wire);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(!answer.contains("terminate"), "{answer}");
}

/// Each answer sets a request free that leads to the next answer: one after the other, not one
/// inside the other, or the stack would end.
#[test]
fn a_chain_of_answers_does_not_deepen() {
    let mut world = world();
    let chain: Vec<(WireId, String)> = (0..1_500)
        .map(|_| {
            let wire = world.connect();
            let sid = begin(&mut world, wire);
            (wire, sid)
        })
        .collect();
    for (number, (wire, sid)) in chain.iter().enumerate() {
        let mut requests = post(sid, 11, "", "");
        if let Some((_, next)) = chain.get(number + 1) {
            requests += &post(next, 12, "", "<x xmlns='urn:x'/>");
        }
        world.write(*wire, requests.as_bytes());
    }
    world.settle();
    let (first, last) = (&chain[0], chain.last().unwrap());
    let wire = world.connect();
    world.write(
        wire,
        post(&first.1, 12, "", "<x xmlns='urn:x'/>").as_bytes(),
    );
    let answer = read(&mut world, last.0);
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
}

fn websocket(world: &mut World) -> WireId {
    let wire = world.connect();
    let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n";
    world.write(wire, handshake.as_bytes());
    assert!(read(world, wire).starts_with("HTTP/1.1 101"));
    wire
}

/// A message of less than 64 KiB, masked with nothing.
fn say(world: &mut World, wire: WireId, text: &str) {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    world.write(wire, &frame);
    world.settle();
}

const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' \
    version='1.0'/>";

fn bind(world: &mut World, wire: WireId) {
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
        mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>";
    let bind = "<iq xmlns='jabber:client' type='set' id='b'>\
        <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    for text in [OPEN, auth, OPEN, bind] {
        say(world, wire, text);
    }
    let got = String::from_utf8_lossy(&world.read(wire)).into_owned();
    assert!(got.contains("<jid>"), "{got}");
}

/// What a peer may make us owe it while it reads nothing: as much as on TCP, and what one read
/// brings beyond.
const OWED_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// Sends the same again and again and reads nothing.
fn flood(world: &mut World, wire: WireId, octets: &[u8]) {
    world.set_room(wire, Some(0));
    let chunk = octets.repeat(64 * 1024 / octets.len());
    for _ in 0..40 {
        world.write(wire, &chunk);
        world.settle();
    }
    assert!(
        world.owed_octets() <= OWED_OCTETS_MAX,
        "{}",
        world.owed_octets()
    );
}

/// SECURITY P10: answers are not written for who does not read them, and are when it does.
#[test]
fn who_does_not_read_answers_is_not_read() {
    let mut world = world();
    let wire = world.connect();
    let request = b"GET /.well-known/host-meta HTTP/1.1\r\nHost: a\r\n\r\n";
    flood(&mut world, wire, request);
    world.set_room(wire, None);
    let got = read(&mut world, wire);
    let asked = 40 * (64 * 1024 / request.len());
    assert_eq!(got.matches("HTTP/1.1 200").count(), asked);
    // Who never reads is closed as one that says nothing.
    flood(&mut world, wire, request);
    world.advance(Duration::from_secs(80));
    assert!(world.is_closed(wire));
    assert_eq!(world.owed_octets(), 0);
}

/// The same with pings, which no stanza counts.
#[test]
fn who_does_not_read_pongs_is_not_read() {
    let ping = [&b"\x89\xfd\0\0\0\0"[..], &[b'p'; 125]].concat();
    let mut world = world();
    let wire = websocket(&mut world);
    flood(&mut world, wire, &ping);
    world.advance(Duration::from_secs(40));
    assert!(world.is_closed(wire), "its login takes too long");

    let wire = websocket(&mut world);
    bind(&mut world, wire);
    flood(&mut world, wire, &ping);
    world.set_room(wire, None);
    world.settle();
    let pongs = world.read(wire).len() / 127;
    assert_eq!(pongs, 40 * (64 * 1024 / ping.len()));
}

/// Sends a request of BOSH on a link of its own.
fn send(world: &mut World, sid: &str, rid: u64, more: &str, content: &str) -> WireId {
    let wire = world.connect();
    world.write(wire, post(sid, rid, more, content).as_bytes());
    world.settle();
    wire
}

/// A session over BOSH that is bound and manages its stream. The next request is 20.
fn manage(world: &mut World) -> String {
    let wire = world.connect();
    let sid = begin(world, wire);
    let restart = "xmlns:x='urn:xmpp:xbosh' x:restart='true'";
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
        mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>";
    let bind = "<iq xmlns='jabber:client' type='set' id='b'>\
        <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    let enable = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
    let steps = [("", auth), (restart, ""), ("", bind), ("", enable)];
    for (rid, (more, content)) in (11..).zip(steps) {
        let wire = send(world, &sid, rid, more, content);
        let answer = read(world, wire);
        assert!(answer.contains("HTTP/1.1 200"), "{rid}: {answer}");
    }
    for rid in 15..20 {
        send(world, &sid, rid, "", "<presence xmlns='jabber:client'/>");
    }
    sid
}

/// SECURITY P9: the client waits, and what it sent is not piled up.
#[test]
fn requests_are_held_while_their_stream_does_not_read() {
    let mut world = world();
    let sid = manage(&mut world);
    let message = "<message xmlns='jabber:client' to='juliet@localhost'><body>x</body></message>";
    world.stall(true);
    send(&mut world, &sid, 20, "", &message.repeat(1_001));
    // The journal has taken nothing: neither is answered to make room for the next.
    let wires = [21, 22].map(|rid| send(&mut world, &sid, rid, "", message));
    world.settle();
    assert!(!world.has_octets(wires[0]) || !world.has_octets(wires[1]));
    let last = send(&mut world, &sid, 23, "type='terminate'", message);
    assert_eq!(
        read(&mut world, last),
        "",
        "it ends behind what came before"
    );
    world.stall(false);
    world.commit();
    let answers = [wires[0], wires[1], last]
        .map(|wire| read(&mut world, wire))
        .concat();
    assert_eq!(answers.matches("type='terminate'").count(), 1);
    let received: u64 = world.reports().iter().map(|r| r.messages_received).sum();
    assert_eq!(received, 1_001 + 3);
}

#[test]
fn who_is_not_held_back_is_given_up() {
    let mut world = world();
    let sid = manage(&mut world);
    let message = "<message xmlns='jabber:client' to='juliet@localhost'><body>x</body></message>";
    world.stall(true);
    send(&mut world, &sid, 20, "", &message.repeat(1_001));
    let large = message.repeat(2_000);
    let wires: Vec<WireId> = (21..40)
        .map(|rid| send(&mut world, &sid, rid, "pause='1'", &large))
        .collect();
    let answers = wires.into_iter().map(|wire| read(&mut world, wire));
    let answers: String = answers.collect();
    assert!(answers.contains("policy-violation"), "{answers}");
}

#[test]
fn a_goodbye_that_nobody_fetches_does_not_hold_the_server_up() {
    let mut world = world();
    let wire = world.connect();
    begin(&mut world, wire);
    world.hang_up(wire);
    world.advance(Duration::from_secs(31));
    let links = |world: &World| world.reports().iter().map(|r| r.links).sum::<usize>();
    assert_eq!(
        links(&world),
        1,
        "its login took too long, and it does not know"
    );
    world.stop();
    assert_eq!(links(&world), 0);
}
