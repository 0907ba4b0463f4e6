//! What RFC 9110 asks for beside the requests that everybody sends, and what pages of listed
//! origins may read.

use std::sync::Arc;

use super::{ask, get, read, status_of, world};
use crate::engine::{Command, Entry};
use crate::testing::{Plan, World};
use crate::transport::http::origin::Origins;

/// A server that lets pages of one other host ask.
fn listed() -> World {
    let plan = Plan {
        entry: Entry::Http,
        accounts: vec!["romeo@localhost".into()],
        ..Plan::default()
    };
    let mut policy = plan.policy();
    policy.http.origins = Origins::new(["https://app.example"]).unwrap();
    let policy = Arc::new(policy);
    let mut world = World::new(plan);
    world.tell_all(|| Command::Reload(policy.clone()));
    world
}

fn ask_listed(octets: &str) -> String {
    let mut world = listed();
    let wire = world.connect();
    world.write(wire, octets.as_bytes());
    world.settle();
    read(&mut world, wire)
}

/// A page that is not told why takes every refusal for a broken network.
#[test]
fn listed_pages_read_why_they_are_refused() {
    let origin = "Host: chat.example\r\nOrigin: https://app.example\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, status) in [
        (format!("GET /v1/nothing HTTP/1.1\r\n{origin}\r\n"), "404"),
        (format!("PUT /v1/session HTTP/1.1\r\n{origin}\r\n"), "405"),
        (
            format!("POST /v1/messages HTTP/1.1\r\n{origin}Content-Length: 99999999\r\n\r\n"),
            "413",
        ),
        (
            format!("POST /v1/messages HTTP/1.1\r\n{origin}{chunked}\r\nzz\r\n"),
            "400",
        ),
    ] {
        let answer = ask_listed(&request);
        assert_eq!(status_of(&answer), status, "{request}{answer}");
        let allowed = "\r\nAccess-Control-Allow-Origin: https://app.example\r\n";
        assert!(answer.contains(allowed), "{request}{answer}");
        let answer = ask_listed(&request.replace("app.example", "evil.example"));
        assert!(!answer.contains("Access-Control"), "{request}{answer}");
    }
}

/// RFC 9110 section 15.5.6: `Allow` is about the resource that was asked for.
#[test]
fn what_is_allowed_is_said_of_the_resource() {
    let (answer, closed) = ask("TRACE /healthz HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n");
    assert_eq!((status_of(&answer), closed), ("405", false));
    assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
    let (answer, _) = ask("TRACE /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status_of(&answer), "404");
    // No resource can be a tunnel.
    let (answer, closed) = ask("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((status_of(&answer), closed), ("501", true));
}

/// RFC 9110 section 9.3.7: the server as a whole.
#[test]
fn a_server_says_what_it_allows() {
    let (answer, closed) = ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((status_of(&answer), closed), ("204", false));
    let allow = "\r\nAllow: GET, HEAD, POST, OPTIONS, DELETE\r\n";
    assert!(answer.contains(allow), "{answer}");
}

/// RFC 9110 section 13.1.2.
#[test]
fn whoever_has_any_version_of_the_page_has_it() {
    let request = get("/").replace("\r\n\r\n", "\r\nIf-None-Match: *\r\n\r\n");
    let (answer, _) = ask(&request);
    assert_eq!(status_of(&answer), "304");
    assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
}

/// RFC 9110 section 10.1.1: nobody is asked for a body that nobody takes.
#[test]
fn a_body_that_nobody_takes_is_not_asked_for() {
    let expects = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    for (line, status) in [
        ("POST /nowhere", "404"),
        ("POST /healthz", "405"),
        ("DELETE /v1/messages", "405"),
    ] {
        let (answer, closed) = ask(&format!("{line} HTTP/1.1\r\n{expects}"));
        assert_eq!((status_of(&answer), closed), (status, true), "{line}");
    }
    let (answer, closed) = ask(&format!("POST /v1/messages HTTP/1.1\r\n{expects}"));
    assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!closed);
}

/// By DNS rebinding a page of another site is a page of whatever host it likes.
#[test]
fn counters_are_told_under_no_foreign_name() {
    let (answer, _) = ask("GET /metrics HTTP/1.1\r\nHost: evil.example:5280\r\n\r\n");
    assert_eq!(status_of(&answer), "403");
    for host in ["localhost:5280", "127.0.0.1", "[::1]:5280", "machine"] {
        let (answer, closed) = ask(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((&*answer, closed), ("", false), "{host}: it is on its way");
    }
}

/// What was asked in part is refused, so that its client tries elsewhere; who asked nothing goes.
#[test]
fn a_stop_answers_what_was_asked_in_part() {
    let mut world = world();
    let head = world.connect();
    world.write(head, b"GET /healthz HT");
    let body = world.connect();
    world.write(
        body,
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    );
    let idle = world.connect();
    world.write(idle, get("/healthz").as_bytes());
    world.settle();
    assert_eq!(status_of(&read(&mut world, idle)), "200");
    world.tell_all(|| Command::Stop);
    world.settle();
    for wire in [head, body] {
        let answer = read(&mut world, wire);
        assert_eq!(status_of(&answer), "503", "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(world.is_closed(wire));
    }
    assert_eq!(read(&mut world, idle), "");
    assert!(world.is_closed(idle));
}
