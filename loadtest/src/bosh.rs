//! XMPP over BOSH as a client (XEP-0124, XEP-0206): items of the stream go out in requests, of
//! which one is always held by the server, and come in with its answers.
//!
//! As in a browser there are two connections. With nothing to send one request is enough; who sends
//! while it is held uses the other connection, and the server answers the elder.

use crate::failure::{Failure, example};
use crate::http::{Answer, Request};
use crate::plan::Plan;
use crate::scan::{self, Item};
use crate::websocket;

/// Stands for the header of a stream in what a client writes.
pub const OPEN: &str = "<open/>";
/// Connections of a session.
pub const LANES: usize = 2;

/// One session.
pub struct Bosh {
    /// Of the next request.
    rid: u64,
    /// None before the server has answered the first request.
    sid: Option<Box<str>>,
    /// Items that no request carries yet.
    pending: Vec<u8>,
    /// The request that each connection waits for.
    asked: [Option<u64>; LANES],
    /// An answer that came before that of an elder request.
    early: Vec<u8>,
    /// The end has been said, by us or by the server.
    over: bool,
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Going,
    /// The session has ended, as was asked for.
    Ended,
}

impl Bosh {
    /// `seed` makes the identifiers of different sessions differ.
    pub fn new(seed: u64) -> Self {
        Self {
            rid: seed % RID_FIRST_MAX + 1,
            sid: None,
            pending: Vec::new(),
            asked: [None; LANES],
            early: Vec::new(),
            over: false,
        }
    }

    /// Takes items, written as for TCP, to be sent as soon as a connection is free.
    pub fn put(&mut self, items: &mut Vec<u8>) {
        self.pending.append(items);
    }

    /// Whether the first request has been sent.
    pub fn has_begun(&self) -> bool {
        self.sid.is_some() || self.asked != [None; LANES]
    }

    pub fn is_free(&self, lane: usize) -> bool {
        self.asked[lane].is_none()
    }

    /// Whether there is anything for a connection that is free.
    pub fn wants_to_send(&self) -> bool {
        let items = scan::blank(&self.pending) < self.pending.len();
        !self.over && (items && self.may_send())
    }

    /// The first request must be answered before there is a second.
    fn may_send(&self) -> bool {
        self.sid.is_some() || self.asked == [None; LANES]
    }

    /// Appends the next request, if there shall be one: with what is to be sent, or to be held.
    pub fn ask(&mut self, lane: usize, plan: &Plan, out: &mut Vec<u8>) {
        let held = self.asked.iter().any(Option::is_some);
        if self.over || !self.may_send() || (held && !self.wants_to_send()) {
            return;
        }
        let (mut kind, mut items) = (String::new(), Vec::new());
        let pending = std::mem::take(&mut self.pending);
        let mut at = 0;
        while let Some(rest) = pending.get(at..).filter(|rest| !rest.is_empty()) {
            at += match scan::next(rest) {
                _ if scan::blank(rest) > 0 => scan::blank(rest),
                Item::Element(length) if rest.starts_with(OPEN.as_bytes()) => {
                    kind = self.opening(plan);
                    length
                }
                Item::Element(length) => {
                    for part in websocket::declared(&rest[..length]) {
                        items.extend_from_slice(part);
                    }
                    length
                }
                Item::End(length) => {
                    kind = " type='terminate'".to_owned();
                    self.over = true;
                    length
                }
                other => unreachable!("{other:?} in what we write: {}", example(rest)),
            };
        }
        let (rid, sid) = (self.rid, self.sid.as_deref());
        let sid = sid.map_or(String::new(), |sid| format!(" sid='{sid}'"));
        let mut body = format!("<body xmlns='{HTTPBIND}' rid='{rid}'{sid}{kind}>").into_bytes();
        body.append(&mut items);
        body.extend_from_slice(b"</body>");
        self.asked[lane] = Some(rid);
        self.rid += 1;
        let request = Request {
            method: "POST",
            host: &plan.domain,
            path: &plan.path,
            fields: "Content-Type: text/xml; charset=utf-8\r\n",
        };
        request.write(&body, out);
    }

    /// A stream begins, or begins anew (XEP-0206 section 5).
    fn opening(&self, plan: &Plan) -> String {
        let domain = &plan.domain;
        let common = format!(" to='{domain}' xml:lang='en' xmlns:xmpp='urn:xmpp:xbosh'");
        match self.sid {
            Some(_) => format!("{common} xmpp:restart='true'"),
            None => format!(
                "{common} xmpp:version='1.0' ver='1.11' wait='60' hold='1' \
                 content='text/xml; charset=utf-8'"
            ),
        }
    }

    /// Takes an answer. What may be read now is appended to `items`: answers are read in the order
    /// of their requests (XEP-0124 section 14.2).
    pub fn answered(
        &mut self,
        lane: usize,
        answer: &Answer<'_>,
        items: &mut Vec<u8>,
    ) -> Result<News, Failure> {
        let Some(rid) = self.asked[lane].take() else {
            return Err(Failure::new(
                "BOSH: an answer that nobody asked for",
                example(answer.body),
            ));
        };
        if answer.status != 200 {
            return Err(answer.refusal("BOSH request"));
        }
        let content = self.unwrap(answer.body)?;
        let is_early = self.asked.iter().flatten().any(|other| *other < rid);
        if is_early {
            self.early.extend_from_slice(content);
        } else {
            items.extend_from_slice(content);
            items.append(&mut self.early);
        }
        let said = self.over && self.asked == [None; LANES];
        Ok(if said { News::Ended } else { News::Going })
    }

