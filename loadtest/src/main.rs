//! `encke-loadtest`: loads an XMPP server on this machine and says what a message, a login and a
//! session cost it.

/// Prints a line. Nobody may be left to read it: then the run still ends as it should.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod accounts;
mod args;
mod bench;
mod bosh;
mod broadcast;
mod c1m;
mod calls;
mod chat;
mod client;
mod compare;
mod document;
mod failure;
mod floor;
mod format;
mod html;
mod http;
mod json;
mod kinds;
mod live;
mod machine;
mod mark;
mod metrics;
mod plan;
mod presence;
mod process;
mod recorder;
mod report;
mod sampler;
mod sasl;
mod scan;
mod scenario;
mod schedule;
mod socket;
mod sys;
mod task;
mod timeline;
mod tls;
mod websocket;
mod worker;

use std::io::Read;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use bench::Ending;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let ending = match Cli::parse().command {
        Command::Accounts(args) => accounts::write(&args)
            .map(|()| FINE)
            .map_err(|e| e.to_string()),
        Command::Register(args) => kinds::login::register(&args),
        Command::Run(args) => scenario::load(&args).and_then(|kind| kind.run()),
        Command::Scenarios(args) => scenario::show(&args).map(|()| FINE),
        Command::Kind(kind) => kind.run(),
        Command::C1m(args) => c1m::run(&args),
        Command::Floor(args) => floor::measure(&args),
        Command::Relay(args) => floor::relay(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Html(args) => html::run(&args),
        Command::Verdict => verdict(),
    };
    match ending {
        Ok(Ending { nothing: true, .. }) => ExitCode::from(3),
        Ok(Ending { errors: true, .. }) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("encke-loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

pub const FINE: Ending = Ending {
    errors: false,
    nothing: false,
};

fn verdict() -> Result<Ending, String> {
    let mut rows = String::new();
    std::io::stdin()
        .read_to_string(&mut rows)
        .map_err(|e| e.to_string())?;
    Ok(Ending {
        errors: !report::verdict(&rows),
        nothing: false,
    })
}
