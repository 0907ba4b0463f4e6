//! Each kind of scenario, briefly, against the real server: what is counted must be right.

mod real;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use real::{GENERATOR, Server, TOPIC_KEY};
use serde_json::Value;

/// Runs a scenario, given as `key = value` lines, and gives its report; it must have no errors.
fn run(server: &Server, scenario: &str) -> Value {
    run_at(server, &server.address, scenario, &[])
}

/// At another address of it, with more options.
fn run_at(server: &Server, address: &str, scenario: &str, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (file, report) = (folder.path().join("a.toml"), folder.path().join("a.json"));
    std::fs::write(&file, scenario).unwrap();
    let mut command = command_at(server, address, &file, &report);
    finish(&report, &command.args(options).output().unwrap())
}

const ON_WEBSOCKET: [&str; 2] = ["--transport", "websocket"];

/// Without TLS.
fn run_on_websocket(server: &Server, scenario: &str) -> Value {
    run_at(server, &server.http, scenario, &ON_WEBSOCKET)
}

fn command(server: &Server, file: &Path, report: &Path) -> Command {
    command_at(server, &server.address, file, report)
}

fn command_at(server: &Server, address: &str, file: &Path, report: &Path) -> Command {
    let mut command = Command::new(GENERATOR);
    command
        .arg("run")
        .arg(file)
        .args(["--server", address, "--threads", "2"])
        .args(["--pid", &server.pid().to_string(), "--json"])
        .arg(report);
    command
}

fn finish(report: &Path, output: &std::process::Output) -> Value {
    let report = read(report, output);
    let errors = report["errors"].as_array().unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    report
}

fn read(report: &Path, output: &std::process::Output) -> Value {
    let text = std::fs::read_to_string(report).unwrap_or_else(|_| panic!("{output:?}"));
    serde_json::from_str(&text).unwrap()
}

fn figure(report: &Value, name: &str) -> f64 {
    let value = report["median"][name].as_f64();
    value.unwrap_or_else(|| panic!("no {name}: {}", report["median"]))
}

#[test]
fn idle_sessions_send_their_keep_alives() {
    let server = Server::start(40);
    let report = run(
        &server,
        "kind = 'idle'\nsessions = 40\nhold = 1\nkeepalive = 0.1\n",
    );
    assert_eq!(figure(&report, "sessions held"), 40.0);
    assert!(figure(&report, "keep-alives per second") > 0.0);
    assert!(report["median"]["server cores while idle"].is_number());
}

#[test]
fn a_storm_of_logins_and_logins_at_a_rate() {
    let server = Server::start(40);
    let storm = "kind = 'login'\nlogins = 40\nwarmup = 0\nstorm = true\n";
    assert_eq!(figure(&run(&server, storm), "logins"), 40.0);
    let paced = "kind = 'login'\nlogins = 20\nwarmup = 0\n[connect]\nrate = 200.0\n";
    assert_eq!(figure(&run(&server, paced), "logins"), 20.0);
}

#[test]
fn pairs_talk_in_a_closed_and_in_an_open_loop() {
    let server = Server::start(20);
    let closed = "kind = 'chat'\npairs = 10\nwindow = 3\nwarmup = 0\nseconds = 1\n";
    assert!(figure(&run(&server, closed), "messages") > 0.0);
    let open = "kind = 'chat'\npairs = 10\nopen_rate = 200.0\nwarmup = 0\nseconds = 1\n\
                [connect]\nsm = true\n";
    let report = run(&server, open);
    assert!(figure(&report, "messages") > 0.0);
    assert!(figure(&report, "latency max") >= figure(&report, "latency p50"));
}

#[test]
fn every_contact_gets_every_presence_change() {
    let server = Server::start(12);
    for subscriptions in ["ask", "exist"] {
        let report = run(
            &server,
            &format!(
                "kind = 'presence'\nsessions = 12\ncontacts = 3\nchanges = 100.0\nwarmup = 0\n\
                 seconds = 1\nsubscriptions = '{subscriptions}'\n"
            ),
        );
        assert!(
            figure(&report, "presence deliveries") > 0.0,
            "{subscriptions}"
        );
    }
}

