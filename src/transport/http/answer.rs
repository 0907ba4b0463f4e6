//! Answers: status line, header fields, bodies (RFC 9112 sections 4 to 7, RFC 9457).
//!
//! All octets are appended to the caller's buffer. A value that could end its line early turns
//! the whole answer into a 500 without it, so nothing that a peer said becomes a field or a body.

use std::io::Write as _;

use super::{Method, Refusal, Status, Version};

/// What the request says of how its answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    version: Version,
    content: Content,
    /// What follows the answer on the link.
    pub after: After,
}

/// Whether the content is sent or only described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Sent,
    /// As HEAD asks.
    Described,
}

/// What becomes of the link after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Close,
    KeepAlive,
}

impl Manner {
    /// For a request that could not be read.
    pub const REFUSED: Self = Self {
        version: Version::Http11,
        content: Content::Sent,
        after: After::Close,
    };

    pub(super) const fn new(version: Version, method: Method, keep_alive: bool) -> Self {
        Self {
            version,
            content: match method {
                Method::Head => Content::Described,
                _ => Content::Sent,
            },
            after: if keep_alive {
                After::KeepAlive
            } else {
                After::Close
            },
        }
    }

    /// The same, and the link is closed afterwards.
    pub const fn closing(self) -> Self {
        Self {
            after: After::Close,
            ..self
        }
    }
}

/// One answer in the making. It is whole when one of [`Answer::body`], [`Answer::empty`] and
/// [`Answer::stream`] has consumed it.
#[derive(Debug)]
#[must_use = "an answer without its end leaves the client waiting"]
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    /// Where it begins.
    start: usize,
    status: Status,
    manner: Manner,
    cache: Option<&'static str>,
    is_unsafe: bool,
}

impl<'o> Answer<'o> {
    /// Begins an answer: the status line and the fields that every answer has.
    pub fn new(out: &'o mut Vec<u8>, status: Status, manner: Manner) -> Self {
        let start = out.len();
        out.extend_from_slice(status.line().as_bytes());
        Self {
            out,
            start,
            status,
            manner,
            cache: None,
            is_unsafe: false,
        }
    }