    /// What is in a `<body/>`.
    fn unwrap<'a>(&mut self, body: &'a [u8]) -> Result<&'a [u8], Failure> {
        let blank = scan::blank(body);
        let body = body[blank..].trim_ascii_end();
        let whole = scan::next(body) == Item::Element(body.len());
        if !whole || scan::name(body) != b"body" {
            return Err(Failure::new(
                "BOSH: an answer without <body/>",
                example(body),
            ));
        }
        let head = scan::head(body);
        let text = |name| {
            let value = scan::attribute(head, name);
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        if text("type").as_deref() == Some("terminate") && !std::mem::replace(&mut self.over, true)
        {
            let condition = text("condition").unwrap_or_else(|| "no condition".to_owned());
            let kind = format!("BOSH session ended by the server: {condition}");
            return Err(Failure::new(kind, example(body)));
        }
        if self.sid.is_none() {
            let Some(sid) = text("sid") else {
                return Err(Failure::new("BOSH: a session without sid", example(body)));
            };
            self.sid = Some(sid.into_boxed_str());
        }
        let content = &body[head.len()..];
        Ok(content.strip_suffix(b"</body>").unwrap_or_default())
    }
}

const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// Far enough from where identifiers end, 2^53 (XEP-0124 section 14.1).
const RID_FIRST_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// A session, and what it has sent last.
    struct Side {
        bosh: Bosh,
        plan: Plan,
    }

    impl Side {
        fn new() -> Self {
            Self {
                bosh: Bosh::new(0),
                plan: Plan::for_tests(),
            }
        }

        fn asks(&mut self, lane: usize) -> String {
            let mut out = Vec::new();
            self.bosh.ask(lane, &self.plan, &mut out);
            let text = String::from_utf8(out).unwrap();
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
            body.unwrap_or_default()
        }

        fn gets(&mut self, lane: usize, body: &str) -> Result<(String, News), String> {
            let answer = Answer {
                status: 200,
                body: body.as_bytes(),
                octets: 0,
            };
            let mut items = Vec::new();
            let news = self.bosh.answered(lane, &answer, &mut items);
            let news = news.map_err(|failure| failure.kind)?;
            Ok((String::from_utf8(items).unwrap(), news))
        }

        /// Has a session, and nothing under way.
        fn opened() -> Self {
            let mut side = Self::new();
            side.bosh.put(&mut OPEN.into());
            assert!(side.asks(0).contains(" hold='1' "));
            side.gets(0, "<body sid='s' xmlns='x'/>").unwrap();
            side
        }
    }

    #[test]
    fn one_request_is_held_and_another_carries_what_is_sent() {
        let mut side = Side::opened();
        assert!(side.asks(0).ends_with(" rid='2' sid='s'></body>"));
        assert!(!side.bosh.wants_to_send());
        assert_eq!(side.asks(1), "");
        side.bosh.put(&mut b" <message to='a'/>".into());
        assert!(side.bosh.wants_to_send());
        let body = "<message xmlns='jabber:client' to='a'/></body>";
        assert!(side.asks(1).ends_with(body));
        // The elder comes back, and the younger is held.
        side.gets(0, "<body xmlns='x'/>").unwrap();
        assert_eq!(side.asks(0), "");
    }

    #[test]
    fn nothing_goes_out_before_there_is_a_session() {
        let mut side = Side::new();
        side.bosh.put(&mut OPEN.into());
        side.asks(0);
        side.bosh.put(&mut b"<presence/>".into());
        assert!(!side.bosh.wants_to_send());
        assert_eq!(side.asks(1), "");
    }

    #[test]
    fn answers_are_read_in_the_order_of_their_requests() {
        let mut side = Side::opened();
        side.asks(0);
        side.bosh.put(&mut b"<presence/>".into());
        side.asks(1);
        let (items, _) = side.gets(1, "<body xmlns='x'><b/></body>").unwrap();
        assert_eq!(items, "");
        let (items, _) = side.gets(0, "<body xmlns='x'><a/></body>").unwrap();
        assert_eq!(items, "<a/><b/>");
    }

    #[test]
    fn an_end_is_good_when_we_have_asked_for_it() {
        let end = "<body type='terminate' condition='policy-violation' xmlns='x'/>";
        let kind = "BOSH session ended by the server: policy-violation";
        let mut side = Side::opened();
        side.asks(0);
        assert_eq!(side.gets(0, end), Err(kind.to_owned()));

        let mut side = Side::opened();
        side.asks(0);
        side.bosh.put(&mut b"</stream:stream>".into());
        assert!(side.asks(1).contains(" type='terminate'>"));
        let (_, news) = side.gets(0, "<body xmlns='x'/>").unwrap();
        assert_eq!(news, News::Going);
        let (_, news) = side.gets(1, "<body type='terminate' xmlns='x'/>").unwrap();
        assert_eq!(news, News::Ended);
    }

    #[test]
    fn a_restart_names_the_session() {
        let mut side = Side::opened();
        side.bosh.put(&mut OPEN.into());
        let body = side.asks(0);
        assert!(body.contains(" sid='s' "), "{body}");
        assert!(body.contains(" xmpp:restart='true'"), "{body}");
    }
}
