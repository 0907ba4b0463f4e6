//! Why something is refused: problem documents (RFC 9457) with a stable code.

use super::writer::Object;
use crate::transport::http::answer::RETRY_SECONDS;
use crate::xmpp::ns;
use crate::xmpp::xml::Tree;

/// A reason. Programs look at the code, people read the title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of an HTTP answer that says this.
    pub status: u16,
    pub code: &'static str,
    pub title: &'static str,
}

/// A row each: name, status, code, title.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $status:literal $code:literal $title:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: Problem = Problem {
                status: $status,
                code: $code,
                title: $title,
            };
        )*
        /// All of them, for the reference.
        pub const PROBLEMS: &[Problem] = &[$($name),*];
    };
}

problems! {
    /// The body is no JSON object in UTF-8, or has trailing octets, or a member twice.
    NOT_JSON: 400 "not-json" "the body is not one JSON object";
    /// A member that the request does not have, or a value of another type.
    WRONG_MEMBER: 400 "wrong-member" "a member is unknown here or has a wrong type";
    /// A member is missing.
    MISSING_MEMBER: 400 "missing-member" "a member is missing";
    /// `type` names no request.
    UNKNOWN_REQUEST: 400 "unknown-request" "there is no such request";
    /// A value is not one of those that are allowed.
    WRONG_VALUE: 400 "wrong-value" "a value is not allowed here";
    /// An address is malformed.
    WRONG_ADDRESS: 400 "wrong-address" "this is no address";
    /// Text has a character that XML, and so XMPP, cannot carry.
    WRONG_CHARACTER: 400 "wrong-character" "a text has a character that cannot be carried";
    /// An element in `xml` is refused.
    WRONG_XML: 400 "wrong-xml"
        "xml has something other than one element with a namespace of its own";
    /// Beyond a bound.
    TOO_LARGE: 413 "too-large" "the request is too large";
    /// The session has too many requests without answer, or too many readers.
    TOO_MANY: 429 "too-many" "too many requests at once";
    /// Nobody reads, and there is no room for more.
    UNREAD: 429 "unread" "events wait: read them first";
    /// The mechanism is not offered.
    NO_MECHANISM: 401 "invalid-mechanism" "this way of logging in is not offered";
    /// A step of the login comes when none is due.
    NOT_DUE: 409 "not-due" "no step of a login is due";
    /// The session is not ready yet.
    NOT_READY: 409 "not-ready" "the session is not open yet";
    /// Neither a token nor a cookie came.
    NO_TOKEN: 401 "no-token" "the request names no session";
    /// The login was for another account than the one that was named.
    WRONG_ACCOUNT: 401 "wrong-account" "the credentials are not those of this user";
    /// A request with a cookie alone that no page of ours sent.
    NO_ORIGIN: 403 "no-origin" "with a cookie alone only pages of this server may do this";
    /// No such session, any more or ever.
    NO_SESSION: 404 "no-session" "there is no such session";
    /// The session ended before it was known what became of the request.
    SESSION_ENDED: 503 "session-ended" "the session ended before this was answered";
    /// Whoever was asked did not answer.
    ANSWER_TIMEOUT: 504 "answer-timeout" "the answer did not come in time";
    /// The server has no room for one more.
    NO_ROOM: 503 "resource-constraint" "the server has no room";
    /// No such topic, or another key than its own.
    NO_TOPIC: 404 "no-topic" "there is no such topic, or not with this key";
    /// Nobody was there for the grace time.
    GRACE_OVER: 410 "grace-over" "nobody came back to the session";
    /// The server goes down.
    STOPPING: 503 "stopping" "the server stops";
    /// Our own fault.
    INTERNAL: 500 "internal-server-error" "the server is at fault";
}

impl Problem {
    /// Seconds until it is worth to try again, where that is a matter of time.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            // The next login may begin at once.
            SESSION_ENDED => Some(1),
            Self { status: 503, .. } => Some(RETRY_SECONDS),
            _ => None,
        }
    }

    /// The document.
    pub fn to_json(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut object = Object::begin(&mut out);
        self.write_members(&mut object);
        object.end();
        out
    }

    pub(super) fn write_members(self, object: &mut Object<'_>) {
        object.number("status", self.status.into());
        object.text("code", self.code).text("title", self.title);
    }
}

