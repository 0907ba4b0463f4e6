//! The PROXY protocol on real sockets: before HTTP and before TLS, with either kind of table.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use encke::base::limits::Limits;
use encke::engine::{HttpPolicy, Policy};
use encke::io::ShardReport;
use encke::transport::http::network::Networks;

mod io_common;
use io_common::{Client, PATIENCE, Server, connect, policy};

const LINE: &str = "PROXY TCP4 203.0.113.7 127.0.0.1 7 443\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const WELL: &str = "\r\n\r\nok\n";

/// Whoever comes from loopback is a proxy.
fn behind_proxies(limits: Limits) -> Policy {
    Policy {
        require_tls: true,
        http: HttpPolicy {
            proxies: Networks::new(["127.0.0.0/8"]).unwrap(),
            proxy_protocol: true,
            ..HttpPolicy::default()
        },
        ..policy(limits)
    }
}

fn start(limits: Limits) -> Server {
    Server::start_with(false, 1, behind_proxies(limits))
}

fn talk(address: SocketAddr) -> Client<TcpStream> {
    let socket = connect(address);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    Client::new(socket)
}

fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        &[command, family],
        &length,
        content,
    ]
    .concat()
}

/// From 203.0.113.7, over TLS as far as the proxy if it says so.
fn binary_line(is_tls: bool) -> Vec<u8> {
    let mut content = vec![203, 0, 113, 7, 127, 0, 0, 1, 0, 7, 1, 187];
    content.extend([0x20, 0, 5, u8::from(is_tls), 0, 0, 0, 0]);
    binary(0x21, 0x11, &content)
}

/// How a page's login by WebSocket is answered on a link that began so.
fn upgrade(address: SocketAddr, header: &[u8], fields: &str) -> String {
    let mut client = talk(address);
    client.send(header);
    client.send(asking(fields));
    client.until("\r\n")
}

fn asking(fields: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: xmpp\r\n{fields}\r\n"
    )
}

fn sum(reports: &[ShardReport], count: impl Fn(&ShardReport) -> u64) -> u64 {
    reports.iter().map(count).sum()
}

fn links(reports: &[ShardReport]) -> u64 {
    sum(reports, |report| report.links as u64)
}

/// What a peer hears until the link ends, by a reset or otherwise.
fn last_words(mut socket: impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard);
    heard
}

#[test]
fn what_follows_the_header_is_not_lost_wherever_tcp_cuts() {
    for private in [false, true] {
        let server = Server::start_with(private, 1, behind_proxies(Limits::default()));
        for header in [LINE.as_bytes().to_vec(), binary_line(false)] {
            let octets = [&header, HEALTH.as_bytes()].concat();
            // All at once first, then with a turn of the server's between the two pieces.
            let mut whole = talk(server.http);
            whole.send(&octets);
            whole.until(WELL);
            for cut in 1..header.len() + 3 {
                let mut client = talk(server.http);
                client.send(&octets[..cut]);
                server.handle.report(PATIENCE);
                client.send(&octets[cut..]);
                client.until(WELL);
                client.send(HEALTH);
                client.until(WELL);
            }
        }
        assert!(server.stop());
    }
}

#[test]
fn octet_by_octet() {
    let server = start(Limits::default());
    let mut client = talk(server.http);
    for octet in [LINE, HEALTH].concat().bytes() {
        client.send([octet]);
        server.handle.report(PATIENCE);
    }
    client.until(WELL);
    drop(client);
    assert!(server.stop());
}

#[test]
fn it_stands_before_tls() {
    let server = start(Limits::default());
    for header in [LINE.as_bytes().to_vec(), binary_line(true)] {
        for cut in [0, 1, header.len() - 1] {
            let mut socket = connect(server.https);
            socket.write_all(&header[..cut]).unwrap();
            server.handle.report(PATIENCE);
            socket.write_all(&header[cut..]).unwrap();
            let mut client = Client::new(server.seal(socket, b"http/1.1"));
            client.send(HEALTH);
            client.until(WELL);
            client.send(asking(""));
            assert!(client.until("\r\n").contains(" 101 "), "TLS all the way");
        }
    }
    assert!(server.stop());
}

