//! Answers as they are on the wire.

use proptest::prelude::*;

use super::*;

const KEPT: Manner = Manner::new(Version::Http11, Method::Get, true);
const HEAD: Manner = Manner::new(Version::Http11, Method::Head, true);
const OLD: Manner = Manner::new(Version::Http10, Method::Get, true);
const TAIL: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n\r\n";

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before".to_vec();
    write(&mut out);
    String::from_utf8(out.split_off("before".len())).unwrap()
}

#[test]
fn a_body_has_its_type_and_length() {
    let answer = text(|out| {
        Answer::new(out, Status::Ok, KEPT)
            .field("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .retry_after(5)
            .body("text/plain", b"abc");
    });
    let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: 5\r\n\
        Content-Type: text/plain\r\nContent-Length: 3\r\n";
    assert_eq!(answer, format!("{expected}{TAIL}abc"));
}

#[test]
fn the_link_s_future_is_told_where_it_is_not_the_rule() {
    for (manner, line) in [
        (KEPT, ""),
        (KEPT.closing(), "Connection: close\r\n"),
        (OLD, "Connection: keep-alive\r\n"),
        (OLD.closing(), "Connection: close\r\n"),
        (Manner::REFUSED, "Connection: close\r\n"),
    ] {
        let answer = text(|out| Answer::new(out, Status::Ok, manner).empty());
        let expected = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{line}{TAIL}");
        assert_eq!(answer, expected, "{manner:?}");
    }
}

#[test]
fn where_there_may_be_no_body_there_is_none() {
    let head = text(|out| Answer::new(out, Status::Ok, HEAD).body("text/plain", b"abc"));
    assert!(head.contains("Content-Length: 3\r\n") && head.ends_with(TAIL));
    for (status, line) in [
        (Status::NoContent, "HTTP/1.1 204 No Content\r\n"),
        (Status::NotModified, "HTTP/1.1 304 Not Modified\r\n"),
    ] {
        let answer = text(|out| Answer::new(out, status, KEPT).body("text/plain", b"abc"));
        assert_eq!(answer, format!("{line}{TAIL}"));
        let answer = text(|out| {
            let coding = Answer::new(out, status, KEPT).stream("text/plain");
            coding.chunk(b"abc", out);
            coding.last_chunk(out);
        });
        assert_eq!(answer, format!("{line}Content-Type: text/plain\r\n{TAIL}"));
    }
}

#[test]
fn a_stream_is_chunked_or_ends_with_the_link() {
    for (manner, coding, framing, body) in [
        (
            KEPT,
            Coding::Chunked,
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
        ),
        (
            OLD,
            Coding::UntilClose,
            "Connection: close\r\n",
            "abc0123456789abcdef",
        ),
        (HEAD, Coding::Nothing, "", ""),
    ] {
        let answer = text(|out| {
            let found = Answer::new(out, Status::Ok, manner).stream("text/event-stream");
            assert_eq!(found, coding);
            for piece in ["abc", "", "0123456789abcdef"] {
                found.chunk(piece.as_bytes(), out);
            }
            found.last_chunk(out);
        });
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
        assert_eq!(answer, format!("{head}{framing}{TAIL}{body}"));
    }
}

#[test]
fn a_page_has_a_policy() {
    let page = |policy: Option<&str>| {
        text(|out| {
            let mut answer = Answer::new(out, Status::Ok, KEPT).cache("max-age=60");
            if let Some(policy) = policy {
                answer = answer.field(POLICY, policy);
            }
            answer.body("text/html; charset=utf-8", b"<p>");
        })
    };
    let default = page(None);
    assert!(default.contains("\r\nContent-Security-Policy: default-src 'none';"));
    assert!(default.contains("\r\nCache-Control: max-age=60\r\n"));
    assert!(!default.contains("no-store"));
    let own = page(Some("default-src 'self'"));
    assert_eq!(own.matches("Content-Security-Policy").count(), 1);
    assert!(own.contains("\r\nContent-Security-Policy: default-src 'self'\r\n"));
}

#[test]
fn a_value_that_leaves_its_line_replaces_the_answer() {
    for value in ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\x7f", "\t"] {
        let answer = text(|out| {
            Answer::new(out, Status::Ok, KEPT)
                .field("Location", value)
                .body("text/plain", b"secret");
        });
        let expected = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\
            Connection: close\r\n";
        assert_eq!(answer, format!("{expected}{TAIL}"), "{value:?}");
        let answer = text(|out| {
            let coding = Answer::new(out, Status::Ok, KEPT).stream(value);
            coding.chunk(b"secret", out);
            coding.last_chunk(out);
        });
        assert_eq!(answer, format!("{expected}{TAIL}"), "{value:?}");
    }
}

#[test]
fn problems_are_documents() {
    let answer = text(|out| {
        problem(
            out,
            KEPT,
            &Problem {
                status: Status::NotFound,
                code: "no-such-session",
                title: "There is no such session.",
                detail: "\"a\\b\"\r\n<\u{e4}>\0",
            },
        );
    });
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n")
    );
    assert_eq!(
        body,
        "{\"status\":404,\"code\":\"no-such-session\",\"title\":\"There is no such session.\",\
         \"detail\":\"\\\"a\\\\b\\\"\\u000d\\n\\u003c\u{e4}\\u003e\\u0000\"}"
    );
    for refusal in Refusal::ALL {
        let answer = text(|out| refuse(out, *refusal));
        assert!(answer.starts_with(refusal.status().line()), "{refusal:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{refusal:?}");
        // Without a resource nobody can say what it allows.
        assert_ne!(refusal.status(), Status::MethodNotAllowed, "{refusal:?}");
        assert!(answer.contains(refusal.code()), "{refusal:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_string_of_json(text in "\\PC{0,8}[\0-\x20\"\\\\<]{0,4}\\PC{0,4}") {
        let mut out = Vec::new();
        write_json_string(&text, &mut out);
        let read: String = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(read, text);
    }

    /// Whatever a value is, there is one head with the lines that were asked for, and no more.
    #[test]
    fn no_value_makes_lines(value in "[ -~\r\n\t\0]{0,12}") {
        let answer = text(|out| Answer::new(out, Status::Ok, KEPT).field("X", &value).empty());
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut slots);
        let found = parsed.parse(answer.as_bytes()).unwrap();
        prop_assert_eq!(found, httparse::Status::Complete(answer.len()));
        prop_assert_eq!(parsed.headers.len(), 6);
    }
}
