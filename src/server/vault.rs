//! `encke backup` and `encke restore`: everything that is kept, in one file and back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::admin::{Answer, Request};
use super::cli::Form;
use super::config::Config;
use super::data;
use super::depot;
use super::door::{self, Door};
use super::exit::{Exit, Failure};
use crate::store::backup::{self, BackupError, Progress};
use crate::store::open::{Config as Place, DirLock};
use crate::store::worker::Storage;

/// Where a restored store waits until it takes the place of the old one.
const STAGED: &str = "store.restored";

/// Writes everything into a file, by the running server or by this command.
///
/// # Errors
/// Why there is no backup.
pub fn back_up(config: &Config, file: &Path, form: Form) -> Result<String, Failure> {
    let file = std::path::absolute(file).map_err(Failure::plain)?;
    let mut found = None;
    Door::open(config)?.ask(Request::Backup { file: file.clone() }, &mut |answer| {
        if let Answer::Kept {
            rows,
            messages,
            octets,
        } = answer
        {
            found = Some((rows, messages, octets));
        }
        Ok(())
    })?;
    let (rows, messages, octets) = found.ok_or_else(|| Failure::plain("the answer is empty"))?;
    let file = file.display();
    Ok(match form {
        Form::Json => {
            let file = file.to_string();
            let object = serde_json::json!({
                "file": file, "rows": rows, "messages": messages, "octets": octets
            });
            format!("{object}\n")
        }
        Form::People => {
            format!("{file}: {rows} rows and {messages} messages on their way, {octets} octets\n")
        }
    })
}

/// Replaces everything by a backup. A running server goes on with the old until the new is
/// complete, then ends all streams and starts again on it.
///
/// # Errors
/// Why nothing was replaced.
pub fn restore(config: &Config, file: &Path, form: Form) -> Result<String, Failure> {
    let file = std::path::absolute(file).map_err(Failure::plain)?;
    let kept = match door::running(config)? {
        Some(mut line) => {
            let mut kept = None;
            line.ask(&Request::Restore { file: file.clone() }, &mut |answer| {
                if let Answer::Restored { former } = answer {
                    kept = former;
                }
                Ok(())
            })?;
            kept
        }
        None => {
            data::prepare(&config.data_dir)?;
            // Nobody may start on the old store while it is replaced.
            let _lock = DirLock::take(&depot::dir(&config.data_dir))
                .map_err(|e| Failure::new(Exit::Data, e))?;
            stage(&config.data_dir, &file).map_err(Failure::plain)?;
            swap(&config.data_dir).map_err(Failure::plain)?
        }
    };
    let former = kept.map(|dir| dir.display().to_string());
    Ok(match (form, former) {
        (Form::Json, former) => format!("{}\n", serde_json::json!({ "former": former })),
        (Form::People, Some(former)) => {
            format!("restored; the former data are in {former}: delete them when all is well\n")
        }
        (Form::People, None) => "restored\n".into(),
    })
}

/// Writes what `storage` holds into `file`, in place of what is there once it is complete.
///
/// # Errors
/// One line: what is wrong.
pub fn keep(storage: &Storage, file: &Path) -> Result<Progress, String> {
    let frozen = storage.freeze().map_err(|e| e.to_string())?;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    backup::backup(&frozen, file, now, &mut |_| {}).map_err(|e| e.to_string())
}

/// Makes a store of a backup, beside the one in use. The whole file is checked first.
///
/// # Errors
/// One line: what is wrong; nothing has changed.
pub fn stage(data_dir: &Path, file: &Path) -> Result<Progress, String> {
    let dir = data_dir.join(STAGED);
    let removed = remove(&dir);
    removed.map_err(|e| format!("{}: {e}", dir.display()))?;
    backup::restore(file, &Place::in_dir(&dir), &mut |_| {}).map_err(|e: BackupError| e.to_string())
}

/// Puts the staged store in the place of the one in use, which nobody may have open. Returns
/// where the former one is kept.
///
/// # Errors
/// One line: what is wrong; the former store is still in its place.
pub fn swap(data_dir: &Path) -> Result<Option<PathBuf>, String> {
    let (store, staged) = (depot::dir(data_dir), data_dir.join(STAGED));
    let failed = |e: io::Error| format!("{}: {e}", store.display());
    if !store.exists() {
        fs::rename(&staged, &store).map_err(failed)?;
        return Ok(None);
    }
    // One step for the file system: at no instant is there no store.
    renameat_with(CWD, &staged, CWD, &store, RenameFlags::EXCHANGE)
        .map_err(|e| failed(e.into()))?;
    if !depot::is_store(&staged) {
        // Nothing but the lock, which was taken to be alone.
        remove(&staged).map_err(failed)?;
        return Ok(None);
    }
    let former = former_place(data_dir);
    fs::rename(&staged, &former).map_err(failed)?;
    fs::File::open(data_dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed)?;
    Ok(Some(former))
}

/// A free name for a former store. Two restores may happen within one second, or the clock may
/// have been set back.
fn former_place(data_dir: &Path) -> PathBuf {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let first = std::iter::once(String::new());
    let mut names = first.chain((2..).map(|number| format!("-{number}")));
    let place = names.find_map(|more| {
        let place = data_dir.join(format!("store.before-{stamp}{more}"));
        (!place.exists()).then_some(place)
    });
    place.expect("numbers do not end")
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The former store of the second one must not meet that of the first.
    #[test]
    fn restores_in_quick_succession_keep_every_former_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = |name: &str, schema: &str| {
            fs::create_dir(dir.path().join(name)).expect("made");
            fs::write(dir.path().join(name).join("SCHEMA"), schema).expect("written");
        };
        store("store", "0");
        for number in 1..=4 {
            store(STAGED, &number.to_string());
            let former = swap(dir.path()).expect("swapped").expect("there was one");
            let kept = fs::read_to_string(former.join("SCHEMA")).expect("kept");
            assert_eq!(kept, (number - 1).to_string());
        }
    }
}