#[test]
fn who_has_to_say_it_and_does_not_is_closed_without_an_answer() {
    let server = start(Limits::default());
    for octets in [
        HEALTH.as_bytes(),
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 7 443\nGET / HTTP/1.1\r\n",
        &binary(0x22, 0x11, &[0; 12]),
        &binary(0x21, 0x11, &[0; 11]),
        &binary(0x21, 0x11, &[0; 1_000]),
        &[LINE.as_bytes(), &[b'x'; 200]].concat()[6..],
    ] {
        for address in [server.http, server.https] {
            let mut client = talk(address);
            client.send(octets);
            assert_eq!(last_words(client.socket), b"", "{}", octets.escape_ascii());
        }
    }
    server.until("their end", |reports| links(reports) == 0);
    let refused = |report: &ShardReport| report.io.refused;
    let reports = server.handle.report(PATIENCE);
    assert_eq!(sum(&reports, refused), 16);
    assert_eq!(sum(&reports, |report| report.io.accepted), 0);
    assert!(server.stop());
}

#[test]
fn who_is_no_proxy_must_not_say_it() {
    let mut plain = behind_proxies(Limits::default());
    plain.http.proxies = Networks::new(["192.0.2.1"]).unwrap();
    let mut off = behind_proxies(Limits::default());
    off.http.proxy_protocol = false;
    for policy in [plain, off] {
        let server = Server::start_with(false, 1, policy);
        let mut plain = talk(server.http);
        plain.send(HEALTH);
        plain.until(WELL);
        drop(plain);
        for header in [LINE.as_bytes().to_vec(), binary_line(true)] {
            let mut client = talk(server.http);
            client.send([&header, HEALTH.as_bytes()].concat());
            let answer = String::from_utf8(last_words(client.socket)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(!answer.contains(WELL), "{answer}");
            let mut client = talk(server.https);
            client.send([&header, HEALTH.as_bytes()].concat());
            let alert = last_words(client.socket);
            assert_eq!(alert.first(), Some(&21), "an alert and nothing else");
        }
        assert!(server.stop());
    }
}

#[test]
fn time_and_the_end_of_a_header_that_does_not_come_are_bounded() {
    let server = start(Limits {
        http_request_timeout: Duration::from_secs(1),
        ..Limits::default()
    });
    let mut late: Vec<_> = ["", "PROXY", "\r\n\r\n\0"]
        .into_iter()
        .map(|beginning| {
            let mut client = talk(server.http);
            client.send(beginning);
            client
        })
        .collect();
    // Who hangs up instead is not waited for.
    let gone = talk(server.http).socket;
    (&gone).write_all(b"PROXY TCP4").unwrap();
    gone.shutdown(Shutdown::Write).unwrap();
    assert_eq!(last_words(gone), b"");
    for client in late.drain(..) {
        assert_eq!(last_words(client.socket), b"");
    }
    // Who said it has the time of a request, as everybody.
    let mut client = talk(server.http);
    client.send(LINE);
    client.send(&HEALTH[..10]);
    let answer = String::from_utf8(last_words(client.socket)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    server.until("the last link's end", |reports| links(reports) == 0);
    assert!(server.stop());
}

/// A program on the proxy's host that says nothing keeps nobody out.
#[test]
fn links_without_a_header_do_not_fill_the_table() {
    let server = start(Limits {
        links_max: 16,
        http_request_timeout: PATIENCE * 10,
        ..Limits::default()
    });
    let mut silent: Vec<_> = (0..40).map(|_| talk(server.http)).collect();
    // The oldest goes when there are too many, and a header comes at once as a rule.
    assert_eq!(last_words(silent.remove(0).socket), b"");
    for _ in 0..10 {
        let mut client = talk(server.http);
        client.send(LINE);
        client.send(HEALTH);
        client.until(WELL);
    }
    server.until("a bound", |reports| links(reports) <= 4);
    // Who was named in time is not one of them.
    let mut named = Vec::new();
    for _ in 0..8 {
        let mut client = talk(server.http);
        client.send(LINE);
        client.send(HEALTH);
        client.until(WELL);
        named.push(client);
    }
    silent.extend((0..10).map(|_| talk(server.http)));
    for client in &mut named {
        client.send(HEALTH);
        client.until(WELL);
    }
    drop(silent);
}

#[test]
fn the_address_it_names_is_the_one_that_counts() {
    let server = start(Limits {
        links_per_address_max: 2,
        ..Limits::default()
    });
    let line = |host: usize| format!("PROXY TCP4 203.0.113.{host} 127.0.0.1 7 443\r\n");
    let open = |header: &str| {
        let mut client = talk(server.http);
        client.send(header);
        client.send(HEALTH);
        client
    };
    // Two each for many: the proxy's own address would be full.
    let mut all = Vec::new();
    for host in [1, 1, 2, 2, 3, 3] {
        let mut client = open(&line(host));
        client.until(WELL);
        all.push(client);
    }
    for host in 1..=3 {
        assert_eq!(last_words(open(&line(host)).socket), b"", "a third one");
    }
    // Who is not named counts as the proxy itself.
    for unsaid in ["PROXY UNKNOWN\r\n"; 2] {
        let mut client = open(unsaid);
        client.until(WELL);
        all.push(client);
    }
    assert_eq!(last_words(open("PROXY UNKNOWN\r\n").socket), b"");
    drop(all);
    server.until("the last link's end", |reports| links(reports) == 0);
    open(&line(1)).until(WELL);
    assert!(server.stop());
}

/// `c2s.require_tls` with everything that a proxy may say of a client in clear.
#[test]
fn a_login_is_as_secure_as_its_whole_way() {
    let server = start(Limits::default());
    let secure = binary_line(true);
    let local = binary(0x20, 0x00, &[]);
    let unspecified = binary(0x21, 0x00, &[]);
    let this_machine = b"PROXY TCP4 127.0.0.1 127.0.0.1 7 443\r\n";
    let another_proxy = b"PROXY TCP4 127.0.0.9 127.0.0.1 7 443\r\n";
    let stranger = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n";
    let tls = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
    let here = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n";
    for (title, header, fields, expected) in [
        ("from elsewhere in clear", LINE.as_bytes(), "", 403),
        ("the same in octets", &binary_line(false), "", 403),
        ("what it says itself is nothing", LINE.as_bytes(), tls, 403),
        ("nor that it is here", LINE.as_bytes(), here, 403),
        ("TLS ends at the proxy", &secure, "", 101),
        ("and nothing makes it worse", &secure, stranger, 101),
        ("from this machine", this_machine, "", 101),
        ("a proxy in front", another_proxy, "", 101),
        ("which is believed", another_proxy, stranger, 403),
        ("and again", another_proxy, tls, 101),
        ("from nobody knows where", b"PROXY UNKNOWN\r\n", "", 403),
        ("whatever it says", b"PROXY UNKNOWN\r\n", here, 403),
        ("the proxy itself", &local, tls, 403),
        ("nobody in octets", &unspecified, here, 403),
    ] {
        let answer = upgrade(server.http, header, fields);
        assert!(
            answer.contains(&format!(" {expected} ")),
            "{title}: {answer}"
        );
    }
    assert!(server.stop());
}

/// They are for this machine, and a proxy may be anywhere.
#[test]
fn counters_are_told_to_nobody_through_a_proxy() {
    let server = start(Limits::default());
    for header in [
        "PROXY TCP4 127.0.0.1 127.0.0.1 7 443\r\n",
        "PROXY UNKNOWN\r\n",
        LINE,
    ] {
        let mut client = talk(server.http);
        client.send(header);
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.until("\r\n").contains(" 403 "), "{header}");
    }
    assert!(server.stop());
}

/// Nobody waits for a header that may never come.
#[test]
fn the_server_ends_while_headers_are_due() {
    let server = start(Limits::default());
    let clients: Vec<_> = (0..4).map(|_| talk(server.http)).collect();
    server.until("links", |reports| links(reports) == 4);
    assert!(server.stop());
    for client in clients {
        assert_eq!(last_words(client.socket), b"");
    }
}
