//! The reactors with the real engine and real sockets: two shards, with a shared descriptor table
//! and with private ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use encke::base::limits::Limits;
use encke::engine::Command;
use encke::io::ShardReport;

mod io_common;
use io_common::{Client, PASSWORD, PATIENCE, Server, connect, policy};

const TABLES: [(&str, bool); 2] = [("shared", false), ("private", true)];

fn sum(reports: &[ShardReport], count: impl Fn(&ShardReport) -> u64) -> u64 {
    reports.iter().map(count).sum()
}

fn to_self(user: usize, number: usize) -> String {
    format!(
        "<message type='chat' id='m{number}' to='user{user}@localhost/r'><body>{number}</body>\
         </message>"
    )
}

/// Whoever's home is the other shard moves in the middle of its octets; none is lost, doubled or
/// out of order.
#[test]
fn a_handoff_under_pipelined_octets_keeps_each_of_them() {
    const USERS: usize = 12;
    const MESSAGES: usize = 200;
    for (table, private) in TABLES {
        let server = Server::start(private, USERS, Limits::default());
        for user in 0..USERS {
            let more: String = (0..MESSAGES).map(|number| to_self(user, number)).collect();
            let more = format!("<presence/>{more}");
            let check = |text: String, number: usize| {
                let body = format!("<body>{number}</body>");
                assert!(
                    text.ends_with(&body),
                    "{table}: {user} wants {body} in {text}"
                );
                assert_eq!(text.matches("<body>").count(), 1, "{text}");
            };
            if user % 2 == 0 {
                let mut client = server.login(user, &more);
                (0..MESSAGES).for_each(|number| check(client.until("</body>"), number));
            } else {
                let mut client = server.login_tls(user, &more);
                (0..MESSAGES).for_each(|number| check(client.until("</body>"), number));
            }
        }
        let reports = server.handle.report(PATIENCE);
        let moved = sum(&reports, |report| report.io.handed_off);
        assert!(moved > 0, "{table}: some live on the other shard");
        assert_eq!(sum(&reports, |report| report.io.adopted), moved);
        assert_eq!(sum(&reports, |report| report.engine.panics), 0);
        server.until("the last link's end", |r| {
            sum(r, |one| one.links as u64) == 0
        });
        assert!(server.stop(), "{table}");
    }
}

fn chat(from: &mut Client<impl Read + Write>, to: &mut Client<impl Read + Write>, user: usize) {
    let body = "x".repeat(3_000);
    from.send(format!(
        "<message type='chat' to='user{user}@localhost/r'><body>{body}</body></message>"
    ));
    let text = to.until("</body>");
    assert!(text.contains(&body));
}

#[test]
fn messages_cross_shards_in_clear_and_under_tls() {
    const USERS: usize = 8;
    for (_, private) in TABLES {
        let server = Server::start(private, USERS, Limits::default());
        let mut clear: Vec<_> = (0..USERS / 2)
            .map(|user| server.login(user, "<presence/>"))
            .collect();
        let mut sealed: Vec<_> = (USERS / 2..USERS)
            .map(|user| server.login_tls(user, "<presence/>"))
            .collect();
        for (number, from) in clear.iter_mut().enumerate() {
            for (other, to) in sealed.iter_mut().enumerate() {
                chat(from, to, USERS / 2 + other);
                chat(to, from, number);
            }
        }
        drop((clear, sealed));
        server.until("the last link's end", |r| {
            sum(r, |one| one.links as u64) == 0
        });
        assert!(server.stop());
    }
}

