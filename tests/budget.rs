//! What a message and an idle session may cost: allocations, octets, sizes of slab entries.
//!
//! The engine alone: no socket, no TLS, no storage behind the requests. `benches/budget.toml` has
//! the numbers; a rise fails, a fall asks for a new number.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use encke::base::wheel::Wheel;
use encke::engine::links::Link;
use encke::session::account::Account;
use encke::session::ctx::Due;
use encke::session::queue::Mark;
use encke::session::session::Session;
use encke::testing::{Answers, Hearing, Place, Plan, Stand};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static OCTETS: Cell<i64> = const { Cell::new(0) };
    /// Pieces of each size that live.
    static SIZES: [Cell<i64>; PIECE_OCTETS_MAX + 1] =
        const { [const { Cell::new(0) }; PIECE_OCTETS_MAX + 1] };
}

/// What is larger is a table or a buffer that many share.
const PIECE_OCTETS_MAX: usize = 2_048;

fn note(allocations: u64, octets: i64) {
    // A thread that ends has no counters any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + allocations));
    let _ = OCTETS.try_with(|count| count.set(count.get() + octets));
}

fn note_piece(octets: usize, pieces: i64) {
    let _ = SIZES.try_with(|sizes| {
        if let Some(count) = sizes.get(octets) {
            count.set(count.get() + pieces);
        }
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        note_piece(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        note_piece(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        note_piece(layout.size(), -1);
        note_piece(size, 1);
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

/// What jemalloc gives for so many octets.
fn class_octets(octets: usize) -> usize {
    match octets {
        0..=8 => 8,
        _ => octets.next_multiple_of((octets.next_power_of_two() / 8).max(16)),
    }
}

/// So long all that came of a login is old, and nothing is late.
const WINDOW_SECONDS: u64 = 155;
/// Sessions that the account is divided by.
const IDLE_SESSIONS: usize = 300;

/// Octets of one more session of the JSON protocol with a reader, at rest so long after its login:
/// pieces by the allocator's classes, deadlines, and entries of tables.
fn idle_json_session(how: Hearing) -> [f64; 2] {
    let fresh = 60;
    let accounts: Vec<String> = (1_000..1_000 + fresh + IDLE_SESSIONS)
        .map(|n| format!("user{n}@localhost"))
        .collect();
    let plan = Plan {
        accounts: accounts.clone(),
        ..Plan::default()
    };
    let mut stand = Stand::new(&plan);
    let log_in = |stand: &mut Stand, accounts: &[String]| -> Vec<_> {
        let attend = |account: &String| stand.attend(account, "phone", how);
        accounts.iter().map(attend).collect()
    };
    // The first ones pay for pages and pools.
    let mut clients = log_in(&mut stand, &accounts[..fresh]);
    pass(&mut stand, WINDOW_SECONDS, how, &clients);
    stand.rest();
    let pieces = || SIZES.with(|sizes| sizes.each_ref().map(Cell::get));
    let (mut before, deadlines_before) = (pieces(), stand.count().1);
    clients.extend(log_in(&mut stand, &accounts[fresh..]));
    // What is the clients' own.
    for next in clients[fresh..].iter().map(|(_, next)| next) {
        before[next.capacity()] += i64::from(!next.is_empty());
    }
    let account = |stand: &mut Stand, when: &str| {
        stand.rest();
        assert_eq!(stand.count().0, accounts.len(), "they are all there");
        let deadlines = (stand.count().1 - deadlines_before) * Wheel::<Due>::ENTRY_OCTETS;
        let deadlines = deadlines as f64 / IDLE_SESSIONS as f64;
        let entry = |octets: usize| (octets + size_of::<u32>()) as f64;
        let tables = [
            (
                "link of the socket",
                size_of::<Option<(u32, Link)>>() as f64,
            ),
            ("link of the tube", entry(size_of::<Option<Link>>())),
            ("tube", size_of::<Option<(u32, Box<()>)>>() as f64),
            ("session", entry(size_of::<Option<Session>>())),
            ("account", entry(size_of::<Option<Account>>())),
        ];
        let mut total = deadlines;
        println!("{how:?} {when}:\n{deadlines:8.1} in deadlines");
        for (name, octets) in tables {
            println!("{octets:8.1} in tables: {name}");
            total += octets;
        }
        for (octets, (now, before)) in pieces().into_iter().zip(before).enumerate() {
            let share = (now - before) as f64 / IDLE_SESSIONS as f64;
            if share != 0.0 {
                total += share * class_octets(octets) as f64;
            }
            if share.abs() >= 0.02 {
                let all = share * class_octets(octets) as f64;
                println!("{all:8.1} in {share:.2} pieces of {octets}");
            }
        }
        println!("{total:8.1} in all");
        total
    };
    // Until what is told by and by is told.
    pass(&mut stand, 5, how, &clients);
    let after_login = account(&mut stand, "after login");
    pass(&mut stand, WINDOW_SECONDS, how, &clients);
    [after_login, account(&mut stand, "later")]
}

/// Seconds go by. Who polls asks again, who has a WebSocket answers pings.
fn pass(stand: &mut Stand, seconds: u64, how: Hearing, clients: &[(Place, Vec<u8>)]) {
    const PONG: &[u8] = b"\x8a\x80\0\0\0\0";
    for second in 1..=seconds {
        stand.pass(1_000);
        for (place, next) in clients {
            match how {
                Hearing::Poll if second % 51 == 0 => stand.send(*place, next),
                Hearing::WebSocket if second % 20 == 0 => stand.send(*place, PONG),
                _ => {}
            }
        }
    }
}

/// Memory that a session of the JSON protocol with one reader holds while nothing happens: the
/// engine's share of it. A socket has 28 octets more, and the index of accounts 10 to 20.
#[test]
fn an_idle_session_of_the_json_protocol_is_small() {
    for (how, name) in [
        (Hearing::WebSocket, "websocket"),
        (Hearing::EventStream, "events"),
        (Hearing::Poll, "poll"),
    ] {
        let [after_login, later] = idle_json_session(how);
        hold(&format!("idle_json_{name}_octets_after_login"), after_login);
        hold(&format!("idle_json_{name}_octets"), later);
    }
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
