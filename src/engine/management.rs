//! XEP-0198 Stream Management on a bound stream: enabling, counting, acknowledging.
//!
//! Resumption begins before a resource is bound and lives with the login.

use std::time::Duration;

use crate::session::ctx::{Ctx, Due, Token};
use crate::session::effects::LinkEffect;
use crate::session::session::{Flags, Management, SessionKey};
use crate::store::StreamId;
use crate::stream::resume::{self, Nonza, Resumption};
use crate::xmpp::error::{Condition, StreamError};
use crate::xmpp::xml::Element;

/// Takes an element of stream management from a bound stream.
///
/// # Errors
/// An `h` that is no number, or beyond what was sent.
pub fn take(ctx: &mut Ctx<'_>, key: SessionKey, el: Element<'_>) -> Result<(), StreamError> {
    match Nonza::parse(el) {
        Ok(Nonza::Request) => acknowledge(ctx, key),
        Ok(Nonza::Answer { handled }) => return acknowledged(ctx, key, handled),
        Ok(Nonza::Enable(resumption)) => enable(ctx, key, resumption),
        // A bound session is not the place to resume another one (section 5).
        Ok(Nonza::Resume { .. }) => fail(ctx, key, Condition::UnexpectedRequest),
        Err(_) if el.local() == "a" => return Err(StreamError::InvalidXml),
        Err(condition) => fail(ctx, key, condition),
    }
    Ok(())
}

fn fail(ctx: &mut Ctx<'_>, key: SessionKey, condition: Condition) {
    let mut failed = Vec::new();
    resume::write_failed(&mut failed, condition, None);
    ctx.send_nonza(key, &failed);
}

/// Section 3. What is sent from here on is kept until the client has it.
fn enable(ctx: &mut Ctx<'_>, key: SessionKey, resumption: Resumption) {
    let id = StreamId(ctx.core.random());
    let longest = ctx.policy.limits.resumption_timeout;
    let time = match resumption {
        Resumption::Unwanted => Duration::ZERO,
        Resumption::Wanted { max } => max.unwrap_or(longest).min(longest),
    };
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    if session.management.is_some() {
        return fail(ctx, key, Condition::UnexpectedRequest);
    }
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    session.management = Some(Box::new(Management::new(id, seconds)));
    let token = Token::of(id.0);
    let mut enabled = Vec::new();
    resume::write_enabled(
        &mut enabled,
        (seconds > 0).then_some((token.as_str(), time)),
    );
    ctx.send_nonza(key, &enabled);
    if let Some(session) = ctx.core.sessions.get_mut(key) {
        session.queue.count_from_here();
    }
}

/// Tells the client the present `h`.
pub fn acknowledge(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    let Some(management) = session.management.as_deref_mut() else {
        return;
    };
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
        ctx.fx.link(link, LinkEffect::Flush);
    }
}

/// Takes the client's `h`: what it covers is settled.
///
/// # Errors
/// `h` covers more than was sent (section 4).
pub fn acknowledged(ctx: &mut Ctx<'_>, key: SessionKey, handled: u32) -> Result<(), StreamError> {
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return Ok(());
    };
    let Some(management) = session.management.as_deref_mut() else {
        return Err(StreamError::UnsupportedStanzaType);
    };
    let stanzas = handled.wrapping_sub(management.acknowledged) as usize;
    if stanzas > session.queue.unacknowledged() {
        let sent = management
            .acknowledged
            .wrapping_add(session.queue.unacknowledged() as u32);
        return Err(StreamError::HandledCountTooHigh { handled, sent });
    }
    management.acknowledged = handled;
    let account = session.account;
    let mut settled = smallvec::SmallVec::<[_; 8]>::new();
    session
        .queue
        .acknowledged(&mut ctx.core.pool, stanzas, |mark| {
            settled.push((mark.id, mark.traits));
        });
    ctx.settle(account, &settled);
    if ctx
        .accounts
        .get(account)
        .is_some_and(|account| account.is_draining())
    {
        ctx.next_offline_page(account);
    }
    Ok(())
}

/// The journal has an inbound stanza: `h` may have grown. It is told unasked when it grew by
/// [`UNASKED_STANZAS`], else within [`UNASKED_AFTER`] (SECURITY, the rule under P15); at once to
/// who is [`Flags::PROMPT`].
pub fn committed(ctx: &mut Ctx<'_>, key: SessionKey, number: u32) {
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    let Some(management) = session.management.as_deref_mut() else {
        return;
    };
    management.committed(number);
    let grown = management.handled().wrapping_sub(management.told);
    if grown >= UNASKED_STANZAS || (grown > 0 && session.flags.has(Flags::PROMPT)) {
        return acknowledge(ctx, key);
    }
    if grown > 0 && session.flags.set(Flags::ACK_LISTED) {
        if ctx.core.acks_due.is_empty() {
            ctx.core
                .wheel
                .set(ctx.now.mono.after(UNASKED_AFTER), Due::Acks);
        }
        ctx.core.acks_due.push(key);
    }
}

/// A stanza was taken. If nothing waits for the journal, not even this one, who is
/// [`Flags::PROMPT`] hears so at once.
pub fn taken(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.core.session(key).filter(|s| s.flags.has(Flags::PROMPT)) else {
        return;
    };
    let has_news = |management: &Management| {
        management.pending.is_empty() && management.handled() != management.told
    };
    if session.management.as_deref().is_some_and(has_news) {
        acknowledge(ctx, key);
    }
}

/// Tells every listed session its `h`, unless it heard it meanwhile.
pub fn acknowledge_listed(ctx: &mut Ctx<'_>) {
    for key in std::mem::take(&mut ctx.core.acks_due) {
        let Some(session) = ctx.core.sessions.get_mut(key) else {
            continue;
        };
        session.flags.clear(Flags::ACK_LISTED);
        let news = session
            .management
            .as_deref()
            .is_some_and(|m| m.handled() != m.told);
        if news && session.link.is_some() {
            acknowledge(ctx, key);
        }
    }
}

/// Asks a session whether it got what waits, if anything does.
pub fn ask(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    session.flags.clear(Flags::ASK_TIMER);
    let waits = session.link.is_some() && session.queue.unacknowledged() > 0;
    let Some(management) = session.management.as_deref_mut().filter(|_| waits) else {
        return;
    };
    management.octets_since_request = 0;
    ctx.send_nonza(key, resume::REQUEST);
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
const UNASKED_AFTER: Duration = Duration::from_millis(100);

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
