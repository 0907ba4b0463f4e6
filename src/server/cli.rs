//! The command line: what may be asked, and who answers.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use super::admin::{Answer, Request};
use super::config::{self, Loaded, Wanted};
use super::exit::{Exit, Failure};
use super::status::Status;
use super::{boot, check, door, reference, show, user, vault};
use crate::io::GiveBack;

/// encke, an XMPP server that never loses what was acknowledged.
///
/// Without a command it serves: with ./encke.toml where there is one, else in standalone mode,
/// on loopback addresses, with demo accounts.
#[derive(Debug, Parser)]
#[command(name = "encke", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// The configuration [default: ./encke.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, instead of the configured one
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed (check: warnings), 2 wrong usage (check: errors), 3 configuration,
4 address in use, 5 data directory, 6 not running, 70 internal.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve,
    /// Add, change, delete, list and import accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Test the configuration, certificates, limits of the kernel, ports and the data directory
    Check,
    /// Show the configuration, or print a sample or the reference
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show how the running server is doing
    Status,
    /// Write everything that is kept into one file
    Backup {
        /// The file; it is replaced once the backup is complete
        file: PathBuf,
    },
    /// Replace everything that is kept by a backup
    Restore {
        /// A file that `backup` wrote
        file: PathBuf,
    },
}

/// Work on accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account
    Add {
        /// name@domain
        jid: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Change the password of an account and end its sessions
    Passwd {
        /// name@domain
        jid: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Delete an account with everything it has
    Delete {
        /// name@domain
        jid: String,
    },
    /// List all accounts
    List,
    /// Add many accounts: lines `JID password`, or JSON objects with SCRAM keys
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
}

/// Where a password comes from; never from an argument, which others can see.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub struct PasswordFrom {
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Make a password up and print it
    #[arg(long)]
    pub generate: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show what is in force and where it came from
    Show,
    /// Print a configuration file to start from
    Sample,
    /// Print the reference of all options
    Reference,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    People,
    Json,
}

/// Runs the command line of this process to its end.
pub fn run(give_back: GiveBack) -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Done } else { Exit::Usage };
        }
    };
    match dispatch(&cli, give_back) {
        Ok(exit) => exit,
        Err(failure) => {
            for line in &failure.lines {
                eprintln!("encke: {line}");
            }
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli, give_back: GiveBack) -> Result<Exit, Failure> {
    let form = if cli.json { Form::Json } else { Form::People };
    match cli.command.as_ref().unwrap_or(&Command::Serve) {
        Command::Config(ConfigCommand::Sample) => print(&reference::sample()),
        Command::Config(ConfigCommand::Reference) => print(&reference::reference()),
        Command::Config(ConfigCommand::Show) => print(&show::render(&load(cli)?, form)),
        Command::User(command) => {
            let told = user::run(command, &load(cli)?.config, form)?;
            print(&told.text).map(|_| told.exit)
        }
        Command::Check => check_all(cli, form),
        Command::Status => show_status(cli, form),
        Command::Backup { file } => print(&vault::back_up(&load(cli)?.config, file, form)?),
        Command::Restore { file } => print(&vault::restore(&load(cli)?.config, file, form)?),
        Command::Serve => boot::serve(load(cli)?, give_back),
    }
}

fn check_all(cli: &Cli, form: Form) -> Result<Exit, Failure> {
    let findings = match config::load(&cli.wanted(), std::env::vars_os()) {
        Ok(loaded) => check::check(&loaded, status_of(&loaded)?.as_ref()),
        Err(faults) => check::refused(&faults),
    };
    print(&findings.render(form)).map(|_| findings.exit())
}

fn show_status(cli: &Cli, form: Form) -> Result<Exit, Failure> {
    let loaded = load(cli)?;
    let Some(status) = status_of(&loaded)? else {
        let dir = loaded.config.data_dir.display();
        return Err(Failure::new(
            Exit::NotRunning,
            format!("no server is running in {dir}"),
        ));
    };
    match form {
        Form::People => print(&status.for_people()),
        Form::Json => print(&format!("{:#}\n", serde_json::json!(status))),
    }
}

/// What the server of this data directory says about itself; `None` when there is none.
fn status_of(loaded: &Loaded) -> Result<Option<Status>, Failure> {
    let Some(mut line) = door::running(&loaded.config)? else {
        return Ok(None);
    };
    let mut found = None;
    line.ask(&Request::Status, &mut |answer| {
        if let Answer::Status { status } = answer {
            found = Some(*status);
        }
        Ok(())
    })?;
    Ok(found)
}

fn load(cli: &Cli) -> Result<Loaded, Failure> {
    config::load(&cli.wanted(), std::env::vars_os()).map_err(|faults| Failure {
        exit: Exit::Configuration,
        lines: faults.iter().map(ToString::to_string).collect(),
    })
}

impl Cli {
    fn wanted(&self) -> Wanted {
        Wanted {
            file: self.config.clone(),
            data_dir: self.data_dir.clone(),
        }
    }
}

/// Prints to standard output; a reader that left early is no error.
fn print(text: &str) -> Result<Exit, Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::plain(format!("standard output: {e}")))
        }
        _ => Ok(Exit::Done),
    }
}

/// The definition that tests and completions use.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_password_cannot_be_an_argument() {
        let parsed = Cli::try_parse_from(["encke", "user", "add", "a@b", "secret"]);
        assert!(parsed.is_err());
    }
}
