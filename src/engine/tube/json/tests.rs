//! Tubes by themselves.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::engine::Entry;
use crate::session::ctx::Setup;
use crate::store::MessageId;
use crate::testing::{PASSWORD, Plan, World};
use crate::transport::json::opening;

/// A panic takes the tube with it: its link, its place and its count must not stay.
#[test]
fn nothing_is_left_of_a_tube_that_was_lost() {
    let mut shard = Shard::new(Setup {
        shard: 0,
        shards: 1,
        policy: Arc::new(Plan::default().policy()),
        hash_key: [0; 16],
        seed: [0; 32],
        next_id: MessageId(1),
    });
    let (mut fx, now) = (Effects::new(1), Now::default());
    let login = br#"{"user":"a@localhost","password":"p"}"#;
    let login = opening::read(login, 1_000).unwrap();
    let peer = Ipv4Addr::LOCALHOST.into();
    for bits in [1, 2] {
        let link = LinkKey::from_bits(bits);
        let opening = &login.opening;
        open(&mut shard, link, opening, peer, None, now, &mut fx).unwrap();
    }
    let [lost, other] = [0, 1].map(|at| shard.links.iter().nth(at).unwrap().0);
    drop(shard.tubes.json.take(lost));
    assert_eq!(shard.abandon(None), []);
    shard.check();
    assert!(shard.links.get(lost).is_none() && shard.links.get(other).is_some());
    assert_eq!(shard.tubes.json.count(), 1);
    assert_eq!(shard.tubes.unproven[&peer], 1);
}

/// Its readers would hear nothing any more, and requests get no answer: their clients have to come
/// again.
#[test]
fn who_used_a_tube_that_was_lost_is_sent_away() {
    let mut world = World::new(Plan {
        accounts: vec!["a@localhost".into()],
        ..Plan::default()
    });
    let mut ask = |head: &str, body: &str| {
        let wire = world.connect_to(Entry::Http);
        let length = body.len();
        let head = format!("{head}\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        world.write(wire, (head + body).as_bytes());
        world.settle();
        String::from_utf8(world.read(wire)).unwrap()
    };
    let mut fields = Vec::new();
    for resource in ["lost", "other"] {
        let login =
            format!(r#"{{"user":"a@localhost","password":"{PASSWORD}","resource":"{resource}"}}"#);
        let answer = ask("POST /v1/session HTTP/1.1", &login);
        let token = answer.split_once("\"session\":\"").unwrap().1;
        let token = token.split_once('"').unwrap().0;
        fields.push(format!("Authorization: Bearer {token}"));
    }
    for field in &fields {
        let stream = format!("GET /v1/events HTTP/1.1\r\nAccept: text/event-stream\r\n{field}");
        assert!(ask(&stream, "").contains("event: ready"));
    }
    let said = ask(&format!("GET /v1/session HTTP/1.1\r\n{}", fields[0]), "");
    let cursor = said.split_once("\"cursor\":\"").unwrap().1;
    let cursor = cursor.split_once('"').unwrap().0;
    let poll = format!("GET /v1/events?cursor={cursor} HTTP/1.1\r\n{}", fields[0]);
    assert_eq!(ask(&poll, ""), "", "it is held");
    let shard = world.shards().next().unwrap();
    let here = shard.tubes.json.here.iter();
    let lost = here.map(|(key, _)| key.marked()).next().unwrap();
    drop(shard.tubes.json.take(lost));
    let before = shard.links.len();
    let sockets = shard.abandon(None);
    shard.check();
    assert_eq!(sockets.len(), 2, "its reader, and who waits for an answer");
    assert_eq!(shard.links.len(), before - 3);
    assert!(sockets.iter().all(|key| shard.links.get(*key).is_none()));
}
