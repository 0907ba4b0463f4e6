//! Conversations over WebSocket: what a script writes as on TCP goes out in messages of RFC 7395,
//! and what comes in messages is shown as on TCP.

use std::collections::BTreeMap;
use std::time::Duration;

use encke::engine::Entry;
use encke::testing::{Crash, Plan, WireId, World};
use encke::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

use super::stage::Stage;

/// The engine on virtual time, with clients that are web pages.
pub struct WebSockets {
    world: World,
    links: BTreeMap<usize, Link>,
}

#[derive(Default)]
struct Link {
    /// What the script has written and is no whole item yet.
    outgoing: String,
    /// Whether the client's header was written.
    open: bool,
    incoming: Incoming,
}

/// What a server writes.
#[derive(Default)]
pub struct Incoming {
    /// What is no whole frame yet.
    octets: Vec<u8>,
    /// Whether the answer to the handshake was read.
    upgraded: bool,
}

impl Incoming {
    /// Takes octets. Returns the items that are whole, as on TCP.
    pub fn receive(&mut self, octets: &[u8]) -> String {
        self.octets.extend_from_slice(octets);
        let mut shown = String::new();
        if !self.upgraded {
            let text = String::from_utf8_lossy(&self.octets).into_owned();
            let Some((head, _)) = text.split_once("\r\n\r\n") else {
                return shown;
            };
            if ["408", "503"].contains(&head.get(9..12).unwrap_or_default()) {
                // Time went by in large steps while it asked, or the server stopped.
                self.octets.clear();
                return shown;
            }
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert!(format!("{head}\r\n").contains(ACCEPTED), "{head}");
            self.octets.drain(..head.len() + 4);
            self.upgraded = true;
        }
        while let Some((opcode, message, octets)) = next_frame(&self.octets) {
            self.octets.drain(..octets);
            match opcode {
                TEXT => shown.push_str(&as_on_tcp(&message)),
                CLOSE | PONG => {}
                other => panic!("an unexpected frame {other:#x}"),
            }
        }
        shown
    }
}

/// One item as on TCP, as a client's frame.
pub fn said(item: &str) -> Vec<u8> {
    if item.starts_with("<?xml") {
        let attributes = [("to", "localhost"), ("version", "1.0")];
        let attr = |name: &str| attributes.iter().find(|(known, _)| *known == name);
        return frame(&open(|name| attr(name).map(|(_, value)| (*value).into())));
    }
    match item {
        "</stream:stream>" => frame("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"),
        _ => frame(&qualified(item)),
    }
}

/// A client's ping.
pub const PING: &[u8] = b"\x89\x82\0\0\0\0hi";
/// A client's answer to a ping.
pub const ALIVE: &[u8] = b"\x8a\x80\0\0\0\0";

pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n";
/// The key of the example in RFC 6455 section 1.3, and its answer.
const ACCEPTED: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PINGED: u8 = 0x89;
const PONG: u8 = 0x8a;

impl WebSockets {
    pub fn new(plan: Plan) -> Self {
        let entry = Entry::Http;
        Self {
            world: World::new(Plan { entry, ..plan }),
            links: BTreeMap::new(),
        }
    }

    fn say(&mut self, link: usize, message: &str) {
        self.world.write(WireId::of(link), &frame(message));
    }

    /// Says what is whole of what the script has written.
    fn say_items(&mut self, link: usize) {
        loop {
            let entry = self.links.entry(link).or_default();
            let scope = match entry.open {
                true => StreamScope::standard(),
                false => StreamScope::closed(),
            };
            let mut scanner = Scanner::new();
            let text = entry.outgoing.clone();
            let (taken, message) = match scanner.next(text.as_bytes(), &scope, &BOUNDS) {
                Ok(Progress::Incomplete) => return,
                Ok(Progress::Blank(taken)) => (taken, None),
                Ok(Progress::Header(taken)) => {
                    entry.open = true;
                    let header = scanner.header(&text.as_bytes()[..taken]);
                    (taken, Some(open(|name| header.attr(name))))
                }
                Ok(Progress::Element(taken)) => (taken, Some(qualified(text[..taken].trim()))),
                Ok(Progress::End(taken)) => {
                    let close = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
                    (taken, Some(close.to_owned()))
                }
                // The server is to find out what is wrong with it.
                Err(_) => (text.len(), Some(text.clone())),
            };
            entry.outgoing.drain(..taken);
            if let Some(message) = message {
                self.say(link, &message);
            }
        }
    }
}

