//! The generator against a server that misbehaves: whatever goes wrong is counted, named, and shows
//! in the exit code, and every run ends by itself.

mod fake;

use std::process::Command;

use fake::Fault;
use serde_json::Value;

struct Run {
    code: Option<i32>,
    report: Value,
}

/// A short chat of three pairs with four messages under way in each.
fn chat(fault: Fault) -> Run {
    run(
        fault,
        &[
            "chat",
            "--pairs",
            "3",
            "--window",
            "4",
            "--warmup",
            "0",
            "--seconds",
            "1",
        ],
    )
}

fn run(fault: Fault, arguments: &[&str]) -> Run {
    let address = fake::start(fault).to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
        .args(arguments)
        .args(["--server", &address, "--timeout", "1", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{output:?}"));
    Run {
        code: output.status.code(),
        report: serde_json::from_str(&text).unwrap(),
    }
}

impl Run {
    fn count(&self, kind: &str) -> u64 {
        let errors = self.report["errors"].as_array().unwrap();
        let found = errors.iter().find(|error| error["kind"] == kind);
        found.map_or(0, |error| error["count"].as_u64().unwrap())
    }

    fn kinds(&self) -> Vec<&str> {
        let errors = self.report["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| error["kind"].as_str().unwrap())
            .collect()
    }
}

#[test]
fn a_good_server_gives_no_errors() {
    let run = chat(Fault::None);
    assert_eq!(run.kinds(), Vec::<&str>::new());
    assert_eq!(run.code, Some(0));
    assert!(run.report["median"]["messages"].as_f64().unwrap() > 100.0);
    assert!(run.report["median"]["latency p50"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_lost_message_is_noticed() {
    let run = chat(Fault::Lose);
    assert_eq!((run.count("message lost"), run.code), (1, Some(1)));
    assert_eq!(run.kinds().len(), 1);
}

#[test]
fn a_doubled_message_is_noticed() {
    let run = chat(Fault::Duplicate);
    assert_eq!((run.count("message duplicated"), run.code), (1, Some(1)));
    assert_eq!(run.kinds().len(), 1);
}

#[test]
fn a_message_out_of_order_is_noticed_and_is_not_lost() {
    let run = chat(Fault::Swap);
    assert_eq!((run.count("message out of order"), run.code), (1, Some(1)));
    assert_eq!(run.kinds().len(), 1);
}

#[test]
fn a_message_for_somebody_else_is_noticed() {
    let run = chat(Fault::Misdeliver);
    assert_eq!((run.count("message misdelivered"), run.code), (1, Some(1)));
    assert_eq!(run.count("message lost"), 1);
}

#[test]
fn a_refused_message_is_named_by_its_condition() {
    let run = chat(Fault::Bounce);
    assert_eq!(
        (run.count("message refused: service-unavailable"), run.code),
        (1, Some(1))
    );
}

#[test]
fn a_stream_error_is_named_by_its_condition() {
    let run = chat(Fault::Throw);
    assert_eq!(
        (run.count("stream error: policy-violation"), run.code),
        (1, Some(1))
    );
}

#[test]
fn a_server_that_refuses_everybody_leaves_nothing_measured() {
    let run = chat(Fault::Refuse);
    assert_eq!(
        (run.count("refused: not-authorized"), run.code),
        (6, Some(3))
    );
}

#[test]
fn a_server_that_says_nothing_is_described() {
    let run = chat(Fault::Mute);
    let kind = "timeout while waiting for stream features";
    assert_eq!((run.count(kind), run.code), (6, Some(3)));
}

#[test]
fn logins_and_idle_sessions_work_with_private_descriptors() {
    let common = ["--threads", "2", "--private-descriptors", "--sources", "3"];
    let login = [&["login", "-n", "20", "--warmup", "4"], &common[..]].concat();
    let run_of_logins = run(Fault::None, &login);
    assert_eq!(
        (run_of_logins.kinds().len(), run_of_logins.code),
        (0, Some(0))
    );
    assert_eq!(run_of_logins.report["median"]["logins"], 20.0);
    let idle = [&["idle", "-n", "20", "--hold", "1"], &common[..]].concat();
    let run_of_idlers = run(Fault::None, &idle);
    assert_eq!(
        (run_of_idlers.kinds().len(), run_of_idlers.code),
        (0, Some(0))
    );
    assert_eq!(run_of_idlers.report["median"]["sessions held"], 20.0);
}

/// An open loop goes on while a message is missing, and the rest is counted.
#[test]
fn an_open_loop_notices_what_a_closed_one_does() {
    let arguments = [
        "chat",
        "--pairs",
        "3",
        "--open-rate",
        "400",
        "--warmup",
        "0",
        "--seconds",
        "1",
    ];
    let lost = run(Fault::Lose, &arguments);
    assert_eq!((lost.count("message lost"), lost.code), (1, Some(1)));
    let doubled = run(Fault::Duplicate, &arguments);
    assert_eq!(
        (doubled.count("message duplicated"), doubled.code),
        (1, Some(1))
    );
    let swapped = run(Fault::Swap, &arguments);
    assert_eq!(
        (swapped.count("message out of order"), swapped.code),
        (1, Some(1))
    );
}

/// Whatever the kind, a server that is of no use is described, and the run ends.
#[test]
fn every_kind_ends_where_nobody_may_log_in() {
    let kinds: [&[&str]; 6] = [
        &["idle", "-n", "6"],
        &["presence", "-n", "6", "--contacts", "2"],
        &["offline", "--receivers", "6"],
        &["reconnect", "-n", "6"],
        &["churn", "-n", "6", "--warmup", "0", "--seconds", "1"],
        &["mixed", "-n", "60", "--contacts", "2"],
    ];
    for arguments in kinds {
        let run = run(Fault::Refuse, arguments);
        assert!(run.count("refused: not-authorized") >= 6, "{arguments:?}");
        assert_eq!(run.code, Some(3), "{arguments:?}");
    }
}

/// This server answers no ping and keeps no message: the run says so, and ends.
#[test]
fn a_server_that_stores_nothing_is_described() {
    let run = run(
        Fault::None,
        &["offline", "--receivers", "2", "--messages", "3"],
    );
    assert_eq!(run.count("stalled while storing messages"), 6);
    assert_eq!((run.count("message lost"), run.code), (6, Some(3)));
}

/// A server that is not there is an error of its own, and no panic.
#[test]
fn a_port_that_nobody_listens_at_is_described() {
    // Bound and not listening: nobody else can take it meanwhile.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let address = address.to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
        .args(["idle", "-n", "2", "--server", &address, "--json"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("connect: "), "{text}");
}

/// The generator may not become a weapon.
#[test]
fn addresses_elsewhere_are_refused() {
    for address in ["192.0.2.1:5222", "[2001:db8::1]:5222", "0.0.0.0:5222"] {
        let output = Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
            .args(["login", "--server", address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not a loopback address"), "{said}");
        assert!(said.contains("--i-own-the-target"), "{said}");
    }
}

/// Who owns a machine names that machine; all others stay refused.
#[test]
fn an_owned_target_is_that_address_only() {
    let output = Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
        .args(["login", "--server", "192.0.2.1:5222"])
        .args(["--i-own-the-target", "192.0.2.2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
