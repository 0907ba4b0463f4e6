//! Signals of the administrator, as events of one queue.

use std::io;
use std::path::PathBuf;

use crossbeam::channel::{Receiver, Sender, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;

/// Where the former store is kept, or why the server could not start again.
pub type Outcome = Result<Option<PathBuf>, String>;

/// What the administrator wants.
#[derive(Debug)]
pub enum Wish {
    /// SIGHUP.
    Reload,
    /// SIGTERM, or Ctrl-C. A second one ends the process where it stands.
    Stop,
    /// A staged store is to take the place of the one in use; whom to tell what became of it.
    Restore(Sender<Outcome>),
}

/// Takes over the signals of this process, on a thread of its own.
///
/// # Errors
/// When the system gives no thread or no signal.
pub fn watch() -> io::Result<(Sender<Wish>, Receiver<Wish>)> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let (sender, wishes) = unbounded();
    let others = sender.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut stopping = false;
            for signal in &mut signals {
                let wish = match signal {
                    SIGHUP => Wish::Reload,
                    _ if stopping => {
                        eprintln!("encke: second signal, ending at once");
                        std::process::exit(Exit::Failed as i32);
                    }
                    _ => Wish::Stop,
                };
                stopping |= signal != SIGHUP;
                // Nobody listens any more when the process is about to end.
                let _ = sender.send(wish);
            }
        })?;
    Ok((others, wishes))
}
