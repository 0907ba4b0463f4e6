//! What we accept, and what we read from it, compared with another parser of XML for XMPP.
//!
//! Justified differences. Refused only here, though well-formed: text between top-level elements,
//! a header inside a stream, a header in another namespace, a carriage return at the end of an
//! attribute value (there: elsewhere in it). Refused only here, and not well-formed:
//! the namespace of `xmlns` bound to a prefix (Namespaces, section 3), `xmlns` twice. Refused only
//! there, though well-formed: a reference of 9 to 16 octets.

use proptest::prelude::*;
use rxml::{AttrMap, Event, Parse, Parser};

use super::tests::{BOUNDS, HEADER, feed_with};
use super::*;
use crate::xmpp::jid::tests::config;

/// What our scanner makes of the stream: its elements written anew, or why it refused them.
/// Incomplete input counts as refused, there as here.
fn ours(stream: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut written = HEADER.as_bytes().to_vec();
    let mut ended = false;
    feed_with([stream], &BOUNDS, |progress, element| match progress {
        Progress::Element(_) => element.tree().write(&mut written),
        Progress::End(_) => ended = true,
        _ => {}
    })?;
    written.extend_from_slice(b"</stream:stream>");
    match ended {
        true => Ok(written),
        false => Err(StreamError::Reset),
    }
}

/// The events of the other parser, as text.
fn theirs(mut stream: &[u8]) -> Option<String> {
    let mut parser = Parser::new();
    let mut depth = 0;
    let mut out = String::new();
    let mut text = String::new();
    loop {
        let event = parser.parse(&mut stream, true).ok()?;
        if !matches!(event, Some(Event::Text(..))) && !text.is_empty() {
            // White space between stanzas means nothing.
            if depth > 1 || !text.trim().is_empty() {
                out += &format!("{text:?}\n");
            }
            text.clear();
        }
        match event {
            None => return Some(out),
            Some(Event::XmlDeclaration(..)) => {}
            Some(Event::StartElement(_, (namespace, name), attrs)) => {
                depth += 1;
                if depth > 1 {
                    out += &format!("<{{{}}}{name} {}>\n", &*namespace, attributes(&attrs));
                }
            }
            Some(Event::EndElement(_)) => {
                depth -= 1;
                out += "</>\n";
            }
            Some(Event::Text(_, more)) => text += &more,
        }
    }
}

fn attributes(attrs: &AttrMap) -> String {
    let mut all: Vec<_> = attrs
        .iter()
        .map(|((namespace, name), value)| format!("{{{}}}{name}={value:?}", &**namespace))
        .collect();
    all.sort();
    all.join(" ")
}

fn compare(stream: &[u8]) {
    let shown = stream.escape_ascii().to_string();
    let theirs_of_it = theirs(stream);
    match ours(stream) {
        Ok(written) => {
            let Some(events) = theirs_of_it else {
                assert!(has_long_reference(stream), "accepted only here: {shown}");
                return;
            };
            let again = theirs(&written);
            let written = String::from_utf8_lossy(&written);
            // There octets near a return in a CDATA section get lost.
            if shown.contains("\\r") && shown.contains("CDATA") {
                return;
            }
            let events = Some(events);
            assert_eq!(
                again, events,
                "read differently: {shown}\nwritten: {written}"
            );
        }
        Err(StreamError::BadFormat | StreamError::InvalidNamespace) => {}
        Err(_) if shown.contains("http://www.w3.org/2000/xmlns/") => {}
        Err(_) if is_about_returns(stream) => {}
        Err(_) if is_about_defaults(stream) => {}
        Err(error) => assert_eq!(theirs_of_it, None, "refused only here ({error}): {shown}"),
    }
}

fn is_well_formed(stream: &[u8]) -> bool {
    use StreamError::{BadFormat, InvalidNamespace};
    matches!(ours(stream), Ok(_) | Err(BadFormat | InvalidNamespace))
}

fn is_about_returns(stream: &[u8]) -> bool {
    let returns = |&b: &u8| b == b'\r';
    let spaced: Vec<u8> = stream
        .iter()
        .map(|b| if returns(b) { b' ' } else { *b })
        .collect();
    let without: Vec<u8> = stream.iter().filter(|b| !returns(b)).copied().collect();
    spaced != stream && (is_well_formed(&spaced) || is_well_formed(&without))
}

/// There a second `xmlns` may go unnoticed.
fn is_about_defaults(stream: &[u8]) -> bool {
    // Octets that are not UTF-8 were refused by both.
    let text = String::from_utf8_lossy(stream);
    let once = text.replace(" xmlns=''", "").replace(" xmlns='urn:z'", "");
    is_well_formed(once.as_bytes())
}

fn has_long_reference(stream: &[u8]) -> bool {
    let after = |rest: &[u8]| rest.iter().position(|&b| b == b';');
    let at = |i: &usize| stream[*i..].starts_with(b"&#");
    (0..stream.len())
        .filter(at)
        .any(|i| after(&stream[i..]).is_some_and(|n| n > 8))
}

#[test]
fn seeds_are_accepted_by_both() {
    for seed in SEEDS {
        let stream = format!("{HEADER}{seed}</stream:stream>");
        assert!(theirs(stream.as_bytes()).is_some(), "{seed}");
        assert!(ours(stream.as_bytes()).is_ok(), "{seed}");
        compare(stream.as_bytes());
    }
}