#[test]
fn a_roster_may_come_first() {
    let server = Server::start(8);
    let report = run(
        &server,
        "kind = 'presence'\nsessions = 8\ncontacts = 3\nwarmup = 0\nseconds = 1\n\
         subscriptions = 'roster'\n",
    );
    assert!(figure(&report, "presence deliveries") > 0.0);
}

#[test]
fn stored_messages_come_once_and_in_order() {
    let server = Server::start(20);
    let report = run(
        &server,
        "kind = 'offline'\nreceivers = 10\nmessages = 25\nburst = 10\n",
    );
    assert_eq!(figure(&report, "messages stored"), 250.0);
    assert_eq!(figure(&report, "messages fetched"), 250.0);
}

/// Nothing is lost, and nothing comes twice: the server tells a resuming client what it has taken
/// when that is durable.
#[test]
fn cut_sessions_resume_and_nothing_is_lost() {
    let server = Server::start(20);
    for cut in ["reset", "close"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, report) = (folder.path().join("a.toml"), folder.path().join("a.json"));
        let scenario = format!(
            "kind = 'reconnect'\nsessions = 20\ncut = '{cut}'\nunder_way = 5\n\
             [connect]\nsm = true\nresume = true\n"
        );
        std::fs::write(&file, scenario).unwrap();
        let output = command(&server, &file, &report).output().unwrap();
        let report = read(&report, &output);
        let errors = report["errors"].as_array().unwrap();
        assert!(errors.is_empty(), "{cut}: {errors:?}");
        assert_eq!(figure(&report, "sessions resumed"), 20.0, "{cut}");
        assert_eq!(figure(&report, "messages that arrived"), 100.0, "{cut}");
        assert_eq!(
            figure(&report, "messages lost unacknowledged"),
            0.0,
            "{cut}"
        );
    }
}

#[test]
fn cut_sessions_return_without_resumption() {
    let server = Server::start(20);
    for more in ["ends = 'both'", "ends = 'one'\n[connect]\nsm = true"] {
        let report = run(
            &server,
            &format!("kind = 'reconnect'\nsessions = 20\ncut = 'reset'\n{more}\n"),
        );
        assert_eq!(
            figure(&report, "sessions back"),
            figure(&report, "sessions cut"),
            "{more}"
        );
        assert_eq!(figure(&report, "sessions resumed"), 0.0, "{more}");
    }
}

#[test]
fn sessions_return_to_a_server_that_was_killed() {
    let mut server = Server::start(20);
    let folder = tempfile::tempdir().unwrap();
    let (file, report) = (folder.path().join("a.toml"), folder.path().join("a.json"));
    let scenario = "kind = 'reconnect'\nsessions = 20\ncut = 'server'\n[connect]\nsm = true\n";
    std::fs::write(&file, scenario).unwrap();
    let mut child = command(&server, &file, &report)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("waiting for the server")));
    server.kill_and_start();
    // Read to the end, so that it never waits for us.
    said.for_each(drop);
    let report = finish(&report, &child.wait_with_output().unwrap());
    assert_eq!(figure(&report, "sessions cut"), 20.0);
    assert_eq!(figure(&report, "sessions back"), 20.0);
}

#[test]
fn sessions_come_and_go() {
    let server = Server::start(30);
    let report = run(
        &server,
        "kind = 'churn'\nsessions = 10\nstay = 0.1\nabrupt = 50\nwarmup = 0\nseconds = 2\n\
         [connect]\naccounts = 30\n",
    );
    assert!(figure(&report, "logins") > 10.0);
    assert!(figure(&report, "connections reset") > 0.0);
}

#[test]
fn all_of_them_go_together() {
    let server = Server::start(100);
    let report = run(
        &server,
        "kind = 'mixed'\nsessions = 100\nwatching = 20\ncontacts = 4\nstay = 0.2\nkeepalive = 1.0\n\
         open_rate = 100.0\nwarmup = 0\nseconds = 2\n",
    );
    assert!(figure(&report, "messages per second") > 0.0);
    assert!(figure(&report, "presence deliveries") > 0.0);
    assert!(figure(&report, "visits per second") > 0.0);
}

