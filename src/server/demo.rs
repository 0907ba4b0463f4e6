//! The standalone mode: accounts to try, and what a newcomer is told.

use super::accounts::{Accounts, Credentials};
use super::exit::{Exit, Failure};
use super::password;
use super::status::Listeners;

/// Who can log in at once. Their password is no secret: nobody but this machine reaches them.
pub const NAMES: [&str; 8] = [
    "romeo", "juliet", "mercutio", "benvolio", "tybalt", "nurse", "paris", "rosaline",
];
/// The password of all of them.
pub const PASSWORD: &str = "wherefore";

/// Adds the demo accounts; those that exist stay as they are.
///
/// # Errors
/// When storage refuses.
pub fn add_accounts(accounts: &mut Accounts, domain: &str) -> Result<(), Failure> {
    let record = password::keys(PASSWORD).map_err(Failure::plain)?;
    let list = NAMES.map(|name| Credentials {
        jid: format!("{name}@{domain}"),
        record: record.clone(),
    });
    for outcome in accounts.add(&list) {
        if let Some(trouble) = outcome.trouble() {
            return Err(Failure::new(
                Exit::Data,
                format!("demo accounts: {trouble}"),
            ));
        }
    }
    Ok(())
}

/// What a newcomer reads, in at most fifteen lines.
pub fn banner(listeners: &Listeners, domain: &str, data_dir: &str) -> String {
    let list = |addresses: &[String]| match addresses {
        [] => "-".to_owned(),
        addresses => addresses.join("  "),
    };
    let first = |addresses: &[String]| addresses.first().cloned().unwrap_or_else(|| "-".into());
    let port = listeners
        .c2s
        .first()
        .and_then(|address| address.rsplit(':').next());
    let port = port.unwrap_or("5222");
    format!(
        "\
encke is running in standalone mode: on this machine only, to try it out.

  open        http://{}/   in two private windows, as two of these users
  log in as   {}
              {}   @{domain}
  password    {PASSWORD}
  server      127.0.0.1, port {port} (STARTTLS); the certificate is self-signed: accept it
  listening   {}
  with TLS    {}
  browsers    WebSocket at ws://{}/ws and wss://{}/ws
  data        {data_dir}

  For example: profanity, then  /connect romeo@{domain} server 127.0.0.1 port {port} tls trust
  More users:  encke user add NAME@{domain}      How it is doing:  encke status
  A real server starts with:  encke config sample > encke.toml       Stop with Ctrl-C.
",
        first(&listeners.http),
        NAMES[..4].join(" "),
        NAMES[4..].join(" "),
        list(&listeners.c2s),
        list(&listeners.c2s_tls),
        first(&listeners.http),
        first(&listeners.https),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_fits_and_tells_everything() {
        let listeners = Listeners {
            c2s: vec!["127.0.0.1:5222".into(), "[::1]:5222".into()],
            c2s_tls: vec!["127.0.0.1:5223".into()],
            http: vec!["127.0.0.1:5280".into(), "[::1]:5280".into()],
            https: vec!["127.0.0.1:5443".into()],
        };
        let text = banner(&listeners, "localhost", "encke-data");
        assert!(text.lines().count() <= 15);
        assert!(text.lines().all(|line| line.len() <= 100));
        assert!(NAMES.iter().all(|name| text.contains(name)));
        assert!(text.contains(PASSWORD) && text.contains("http://127.0.0.1:5280/ "));
    }
}
