//! Broadcasts against a server of topics that is just enough of one: what is counted must be right,
//! and what a listener does not get must be noticed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// How the server sends event streams, and what it does wrong with the third event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As nchan does: the stream lasts as long as its connection.
    Plain,
    Chunks,
    /// One listener does not get it.
    Loses,
    /// One listener gets it twice.
    Doubles,
}

#[derive(Default)]
struct Topic {
    listeners: Vec<TcpStream>,
    events: usize,
}

/// Starts the server; it lives as long as the test.
fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let topic = Arc::new(Mutex::new(Topic::default()));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let topic = Arc::clone(&topic);
            thread::spawn(move || while serve(&socket, manner, &topic).is_some() {});
        }
    });
    address
}

/// Answers one request; none when there are no more.
fn serve(mut socket: &TcpStream, manner: Manner, topic: &Mutex<Topic>) -> Option<()> {
    // The generator sends its next request when it has the answer, so that nothing is read ahead.
    let mut reader = BufReader::new(socket);
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let first = lines.next()?;
    let fields: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let length = fields
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let mut topic = topic.lock().unwrap();
    if first.starts_with("GET /sub/load ") {
        assert!(
            fields
                .iter()
                .any(|line| line == "Accept: text/event-stream")
        );
        let packed = match manner {
            Manner::Chunks => "Transfer-Encoding: chunked\r\n",
            _ => "",
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{packed}\r\n");
        socket.write_all(head.as_bytes()).ok()?;
        send(socket, manner, ": hi\n\n");
        topic.listeners.push(socket.try_clone().unwrap());
        return Some(());
    }
    assert!(first.starts_with("POST /pub/load "), "{first}");
    topic.events += 1;
    let event = format!("id: 1\ndata: {}\n\n", String::from_utf8(body).unwrap());
    let is_third = topic.events == 3;
    for (number, listener) in topic.listeners.iter().enumerate() {
        let times = match manner {
            Manner::Loses if is_third && number == 0 => 0,
            Manner::Doubles if is_third && number == 0 => 2,
            _ => 1,
        };
        (0..times).for_each(|_| send(listener, manner, &event));
    }
    let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok";
    socket.write_all(answer).ok()
}

fn send(mut listener: &TcpStream, manner: Manner, text: &str) {
    let chunk = match manner {
        Manner::Chunks => format!("{:x}\r\n{text}\r\n", text.len()),
        _ => text.to_owned(),
    };
    // Who has gone misses nothing.
    let _ = listener.write_all(chunk.as_bytes());
}

/// Twenty listeners for a second.
fn broadcast(manner: Manner) -> (Option<i32>, Value) {
    let address = start(manner).to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
        .args(["broadcast", "--topics", "nchan", "--listeners", "20"])
        .args(["--events", "50", "--warmup", "0", "--seconds", "1"])
        .args(["--threads", "2", "--timeout", "5", "--server", &address])
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), serde_json::from_str(&text).unwrap())
}

#[test]
fn every_listener_gets_every_event() {
    for manner in [Manner::Plain, Manner::Chunks] {
        let (code, report) = broadcast(manner);
        assert_eq!(report["errors"], serde_json::json!([]));
        assert_eq!(code, Some(0));
        let figure = |name: &str| report["median"][name].as_f64().unwrap();
        assert_eq!(figure("sessions held"), 21.0);
        assert!(figure("events delivered") >= 20.0);
        assert!(figure("latency p50") > 0.0);
    }
}

#[test]
fn an_event_that_a_listener_misses_or_gets_twice_is_an_error() {
    for (manner, kind) in [
        (Manner::Loses, "event lost"),
        (Manner::Doubles, "event duplicated or out of order"),
    ] {
        let (code, report) = broadcast(manner);
        let errors = report["errors"].as_array().unwrap();
        let found: Vec<_> = errors.iter().map(|e| (&e["kind"], &e["count"])).collect();
        assert_eq!(found, [(&Value::from(kind), &Value::from(1))]);
        assert_eq!(code, Some(1));
    }
}
