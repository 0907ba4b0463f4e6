//! One core of the engine: a stanza from the octets of its sender to the octets of its receivers.
//!
//! Left out: sockets, TLS, the kernel, wake-ups between threads, storage (requests are answered at
//! once and forgotten), and everything a second core would do at the same time: both shards of
//! `other_shard` run here, one after the other.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encke::testing::{Answers, Place, Plan, Stand};
use std::hint::black_box;

/// Whether sessions acknowledge (XEP-0198).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Managed {
    Yes,
    No,
}

fn online(stand: &mut Stand, bare: &str, managed: Managed) -> Place {
    let place = stand.bind(bare, "r");
    stand.send(place, b"<presence/>");
    if managed == Managed::Yes {
        stand.send(place, b"<enable xmlns='urn:xmpp:sm:3'/>");
    }
    place
}

/// Two accounts whose homes are the same shard, or are not.
fn pair(shards: u16, same: bool, managed: Managed) -> (Stand, Place, Place, String) {
    let accounts: Vec<String> = (0..60).map(|n| format!("user{n}@localhost")).collect();
    let mut stand = Stand::new(&Plan {
        shards,
        accounts: accounts.clone(),
        ..Plan::default()
    });
    let fits = |to: &&String| (stand.home(to) == stand.home(&accounts[0])) == same;
    let to = accounts[1..].iter().find(fits).unwrap().clone();
    let sender = online(&mut stand, &accounts[0], managed);
    let taker = online(&mut stand, &to, managed);
    stand.set_answers(Answers::AtOnce);
    (stand, sender, taker, to)
}

/// A chat message of 200 octets of text: parse, route, write. With stream management the receiver
/// acknowledges each message, which is parsed, too.
fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver");
    group.throughput(Throughput::Elements(1));
    for (shards, same, name) in [(1, true, "same_shard"), (2, false, "other_shard")] {
        for (managed, how) in [(Managed::No, "plain"), (Managed::Yes, "managed")] {
            let (mut stand, sender, taker, to) = pair(shards, same, managed);
            let body = "x".repeat(200);
            let message =
                format!("<message to='{to}/r' type='chat' id='m'><body>{body}</body></message>");
            let mut handled = 0_u32;
            let mut ack = String::new();
            group.bench_function(format!("{name}_{how}"), |b| {
                b.iter(|| {
                    stand.send(sender, black_box(message.as_bytes()));
                    if managed == Managed::Yes {
                        use std::fmt::Write as _;
                        handled = handled.wrapping_add(1);
                        ack.clear();
                        // Writing to a string does not fail.
                        let _ = write!(ack, "<a xmlns='urn:xmpp:sm:3' h='{handled}'/>");
                        stand.send(taker, ack.as_bytes());
                    }
                });
            });
        }
    }
    group.finish();
}

/// A changed presence to a hundred contacts that are online, on four shards.
fn broadcast(c: &mut Criterion) {
    const CONTACTS: usize = 100;
    let accounts: Vec<String> = (0..=CONTACTS)
        .map(|n| format!("user{n}@localhost"))
        .collect();
    let mut stand = Stand::new(&Plan {
        shards: 4,
        accounts: accounts.clone(),
        ..Plan::default()
    });
    let places: Vec<Place> = accounts
        .iter()
        .map(|account| online(&mut stand, account, Managed::No))
        .collect();
    let star = &accounts[0];
    for (account, place) in accounts.iter().zip(&places).skip(1) {
        let approve = format!("<presence to='{account}' type='subscribed'/>");
        stand.send(places[0], approve.as_bytes());
        let ask = format!("<presence to='{star}' type='subscribe'/>");
        stand.send(*place, ask.as_bytes());
    }
    let before = stand.octets_written;
    stand.send(places[0], b"<presence><show>away</show></presence>");
    assert!(
        stand.octets_written - before > 60 * CONTACTS as u64,
        "all see it"
    );
    let mut group = c.benchmark_group("presence");
    group.throughput(Throughput::Elements(CONTACTS as u64));
    group.bench_function("broadcast_100", |b| {
        b.iter(|| {
            stand.send(
                places[0],
                black_box(b"<presence><show>away</show></presence>"),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, deliver, broadcast);
criterion_main!(benches);
