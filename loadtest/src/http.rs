//! HTTP/1.1 as a client: requests on connections that stay, whole answers, and answers that never
//! end, which are unpacked to the text of an event stream.

use std::fmt::Write as _;

use memchr::memmem;

use crate::failure::{Failure, example};

/// What all requests of a session have in common.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'static str,
    pub host: &'a str,
    pub path: &'a str,
    /// Whole lines, each with its end.
    pub fields: &'a str,
}

impl Request<'_> {
    /// Appends the request.
    pub fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        let Self {
            method,
            host,
            path,
            fields,
        } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}");
        if *method == "POST" {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// How much of what came it was.
    pub octets: usize,
}

impl<'a> Answer<'a> {
    /// The answer at the start of what came, if it is all there.
    pub fn read(octets: &'a [u8]) -> Result<Option<Self>, Failure> {
        let Some(head) = Head::read(octets)? else {
            return Ok(None);
        };
        let length = match head.framing {
            Framing::Length(length) => length,
            _ if matches!(head.status, 204 | 304) => 0,
            _ => {
                let kind = "HTTP: an answer that does not say its length";
                return Err(Failure::new(kind, example(octets)));
            }
        };
        let end = head.octets + length;
        Ok(octets.get(head.octets..end).map(|body| Self {
            status: head.status,
            body,
            octets: end,
        }))
    }

    /// What an answer that is no success comes to.
    pub fn refusal(&self, what: &str) -> Failure {
        let kind = format!("{what} refused: HTTP {}", self.status);
        Failure::new(kind, example(self.body))
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An answer that goes on: the stream of events in it.
#[derive(Debug, Default)]
pub struct EventStream {
    /// How its octets are packed; none while its head has not come.
    framing: Option<Framing>,
    /// Octets that are still to come of the chunk whose size has been read.
    left: usize,
    /// The end of a chunk, or its size, which has not come whole.
    held: Vec<u8>,
}

/// What octets of a stream were, beside the text in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    Nothing,
    /// The head came: the server has taken the request.
    Opened,
    /// The server has ended the answer.
    Ended,
}

impl EventStream {
    /// Unpacks what came: the octets of `bytes` from `start` on become the text that is in them.
    pub fn receive(&mut self, bytes: &mut Vec<u8>, start: usize) -> Result<Streamed, Failure> {
        if !self.held.is_empty() {
            bytes.splice(start..start, std::mem::take(&mut self.held));
        }
        let mut from = start;
        let mut news = Streamed::Nothing;
        if self.framing.is_none() {
            let Some(head) = Head::read(&bytes[start..])? else {
                self.held = bytes.split_off(start);
                return Ok(news);
            };
            if head.status != 200 {
                let kind = format!("event stream refused: HTTP {}", head.status);
                return Err(Failure::new(kind, example(&bytes[start..])));
            }
            from += head.octets;
            self.framing = Some(head.framing);
            news = Streamed::Opened;
        }
        if self.framing != Some(Framing::Chunks) {
            bytes.drain(start..from);
            return Ok(news);
        }
        let mut to = start;
        loop {
            let text = self.left.min(bytes.len() - from);
            bytes.copy_within(from..from + text, to);
            (from, to) = (from + text, to + text);
            self.left -= text;
            if self.left > 0 {
                break;
            }
            match chunk(&bytes[from..])? {
                Some((0, _)) => {
                    news = Streamed::Ended;
                    break;
                }
                Some((size, octets)) => {
                    from += octets;
                    self.left = size;
                }
                None => {
                    self.held = bytes[from..].to_vec();
                    break;
                }
            }
        }
        bytes.truncate(to);
        Ok(news)
    }
}

/// The size of the next chunk, and how many octets say it: the end of the chunk before belongs to
/// them.
fn chunk(octets: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let skipped = if octets.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &octets[skipped..];
    let Some(end) = memmem::find(rest, b"\r\n") else {
        return match rest.len() {
            ..=CHUNK_LINE_OCTETS_MAX => Ok(None),
            _ => Err(Failure::new("HTTP: no chunk", example(octets))),
        };
    };
    if end == 0 && skipped == 0 {
        return Ok(None);
    }
    let digits = rest[..end].split(|octet| *octet == b';').next();
    let size = std::str::from_utf8(digits.unwrap_or_default())
        .ok()
        .and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match size {
        Some(size) => Ok(Some((size, skipped + end + 2))),
        None => Err(Failure::new("HTTP: no chunk", example(octets))),
    }
}

/// The next event in the text of an event stream: what it carries, and how many octets it was.
/// Comments carry nothing. Servers send each as one line, as we ask for nothing that has more.
pub fn event(text: &[u8]) -> Option<(&[u8], usize)> {
    let end = memmem::find(text, b"\n\n")?;
    let lines = text[..end].split(|octet| *octet == b'\n');
    let mut data = lines.filter_map(|line| line.strip_prefix(b"data:"));
    let data = data.next().unwrap_or_default();
    Some((data.strip_prefix(b" ").unwrap_or(data), end + 2))
}

/// How long an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
    /// The end of the connection is its end.
    Connection,
}

