//! Where passwords come from, and what is kept of them.

use std::io::{self, BufRead, IsTerminal};

use super::cli::PasswordFrom;
use super::exit::{Exit, Failure};
use crate::stream::sasl::keys::SALT_OCTETS;
use crate::stream::sasl::{ITERATIONS, Keys};

/// A password to set, and whether the administrator has to be told.
pub struct Password {
    pub text: String,
    pub made_up: bool,
}

/// Gets a password the way the command line says.
///
/// # Errors
/// When there is none, or the two that were typed differ.
pub fn obtain(from: PasswordFrom, jid: &str) -> Result<Password, Failure> {
    if from.generate {
        return Ok(Password {
            text: make_up()?,
            made_up: true,
        });
    }
    let text = match from.password_stdin {
        true => first_line()?,
        false => prompt(jid)?,
    };
    Ok(Password {
        text,
        made_up: false,
    })
}

/// The record of keys for a password; takes milliseconds.
///
/// # Errors
/// When it is no password.
pub fn keys(password: &str) -> Result<Vec<u8>, String> {
    let mut salt = [0; SALT_OCTETS];
    getrandom::fill(&mut salt).map_err(|e| format!("no randomness: {e}"))?;
    let keys = Keys::derive(password, &salt, ITERATIONS).map_err(|e| e.to_string())?;
    Ok(keys.encode().to_vec())
}

/// A random password of 16 characters that are not mistaken for each other: 79 bits.
fn make_up() -> Result<String, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Failure::plain(format!("no randomness: {e}")))?;
    // 32 letters: the low five bits choose one evenly.
    let letters = random.map(|octet| char::from(LETTERS[usize::from(octet % 32)]));
    Ok(letters.iter().collect())
}

const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Failure::plain(format!("standard input: {e}")))?;
    let line = line.trim_end_matches(['\n', '\r']);
    match line {
        "" => Err(Failure::plain("there is no password on standard input")),
        line => Ok(line.into()),
    }
}

fn prompt(jid: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let line = "no terminal to ask for a password; use --password-stdin or --generate";
        return Err(Failure::new(Exit::Usage, line));
    }
    let ask = |text: String| {
        rpassword::prompt_password(text).map_err(|e| Failure::plain(format!("terminal: {e}")))
    };
    let first = ask(format!("Password for {jid}: "))?;
    if first != ask("Once more: ".into())? {
        return Err(Failure::plain(
            "the two passwords differ; nothing was changed",
        ));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_differ_and_are_typable() {
        let (one, other) = (make_up().expect("random"), make_up().expect("random"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 16);
        assert!(one.bytes().all(|octet| LETTERS.contains(&octet)));
    }
}
