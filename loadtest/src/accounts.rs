//! Accounts for bulk import: one password, one salt.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::args::{AccountFormat, AccountsArgs};
use crate::sasl::{Keys, Mechanism};

pub fn write(args: &AccountsArgs) -> io::Result<()> {
    match args.format {
        AccountFormat::Encke => {
            let sha1 = scram(args, Mechanism::ScramSha1);
            let sha256 = scram(args, Mechanism::ScramSha256);
            lines(args, |user| {
                let jid = format!("{user}@{}", args.domain);
                json!({ "jid": jid, "scram-sha-1": sha1, "scram-sha-256": sha256 }).to_string()
            })
        }
        AccountFormat::Ctl => lines(args, |user| {
            format!("register {user} {} {}", args.domain, args.password)
        }),
        AccountFormat::Prosody => prosody(args),
    }
}

/// Fixed, so that the same arguments give the same accounts.
const SALT: &[u8; 16] = b"encke-loadtest-0";

fn scram(args: &AccountsArgs, mechanism: Mechanism) -> Value {
    let keys = Keys::derive(mechanism, &args.password, SALT, args.iterations);
    json!({
        "salt": BASE64.encode(SALT),
        "iterations": args.iterations,
        "stored_key": BASE64.encode(keys.stored),
        "server_key": BASE64.encode(keys.server),
    })
}

fn lines(args: &AccountsArgs, line: impl Fn(&str) -> String) -> io::Result<()> {
    let out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::new(out);
    for index in 0..args.count {
        writeln!(out, "{}", line(&format!("{}{index}", args.user_prefix)))?;
    }
    out.flush()
}

/// One Lua table a file, as mod_storage_internal keeps them.
fn prosody(args: &AccountsArgs) -> io::Result<()> {
    let keys = Keys::derive(Mechanism::ScramSha1, &args.password, SALT, args.iterations);
    let hex = |octets: &[u8]| {
        octets
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect::<String>()
    };
    let text = format!(
        "return {{\n\t[\"iteration_count\"] = {};\n\t[\"salt\"] = \"{}\";\n\
         \t[\"stored_key\"] = \"{}\";\n\t[\"server_key\"] = \"{}\";\n}};\n",
        args.iterations,
        String::from_utf8_lossy(SALT),
        hex(&keys.stored),
        hex(&keys.server),
    );
    let data = args.out.as_deref().unwrap_or_else(|| Path::new("."));
    let folder = data.join(prosody_name(&args.domain)).join("accounts");
    fs::create_dir_all(&folder)?;
    for index in 0..args.count {
        let user = prosody_name(&format!("{}{index}", args.user_prefix));
        fs::write(folder.join(format!("{user}.dat")), &text)?;
    }
    Ok(())
}

/// Prosody writes all but letters and digits as `%xx`.
fn prosody_name(name: &str) -> String {
    let mut out = String::new();
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() {
            out.push(octet as char);
        } else {
            out.push_str(&format!("%{octet:02x}"));
        }
    }
    out
}