#[test]
fn idle_sessions_on_a_websocket_send_pings() {
    let server = Server::start(40);
    let scenario = "kind = 'idle'\nsessions = 40\nhold = 1\nkeepalive = 0.1\n";
    let report = run_on_websocket(&server, scenario);
    assert_eq!(figure(&report, "sessions held"), 40.0);
    assert!(figure(&report, "keep-alives per second") > 0.0);
    assert_eq!(report["options"]["transport"], "websocket");
}

#[test]
fn pairs_talk_over_websockets_and_from_behind_tls() {
    let server = Server::start(20);
    let closed = "kind = 'chat'\npairs = 10\nwindow = 3\nwarmup = 0\nseconds = 1\n";
    assert!(figure(&run_on_websocket(&server, closed), "messages") > 0.0);
    let open = "kind = 'chat'\npairs = 10\nopen_rate = 200.0\nsize = 20000\nwarmup = 0\n\
                seconds = 1\n[connect]\nsm = true\ntransport = 'websocket'\ntls = 'direct'\n";
    let report = run_at(&server, &server.https, open, &[]);
    assert!(figure(&report, "messages") > 0.0);
}

#[test]
fn cut_websockets_are_resumed_and_nothing_is_lost() {
    let server = Server::start(20);
    for cut in ["reset", "close"] {
        let scenario = format!(
            "kind = 'reconnect'\nsessions = 20\ncut = '{cut}'\nunder_way = 5\n\
             [connect]\nsm = true\nresume = true\n"
        );
        let report = run_on_websocket(&server, &scenario);
        let lost = figure(&report, "messages lost unacknowledged");
        assert_eq!(figure(&report, "sessions resumed"), 20.0, "{cut}");
        assert_eq!(figure(&report, "messages that arrived"), 100.0, "{cut}");
        assert_eq!(lost, 0.0, "{cut}");
    }
}

#[test]
fn all_else_goes_over_websocket_too() {
    let server = Server::start(100);
    let storm = "kind = 'login'\nlogins = 40\nwarmup = 0\nstorm = true\n";
    assert_eq!(figure(&run_on_websocket(&server, storm), "logins"), 40.0);
    let stored = "kind = 'offline'\nreceivers = 10\nmessages = 25\nburst = 10\n";
    let report = run_on_websocket(&server, stored);
    assert_eq!(figure(&report, "messages fetched"), 250.0);
    let mixed = "kind = 'mixed'\nsessions = 100\nwatching = 20\ncontacts = 4\nstay = 0.2\n\
                 keepalive = 1.0\nopen_rate = 100.0\nwarmup = 0\nseconds = 2\n";
    let report = run_on_websocket(&server, mixed);
    assert!(figure(&report, "messages per second") > 0.0);
    assert!(figure(&report, "presence deliveries") > 0.0);
    assert!(figure(&report, "visits per second") > 0.0);
}

#[test]
fn a_websocket_that_is_refused_says_why() {
    let server = Server::start(1);
    let said = |address: &str, options: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let (file, report) = (folder.path().join("a.toml"), folder.path().join("a.json"));
        let scenario = "kind = 'login'\nlogins = 1\nwarmup = 0\n";
        std::fs::write(&file, scenario).unwrap();
        let mut command = command_at(&server, address, &file, &report);
        let output = command.args(ON_WEBSOCKET).args(options).output().unwrap();
        let report = std::fs::read_to_string(&report).unwrap_or_default();
        let report = serde_json::from_str(&report).unwrap_or(Value::Null);
        (report, output)
    };
    let (report, _) = said(&server.http, &["--path", "/elsewhere"]);
    let error = &report["errors"][0];
    assert_eq!(error["kind"], "WebSocket refused: HTTP 404", "{report}");
    let (report, _) = said(&server.address, &[]);
    let error = &report["errors"][0];
    assert_eq!(error["kind"], "the server sent no HTTP", "{report}");
    let (_, output) = said(&server.http, &["--tls", "starttls"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("no STARTTLS on HTTP"), "{words}");
    assert_eq!(words.trim_end().lines().count(), 1, "{words}");
}

