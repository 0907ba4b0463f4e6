//! Starting, watching, reloading and stopping, as an administrator does.

mod cli_common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cli_common::Home;
use rustix::process::Signal;

const LOOPBACK: [(&str, &str); 2] = [
    ("ENCKE__LISTEN__C2S", "127.0.0.1:0"),
    ("ENCKE__LISTEN__C2S_TLS", "127.0.0.1:0"),
];

/// What a server says to a stream header in clear.
fn greeting(address: SocketAddr, domain: &str) -> String {
    let mut link = TcpStream::connect(address).expect("connected");
    link.set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    write!(
        link,
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    .expect("written");
    let mut text = String::new();
    let mut octets = [0; 4096];
    while !text.contains("</stream:features>") && !text.contains("</stream:stream>") {
        let length = link.read(&mut octets).expect("an answer");
        assert!(length > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&octets[..length]));
    }
    text
}

#[test]
fn the_first_start_makes_a_server_to_try() {
    let home = Home::bare();
    let server = home.serve(&LOOPBACK);
    let banner = home.read("out");
    assert!(
        banner.lines().count() + home.read("log").lines().count() <= 15,
        "{banner}"
    );
    let listed = home.run(&["user", "list"]).done();
    assert_eq!(listed.lines().count(), 8);
    for name in listed.lines() {
        assert!(
            banner.contains(name.split('@').next().expect("a name")),
            "{banner}"
        );
    }
    assert!(
        banner.contains(&home.address("c2s").port().to_string()),
        "{banner}"
    );
    let key = home.path().join("encke-data/key.pem");
    let mode = |path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(key), 0o600);
    assert_eq!(mode(home.path().join("encke-data")), 0o700);
    assert_eq!(mode(home.path().join("encke-data/encke.sock")), 0o600);
    assert!(greeting(home.address("c2s"), "localhost").contains("<starttls"));
    assert_eq!(server.stop(), 0);

    home.run(&["user", "delete", "romeo@localhost"]).done();
    let server = home.serve(&LOOPBACK);
    assert_eq!(
        home.run(&["user", "list"]).done().lines().count(),
        7,
        "only made once"
    );
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_configured_server_has_no_demo_accounts() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    assert_eq!(home.run(&["user", "list"]).done(), "");
    assert_eq!(home.read("out"), "");
    let log = home.read("log");
    assert!(
        log.contains(" INFO  listening kind=c2s address=127.0.0.1:"),
        "{log}"
    );
    assert!(log.contains(" WARN  certificate-self-signed"), "{log}");
    assert_eq!(server.stop(), 0);
    assert!(home.read("log").contains(" INFO  stopped "));
    assert!(!home.path().join("encke-data/encke.sock").exists());
}

#[test]
fn status_lists_addresses_and_shards() {
    let home = Home::configured("[shards]\ncount = 2\n");
    let down = home.run(&["status"]);
    assert_eq!((down.code, down.out.as_str()), (6, ""));
    let server = home.serve(&[]);
    let status = home.status();
    assert_ne!(home.address("c2s").port(), 0);
    assert_ne!(home.address("c2s"), home.address("c2s_tls"));
    assert_eq!(status["shards"].as_array().map(Vec::len), Some(2));
    assert_eq!(status["shards"][1]["shard"], 1);
    let text = home.run(&["status"]).done();
    assert!(text.contains("sessions   0"), "{text}");
    drop(server);
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let home = Home::bare();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    home.write(
        "encke.toml",
        &format!("domain = \"b.example\"\n[listen]\nc2s = [\"{address}\"]\nc2s_tls = []\n"),
    );
    let said = home.run(&["serve"]);
    assert_eq!(said.code, 4, "{said:?}");
    let line =
        format!("encke: {address}: another program listens there; stop it or choose another port");
    assert_eq!(said.err.lines().last(), Some(line.as_str()), "{said:?}");
}

#[test]
fn a_second_server_in_the_same_directory_is_refused() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    let said = home.run(&["serve"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("is in use by process"), "{said:?}");
    assert_eq!(
        home.run(&["user", "list"]).code,
        0,
        "the first one still answers"
    );
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_directory_without_rights_is_one_clear_line() {
    let home = Home::configured("data_dir = \"/proc/nowhere\"\n");
    let home_text = home
        .read("encke.toml")
        .replace("data_dir = \"/proc/nowhere\"\n", "");
    home.write(
        "encke.toml",
        &format!("data_dir = \"/proc/nowhere\"\n{home_text}"),
    );
    let said = home.run(&["serve"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(
        said.err
            .lines()
            .last()
            .is_some_and(|line| line.contains("/proc/nowhere: "))
    );
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_what_it_had_otherwise() {
    let home = Home::configured("[limits]\ndepth_max = 32\n");
    let server = home.serve(&[]);
    let reload = || {
        server.signal(Signal::HUP);
        assert!(server.hears("RELOADING=1"));
        assert!(server.hears("READY=1"));
        home.read("log")
    };
    let old = home.read("encke.toml");

    home.write("encke.toml", &old.replace("32", "1"));
    let log = reload();
    assert!(log.contains("ERROR reload-refused"), "{log}");
    assert!(log.contains("limits.depth_max is out of bounds"), "{log}");

    home.write("encke.toml", &old.replace("32", "48\n[shards]\ncount = 1"));
    let log = reload();
    assert!(
        log.contains("WARN  needs-restart option=shards.count"),
        "{log}"
    );
    assert!(
        log.contains("INFO  reloaded changed=limits.depth_max"),
        "{log}"
    );

    home.write(
        "encke.toml",
        &format!("{old}[log]\nformat = \"json\"\ntarget = \"file.log\"\n"),
    );
    reload();
    let lines = home.read("file.log");
    let last = lines.lines().last().expect("a line");
    let line: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(line["event"], "reloaded");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_bad_certificate_is_not_taken_up() {
    let home = Home::configured("[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n");
    let make = || {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["b.example".to_owned()]).expect("a name");
        home.write("c.pem", &params.self_signed(&key).expect("signed").pem());
        home.write("k.pem", &key.serialize_pem());
    };
    make();
    let server = home.serve(&[]);
    home.write("k.pem", "nonsense");
    server.signal(Signal::HUP);
    assert!(server.hears("RELOADING=1") && server.hears("READY=1"));
    let log = home.read("log");
    assert!(log.contains("ERROR reload-refused"), "{log}");
    assert!(greeting(home.address("c2s"), "b.example").contains("<starttls"));
    make();
    server.signal(Signal::HUP);
    assert!(server.hears("RELOADING=1") && server.hears("READY=1"));
    assert_eq!(server.stop(), 0);
    assert!(home.read("log").contains("INFO  reloaded"));
}

#[test]
fn the_service_manager_hears_of_the_end() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    server.signal(Signal::INT);
    assert!(server.hears("STOPPING=1"));
}

#[test]
fn what_was_added_survives_a_kill() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    home.run(&["user", "add", "romeo@b.example", "--generate"])
        .done();
    server.kill();
    assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
    let server = home.serve(&[]);
    assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_secret_of_the_environment_never_shows() {
    let home = Home::configured("[log]\nlevel = \"debug\"\n");
    let secret = "cd".repeat(32);
    let server = home.serve(&[("ENCKE__SECRET", &secret)]);
    assert_eq!(server.stop(), 0);
    assert!(!home.read("log").contains(&secret));
    assert!(!home.path().join("encke-data/secret").exists());
}
