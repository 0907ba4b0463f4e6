//! After authentication: a resource is bound, or a session resumed (RFC 6120 section 7, XEP-0198).

use std::mem;

use super::{Negotiation, Stage, State, Step, Stepped};
use crate::stream::resume::{self, Nonza};
use crate::xmpp::error::{Condition, StanzaError, StreamError};
use crate::xmpp::jid::{BareJid, Jid, prepare_resource};
use crate::xmpp::ns;
use crate::xmpp::xml::Element;
use crate::xmpp::xml::writer::Writer;

impl Negotiation {
    /// Continues after [`Step::Bind`]: the full JID of the session, in normal form, or why there
    /// is none. After an error the client may ask again.
    pub fn bound(&mut self, session: Result<&str, StanzaError>, out: &mut Vec<u8>) {
        let state = mem::replace(&mut self.state, State::Over);
        let State::Binding(account, id) = state else {
            debug_assert!(false, "nothing is being bound");
            return;
        };
        match session {
            Ok(full) => write_bound(out, &id, full),
            Err(error) => write_error(out, &id, error),
        }
        self.state = State::Open(Stage::Authenticated(account));
    }

    /// Continues after [`Step::Resume`] when there is nothing to resume. `handled` is what is
    /// still known of the lost session. The client may bind, or try another.
    pub fn not_resumed(&mut self, condition: Condition, handled: Option<u32>, out: &mut Vec<u8>) {
        let state = mem::replace(&mut self.state, State::Over);
        let State::Resuming(account) = state else {
            debug_assert!(false, "nothing is being resumed");
            return;
        };
        resume::write_failed(out, condition, handled);
        self.state = State::Open(Stage::Authenticated(account));
    }

    pub(super) fn authenticated(
        &mut self,
        account: BareJid,
        el: Element<'_>,
        out: &mut Vec<u8>,
    ) -> Stepped {
        if el.namespace() == ns::SM {
            return Ok(self.resume(account, el, out));
        }
        if el.is(ns::CLIENT, "iq") {
            return self.request(account, el, out);
        }
        // No stanza passes before there is a session (section 7.1).
        let expected = [ns::CLIENT, ns::SASL, ns::TLS];
        match expected.contains(&el.namespace()) {
            true => Err(StreamError::NotAuthorized),
            false => Err(StreamError::UnsupportedStanzaType),
        }
    }

    fn resume(&mut self, account: BareJid, el: Element<'_>, out: &mut Vec<u8>) -> Step {
        let condition = match Nonza::parse(el) {
            Ok(Nonza::Resume { previd, handled }) => {
                self.state = State::Resuming(account);
                return Step::Resume { previd, handled };
            }
            // There is no stream to manage yet.
            Ok(_) => Condition::UnexpectedRequest,
            Err(condition) => condition,
        };
        resume::write_failed(out, condition, None);
        self.state = State::Open(Stage::Authenticated(account));
        Step::Continue
    }

    fn request(&mut self, account: BareJid, el: Element<'_>, out: &mut Vec<u8>) -> Stepped {
        if !is_for_us(el, &account) {
            return Err(StreamError::NotAuthorized);
        }
        let kind = el.attr("type").unwrap_or_default();
        let id = el.attr("id").unwrap_or_default();
        let outcome = match &*kind {
            "get" | "set" if id.is_empty() || el.children().count() != 1 => {
                Err(Condition::BadRequest)
            }
            "set" if el.child(ns::BIND, "bind").is_some() => wanted(el),
            // Nothing else is served before there is a session.
            "get" | "set" => Err(Condition::NotAllowed),
            _ => return Err(StreamError::NotAuthorized),
        };
        match outcome {
            Ok(resource) => {
                self.state = State::Binding(account, id.into());
                Ok(Step::Bind(resource))
            }
            Err(condition) => {
                write_error(out, &id, condition.into());
                self.state = State::Open(Stage::Authenticated(account));
                Ok(Step::Continue)
            }
        }
    }
}

/// Whether a request is for the server or the client's own account; section 7.1 closes the stream
/// of whoever speaks to others without a resource.
fn is_for_us(el: Element<'_>, account: &BareJid) -> bool {
    let Some(to) = el.attr("to") else {
        return true;
    };
    match Jid::parse(&to) {
        Ok(to) => to.is_bare() && [account.as_str(), account.domain()].contains(&to.bare()),
        Err(_) => false,
    }
}

/// The resource that the client asks for; `None` leaves it to us.
fn wanted(el: Element<'_>) -> Result<Option<Box<str>>, Condition> {
    let Some(bind) = el.child(ns::BIND, "bind") else {
        return Err(Condition::BadRequest);
    };
    let tree = bind.tree();
    let Some(resource) = tree
        .child(ns::BIND, "resource")
        .map(|resource| resource.text())
    else {
        return Ok(None);
    };
    match prepare_resource(&resource) {
        _ if resource.is_empty() => Ok(None),
        Ok(prepared) => Ok(Some(prepared.into())),
        Err(_) => Err(Condition::BadRequest),
    }
}

fn write_bound(out: &mut Vec<u8>, id: &str, full: &str) {
    let mut writer = Writer::new(out);
    writer.open("iq").attr("type", "result").attr("id", id);
    writer.open("bind").attr("xmlns", ns::BIND);
    writer.open("jid").text(full).end("jid");
    writer.end("bind").end("iq");
}

fn write_error(out: &mut Vec<u8>, id: &str, error: StanzaError) {
    let mut writer = Writer::new(out);
    writer.open("iq").attr("type", "error");
    if !id.is_empty() {
        writer.attr("id", id);
    }
    writer.text("");
    error.write(out);
    out.extend_from_slice(b"</iq>");
}