struct Head {
    status: u16,
    framing: Framing,
    octets: usize,
}

impl Head {
    fn read(octets: &[u8]) -> Result<Option<Self>, Failure> {
        const HTTP: &[u8] = b"HTTP/1.1 ";
        if !octets.iter().zip(HTTP).all(|(octet, http)| octet == http) {
            return Err(Failure::new("the server sent no HTTP", example(octets)));
        }
        let Some(end) = memmem::find(octets, b"\r\n\r\n") else {
            return match octets.len() {
                ..=HEAD_OCTETS_MAX => Ok(None),
                _ => Err(Failure::new("HTTP: endless head", example(octets))),
            };
        };
        let status = octets.get(HTTP.len()..HTTP.len() + 3).and_then(number);
        let Some(status) = status else {
            return Err(Failure::new("HTTP: no status", example(octets)));
        };
        let mut framing = Framing::Connection;
        let lines = octets[..end].split(|octet| *octet == b'\n').skip(1);
        for line in lines.map(<[u8]>::trim_ascii) {
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                let length = number(value);
                let fault = || Failure::new("HTTP: no length", example(octets));
                framing = Framing::Length(length.ok_or_else(fault)?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                framing = Framing::Chunks;
            }
        }
        Ok(Some(Self {
            status: status as u16,
            framing,
            octets: end + 4,
        }))
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// The size of a chunk and what may stand behind it.
const CHUNK_LINE_OCTETS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-LENGTH:  4\r\n\r\nbodyHTTP/1.1 ";

    #[test]
    fn an_answer_is_whole_or_not_there() {
        for cut in 0..ANSWER.len() {
            let found = Answer::read(&ANSWER[..cut]).unwrap();
            let whole = ANSWER.len() - 9;
            assert_eq!(found.is_some(), cut >= whole, "cut at {cut}");
        }
        let answer = Answer::read(ANSWER).unwrap().unwrap();
        assert_eq!((answer.status, answer.body), (201, &b"body"[..]));
        assert!(answer.is_success());
    }

    #[test]
    fn some_answers_have_no_body() {
        let answer = Answer::read(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(answer.unwrap().octets, 27);
        let endless = Answer::read(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
        assert_eq!(endless.kind, "HTTP: an answer that does not say its length");
        let other = Answer::read(b"<stream:stream>").unwrap_err();
        assert_eq!(other.kind, "the server sent no HTTP");
    }

    /// The text of a stream that comes in these pieces, and what the last of them was.
    fn unpacked(pieces: &[&[u8]]) -> (String, Streamed) {
        let mut stream = EventStream::default();
        let (mut text, mut last) = (Vec::new(), Streamed::Nothing);
        for piece in pieces {
            let start = text.len();
            text.extend_from_slice(piece);
            last = stream.receive(&mut text, start).unwrap();
        }
        (String::from_utf8(text).unwrap(), last)
    }

    #[test]
    fn a_stream_in_chunks_does_not_depend_on_where_it_is_cut() {
        let whole: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            A\r\ndata: a\n\nd\r\n8;x=y\r\nata: b\n\n\r\n0\r\n\r\n";
        let text = "data: a\n\ndata: b\n\n";
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(unpacked(&[head, tail]).0, text, "cut at octet {cut}");
        }
        assert_eq!(unpacked(&[whole]).1, Streamed::Ended);
        let octets: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(unpacked(&octets).0, text);
    }

    #[test]
    fn a_stream_may_last_as_long_as_its_connection() {
        let head: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n: hi\n\n";
        assert_eq!(unpacked(&[head]), (": hi\n\n".to_owned(), Streamed::Opened));
        let (text, _) = unpacked(&[head, b"id: 1\ndata: {}\n\n"]);
        let (nothing, first) = event(text.as_bytes()).unwrap();
        assert_eq!(nothing, b"");
        let (data, second) = event(&text.as_bytes()[first..]).unwrap();
        assert_eq!((data, first + second), (&b"{}"[..], text.len()));
    }

    #[test]
    fn a_refused_stream_is_a_failure() {
        let mut bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        let failure = EventStream::default().receive(&mut bytes, 0).unwrap_err();
        assert_eq!(failure.kind, "event stream refused: HTTP 404");
    }

    #[test]
    fn a_post_says_its_length() {
        let request = Request {
            method: "POST",
            host: "localhost",
            path: "/x",
            fields: "A: b\r\n",
        };
        let mut out = Vec::new();
        request.write(b"{}", &mut out);
        let text = String::from_utf8(out).unwrap();
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nA: b\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(text, format!("{head}{{}}"));
    }
}
