//! One exchange out of arbitrary octets. The first octet chooses mechanism, channel and account;
//! the rest are the client's messages, parted by the octet 255, which no UTF-8 has.

use encke::stream::sasl::{
    Bindings, Condition, Exchange, Keys, Lookup, Mechanism, Progress, Terms,
};

/// Neither panics nor lets anybody in without keys. Tells whether somebody was let in.
pub fn run(input: &[u8]) -> bool {
    if let Ok(keys) = Keys::decode(input) {
        assert_eq!(&*keys.encode(), input, "a record has one form");
    }
    let Some((&choice, messages)) = input.split_first() else {
        return false;
    };
    let mut messages = messages.split(|&octet| octet == PARTING);
    let keys = Keys::derive(PASSWORD, &SALT, ITERATIONS).expect("the password is plain");
    let found = match choice >> 5 {
        0 => Lookup::Known(&keys),
        1 => Lookup::Disabled(&keys),
        2 => Lookup::Unavailable,
        _ => Lookup::Unknown,
    };
    let bindings = match choice & 1 {
        0 => Bindings::default(),
        _ => Bindings {
            exporter: Some([5; 32]),
            end_point: Some(vec![6; 32].into()),
        },
    };
    let mechanism = Mechanism::ALL[usize::from(choice >> 1 & 15) % Mechanism::ALL.len()];
    if !mechanism.is_offered(&bindings) {
        return false;
    }
    let outcome = converse(mechanism, &bindings, found, &mut messages);
    match outcome {
        Ok(()) => assert!(matches!(found, Lookup::Known(_)), "a stranger was let in"),
        Err(Some(Condition::AccountDisabled)) => assert!(matches!(found, Lookup::Disabled(_))),
        Err(_) => {}
    }
    outcome.is_ok()
}

/// `Ok` is a success, `Err(None)` an exchange whose messages ran out.
fn converse<'a>(
    mechanism: Mechanism,
    bindings: &Bindings,
    found: Lookup<'_>,
    messages: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<(), Option<Condition>> {
    let terms = Terms {
        bindings,
        nonce: "NONCE",
        secret: &[9; 32],
        iterations: ITERATIONS,
    };
    let initial = messages.next().filter(|message| !message.is_empty());
    let mut progress = Exchange::begin(mechanism, initial, &terms)?;
    loop {
        progress = match progress {
            Progress::Success(_) => return Ok(()),
            Progress::Challenge(_, exchange) => {
                exchange.respond(messages.next().ok_or(None)?, &terms)?
            }
            Progress::Look(claim, exchange) => {
                assert!(!claim.name.is_empty());
                exchange.look_up(found, "alice@example.net", &terms)?
            }
            Progress::Stretch(job, exchange) => {
                let salted = job.hash.stretch(&job.password, &job.salt, job.iterations);
                exchange.stretched(salted.as_slice())?
            }
        }
    }
}

const PARTING: u8 = 255;
const PASSWORD: &str = "pw";
const SALT: [u8; 16] = [3; 16];
const ITERATIONS: u32 = 2;
