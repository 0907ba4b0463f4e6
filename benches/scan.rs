//! Finding and checking one complete element: boundaries, well-formedness, RFC 6120 section 11,
//! namespaces, bounds, the table of children. For comparison quick-xml reads the same octets with
//! namespaces, which checks far less.
//! Left out: reading from a socket, decoding of values, routing, anything done with the result.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quick_xml::NsReader;
use quick_xml::events::Event;

use encke::xmpp::jid::Jid;
use encke::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

const BOUNDS: Bounds = Bounds {
    octets_max: 262_144,
    depth_max: 64,
    attributes_max: 64,
    elements_max: 4_096,
};

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for message in messages() {
        let octets = message.len();
        group.throughput(Throughput::Bytes(octets as u64));
        let mut scanner = Scanner::new();
        let scope = StreamScope::standard();
        group.bench_function(format!("scanner_{octets}_octets"), |b| {
            b.iter(|| {
                let progress = scanner.next(black_box(message.as_bytes()), &scope, &BOUNDS);
                assert_eq!(progress, Ok(Progress::Element(octets)));
            })
        });
        group.bench_function(format!("quick_xml_{octets}_octets"), |b| {
            b.iter(|| {
                let mut reader = NsReader::from_str(black_box(&message));
                let mut events = 0_usize;
                while !matches!(reader.read_resolved_event().unwrap().1, Event::Eof) {
                    events += 1;
                }
                events
            })
        });
    }
    group.finish();
}

/// The head of a message, as routing reads it.
fn head(c: &mut Criterion) {
    let message = &messages()[0];
    let scope = StreamScope::standard();
    let mut scanner = Scanner::new();
    let octets = message.as_bytes();
    scanner.next(octets, &scope, &BOUNDS).unwrap();
    c.bench_function("head/name_to_type_children", |b| {
        b.iter(|| {
            let element = scanner.element(black_box(octets));
            let children = element
                .children()
                .filter(|c| c.is("urn:xmpp:hints", "store"));
            (
                element.is("jabber:client", "message"),
                element.attr("to"),
                element.attr("type"),
                children.count(),
            )
        })
    });
}

fn jid(c: &mut Criterion) {
    let mut group = c.benchmark_group("jid");
    for (name, text) in [
        ("ascii_normal", "juliet.capulet@example.net/balcony-7f3a"),
        ("ascii_upper", "Juliet.Capulet@example.net/balcony-7f3a"),
        ("beyond_ascii", "jülïet.capulet@example.net/balcony-7f3a"),
    ] {
        group.bench_function(name, |b| b.iter(|| Jid::parse(black_box(text)).unwrap()));
    }
    group.finish();
}

/// Messages of 184, 424 and about 2,600 octets: a short text, one with the usual extensions, one
/// with a long body and its XHTML form.
fn messages() -> [String; 3] {
    let plain = "<message to='juliet@example.net/balcony' id='ab12cd' type='chat'><body>";
    let end = "</body></message>";
    let words = "Art thou not Romeo, and a Montague? Neither, fair saint, if either thee dislike. ";
    let body = |octets: usize| words.chars().cycle().take(octets).collect::<String>();
    let short = format!("{plain}{}{end}", body(184 - plain.len() - end.len()));
    let extensions = "</body><origin-id xmlns='urn:xmpp:sid:0' id='5e0a4c2c-9d14-4b6c-8a57'/>\
        <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
        <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    let usual = format!(
        "{plain}{}{extensions}",
        body(424 - plain.len() - extensions.len())
    );
    let html = format!(
        "{plain}{}</body><html xmlns='http://jabber.org/protocol/xhtml-im'>\
         <body xmlns='http://www.w3.org/1999/xhtml'><p style='font-weight:bold'>{}<br/>{}</p>\
         <p>&lt;{}&gt;</p></body></html></message>",
        body(1_000),
        body(500),
        body(400),
        body(400),
    );
    [short, usual, html]
}

criterion_group!(benches, scan, head, jid);
criterion_main!(benches);