/// A peer that asks and never reads is not read any more; nobody else notices.
#[test]
fn who_does_not_read_is_not_read() {
    let server = Server::start(false, 4, Limits::default());
    let mut bystanders: Vec<_> = (0..2)
        .map(|user| server.login(user, "<presence/>"))
        .collect();
    let mut slow = server.login(2, "<presence/>");
    slow.socket.set_nonblocking(true).unwrap();
    let ping =
        "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>".repeat(100);
    let mut sent = 0;
    let mut last = Instant::now();
    // The kernel's buffers of both ends are megabytes: the end is when nothing has gone for long.
    while last.elapsed() < Duration::from_millis(500) {
        match slow.socket.write(&ping.as_bytes()[sent % ping.len()..]) {
            Ok(octets) => {
                sent += octets;
                last = Instant::now();
            }
            Err(_) => bystanders[0].ping("still-here"),
        }
        assert!(sent < 256 * 1024 * 1024, "the server reads without an end");
    }
    let [first, second] = &mut bystanders[..] else {
        unreachable!("there are two")
    };
    chat(first, second, 1);
    // Now it reads, and the server goes on where it stopped.
    slow.socket.set_nonblocking(false).unwrap();
    let rest = ping.len() - sent % ping.len();
    let asked = (sent + rest) / (ping.len() / 100);
    let mut writer = slow.socket.try_clone().unwrap();
    let tail = ping.as_bytes()[ping.len() - rest..].to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&tail).unwrap());
    for _ in 0..asked {
        slow.until("type='result'");
    }
    writing.join().unwrap();
    drop((slow, bystanders));
    assert!(server.stop());
}

#[test]
fn a_flooder_does_not_starve_a_bystander() {
    for (_, private) in TABLES {
        let server = Server::start(private, 4, Limits::default());
        let mut bystander = server.login(0, "<presence/>");
        let flood = "<presence to='user0@localhost/nobody'/>".repeat(8_000);
        let floods: Vec<_> = (1..4)
            .map(|user| {
                let mut flooder = server.login(user, "");
                let flood = flood.clone();
                std::thread::spawn(move || {
                    for _ in 0..3 {
                        flooder.send(&flood);
                    }
                    flooder.ping("done");
                })
            })
            .collect();
        let mut worst = Duration::ZERO;
        while floods.iter().any(|flood| !flood.is_finished()) {
            let began = Instant::now();
            bystander.ping("bystander");
            worst = worst.max(began.elapsed());
        }
        // This machine may be busy and a debug build is slow: far from starving all the same.
        assert!(worst < Duration::from_secs(5), "waited {worst:?}");
        floods.into_iter().for_each(|flood| flood.join().unwrap());
        drop(bystander);
        assert!(server.stop());
    }
}

/// Descriptors of this process, by what `/proc` lists; the listing itself is one.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn whoever_comes_and_vanishes_leaves_nothing() {
    let name = "vanishing_in_a_process_of_its_own";
    run_alone(name);
}

