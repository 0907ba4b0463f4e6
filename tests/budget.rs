//! What a message and an idle session may cost: allocations, octets, sizes of slab entries.
//!
//! The engine alone: no socket, no TLS, no storage behind the requests. `benches/budget.toml` has
//! the numbers; a rise fails, a fall asks for a new number.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use encke::engine::links::Link;
use encke::session::account::Account;
use encke::session::queue::Mark;
use encke::session::session::Session;
use encke::testing::{Answers, Plan, Stand};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static OCTETS: Cell<i64> = const { Cell::new(0) };
}

fn note(allocations: u64, octets: i64) {
    // A thread that ends has no counters any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + allocations));
    let _ = OCTETS.try_with(|count| count.set(count.get() + octets));
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn budget(name: &str) -> f64 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/budget.toml");
    let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let value = &table["engine"][name];
    value
        .as_float()
        .or_else(|| value.as_integer().map(|n| n as f64))
        .unwrap()
}

/// A rise of more than 3 % fails.
fn hold(name: &str, found: f64) {
    let most = budget(name);
    assert!(
        found <= most * 1.03,
        "{name}: {found}, and the budget is {most}"
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Managed {
    Yes,
    No,
}

/// Allocations for one chat message, from octets to octets, in steady state.
fn allocations(shards: u16, same_shard: bool, managed: Managed) -> f64 {
    let accounts: Vec<String> = (0..40).map(|n| format!("user{n}@localhost")).collect();
    let plan = Plan {
        shards,
        accounts: accounts.clone(),
        ..Plan::default()
    };
    let mut stand = Stand::new(&plan);
    let other = accounts[1..]
        .iter()
        .find(|account| (stand.home(account) == stand.home(&accounts[0])) == same_shard);
    let (from, to) = (accounts[0].clone(), other.unwrap().clone());
    let (sender, taker) = (stand.bind(&from, "a"), stand.bind(&to, "b"));
    for place in [sender, taker] {
        stand.send(place, b"<presence/>");
        if managed == Managed::Yes {
            stand.send(place, b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        }
    }
    stand.set_answers(Answers::AtOnce);
    let body = "x".repeat(200);
    let message = format!("<message to='{to}/b' type='chat' id='m1'><body>{body}</body></message>");
    let acks: Vec<String> = (1..=3_000)
        .map(|h| format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))
        .collect();
    let mut before = 0;
    let warm = acks.len() / 2;
    for (at, ack) in acks.iter().enumerate() {
        if at == warm {
            before = ALLOCATIONS.with(Cell::get);
        }
        stand.send(sender, message.as_bytes());
        if managed == Managed::Yes {
            stand.send(taker, ack.as_bytes());
        }
    }
    let found = (ALLOCATIONS.with(Cell::get) - before) as f64 / (acks.len() - warm) as f64;
    assert!(stand.octets_written > 3_000 * 200, "the messages came");
    found
}

#[test]
fn a_message_allocates_at_most_once() {
    for (shards, same_shard, where_) in [(1, true, "same_shard"), (2, false, "other_shard")] {
        for (managed, how) in [(Managed::No, "plain"), (Managed::Yes, "managed")] {
            let found = allocations(shards, same_shard, managed);
            println!("allocations_{where_}_{how} = {found}");
            hold(&format!("allocations_{where_}_{how}"), found);
        }
    }
}

/// Heap that a bound session holds while nothing happens, its slab entries included.
#[test]
fn an_idle_session_is_small() {
    let accounts: Vec<String> = (0..360).map(|n| format!("user{n}@localhost")).collect();
    let plan = Plan {
        accounts: accounts.clone(),
        ..Plan::default()
    };
    let mut stand = Stand::new(&plan);
    // The first ones pay for pages and pools.
    for account in &accounts[..60] {
        stand.bind(account, "phone");
    }
    let before = OCTETS.with(Cell::get);
    for account in &accounts[60..] {
        stand.bind(account, "phone");
    }
    let heap = (OCTETS.with(Cell::get) - before) as f64 / 300.0;
    // An entry of a slab has its tag beside it.
    let entries = size_of::<Option<Session>>()
        + size_of::<Option<Account>>()
        + size_of::<Option<(u32, Link)>>();
    println!("heap {heap}, entries {entries}");
    hold("idle_session_octets", heap + entries as f64);
}

#[test]
fn entries_of_slabs_stay_small() {
    for (name, found) in [
        ("size_of_link", size_of::<Link>()),
        ("size_of_session", size_of::<Session>()),
        ("size_of_account", size_of::<Account>()),
        ("size_of_mark", size_of::<Mark>()),
    ] {
        println!("{name} = {found}");
        hold(name, found as f64);
    }
}
