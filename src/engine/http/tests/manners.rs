//! What RFC 9110 asks for beside the requests that everybody sends, and what pages of listed
//! origins may read.

use super::{get, read, status_of, world};
use crate::engine::Command;

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