impl Stage for WebSockets {
    fn connect(&mut self) -> usize {
        let wire = self.world.connect();
        self.world.write(wire, HANDSHAKE.as_bytes());
        wire.number()
    }

    fn write(&mut self, link: usize, text: &str) {
        self.links.entry(link).or_default().outgoing.push_str(text);
        self.say_items(link);
    }

    fn settle(&mut self) {
        self.world.settle();
        self.world.check();
    }

    fn read(&mut self, link: usize) -> Vec<u8> {
        let octets = self.world.read(WireId::of(link));
        let entry = self.links.entry(link).or_default();
        let shown = entry.incoming.receive(&octets);
        entry.open &= !shown.contains("<success");
        shown.into_bytes()
    }

    fn cut(&mut self, link: usize) {
        self.world.hang_up(WireId::of(link));
    }

    fn is_closed(&mut self, link: usize) -> bool {
        self.world.is_closed(WireId::of(link))
    }

    fn advance(&mut self, time: Duration) {
        self.world.advance(time);
    }

    fn crash(&mut self) {
        self.world.crash(Crash::PowerLost);
    }

    fn stop(&mut self) {
        self.world.stop();
    }
}

pub const BOUNDS: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: 1_000,
    attributes_max: 1_000,
    elements_max: 1_000_000,
};

/// A client's frame. A mask of zeros is a mask.
pub fn frame(message: &str) -> Vec<u8> {
    let octets = message.len();
    let mut frame = vec![TEXT];
    match octets {
        0..126 => frame.push(0x80 | octets as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(octets as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(octets as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// A server's frame: its first octet, its payload, and how many octets it took.
pub fn next_frame(octets: &[u8]) -> Option<(u8, String, usize)> {
    let (&[first, short], rest) = octets.split_first_chunk()?;
    assert!(short < 0x80, "a server masks nothing");
    let (length, head) = match short {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        short => (u64::from(short), 2),
    };
    let end = head + length as usize;
    let payload = octets.get(head..end)?;
    let text = match first {
        CLOSE | PINGED | PONG => String::new(),
        _ => String::from_utf8(payload.to_vec()).unwrap(),
    };
    Some((first, text, end))
}

fn open<'a>(attr: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) -> String {
    let mut open = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'".to_owned();
    for name in ["to", "from", "version", "xml:lang"] {
        if let Some(value) = attr(name) {
            open.push_str(&format!(" {name}='{value}'"));
        }
    }
    open + "/>"
}

/// RFC 7395 section 3.3.2: there is no header that declares a namespace.
pub fn qualified(element: &str) -> String {
    let end = element.find('>').unwrap_or(element.len());
    if element[..end].contains(" xmlns=") {
        return element.to_owned();
    }
    let name = element.find([' ', '>', '/']).unwrap_or(element.len());
    let (name, rest) = element.split_at(name);
    format!("{name} xmlns='jabber:client'{rest}")
}

/// A header as on TCP.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

fn as_on_tcp(message: &str) -> String {
    if message.starts_with("<open ") {
        return HEADER.to_owned();
    }
    if message.starts_with("<close ") {
        return "</stream:stream>".to_owned();
    }
    plain(message)
}

/// A stanza without the namespace that it must declare here; everything else as it is.
pub fn plain(item: &str) -> String {
    let stanza = ["<message ", "<presence ", "<iq "];
    if !stanza.iter().any(|name| item.starts_with(name)) {
        return item.to_owned();
    }
    let plain = item.replacen(" xmlns='jabber:client'", "", 1);
    assert_ne!(plain, item, "an item is a document of its own");
    plain
}