/// Limits and descriptors are the process's, so some tests run in one of their own.
fn run_alone(name: &str) {
    let outcome = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&outcome.stdout);
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(
        outcome.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

#[test]
#[ignore = "counts the descriptors of the process; another test runs it"]
fn vanishing_in_a_process_of_its_own() {
    for (table, private) in TABLES {
        let before = descriptors();
        let server = Server::start(private, 4, Limits::default());
        let began = descriptors();
        for round in 0..50_usize {
            let mute: Vec<_> = (0..10)
                .map(|_| TcpStream::connect(server.clear).unwrap())
                .collect();
            for (stage, mut socket) in mute.into_iter().enumerate() {
                let octets: &[u8] = match stage {
                    0 => b"",
                    1 => b"<",
                    2 => b"<?xml version='1.0'?><stream:stream",
                    3 => b"\x16\x03\x01\x02\x00\x01\x00",
                    4 => b"GET / HTTP/1.1\r\n\r\n",
                    _ => {
                        b"<stream:stream xmlns='jabber:client' version='1.0' to='localhost' \
                        xmlns:stream='http://etherx.jabber.org/streams'>"
                    }
                };
                // It may be closed already: that is the point.
                let _ = socket.write_all(octets);
                if stage % 2 == 0 {
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            let mut direct = TcpStream::connect(server.direct).unwrap();
            direct.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
            drop(direct);
            drop(server.login(round % 4, "<presence/>"));
            drop(server.login_tls(round % 4, "<presence/>"));
        }
        server.until("the last link's end", |r| {
            sum(r, |one| one.links as u64) == 0
        });
        assert_eq!(server.handle.links(), 0, "{table}");
        assert_eq!(descriptors(), began, "{table}");
        assert!(server.stop());
        assert_eq!(
            descriptors(),
            before,
            "{table}: nothing of the server is left"
        );
    }
}

/// A peer that takes nothing cannot hold the end up for longer than the time to linger.
#[test]
fn the_end_waits_for_nobody_for_long() {
    for (table, private) in TABLES {
        let server = Server::start(private, 2, Limits::default());
        let mut deaf = server.login(0, "");
        deaf.socket.set_nonblocking(true).unwrap();
        let ping =
            "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>".repeat(100);
        let mut last = Instant::now();
        let mut at = 0;
        while last.elapsed() < Duration::from_millis(300) {
            if let Ok(octets) = deaf.socket.write(&ping.as_bytes()[at % ping.len()..]) {
                at += octets;
                last = Instant::now();
            }
        }
        let began = Instant::now();
        assert!(server.stop(), "{table}: all ended by itself");
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
    }
}

/// Links of HTTP stay open between requests, and their clients do not look before the next one.
#[test]
fn the_end_does_not_wait_for_clients_of_http() {
    for (table, private) in TABLES {
        let server = Server::start(private, 0, Limits::default());
        let mut silent = connect(server.http);
        let request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut idle = Client::new(connect(server.http));
        idle.send(request);
        idle.until("ok\n");
        let mut sealed = Client::new(server.seal(connect(server.https), b"http/1.1"));
        sealed.send(request);
        sealed.until("ok\n");
        let mut half = Client::new(connect(server.http));
        half.send(request.to_owned() + "GET /heal");
        half.until("ok\n");
        server.until("all of them", |r| sum(r, |one| one.io.accepted) == 4);
        let began = Instant::now();
        assert!(server.stop(), "{table}: all ended by itself");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "{table}: {took:?}");
        let mut rest = String::new();
        half.socket.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("HTTP/1.1 503 "), "{table}: {rest}");
        for socket in [&mut silent, &mut idle.socket] {
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "{table}");
        }
        assert_eq!(sealed.socket.read(&mut [0]).unwrap(), 0, "{table}");
    }
}

/// RFC 9112 section 9.6: who says that nothing more comes may still wait for its answer. A poll is
/// different: who has gone for good says no more than that, and must not be taken to be there.
#[test]
fn whoever_closes_one_way_gets_the_answer_that_is_under_way() {
    let ask = |server: &Server, head: &str, body: &str| {
        let mut socket = connect(server.http);
        let length = body.len();
        let request =
            format!("{head}\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    for (table, private) in TABLES {
        let server = Server::start(private, 4, Limits::default());
        for user in 0..4 {
            let login =
                format!("{{\"user\":\"user{user}@localhost\",\"password\":\"{PASSWORD}\"}}");
            let answer = ask(&server, "POST /v1/session HTTP/1.1", &login);
            assert!(answer.starts_with("HTTP/1.1 201 "), "{table}: {answer}");
            let token = answer.split_once("\"session\":\"").unwrap().1;
            let token = token.split_once('"').unwrap().0;
            let with = |line: &str| format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}");
            let message = "{\"to\":\"user0@localhost\",\"body\":\"hi\",\"message_id\":\"m\"}";
            let answer = ask(&server, &with("POST /v1/messages"), message);
            assert!(answer.starts_with("HTTP/1.1 20"), "{table}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            let answer = ask(&server, &with("GET /v1/roster"), "");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{table}: {answer}");
            if user > 0 {
                let first = ask(&server, &with("GET /v1/events"), "");
                let next = first.split_once("\"next\":\"").unwrap().1;
                let next = next.split_once('"').unwrap().0;
                let poll = format!("GET /v1/events?cursor={next}");
                assert_eq!(ask(&server, &with(&poll), ""), "", "{table}");
            }
        }
        assert!(server.stop(), "{table}");
    }
}