/// The error of a stanza, or the failure of a login or stream, as a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub status: u16,
    /// The condition.
    pub code: String,
    /// `type` of the error: what can be done about it (RFC 6120 section 8.3.2).
    pub class: Option<String>,
    pub text: Option<String>,
    /// Elements of applications.
    pub xml: Vec<String>,
}

impl Foreign {
    /// Reads an error whose conditions are in the namespace `conditions`.
    pub fn read(error: &Tree, conditions: &str) -> Self {
        let mut read = Self {
            status: 400,
            code: "undefined-condition".to_owned(),
            class: error.attr("type").map(str::to_owned),
            text: None,
            xml: Vec::new(),
        };
        for child in error.children() {
            match (child.namespace() == conditions, child.local()) {
                (true, "text") => read.text = Some(child.text()),
                (true, condition) => {
                    read.status = status_of(condition);
                    read.code = condition.to_owned();
                }
                // The words of SASL say more than their names in some servers.
                _ => {
                    let mut octets = Vec::new();
                    child.write(&mut octets);
                    read.xml.push(String::from_utf8(octets).unwrap_or_default());
                }
            }
        }
        read
    }

    /// As [`Problem::retry_after`]: an error of class `cancel` says that time changes nothing.
    pub fn retry_after(&self) -> Option<u32> {
        let is_matter_of_time = self.status == 503 && self.class.as_deref() != Some("cancel");
        is_matter_of_time.then_some(RETRY_SECONDS)
    }

    /// Of a stanza.
    pub fn of_stanza(error: &Tree) -> Self {
        Self::read(error, ns::STANZA_ERRORS)
    }

    pub(super) fn write_members(&self, object: &mut Object<'_>) {
        object.number("status", self.status.into());
        object.text("code", &self.code);
        object.text_if("class", self.class.as_ref());
        object.text_if("detail", self.text.as_ref());
        if !self.xml.is_empty() {
            object.array("xml", &self.xml, |out, xml| {
                super::writer::write_string(out, xml);
            });
        }
    }

    /// The document.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut object = Object::begin(&mut out);
        object.text("title", &self.code.replace('-', " "));
        self.write_members(&mut object);
        object.end();
        out
    }
}

/// Which status goes with a condition of RFC 6120. Others: 400.
fn status_of(condition: &str) -> u16 {
    let found = STATUSES.iter().find(|(name, _)| *name == condition);
    found.map_or(400, |(_, status)| *status)
}

/// Conditions of stanzas (section 8.3.3), logins (section 6.5) and streams (section 4.9.3).
pub const STATUSES: &[(&str, u16)] = &[
    ("conflict", 409),
    ("feature-not-implemented", 501),
    ("forbidden", 403),
    ("gone", 410),
    ("internal-server-error", 500),
    ("item-not-found", 404),
    ("not-acceptable", 406),
    ("not-allowed", 405),
    ("not-authorized", 401),
    ("policy-violation", 403),
    ("recipient-unavailable", 404),
    ("registration-required", 403),
    ("remote-server-not-found", 404),
    ("remote-server-timeout", 504),
    ("resource-constraint", 503),
    ("service-unavailable", 503),
    ("subscription-required", 403),
    ("account-disabled", 403),
    ("credentials-expired", 401),
    ("encryption-required", 403),
    ("invalid-mechanism", 401),
    ("mechanism-too-weak", 401),
    ("temporary-auth-failure", 503),
    ("host-unknown", 404),
    ("host-gone", 410),
    ("system-shutdown", 503),
    ("connection-timeout", 408),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/json.md` has a row for each, and no other.
    #[test]
    fn the_reference_lists_every_problem() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = text.split_once("| code | status | when |").unwrap().1;
        let rows = table.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, PROBLEMS.len());
        for why in PROBLEMS {
            let row = format!("| `{}` | {} |", why.code, why.status);
            assert!(table.contains(&row), "{row}");
        }
    }
}
