//! `encke user …`: accounts, whether the server runs or not.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::{ProgressBar, ProgressStyle};

use super::accounts::Credentials;
use super::admin::{Account, Answer, Request, State};
use super::cli::{Form, PasswordFrom, UserCommand};
use super::config::Config;
use super::door::Door;
use super::exit::{Exit, Failure};
use super::import::{self, local_jid};
use super::password;

/// Accounts in one request of an import; well below the bound on a line.
const CHUNK_ACCOUNTS: usize = 1_000;
/// Lines that are shown of many of a kind.
const SHOWN_MAX: usize = 20;

/// Carries out a command on accounts; returns what to print.
///
/// # Errors
/// Why nothing, or not all, was done.
pub fn run(command: &UserCommand, config: &Config, form: Form) -> Result<Told, Failure> {
    let text = match command {
        UserCommand::Add { jid, password } => set(jid, *password, config, form, Setting::New)?,
        UserCommand::Passwd { jid, password } => {
            set(jid, *password, config, form, Setting::Change)?
        }
        UserCommand::Delete { jid } => delete(jid, config, form)?,
        UserCommand::List => list(config, form)?,
        UserCommand::Import { file } => return import_file(file, config, form),
    };
    Ok(Told {
        text,
        exit: Exit::Done,
    })
}

/// What a command prints, and how it ends.
pub struct Told {
    pub text: String,
    pub exit: Exit,
}

/// Whether the account must be absent or present.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    New,
    Change,
}

fn set(
    jid: &str,
    from: PasswordFrom,
    config: &Config,
    form: Form,
    setting: Setting,
) -> Result<String, Failure> {
    let jid = local_jid(jid, &config.domains).map_err(Failure::plain)?;
    let mut door = Door::open(config)?;
    let password = password::obtain(from, &jid)?;
    let keys = STANDARD.encode(password::keys(&password.text).map_err(Failure::plain)?);
    let account = Account {
        jid: jid.clone(),
        keys,
    };
    let request = match setting {
        Setting::New => Request::Add {
            accounts: vec![account],
        },
        Setting::Change => Request::Replace { account },
    };
    let state = ask_one(&mut door, &request)?;
    refuse(&jid, state)?;
    let shown = password.made_up.then_some(password.text.as_str());
    Ok(told(&jid, state, shown, form))
}

fn delete(jid: &str, config: &Config, form: Form) -> Result<String, Failure> {
    let jid = local_jid(jid, &config.domains).map_err(Failure::plain)?;
    let mut door = Door::open(config)?;
    let state = ask_one(&mut door, &Request::Delete { jid: jid.clone() })?;
    refuse(&jid, state)?;
    Ok(told(&jid, state, None, form))
}

fn list(config: &Config, form: Form) -> Result<String, Failure> {
    let mut door = Door::open(config)?;
    let mut names = Vec::new();
    door.ask(Request::List, &mut |answer| {
        if let Answer::Account { jid, .. } = answer {
            names.push(jid);
        }
        Ok(())
    })?;
    Ok(match form {
        Form::People => names.iter().flat_map(|jid| [jid.as_str(), "\n"]).collect(),
        Form::Json => format!("{}\n", serde_json::Value::from(names)),
    })
}

fn ask_one(door: &mut Door, request: &Request) -> Result<State, Failure> {
    let mut found = None;
    door.ask(request.clone(), &mut |answer| {
        if let Answer::Account { state, .. } = answer {
            found = Some(state);
        }
        Ok(())
    })?;
    found.ok_or_else(|| Failure::plain("the answer is empty"))
}

fn refuse(jid: &str, state: State) -> Result<(), Failure> {
    match state {
        State::Exists => Err(Failure::plain(format!(
            "{jid} exists already; nothing was changed"
        ))),
        State::Missing => Err(Failure::plain(format!("there is no account {jid}"))),
        _ => Ok(()),
    }
}

