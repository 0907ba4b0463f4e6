//! The file of `encke user import`: what each line says, or what is wrong with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::accounts::Credentials;
use super::password;
use crate::stream::sasl::{Entry, Hash, Keys};
use crate::xmpp::jid::BareJid;

/// A line that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from one.
    pub number: usize,
    pub reason: String,
}

/// One account of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    jid: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "scram-sha-1")]
    sha1: Option<Scram>,
    #[serde(default, rename = "scram-sha-256")]
    sha256: Option<Scram>,
    #[serde(default, rename = "scram-sha-512")]
    sha512: Option<Scram>,
}

/// The keys of one hash function; octets in base64.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scram {
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
}

/// Reads all lines; passwords are hashed on all cores. `domains` are those served here.
///
/// `progress` is told how many lines were added to those that are read.
///
/// # Errors
/// All bad lines: a file is imported whole or not at all.
pub fn read(
    text: &str,
    domains: &[String],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Credentials>, Vec<BadLine>> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = lines.len().div_ceil(threads).max(1);
    let parts: Vec<(Vec<(usize, Credentials)>, Vec<BadLine>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = lines
            .chunks(share)
            .map(|lines| scope.spawn(move || read_part(lines, domains, progress)))
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .collect()
    });
    let (mut accounts, mut bad) = (Vec::with_capacity(lines.len()), Vec::new());
    for (read, wrong) in parts {
        accounts.extend(read);
        bad.extend(wrong);
    }
    bad.extend(repeated(&accounts));
    bad.sort_by_key(|line| line.number);
    match bad.is_empty() {
        true => Ok(accounts.into_iter().map(|(_, account)| account).collect()),
        false => Err(bad),
    }
}

fn read_part(
    lines: &[(usize, &str)],
    domains: &[String],
    progress: &(dyn Fn(u64) + Sync),
) -> (Vec<(usize, Credentials)>, Vec<BadLine>) {
    let (mut accounts, mut bad) = (Vec::with_capacity(lines.len()), Vec::new());
    for &(number, line) in lines {
        match read_line(line, domains) {
            Ok(account) => accounts.push((number, account)),
            Err(reason) => bad.push(BadLine { number, reason }),
        }
        progress(1);
    }
    (accounts, bad)
}

fn read_line(line: &str, domains: &[String]) -> Result<Credentials, String> {
    if line.starts_with('{') {
        return read_object(line, domains);
    }
    let Some((jid, secret)) = line.split_once(char::is_whitespace) else {
        return Err("has no password; write `JID password`".into());
    };
    let jid = local_jid(jid, domains)?;
    let record = password::keys(secret.trim_start())?;
    Ok(Credentials { jid, record })
}

fn read_object(line: &str, domains: &[String]) -> Result<Credentials, String> {
    let object: Object = serde_json::from_str(line).map_err(|e| {
        // The line of the parser is always 1 and would be mistaken for the one of the file.
        let text = e.to_string();
        text.split(" at line ").next().unwrap_or(&text).to_owned()
    })?;
    let jid = local_jid(&object.jid, domains)?;
    let scrams = [
        (Hash::Sha1, &object.sha1),
        (Hash::Sha256, &object.sha256),
        (Hash::Sha512, &object.sha512),
    ];
    let entries: Result<Vec<Entry>, String> = scrams
        .into_iter()
        .filter_map(|(hash, scram)| Some((hash, scram.as_ref()?)))
        .map(|(hash, scram)| scram.entry(hash))
        .collect();
    let entries = entries?;
    let record = match (object.password, entries.is_empty()) {
        (Some(secret), true) => password::keys(&secret)?,
        (Some(_), false) => return Err("has both a password and keys".into()),
        (None, true) => return Err("has neither keys nor a password".into()),
        (None, false) => {
            let keys = Keys::from_entries(entries).map_err(|e| e.to_string())?;
            keys.encode().to_vec()
        }
    };
    Ok(Credentials { jid, record })
}

impl Scram {
    fn entry(&self, hash: Hash) -> Result<Entry, String> {
        let octets = |name: &str, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|e| format!("{}: {name}: {e}", hash.name()))
        };
        let salt = octets("salt", &self.salt)?;
        let stored = octets("stored_key", &self.stored_key)?;
        let server = octets("server_key", &self.server_key)?;
        Entry::new(hash, &salt, self.iterations, &stored, &server)
            .map_err(|e| format!("{}: {e}", hash.name()))
    }
}

/// The normal form of a bare JID whose domain is served here.
///
/// # Errors
/// Why it can be no account.
pub fn local_jid(text: &str, domains: &[String]) -> Result<String, String> {
    let jid = BareJid::parse(text).map_err(|e| format!("{text:?} is no bare JID: {e}"))?;
    if jid.local().is_none() {
        return Err(format!("{text:?} has no localpart; write name@domain"));
    }
    if !domains.iter().any(|domain| domain == jid.domain()) {
        let served = domains.join(", ");
        return Err(format!("{jid} is not of a domain served here ({served})"));
    }
    Ok(jid.to_string())
}

fn repeated(accounts: &[(usize, Credentials)]) -> Vec<BadLine> {
    let mut first = hashbrown::HashMap::with_hasher(foldhash::fast::RandomState::default());
    let mut bad = Vec::new();
    for (number, account) in accounts {
        if let Some(earlier) = first.insert(account.jid.as_str(), *number) {
            let reason = format!("{} is already in line {earlier}", account.jid);
            bad.push(BadLine {
                number: *number,
                reason,
            });
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<Vec<String>, Vec<(usize, String)>> {
        let found = read(text, &["b.example".into()], &|_| ());
        found
            .map(|accounts| accounts.into_iter().map(|account| account.jid).collect())
            .map_err(|bad| {
                bad.into_iter()
                    .map(|line| (line.number, line.reason))
                    .collect()
            })
    }

    fn keyed(jid: &str, octets: usize) -> String {
        let key = STANDARD.encode(vec![7; octets]);
        format!(
            r#"{{"jid":"{jid}","scram-sha-256":{{"salt":"c2FsdA==","iterations":4096,
            "stored_key":"{key}","server_key":"{key}"}}}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn both_kinds_of_lines_are_read() {
        let text = format!(
            "# ours\nRomeo@b.example  pen cil\n\n{}\n",
            keyed("j@b.example", 32)
        );
        let names = read_all(&text).expect("read");
        assert_eq!(names, ["romeo@b.example", "j@b.example"]);
    }

    #[test]
    fn each_bad_line_is_named_and_nothing_else_is_taken() {
        let text = format!(
            "a@b.example x\nb@b.example\nc@c.example x\n{}\nA@b.example y\n{{\"jid\":3}}\n",
            keyed("d@b.example", 20)
        );
        let bad = read_all(&text).expect_err("bad lines");
        let numbers: Vec<usize> = bad.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 3, 4, 5, 6], "{bad:?}");
        assert_eq!(
            bad[1].1,
            "c@c.example is not of a domain served here (b.example)"
        );
        assert_eq!(bad[3].1, "a@b.example is already in line 1");
        assert!(!bad[4].1.contains("line 1"), "{bad:?}");
    }
}
