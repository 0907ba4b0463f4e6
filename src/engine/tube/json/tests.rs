//! Tubes by themselves.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::session::ctx::Setup;
use crate::store::MessageId;
use crate::testing::Plan;
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
    shard.abandon(None);
    shard.check();
    assert!(shard.links.get(lost).is_none() && shard.links.get(other).is_some());
    assert_eq!(shard.tubes.json.count(), 1);
    assert_eq!(shard.tubes.unproven[&peer], 1);
}
