//! Threads, descriptors and limits, with real sockets. What links say to each other is tested in
//! `tests/io.rs`.

use std::io::Read;
use std::net::TcpStream;

use super::*;
use crate::base::limits::Limits;
use crate::engine::Entry;

fn policy(limits: Limits) -> Arc<Policy> {
    Arc::new(Policy {
        domains: vec!["localhost".into()],
        admins: Vec::new(),
        require_tls: false,
        offer_tls: false,
        contacts: Vec::new(),
        http: Default::default(),
        limits,
        secret: [0; 32],
    })
}

fn plan(shards: u16, private_descriptors: bool, limits: Limits) -> Plan {
    Plan {
        shards,
        listeners: vec![Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            entry: Entry::Clear,
        }],
        tls: None,
        private_descriptors,
        policy: policy(limits),
        next_id: MessageId(1),
        events: Arc::new(|_, events| events.clear()),
        errands: Arc::new(|_, errands| errands.clear()),
        give_back: |_| (),
    }
}

fn start(plan: Plan) -> (Handle, SocketAddr) {
    let reactors = Reactors::bind(plan).unwrap();
    let address = reactors.addresses()[0];
    (
        reactors.start(Arc::new(|ops| ops.clear())).unwrap(),
        address,
    )
}

/// Asks until the answer satisfies; each question goes through the shards' own turns.
fn until(handle: &Handle, mut satisfied: impl FnMut(&[ShardReport]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !satisfied(&handle.report(Duration::from_secs(5))) {
        assert!(Instant::now() < deadline, "it never came to that");
        std::thread::yield_now();
    }
}

fn links(reports: &[ShardReport]) -> usize {
    reports.iter().map(|report| report.links).sum()
}

#[test]
fn links_come_and_go_with_either_kind_of_table() {
    for private in [false, true] {
        let (handle, address) = start(plan(2, private, Limits::default()));
        for _ in 0..3 {
            let clients: Vec<_> = (0..20)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            until(&handle, |reports| links(reports) == 20);
            drop(clients);
            until(&handle, |reports| links(reports) == 0);
        }
        assert_eq!(handle.links(), 0);
        let reports = handle.report(Duration::from_secs(5));
        assert!(reports.iter().all(|report| report.io.accepted > 0), "both");
        assert!(handle.join(Duration::from_secs(5)), "nothing is left");
        assert!(
            TcpStream::connect(address).is_err(),
            "no copy of a listener"
        );
    }
}

#[test]
fn who_stops_accepting_keeps_its_links() {
    for private in [false, true] {
        let (handle, address) = start(plan(2, private, Limits::default()));
        let client = TcpStream::connect(address).unwrap();
        until(&handle, |reports| links(reports) == 1);
        handle.stop_accepting();
        until(&handle, |_| TcpStream::connect(address).is_err());
        assert_eq!(links(&handle.report(Duration::from_secs(5))), 1);
        drop(client);
        assert!(handle.join(Duration::from_secs(20)));
    }
}

#[test]
fn the_end_is_bounded_when_a_link_does_not_go() {
    let (handle, address) = start(plan(1, false, Limits::default()));
    let mut client = TcpStream::connect(address).unwrap();
    until(&handle, |reports| links(reports) == 1);
    assert!(!handle.join(Duration::ZERO));
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "it was closed");
}

#[test]
fn one_address_cannot_take_all_links() {
    let limits = Limits {
        links_per_address_max: 2,
        ..Limits::default()
    };
    let (handle, address) = start(plan(2, false, limits));
    let clients: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    until(&handle, |reports| {
        reports.iter().map(|report| report.io.refused).sum::<u64>() == 3
    });
    assert_eq!(handle.links(), 2);
    drop(clients);
    until(&handle, |reports| links(reports) == 0);
    let _again = TcpStream::connect(address).unwrap();
    until(&handle, |reports| links(reports) == 1);
    handle.join(Duration::ZERO);
}

#[test]
fn beyond_the_maximum_links_wait_until_others_go() {
    let limits = Limits {
        links_max: 2,
        ..Limits::default()
    };
    let (handle, address) = start(plan(1, false, limits));
    let mut clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    until(&handle, |reports| reports[0].io.accepted == 2);
    clients.remove(0);
    until(&handle, |reports| reports[0].io.accepted == 3);
    assert_eq!(handle.links(), 2);
    handle.join(Duration::ZERO);
}

#[test]
fn an_address_in_use_is_named() {
    let (handle, address) = start(plan(1, false, Limits::default()));
    let mut again = plan(1, false, Limits::default());
    again.listeners[0].address = address;
    match Reactors::bind(again) {
        Err(StartError::Bind { address: named, .. }) => assert_eq!(named, address),
        _ => panic!("two servers on one port"),
    }
    handle.join(Duration::ZERO);
}