/// A balancer that asks must send new clients elsewhere.
#[test]
fn a_server_without_room_is_not_ready() {
    for (table, private) in TABLES {
        let limits = Limits {
            links_max: 2,
            ..Limits::default()
        };
        let server = Server::start(private, 0, limits.clone());
        let mut prober = Client::new(connect(server.http));
        let mut ask = || {
            prober.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = prober.until("\r\n\r\n");
            let length = head.split_once("Content-Length: ").unwrap().1;
            let length: usize = length.split_once('\r').unwrap().0.parse().unwrap();
            while prober.text.len() < length {
                prober.fill("its body");
            }
            (head[9..12].to_owned(), prober.text.split_off(0))
        };
        assert_eq!(ask(), ("200".into(), "ready\n".into()), "{table}");
        let last = connect(server.clear);
        server.until("the last link", |r| sum(r, |one| one.io.accepted) == 2);
        let (status, why) = ask();
        assert_eq!(status, "503", "{table}");
        assert!(why.contains("limits.links"), "{table}: {why}");
        drop(last);
        server.until("its end", |r| sum(r, |one| one.links as u64) == 1);
        assert_eq!(ask().0, "200", "{table}");
        let short = Arc::new(policy(Limits {
            process_octets_max: 1,
            ..limits
        }));
        server.handle.broadcast(|| Command::Reload(short.clone()));
        // The process is looked at once a second.
        server.until("short of memory", |_| ask().0 == "503");
        assert!(ask().1.contains("limits.process_octets_max"), "{table}");
        drop(prober);
        assert!(server.stop(), "{table}");
    }
}

#[test]
fn when_descriptors_run_out_links_are_refused_and_come_again_later() {
    run_alone("descriptors_run_out_in_a_process_of_its_own");
}

#[test]
#[ignore = "changes the limits of the process; another test runs it"]
fn descriptors_run_out_in_a_process_of_its_own() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// The last 16 descriptors of a table are not for links.
    const ROOM: usize = 10 + 16;
    const CLIENTS: usize = 40;
    let server = Server::start(false, 1, Limits::default());
    let open = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| open()).collect();
    let spare = open();
    let limit = getrlimit(Resource::Nofile);
    let mut low = limit;
    low.current = Some(descriptors() as u64 + ROOM as u64);
    setrlimit(Resource::Nofile, low).unwrap();
    for client in &clients {
        client.connect(&server.clear.into()).unwrap();
    }
    server.until("a verdict for each", |reports| {
        let refused = sum(reports, |report| report.io.refused);
        let accepted = sum(reports, |report| report.io.accepted);
        assert!(accepted <= ROOM as u64);
        refused > 0 && refused + accepted == CLIENTS as u64
    });
    let turns = |reports: &[ShardReport]| sum(reports, |report| report.turns);
    let (began, before) = (Instant::now(), turns(&server.handle.report(PATIENCE)));
    let after = loop {
        // Waiting costs no turn; only the question does.
        std::thread::park_timeout(Duration::from_millis(300));
        if began.elapsed() >= Duration::from_millis(300) {
            break turns(&server.handle.report(PATIENCE));
        }
    };
    assert!(
        after - before < 100,
        "{} turns of a server with nothing to do",
        after - before
    );
    clients.clear();
    server.until("the last link's end", |r| {
        sum(r, |one| one.links as u64) == 0
    });
    spare.connect(&server.clear.into()).unwrap();
    server.until("room for one more", |r| sum(r, |one| one.links as u64) == 1);
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(spare);
    assert!(server.stop());
}
