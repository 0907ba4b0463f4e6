//! Signals of the administrator, as events of one queue.

use std::io;

use crossbeam::channel::{Receiver, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;

/// What the administrator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGHUP.
    Reload,
    /// SIGTERM, or Ctrl-C. A second one ends the process where it stands.
    Stop,
}

/// Takes over the signals of this process, on a thread of its own.
///
/// # Errors
/// When the system gives no thread or no signal.
pub fn watch() -> io::Result<Receiver<Wish>> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let (sender, wishes) = unbounded();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut stopping = false;
            for signal in &mut signals {
                let wish = if signal == SIGHUP {
                    Wish::Reload
                } else {
                    Wish::Stop
                };
                if wish == Wish::Stop && stopping {
                    eprintln!("encke: second signal, ending at once");
                    std::process::exit(Exit::Failed as i32);
                }
                stopping |= wish == Wish::Stop;
                // Nobody listens any more when the process is about to end.
                let _ = sender.send(wish);
            }
        })?;
    Ok(wishes)
}
