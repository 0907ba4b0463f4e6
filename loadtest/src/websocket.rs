//! XMPP over WebSocket as a client (RFC 6455, RFC 7395): the handshake, one item of the stream in
//! each message on the way out, and on the way in octets as on TCP, in which `<open/>` and
//! `<close/>` stand for the header and the end.
//!
//! Between two frames a link keeps its seed and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use sha1::{Digest as _, Sha1};

use crate::failure::{Failure, example};
use crate::scan::{self, Item};

/// One side of a WebSocket.
pub struct WebSocket {
    subprotocol: Subprotocol,
    /// The key of the handshake and the mask come from it.
    seed: u64,
    /// Octets that are still to come of the data frame whose head has been read.
    left: u64,
    upgraded: bool,
    /// More fragments of this message will come.
    continues: bool,
    /// A data frame has been begun and its end has not been seen.
    within: bool,
    /// The beginning of the answer to the handshake, of a head, or of a control frame.
    held: Vec<u8>,
}

/// What the messages are (RFC 6455 section 1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// Items of a stream (RFC 7395 section 3.1).
    Xmpp,
    /// Events and requests of encke's JSON. The text that is unpacked has a line for each.
    Encke,
}

impl Subprotocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Xmpp => "xmpp",
            Self::Encke => "encke.v1",
        }
    }
}

/// What octets from the server came to, beside the text in them.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    None,
    /// The handshake has succeeded: the stream may be opened.
    Upgraded,
    /// The server closes, for this reason. Nothing after that was read.
    Closed {
        code: Option<u16>,
        reason: String,
    },
}

impl News {
    fn closed(payload: &[u8]) -> Self {
        let parts = payload.split_first_chunk();
        Self::Closed {
            code: parts.map(|(code, _)| u16::from_be_bytes(*code)),
            reason: parts.map_or_else(String::new, |(_, reason)| example(reason)),
        }
    }
}

/// The `<open/>` of a stream to `domain`: what the header is on TCP.
pub fn open(domain: &str) -> String {
    format!("<open xmlns='{FRAMING}' to='{domain}' version='1.0' xml:lang='en'/>")
}

/// As [`scan::next`], where messages are unpacked: `<open/>` is the header, `<close/>` the end.
pub fn next(bytes: &[u8]) -> Item {
    match scan::next(bytes) {
        Item::Element(length) => match scan::name(bytes) {
            b"open" => Item::Header(length),
            b"close" => Item::End(length),
            _ => Item::Element(length),
        },
        other => other,
    }
}

/// The parts of a stanza that has no header around it: it declares its namespace by itself
/// (RFC 7395 section 3.3.3).
pub fn declared(element: &[u8]) -> [&[u8]; 3] {
    if scan::attribute(scan::head(element), "xmlns").is_some() {
        return [element, b"", b""];
    }
    let (name, rest) = element.split_at(1 + scan::name(element).len());
    [name, b" xmlns='jabber:client'", rest]
}

impl WebSocket {
    /// Links with different seeds have different keys and masks. Neither is a secret: they protect
    /// caches on the way from pages that choose what is sent (RFC 6455 section 10.3), and here is
    /// neither a cache nor a page. So one mask lasts as long as its link.
    pub fn new(subprotocol: Subprotocol, seed: u64) -> Self {
        Self {
            subprotocol,
            seed,
            left: 0,
            upgraded: false,
            continues: false,
            within: false,
            held: Vec::new(),
        }
    }

