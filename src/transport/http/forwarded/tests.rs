//! Chains of proxies, honest and forged.

use super::super::{Bounds, Progress, head};
use super::*;

/// The client of a request with these lines, as `address scheme`.
fn found(peer: &str, source: Source, lines: &[&str]) -> String {
    let trusted = Networks::new(["10.0.0.0/8", "::1", "fd00::/8"]).unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
        lines.join("\r\n")
    );
    let head = head.replace("\r\n\r\n\r\n", "\r\n\r\n");
    let Ok(Progress::Complete(request)) = head::parse(head.as_bytes(), 0, &Bounds::default())
    else {
        panic!("no head: {head}");
    };
    let client = client(peer.parse().unwrap(), &request.fields, source, &trusted);
    match client.scheme {
        None => client.address.to_string(),
        Some(scheme) => format!("{} {}", client.address, scheme.name()),
    }
}

#[test]
fn a_stranger_s_word_does_not_count() {
    for source in [Source::Forwarded, Source::XForwardedFor] {
        let lines = [
            "Forwarded: for=192.0.2.1;proto=https",
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Proto: https",
        ];
        assert_eq!(found("198.51.100.1", source, &lines), "198.51.100.1");
        assert_eq!(found("::ffff:198.51.100.1", source, &lines), "198.51.100.1");
        assert_eq!(found("10.0.0.1", source, &[]), "10.0.0.1");
    }
}

#[test]
fn x_forwarded_for_is_read_from_the_right() {
    for (lines, client) in [
        (&["X-Forwarded-For: 192.0.2.1"][..], "192.0.2.1"),
        (&["x-forwarded-for: 192.0.2.1:1234"], "192.0.2.1"),
        (&["X-Forwarded-For: [2001:db8::1]:1234"], "2001:db8::1"),
        (&["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        (&["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1"),
        (&["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (
            &["X-Forwarded-For: 10.6.6.6,192.0.2.1 ,10.0.0.2"],
            "192.0.2.1",
        ),
        (
            &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"],
            "192.0.2.1",
        ),
        (
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: , 10.0.0.2,"],
            "192.0.2.1",
        ),
        (&["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (
            &["X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2"],
            "10.0.0.2",
        ),
        (&["X-Forwarded-For: 192.0.2.1, 10.0.0.256"], "10.0.0.1"),
        (&["X-Forwarded-For: 192.0.2.1:http"], "10.0.0.1"),
        (
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: HTTPS"],
            "192.0.2.1 https",
        ),
        (&["X-Forwarded-Proto: https, http"], "10.0.0.1 http"),
        (
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: wss"],
            "192.0.2.1",
        ),
        (
            &[
                "Forwarded: for=6.6.6.6;proto=https",
                "X-Forwarded-For: 192.0.2.1",
            ],
            "192.0.2.1",
        ),
        (&["Forwarded: for=6.6.6.6;proto=https"], "10.0.0.1"),
    ] {
        assert_eq!(
            found("10.0.0.1", Source::XForwardedFor, lines),
            client,
            "{lines:?}"
        );
    }
}

#[test]
fn forwarded_is_read_from_the_right() {
    for (lines, client) in [
        (&["Forwarded: for=192.0.2.1"][..], "192.0.2.1"),
        (
            &["Forwarded: For=\"192.0.2.1:80\";Proto=https;by=10.0.0.1"],
            "192.0.2.1 https",
        ),
        (&["Forwarded: for=\"[2001:db8::1]:1234\""], "2001:db8::1"),
        (&["Forwarded: for=\"[2001:db8::1]\";host=a"], "2001:db8::1"),
        (
            &["Forwarded: for=6.6.6.6;proto=https, for=192.0.2.1;proto=http"],
            "192.0.2.1 http",
        ),
        (
            &["Forwarded: for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"],
            "192.0.2.1 https",
        ),
        (
            &["Forwarded: for=6.6.6.6", "Forwarded: for=192.0.2.1"],
            "192.0.2.1",
        ),
        // A quote that the client left open swallows nothing.
        (&["Forwarded: for=\"6.6.6.6, for=192.0.2.1"], "192.0.2.1"),
        (
            &["Forwarded: for=\"6.6.6.6", "Forwarded: for=192.0.2.1"],
            "192.0.2.1",
        ),
        (
            &["Forwarded: for=6.6.6.6, for=_hidden;proto=https"],
            "10.0.0.1 https",
        ),
        (
            &["Forwarded: for=6.6.6.6, for=unknown, for=10.0.0.2"],
            "10.0.0.2",
        ),
        (
            &["Forwarded: for=6.6.6.6, for=192.0.2.1;for=192.0.2.2"],
            "10.0.0.1",
        ),
        (&["Forwarded: for=6.6.6.6, 192.0.2.1"], "10.0.0.1"),
        (&["Forwarded: for=\"192.0.2.1"], "10.0.0.1"),
        (&["Forwarded: for=\"192.0.2\\.1\""], "10.0.0.1"),
        (&["Forwarded: proto=https"], "10.0.0.1 https"),
        (
            &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"],
            "10.0.0.1",
        ),
    ] {
        assert_eq!(
            found("10.0.0.1", Source::Forwarded, lines),
            client,
            "{lines:?}"
        );
    }
}
