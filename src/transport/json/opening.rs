//! What a session is asked for with.

use std::borrow::Cow;

use serde::Deserialize;

use super::problem::{self, Problem};
use super::request::{self, Presence, SHOWS, Text};
use super::session::{Credentials, Opening};
use crate::xmpp::jid::{self, BareJid};

/// A request for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// Whether the token shall come as a cookie, too.
    pub cookie: bool,
    pub opening: Opening<'a>,
}

/// Reads the whole body of a request for a session.
///
/// # Errors
/// The answer, if it is refused.
pub fn read(body: &[u8], octets_max: usize) -> Result<Login<'_>, Problem> {
    let mut wire: Wire<'_> = request::flat(body, octets_max)?;
    let Text(user) = wire.user.take().ok_or(problem::MISSING_MEMBER)?;
    let account = BareJid::parse(&user).map_err(|_| problem::WRONG_ADDRESS)?;
    let local = local(user)?;
    let secrets = (
        wire.password.take(),
        wire.token.take(),
        wire.mechanism.take(),
    );
    let credentials = match secrets {
        (Some(Text(password)), None, None) => Credentials::Password {
            user: local,
            password,
        },
        (None, Some(Text(token)), None) => Credentials::Token(token),
        (None, None, Some(Text(mechanism))) => Credentials::Sasl {
            mechanism,
            initial: wire
                .initial
                .take()
                .map(|Text(text)| text)
                .unwrap_or_default(),
        },
        (None, None, None) => return Err(problem::MISSING_MEMBER),
        _ => return Err(problem::WRONG_MEMBER),
    };
    let presence = Presence {
        show: request::choose(wire.show.take(), SHOWS)?.unwrap_or_default(),
        status: request::text(wire.status.take())?,
        priority: wire.priority.take(),
        ..Presence::default()
    };
    let opening = Opening {
        account,
        credentials,
        resource: wire.resource.take().map(|Text(text)| text),
        lang: wire.lang.take().map(|Text(text)| text),
        presence: (!wire.silent.take().unwrap_or_default()).then_some(presence),
    };
    let login = Login {
        cookie: wire.cookie.take().unwrap_or_default(),
        opening,
    };
    match wire == Wire::default() {
        true => login.opening.check().map(|()| login),
        // `initial` without a mechanism.
        false => Err(problem::WRONG_MEMBER),
    }
}

/// Reads the body of the next step of a login: its `response`, in base64.
///
/// # Errors
/// The answer, if it is refused.
pub fn read_response(body: &[u8], octets_max: usize) -> Result<Cow<'_, str>, Problem> {
    let response: Response<'_> = request::flat(body, octets_max)?;
    let response = response.response.ok_or(problem::MISSING_MEMBER)?;
    Ok(response.0)
}

/// The local part of a bare address, as it was given: SASL prepares it in its own way.
fn local(user: Cow<'_, str>) -> Result<Cow<'_, str>, Problem> {
    let local = match user {
        Cow::Borrowed(user) => jid::split_local(user).0.map(Cow::Borrowed),
        Cow::Owned(user) => jid::split_local(&user)
            .0
            .map(|local| local.to_owned().into()),
    };
    local.ok_or(problem::WRONG_ADDRESS)
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wire<'a> {
    #[serde(borrow)]
    user: Option<Text<'a>>,
    #[serde(borrow)]
    password: Option<Text<'a>>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    mechanism: Option<Text<'a>>,
    #[serde(borrow)]
    initial: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
    #[serde(borrow)]
    lang: Option<Text<'a>>,
    #[serde(borrow)]
    show: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    priority: Option<i8>,
    silent: Option<bool>,
    cookie: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Response<'a> {
    #[serde(borrow)]
    response: Option<Text<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::json::request::Show;

    #[test]
    fn each_way_to_log_in_is_read() {
        let read = |body: &'static str| read(body.as_bytes(), 1_000);
        let login = read(r#"{"user":"J@x.example","password":"p","show":"away","status":"s"}"#);
        let login = login.unwrap();
        assert!(!login.cookie);
        let opening = login.opening;
        assert_eq!(opening.account.as_str(), "j@x.example");
        assert_eq!(
            opening.credentials,
            Credentials::Password {
                user: "J".into(),
                password: "p".into()
            }
        );
        assert_eq!(opening.presence.unwrap().show, Show::Away);
        let login =
            read(r#"{"user":"j@\u0078","token":"t","silent":true,"resource":"r","cookie":true}"#);
        let login = login.unwrap();
        assert!(login.cookie);
        let opening = login.opening;
        assert_eq!(opening.credentials, Credentials::Token("t".into()));
        assert_eq!((opening.account.domain(), opening.presence), ("x", None));
        assert_eq!(opening.resource.as_deref(), Some("r"));
        let opening = read(r#"{"user":"j@x","mechanism":"SCRAM-SHA-1","initial":"biws"}"#);
        let sasl = Credentials::Sasl {
            mechanism: "SCRAM-SHA-1".into(),
            initial: "biws".into(),
        };
        assert_eq!(opening.unwrap().opening.credentials, sasl);
        let response = read_response(br#"{"response":"biws"}"#, 100);
        assert_eq!(response.unwrap(), "biws");
    }

    #[test]
    fn others_are_refused() {
        let table = [
            ("{}", problem::MISSING_MEMBER),
            (r#"{"user":"j@x"}"#, problem::MISSING_MEMBER),
            (r#"{"user":"x","password":"p"}"#, problem::WRONG_ADDRESS),
            (r#"{"user":"j@x/r","password":"p"}"#, problem::WRONG_ADDRESS),
            (
                r#"{"user":"j@x","password":"p","token":"t"}"#,
                problem::WRONG_MEMBER,
            ),
            (
                r#"{"user":"j@x","password":"p","initial":"t"}"#,
                problem::WRONG_MEMBER,
            ),
            (
                r#"{"user":"j@x","password":"p","more":"t"}"#,
                problem::WRONG_MEMBER,
            ),
            (
                r#"{"user":"j@x","password":"\u0000"}"#,
                problem::WRONG_VALUE,
            ),
            (r#"{"user":"j@x","mechanism":"x y"}"#, problem::WRONG_VALUE),
            (r#"{"user":"j@x","password":"p"}}"#, problem::NOT_JSON),
        ];
        for (body, wanted) in table {
            assert_eq!(read(body.as_bytes(), 1_000), Err(wanted), "{body}");
        }
        assert_eq!(read(b"{\"user\":\"j@x\"}", 5), Err(problem::TOO_LARGE));
        assert_eq!(read_response(b"{}", 100), Err(problem::MISSING_MEMBER));
    }
}