fn told(jid: &str, state: State, password: Option<&str>, form: Form) -> String {
    let (word, text) = match state {
        State::Added => ("added", "added"),
        State::Changed => ("changed", "password changed, sessions ended"),
        State::Deleted => ("deleted", "deleted"),
        _ => ("", ""),
    };
    match (form, password) {
        (Form::Json, password) => {
            let mut object = serde_json::json!({ "jid": jid, "state": word });
            if let Some(password) = password {
                object["password"] = password.into();
            }
            format!("{object}\n")
        }
        (Form::People, Some(password)) => format!("{jid}: {text}\npassword: {password}\n"),
        (Form::People, None) => format!("{jid}: {text}\n"),
    }
}

fn import_file(file: &Path, config: &Config, form: Form) -> Result<Told, Failure> {
    let text = read_file(file)?;
    let lines = text.lines().count() as u64;
    let progress = Progress::new("reading", lines);
    let read = import::read(&text, &config.domains, &|count| progress.add(count));
    progress.end();
    let accounts = read.map_err(|bad| {
        let count = bad.len();
        let shown = bad.iter().take(SHOWN_MAX);
        let mut lines: Vec<String> = shown
            .map(|line| format!("{}:{}: {}", file.display(), line.number, line.reason))
            .collect();
        if count > SHOWN_MAX {
            lines.push(format!("… and {} more bad lines", count - SHOWN_MAX));
        }
        lines.push("nothing was imported; mend the lines and import again".into());
        Failure {
            exit: Exit::Failed,
            lines,
        }
    })?;
    add_all(&accounts, config, form)
}

fn add_all(accounts: &[Credentials], config: &Config, form: Form) -> Result<Told, Failure> {
    let began = Instant::now();
    let mut door = Door::open(config)?;
    let progress = Progress::new("adding", accounts.len() as u64);
    let (mut added, mut existing) = (0_u64, Vec::new());
    for chunk in accounts.chunks(CHUNK_ACCOUNTS) {
        let accounts = chunk.iter().map(|account| Account {
            jid: account.jid.clone(),
            keys: STANDARD.encode(&account.record),
        });
        let request = Request::Add {
            accounts: accounts.collect(),
        };
        let asked = door.ask(request, &mut |answer| {
            match answer {
                Answer::Account {
                    state: State::Added,
                    ..
                } => added += 1,
                Answer::Account { jid, .. } => existing.push(jid),
                _ => {}
            }
            Ok(())
        });
        progress.add(chunk.len() as u64);
        asked.map_err(|mut failure| {
            let line = format!("{added} accounts were added before; import again for the rest");
            failure.lines.push(line);
            failure
        })?;
    }
    progress.end();
    let exit = if existing.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    };
    let text = imported(added, &existing, began.elapsed(), form);
    Ok(Told { text, exit })
}

fn imported(added: u64, existing: &[String], took: Duration, form: Form) -> String {
    if form == Form::Json {
        return format!(
            "{}\n",
            serde_json::json!({ "added": added, "existing": existing })
        );
    }
    let mut text = String::new();
    for jid in existing.iter().take(SHOWN_MAX) {
        text += &format!("{jid} exists already and is unchanged\n");
    }
    if existing.len() > SHOWN_MAX {
        text += &format!("… and {} more\n", existing.len() - SHOWN_MAX);
    }
    text + &format!("{added} accounts added in {:.1} s\n", took.as_secs_f64())
}

fn read_file(file: &Path) -> Result<String, Failure> {
    let read = match file.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map(|_| text)
        }
        false => std::fs::read_to_string(file),
    };
    read.map_err(|e| Failure::plain(format!("{}: {e}", file.display())))
}

/// A bar on a terminal, a plain line elsewhere.
struct Progress {
    bar: ProgressBar,
    verb: &'static str,
    on_terminal: bool,
}

impl Progress {
    fn new(verb: &'static str, total: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = if on_terminal {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        bar.set_length(total);
        let template = "{msg:>8} {bar:40} {human_pos} of {human_len}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(verb);
        Self {
            bar,
            verb,
            on_terminal,
        }
    }

    fn add(&self, count: u64) {
        self.bar.inc(count);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
        if !self.on_terminal {
            eprintln!("{}: {} accounts", self.verb, self.bar.position());
        }
    }
}