#[test]
fn each_single_insertion_is_judged_alike() {
    for seed in SEEDS {
        for at in (0..=seed.len()).filter(|&at| seed.is_char_boundary(at)) {
            for piece in PIECES {
                let stream = [
                    HEADER.as_bytes(),
                    &seed.as_bytes()[..at],
                    piece,
                    &seed.as_bytes()[at..],
                    b"</stream:stream>",
                ];
                compare(&stream.concat());
            }
        }
    }
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn near_valid_xml_is_judged_alike(
        seeds in prop::collection::vec(0..SEEDS.len(), 1..3),
        changes in prop::collection::vec(
            (0..4_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            0..4,
        ),
        in_header in prop::bool::weighted(0.1),
    ) {
        let mut body: Vec<u8> = Vec::new();
        if in_header {
            body.extend_from_slice(HEADER.as_bytes());
        }
        for seed in seeds {
            body.extend_from_slice(SEEDS[seed].as_bytes());
        }
        for (kind, place, choice) in changes {
            let at = place.index(body.len() + 1);
            let to = (at + choice.index(9)).min(body.len());
            match kind {
                0 | 1 => {
                    let piece = PIECES[choice.index(PIECES.len())];
                    drop(body.splice(at..at, piece.iter().copied()));
                }
                2 => drop(body.drain(at..to)),
                _ => {
                    let copy = body[at..to].to_vec();
                    let there = choice.index(body.len() + 1);
                    body.splice(there..there, copy);
                }
            }
        }
        let mut stream = if in_header { Vec::new() } else { HEADER.as_bytes().to_vec() };
        stream.extend_from_slice(&body);
        stream.extend_from_slice(b"</stream:stream>");
        compare(&stream);
    }
}

const SEEDS: &[&str] = &[
    "<message to='a@b' type=\"chat\"><body>hi &lt;&amp;&#65;&#x20ac; there</body></message>",
    "<iq id='1'><query xmlns='jabber:iq:roster'><item jid='x@y' name='ü😀'/></query></iq>",
    "<p:a xmlns:p='urn:p' xmlns:q='urn:q' p:x='1' q:x='2' x='3'><p:b/><q:b xmlns:q='urn:r'/></p:a>",
    "<a xmlns=''><b xmlns='urn:b'> \r\n\t<c xmlns=''>x\ry</c></b ></a\n>",
    "<a><![CDATA[<&]]]]><![CDATA[>\r\n]]>]]&gt;]] ></a>",
    "<a xml:lang='en' b = '\t\n&#9;&quot;' c=\"'>\"/>\n <stream:features><x/></stream:features>",
    "<é\u{b7} ö-1.2='ä'>\u{fdd0}\u{1fffe}\u{10ffff}</é\u{b7}>",
];

const PIECES: &[&[u8]] = &[
    b"<",
    b">",
    b"/",
    b"&",
    b";",
    b"'",
    b"\"",
    b"=",
    b":",
    b" ",
    b"]",
    b"]]>",
    b"!",
    b"?",
    b"#",
    b"x",
    b"1",
    b"-",
    b"\n",
    b"\r",
    b"\t",
    b"\0",
    b"\x01",
    b"\x0b",
    b"\x1f",
    b"\x7f",
    b"</",
    b"/>",
    b"<a>",
    b"</a>",
    b"<a/>",
    b"<!-- x -->",
    b"<!DOCTYPE a>",
    b"<![CDATA[",
    b"<?x y?>",
    b"<?xml?>",
    b"<?xml version='1.0'?>",
    b"&lt;",
    b"&foo;",
    b"&#0;",
    b"&#x1;",
    b"&#xD800;",
    b"&#xFFFE;",
    b"&#x10FFFF;",
    b"&#x110000;",
    b"&#99999999999;",
    b"&#X41;",
    b"&#;",
    b"&#x;",
    b"&;",
    b" &#65",
    b" xmlns=''",
    b" xmlns='urn:z'",
    b" xmlns:p=''",
    b" xmlns:p='urn:p'",
    b" xmlns:p='urn:q'",
    b" xmlns:xml='urn:x'",
    b" xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:n='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:n='http://www.w3.org/2000/xmlns/'",
    b" xmlns='http://www.w3.org/2000/xmlns/'",
    b" xmlns='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:xmlns='urn:x'",
    b" xmlns:='x'",
    b" x='1' x='2'",
    b" p:x='1'",
    b" q:x='9'",
    b" z:x='1'",
    b" xml:x='1'",
    b" stream:x=''",
    b" a",
    b" a=",
    b" a=b",
    b" a='<'",
    b" a='&lt;'",
    b"a='b'",
    b"<xmlns:a/>",
    b"<xml:a/>",
    b"<z:a/>",
    b"<:a/>",
    b"<a:/>",
    b"<a:b:c/>",
    b"<1/>",
    b"<a:1/>",
    b"<-a/>",
    b"< a/>",
    b"</ a>",
    b"<a / >",
    b"\x80",
    b"\xc0\x80",
    b"\xc3",
    b"\xc3\xa9",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xef\xbf\xbe",
    b"\xef\xbf\xbf",
    b"\xef\xbb\xbf",
    b"\xf0\x90\x80\x80",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xcc\x80",
    b"\xc3\x97",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"<message/>",
    b"</stream:stream>",
];