    /// A field more, such as `Date` or `ETag`. The name is the program's, the value anybody's.
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.line(name, value);
        self
    }

    /// When to try again (RFC 9110 section 10.2.3).
    pub fn retry_after(self, seconds: u32) -> Self {
        // A write into memory cannot fail.
        let _ = write!(self.out, "Retry-After: {seconds}\r\n");
        self
    }

    /// What caches may do; without it they may keep nothing.
    pub fn cache(mut self, control: &'static str) -> Self {
        self.cache = Some(control);
        self
    }

    /// Ends the answer with a whole body. Where there may be none, it is left out; to HEAD only
    /// its length is told.
    pub fn body(mut self, content_type: &str, body: &[u8]) {
        if self.status.is_bodiless() {
            return self.empty();
        }
        self.kind(content_type);
        let _ = write!(self.out, "Content-Length: {}\r\n", body.len());
        let content = self.manner.content;
        if self.finish() && content == Content::Sent {
            self.out.extend_from_slice(body);
        }
    }

    /// Ends the answer without a body.
    pub fn empty(mut self) {
        if !self.status.is_bodiless() {
            self.out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        self.finish();
    }

    /// Ends the head of a body that comes piece by piece, and says how the pieces are written.
    /// For HTTP/1.0 the end of the link ends it, so the link must then be closed.
    pub fn stream(mut self, content_type: &str) -> Coding {
        let coding = match (self.manner.content, self.manner.version) {
            _ if self.status.is_bodiless() => Coding::Nothing,
            (Content::Described, _) => Coding::Nothing,
            (Content::Sent, Version::Http11) => Coding::Chunked,
            (Content::Sent, Version::Http10) => Coding::UntilClose,
        };
        self.kind(content_type);
        match coding {
            Coding::Chunked => self
                .out
                .extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Coding::UntilClose => self.manner = self.manner.closing(),
            Coding::Nothing => {}
        }
        match self.finish() {
            true => coding,
            false => Coding::Nothing,
        }
    }

    /// Appends fields that a module of this layer has made.
    pub(super) fn raw(self, lines: &'static str) -> Self {
        self.out.extend_from_slice(lines.as_bytes());
        self
    }

    fn kind(&mut self, content_type: &str) {
        self.line("Content-Type", content_type);
        if content_type.starts_with("text/html") && !self.has(POLICY) {
            self.line(POLICY, POLICY_DEFAULT);
        }
    }

    /// Whether the caller gave this field a value of its own.
    fn has(&self, name: &str) -> bool {
        let head = self.out.get(self.start..).unwrap_or_default();
        let mut lines = head.split(|b| *b == b'\n');
        lines.any(|line| {
            let value = line.strip_prefix(name.as_bytes());
            value.is_some_and(|value| value.starts_with(b":"))
        })
    }

    fn line(&mut self, name: &str, value: &str) {
        // Tabs are legal and white space beside them is not told apart, so nobody needs them.
        if value.bytes().any(|b| b.is_ascii_control()) {
            self.is_unsafe = true;
            return;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head; false when the answer had to be replaced.
    fn finish(&mut self) -> bool {
        if self.is_unsafe {
            self.out.truncate(self.start);
            let line = Status::InternalServerError.line();
            self.out.extend_from_slice(line.as_bytes());
            self.out.extend_from_slice(b"Content-Length: 0\r\n");
            self.cache = None;
            self.manner = self.manner.closing();
        }
        match (self.manner.after, self.manner.version) {
            (After::Close, _) => self.out.extend_from_slice(b"Connection: close\r\n"),
            (After::KeepAlive, Version::Http10) => {
                self.out.extend_from_slice(b"Connection: keep-alive\r\n");
            }
            (After::KeepAlive, Version::Http11) => {}
        }
        self.line("Cache-Control", self.cache.unwrap_or("no-store"));
        self.out.extend_from_slice(SECURITY);
        !self.is_unsafe
    }
}

/// How the pieces of a streamed body are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As chunks (RFC 9112 section 7.1).
    Chunked,
    /// As they are; the link's end is the body's.
    UntilClose,
    /// Not at all: the answer has no body.
    Nothing,
}

impl Coding {
    /// Appends a piece. An empty one is left out, for an empty chunk would be the last.
    pub fn chunk(self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Chunked => {
                let _ = write!(out, "{:x}\r\n", bytes.len());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::UntilClose => out.extend_from_slice(bytes),
            Self::Nothing => {}
        }
    }

    /// Appends the end of the body.
    pub fn last_chunk(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// When it is worth to ask again a server that stops or has no room.
pub const RETRY_SECONDS: u32 = 5;

/// A problem document (RFC 9457). Programs look at `code`, people read `title` and `detail`.
/// There is no `type`, for there is no page to point at, which means `about:blank`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    pub status: Status,
    pub code: &'a str,
    pub title: &'a str,
    /// What is special to this occurrence; may be empty.
    pub detail: &'a str,
}

impl Problem<'_> {
    /// The problem that a refused request is. The link is closed after it, unless the refusal
    /// came from the query alone.
    pub const fn of(refusal: Refusal) -> Problem<'static> {
        Problem {
            status: refusal.status(),
            code: refusal.code(),
            title: refusal.title(),
            detail: "",
        }
    }

    /// Ends an answer of [`Problem::status`] with the document.
    pub fn finish(&self, answer: Answer) {
        let answer = match self.status {
            Status::ServiceUnavailable if !answer.has("Retry-After") => {
                answer.retry_after(RETRY_SECONDS)
            }
            _ => answer,
        };
        answer.body("application/problem+json", &self.to_json());
    }

    fn to_json(self) -> Vec<u8> {
        let mut json = Vec::with_capacity(128);
        let _ = write!(json, "{{\"status\":{},\"code\":", self.status.code());
        write_json_string(self.code, &mut json);
        json.extend_from_slice(b",\"title\":");
        write_json_string(self.title, &mut json);
        if !self.detail.is_empty() {
            json.extend_from_slice(b",\"detail\":");
            write_json_string(self.detail, &mut json);
        }
        json.push(b'}');
        json
    }
}

/// Appends a whole answer that is a problem document.
pub fn problem(out: &mut Vec<u8>, manner: Manner, problem: &Problem) {
    problem.finish(Answer::new(out, problem.status, manner));
}

/// Appends the answer to a request that could not be read; the link is closed after it.
pub fn refuse(out: &mut Vec<u8>, refusal: Refusal) {
    problem(out, Manner::REFUSED, &Problem::of(refusal));
}

/// Appends a string of JSON with its quotes (RFC 8259 section 7).
fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for octet in text.bytes() {
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            b'\n' => out.extend_from_slice(b"\\n"),
            // The markup of pages, should a browser ever take the document for one.
            0..b' ' | 0x7f | b'<' | b'>' | b'&' => {
                let _ = write!(out, "\\u{octet:04x}");
            }
            _ => out.push(octet),
        }
    }
    out.push(b'"');
}

/// What a client that expects it is told before it sends its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The field with the policy of a page.
pub const POLICY: &str = "Content-Security-Policy";
/// A page may load and run nothing, nor be framed.
const POLICY_DEFAULT: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The fields of every answer, and the empty line.
const SECURITY: &[u8] = b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    X-Frame-Options: DENY\r\n\r\n";

#[cfg(test)]
mod tests;
