//! XEP-0198 Stream Management on a bound stream: enabling, counting, acknowledging.
//!
//! Resumption begins before a resource is bound and lives with the login, in `engine`.

use super::{Feature, NonzaRoute, Xep};
use crate::session::ctx::{Ctx, Due};
use crate::session::session::{Flags, Management, SessionKey};
use crate::store::StreamId;
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;
use crate::xmpp::xml::Element;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep { number: 198, version: "1.6.1" }),
    nonza: &[
        NonzaRoute { namespace: ns::SM, name: "r", take: request },
        NonzaRoute { namespace: ns::SM, name: "a", take: answer },
        NonzaRoute { namespace: ns::SM, name: "enable", take: enable },
        NonzaRoute { namespace: ns::SM, name: "resume", take: resume_too_late },
    ],
    ..Feature::NONE
};

/// Section 3. What is sent from here on is kept until the client has it.
fn enable(ctx: &mut Ctx<'_>, key: SessionKey, nonza: Element<'_>) -> Result<(), StreamError> {
    let id = StreamId(ctx.core.random());
    let longest = ctx.policy.limits.resumption_timeout.as_secs() as u32;
    let wanted = nonza.attr("max").and_then(|max| max.parse::<u32>().ok());
    let resume = matches!(nonza.attr("resume").as_deref(), Some("true" | "1"));
    let resume_seconds = if resume { wanted.unwrap_or(longest).min(longest) } else { 0 };
    let Some(session) = ctx.core.sessions.get_mut(key) else { return Ok(()) };
    if session.management.is_some() {
        let failed = "<failed xmlns='urn:xmpp:sm:3'><unexpected-request \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
        ctx.send_nonza(key, failed.as_bytes());
        return Ok(());
    }
    session.management = Some(Box::new(Management::new(id, resume_seconds)));
    let enabled = if resume_seconds > 0 {
        let StreamId(token) = id;
        format!(
            "<enabled xmlns='urn:xmpp:sm:3' id='{token:032x}' resume='true' \
             max='{resume_seconds}'/>"
        )
    } else {
        "<enabled xmlns='urn:xmpp:sm:3'/>".to_owned()
    };
    ctx.send_nonza(key, enabled.as_bytes());
    if let Some(session) = ctx.core.sessions.get_mut(key) {
        session.queue.count_from_here();
    }
    Ok(())
}

/// Section 5: a bound session is not the place to resume another one.
fn resume_too_late(ctx: &mut Ctx<'_>, key: SessionKey, _: Element<'_>) -> Result<(), StreamError> {
    let failed = "<failed xmlns='urn:xmpp:sm:3'><unexpected-request \
         xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    ctx.send_nonza(key, failed.as_bytes());
    Ok(())
}

/// Section 4: answered at once with what is settled so far, never later.
fn request(ctx: &mut Ctx<'_>, key: SessionKey, _: Element<'_>) -> Result<(), StreamError> {
    acknowledge(ctx, key);
    Ok(())
}

/// Section 4: the client has everything up to `h`.
fn answer(ctx: &mut Ctx<'_>, key: SessionKey, nonza: Element<'_>) -> Result<(), StreamError> {
    let Some(handled) = nonza.attr("h").and_then(|h| h.parse::<u32>().ok()) else {
        return Err(StreamError::InvalidXml);
    };
    acknowledged(ctx, key, handled)
}

/// Tells the client the present `h`.
pub fn acknowledge(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.core.sessions.get_mut(key) else { return };
    let Some(management) = session.management.as_deref_mut() else { return };
    let handled = management.handled();
    management.told = handled;
    let mut digits = [0; 10];
    let digits = decimal(handled, &mut digits);
    session.queue.append(&mut ctx.core.pool, |out| {
        out.extend_from_slice(b"<a xmlns='urn:xmpp:sm:3' h='");
        out.extend_from_slice(digits);
        out.extend_from_slice(b"'/>");
    });
    if let Some(link) = session.link {
        ctx.fx.link(link, crate::session::effects::LinkEffect::Flush);
    }
}

/// Takes the client's `h`: what it covers is settled.
///
/// # Errors
/// `h` covers more than was sent (section 4).
pub fn acknowledged(
    ctx: &mut Ctx<'_>,
    key: SessionKey,
    handled: u32,
) -> Result<(), StreamError> {
    let Some(session) = ctx.core.sessions.get_mut(key) else { return Ok(()) };
    let Some(management) = session.management.as_deref_mut() else {
        return Err(StreamError::UnsupportedStanzaType);
    };
    let stanzas = handled.wrapping_sub(management.acknowledged) as usize;
    if stanzas > session.queue.unacknowledged() {
        let sent = management.acknowledged.wrapping_add(session.queue.unacknowledged() as u32);
        return Err(StreamError::HandledCountTooHigh { handled, sent });
    }
    management.acknowledged = handled;
    let account = session.account;
    let mut settled = smallvec::SmallVec::<[_; 8]>::new();
    session.queue.acknowledged(&mut ctx.core.pool, stanzas, |mark| {
        settled.push((mark.id, mark.traits));
    });
    ctx.settle(account, &settled);
    if ctx.accounts.get(account).is_some_and(|account| account.is_draining()) {
        ctx.next_offline_page(account);
    }
    Ok(())
}

/// The journal has an inbound stanza: `h` may have grown. It is told unasked when it grew by
/// [`UNASKED_STANZAS`], else within [`UNASKED_AFTER`] (SECURITY, the rule under P15).
pub fn committed(ctx: &mut Ctx<'_>, key: SessionKey, number: u32) {
    let Some(session) = ctx.core.sessions.get_mut(key) else { return };
    let Some(management) = session.management.as_deref_mut() else { return };
    management.committed(number);
    let grown = management.handled().wrapping_sub(management.told);
    if grown >= UNASKED_STANZAS {
        return acknowledge(ctx, key);
    }
    if grown > 0 && session.flags.set(Flags::ACK_LISTED) {
        if ctx.core.acks_due.is_empty() {
            ctx.core.wheel.set(ctx.now.mono.after(UNASKED_AFTER), Due::Acks);
        }
        ctx.core.acks_due.push(key);
    }
}

/// Tells every listed session its `h`, unless it heard it meanwhile.
pub fn acknowledge_listed(ctx: &mut Ctx<'_>) {
    for key in std::mem::take(&mut ctx.core.acks_due) {
        let Some(session) = ctx.core.sessions.get_mut(key) else { continue };
        session.flags.clear(Flags::ACK_LISTED);
        let news = session.management.as_deref().is_some_and(|m| m.handled() != m.told);
        if news && session.link.is_some() {
            acknowledge(ctx, key);
        }
    }
}

/// Asks a session whether it got what waits, if anything does.
pub fn ask(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.core.sessions.get_mut(key) else { return };
    session.flags.clear(Flags::ASK_TIMER);
    let waits = session.link.is_some() && session.queue.unacknowledged() > 0;
    let Some(management) = session.management.as_deref_mut().filter(|_| waits) else { return };
    management.octets_since_request = 0;
    ctx.send_nonza(key, crate::session::ctx::REQUEST);
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

const UNASKED_STANZAS: u32 = 5;
const UNASKED_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string().as_bytes());
        }
    }
}