    /// Appends the request of the handshake, with more header lines.
    pub fn ask(&self, domain: &str, path: &str, fields: &str, out: &mut Vec<u8>) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {domain}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\
             Sec-WebSocket-Protocol: {}\r\n{fields}\r\n",
            self.key(),
            self.subprotocol.name()
        );
        out.extend_from_slice(request.as_bytes());
    }

    fn key(&self) -> String {
        let halves = [mixed(self.seed), mixed(!self.seed)];
        STANDARD.encode(halves.map(u64::to_ne_bytes).concat())
    }

    fn mask(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = mixed(self.seed).to_le_bytes();
        [a, b, c, d]
    }

    /// Packs `items`, whole and written for TCP, behind `out`: each into a message of its own.
    /// White space, which keeps a TCP link alive, becomes a ping (RFC 7395 section 3.8).
    pub fn pack(&self, items: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(rest) = items.get(at..).filter(|rest| !rest.is_empty()) {
            let blank = scan::blank(rest);
            if blank > 0 {
                self.ping(out);
                at += blank;
                continue;
            }
            at += match scan::next(rest) {
                Item::Element(length) => {
                    self.frame(TEXT, &declared(&rest[..length]), out);
                    length
                }
                Item::End(length) => {
                    let close = ["<close xmlns='", FRAMING, "'/>"].map(str::as_bytes);
                    self.frame(TEXT, &close, out);
                    length
                }
                other => unreachable!("{other:?} in what we write: {}", example(rest)),
            };
        }
    }

    /// Appends a message of its own, which is `text`.
    pub fn send(&self, text: &[u8], out: &mut Vec<u8>) {
        self.frame(TEXT, &[text], out);
    }

    pub fn ping(&self, out: &mut Vec<u8>) {
        self.frame(PING, &[], out);
    }

    /// Appends the frame that answers the end of the stream.
    pub fn close(&self, out: &mut Vec<u8>) {
        self.frame(CLOSE, &[&NORMAL.to_be_bytes()], out);
    }

    fn frame(&self, opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
        out.push(FIN | opcode);
        let octets: usize = parts.iter().map(|part| part.len()).sum();
        match octets {
            0..126 => out.push(MASKED | octets as u8),
            126..65_536 => {
                out.push(MASKED | LENGTH_16);
                out.extend_from_slice(&(octets as u16).to_be_bytes());
            }
            _ => {
                out.push(MASKED | LENGTH_64);
                out.extend_from_slice(&(octets as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&self.mask());
        let start = out.len();
        for part in parts {
            out.extend_from_slice(part);
        }
        apply(self.mask(), &mut out[start..]);
    }

    /// Unpacks what came from the server: the octets of `bytes` from `start` on become the text
    /// that is in them. Answers that must be sent are appended to `out`.
    pub fn receive(
        &mut self,
        bytes: &mut Vec<u8>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<News, Failure> {
        if !self.held.is_empty() {
            bytes.splice(start..start, std::mem::take(&mut self.held));
        }
        let (mut from, mut to) = (start, start);
        let mut news = News::None;
        if !self.upgraded {
            let Some(head) = self.answer(&bytes[start..])? else {
                self.held = bytes.split_off(start);
                return Ok(news);
            };
            self.upgraded = true;
            from += head;
            news = News::Upgraded;
        }
        loop {
            let text = usize::try_from(self.left).map_or(usize::MAX, |left| left);
            let text = text.min(bytes.len() - from);
            bytes.copy_within(from..from + text, to);
            (from, to) = (from + text, to + text);
            self.left -= text as u64;
            if self.left == 0 && std::mem::take(&mut self.within) {
                self.end_line(bytes, &mut from, &mut to);
            }
            let rest = &bytes[from..];
            let Some(head) = Head::read(rest)?.filter(|head| head.is_usable(rest)) else {
                self.held = rest.to_vec();
                break;
            };
            from += head.octets;
            if head.opcode < CLOSE {
                self.begin_data(head)?;
                continue;
            }
            let payload = &bytes[from..from + head.payload as usize];
            from += payload.len();
            match head.opcode {
                PING => self.frame(PONG, &[payload], out),
                CLOSE => {
                    news = News::closed(payload);
                    break;
                }
                _ => {}
            }
        }
        bytes.truncate(to);
        Ok(news)
    }

    /// A data frame has ended. If the message has, and is a line, its end is written where the head
    /// of the frame stood, which may have come earlier.
    fn end_line(&self, bytes: &mut Vec<u8>, from: &mut usize, to: &mut usize) {
        if self.continues || self.subprotocol == Subprotocol::Xmpp {
            return;
        }
        if to == from {
            bytes.insert(*to, b'\n');
            *from += 1;
        } else {
            bytes[*to] = b'\n';
        }
        *to += 1;
    }

    /// The length of a whole answer to the handshake, if it says yes.
    fn answer(&self, octets: &[u8]) -> Result<Option<usize>, Failure> {
        const HTTP: &[u8] = b"HTTP/1.1 ";
        if !octets.iter().zip(HTTP).all(|(octet, http)| octet == http) {
            return Err(Failure::new("the server sent no HTTP", example(octets)));
        }
        let Some(end) = memmem::find(octets, b"\r\n\r\n") else {
            return match octets.len() {
                ..=ANSWER_OCTETS_MAX => Ok(None),
                _ => Err(Failure::new("WebSocket: endless answer", example(octets))),
            };
        };
        let head = String::from_utf8_lossy(&octets[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let body = end + 4;
        let code = status.split(' ').nth(1).unwrap_or_default();
        if code != "101" {
            let said = example(&octets[body..]);
            let kind = format!("WebSocket refused: HTTP {code}");
            return Err(Failure::new(kind, format!("{status}: {said}")));
        }
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let (mut accept, mut protocol) = (None, None);
        for (name, value) in &mut fields {
            match name.to_ascii_lowercase().as_str() {
                "sec-websocket-accept" => accept = Some(value.trim()),
                "sec-websocket-protocol" => protocol = Some(value.trim()),
                _ => {}
            }
        }
        if accept != Some(accepted(&self.key()).as_str()) {
            let kind = "WebSocket: wrong Sec-WebSocket-Accept";
            return Err(Failure::new(kind, example(octets)));
        }
        let name = self.subprotocol.name();
        if protocol != Some(name) {
            let kind = format!("WebSocket: the server does not choose the subprotocol {name}");
            return Err(Failure::new(kind, example(octets)));
        }
        Ok(Some(body))
    }

    fn begin_data(&mut self, head: Head) -> Result<(), Failure> {
        let fault = match (head.opcode, self.continues) {
            (TEXT, false) | (CONTINUATION, true) => None,
            (TEXT, true) => Some("a message within a message"),
            (CONTINUATION, false) => Some("a continuation of nothing"),
            (BINARY, _) => Some("binary data"),
            _ => Some("a reserved opcode"),
        };
        self.left = head.payload;
        self.within = true;
        self.continues = !head.is_last;
        fault.map_or(Ok(()), |fault| Err(broken(fault, head.opcode)))
    }
}

/// What stands in front of a payload from the server.
#[derive(Clone, Copy)]
struct Head {
    opcode: u8,
    is_last: bool,
    octets: usize,
    payload: u64,
}

impl Head {
    /// None where it is not whole.
    fn read(octets: &[u8]) -> Result<Option<Self>, Failure> {
        let Some((&[first, second], rest)) = octets.split_first_chunk() else {
            return Ok(None);
        };
        let head = |octets, payload| Self {
            opcode: first & OPCODE,
            is_last: first & FIN != 0,
            octets,
            payload,
        };
        let head = match second & !MASKED {
            LENGTH_16 => rest
                .first_chunk()
                .map(|length| head(4, u64::from(u16::from_be_bytes(*length)))),
            LENGTH_64 => rest
                .first_chunk()
                .map(|length| head(10, u64::from_be_bytes(*length))),
            short => Some(head(2, u64::from(short))),
        };
        let is_control = first & OPCODE >= CLOSE;
        let long = is_control && (second & !MASKED > CONTROL_OCTETS_MAX || first & FIN == 0);
        match () {
            () if first & RESERVED != 0 => Err(broken("a reserved bit", first)),
            () if second & MASKED != 0 => Err(broken("a masked frame", first)),
            () if long => Err(broken("a long or cut control frame", first)),
            () if first & OPCODE > PONG => Err(broken("a reserved opcode", first)),
            () => Ok(head),
        }
    }

    /// Text is taken as it comes, a control frame only when it is whole.
    fn is_usable(&self, octets: &[u8]) -> bool {
        self.opcode < CLOSE || (octets.len() - self.octets) as u64 >= self.payload
    }
}

fn broken(what: &str, first: u8) -> Failure {
    let kind = format!("WebSocket: the server sent {what}");
    Failure::new(kind, format!("in a frame that begins with {first:#04x}"))
}

/// `Sec-WebSocket-Accept` for this key (RFC 6455 section 4.2.2).
fn accepted(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

/// XORs eight octets at a time.
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, mask) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *octet ^= mask;
    }
}

/// Neighbouring numbers become numbers that have nothing to do with each other (the last steps of
/// SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ANSWER_OCTETS_MAX: usize = 16 * 1024;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const CONTROL_OCTETS_MAX: u8 = 125;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The code of an end as it should be (RFC 6455 section 7.4.1).
const NORMAL: u16 = 1000;

#[cfg(test)]
mod tests;