#[test]
fn pairs_talk_over_bosh() {
    let server = Server::start(20);
    for answer in ["echo", "one-way"] {
        let chat = format!(
            "kind = 'chat'\npairs = 10\nwindow = 3\nanswer = '{answer}'\nwarmup = 0\n\
             seconds = 1\n[connect]\ntransport = 'bosh'\n"
        );
        let report = run_at(&server, &server.http, &chat, &[]);
        assert!(figure(&report, "messages") > 0.0, "{answer}");
        let report = run_at(&server, &server.https, &chat, &["--tls", "direct"]);
        assert!(figure(&report, "messages") > 0.0, "{answer}, TLS");
    }
}

#[test]
fn all_else_goes_over_bosh_too() {
    let server = Server::start(100);
    let on_bosh = |scenario: &str| {
        let options = ["--transport", "bosh"];
        run_at(&server, &server.http, scenario, &options)
    };
    let storm = "kind = 'login'\nlogins = 40\nwarmup = 0\nstorm = true\n";
    assert_eq!(figure(&on_bosh(storm), "logins"), 40.0);
    let idle = "kind = 'idle'\nsessions = 40\nhold = 1\n";
    assert_eq!(figure(&on_bosh(idle), "sessions held"), 40.0);
    let stored = "kind = 'offline'\nreceivers = 10\nmessages = 25\nburst = 10\n";
    assert_eq!(figure(&on_bosh(stored), "messages fetched"), 250.0);
    let presence = "kind = 'presence'\nsessions = 12\ncontacts = 3\nchanges = 100.0\n\
                    warmup = 0\nseconds = 1\n";
    assert!(figure(&on_bosh(presence), "presence deliveries") > 0.0);
}

const JSON: [&str; 3] = ["json", "events", "poll"];

#[test]
fn json_sessions_are_held_and_end() {
    let server = Server::start(40);
    for transport in JSON {
        let options = ["--transport", transport];
        let idle = "kind = 'idle'\nsessions = 40\nhold = 1\n";
        let report = run_at(&server, &server.http, idle, &options);
        assert_eq!(figure(&report, "sessions held"), 40.0, "{transport}");
        let storm = "kind = 'login'\nlogins = 40\nwarmup = 0\nstorm = true\n";
        let report = run_at(&server, &server.http, storm, &options);
        assert_eq!(figure(&report, "logins"), 40.0, "{transport}");
    }
}

#[test]
fn pairs_talk_in_json() {
    let server = Server::start(20);
    let closed = "kind = 'chat'\npairs = 10\nwindow = 3\nwarmup = 0\nseconds = 1\n";
    let open = "kind = 'chat'\npairs = 10\nopen_rate = 100.0\nanswer = 'one-way'\nwarmup = 0\n\
                seconds = 1\n[connect]\ntls = 'direct'\nauth = 'scram-sha-256'\n";
    for transport in JSON {
        let options = ["--transport", transport];
        let report = run_at(&server, &server.http, closed, &options);
        assert!(figure(&report, "messages") > 0.0, "{transport}");
        assert_eq!(report["options"]["transport"], transport);
        let report = run_at(&server, &server.https, open, &options);
        assert!(figure(&report, "messages") > 0.0, "{transport}, TLS");
    }
}

#[test]
fn every_listener_gets_what_is_published() {
    let server = Server::start(41);
    let broadcast = format!(
        "kind = 'broadcast'\nlisteners = 40\nevents = 50.0\nwarmup = 0\nseconds = 1\n\
         topic = 'news'\nkey = '{TOPIC_KEY}'\n"
    );
    for transport in JSON {
        let options = ["--transport", transport];
        let report = run_at(&server, &server.http, &broadcast, &options);
        assert_eq!(figure(&report, "sessions held"), 41.0, "{transport}");
        assert!(figure(&report, "events delivered") >= 40.0, "{transport}");
    }
}

#[test]
fn what_a_transport_cannot_do_is_refused() {
    let refused = |words: &[&str]| {
        let output = Command::new(GENERATOR).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["presence", "--transport", "json"]);
    assert!(said.contains("over tcp, websocket and bosh only"), "{said}");
    let said = refused(&["chat", "--transport", "bosh", "--sm"]);
    assert!(said.contains("no stream management over bosh"), "{said}");
    let said = refused(&["broadcast", "--transport", "bosh"]);
    assert!(said.contains("over events, json and poll only"), "{said}");
}
