//! The version of everything in a storage directory, and the way from one to the next.

use std::fs;
use std::io;
use std::path::Path;

use super::files::{Files, RealFiles};
use super::open::OpenError;

/// What this program writes.
pub const VERSION: u32 = 1;

/// The step from one version to the next. Must be repeatable: a crash may cut it short.
pub struct Migration {
    pub from: u32,
    /// What it does, for the log.
    pub what: &'static str,
    pub run: fn(&Path) -> io::Result<()>,
}

/// All steps, in order, the last one to [`VERSION`].
pub const MIGRATIONS: &[Migration] = &[];

const FILE: &str = "SCHEMA";

/// Brings the storage in `dir` to [`VERSION`]; an empty one begins there.
///
/// # Errors
/// [`OpenError::Newer`] when a later program wrote it, [`OpenError::NotOurs`] when there is
/// something else.
pub fn migrate(dir: &Path) -> Result<(), OpenError> {
    migrate_by(dir, VERSION, MIGRATIONS)
}

fn migrate_by(dir: &Path, known: u32, migrations: &[Migration]) -> Result<(), OpenError> {
    let io = |error| OpenError::io(dir, error);
    let Some(mut found) = read(dir)? else {
        return write(dir, known).map_err(io);
    };
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    while found < known {
        let step = migrations.iter().find(|step| step.from == found);
        let step = step.ok_or_else(|| OpenError::NotOurs { dir: dir.into() })?;
        (step.run)(dir).map_err(io)?;
        found += 1;
        write(dir, found).map_err(io)?;
    }
    Ok(())
}

fn read(dir: &Path) -> Result<Option<u32>, OpenError> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => match text.trim().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(OpenError::NotOurs { dir: dir.into() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(dir, error)),
    }
}

fn write(dir: &Path, version: u32) -> io::Result<()> {
    let files = RealFiles::open_dir(dir)?;
    let fresh = "SCHEMA.new";
    let file = files.create(fresh)?;
    file.write_at(format!("{version}\n").as_bytes(), 0)?;
    file.sync_data()?;
    files.rename(fresh, FILE)?;
    files.sync_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_refused_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        migrate_by(dir.path(), 7, &[]).unwrap();
        let error = migrate(dir.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("version 7") && text.contains("version 1"),
            "{text}"
        );
    }

    #[test]
    fn each_step_runs_once_and_in_order() {
        fn note(dir: &Path, step: &str) -> io::Result<()> {
            let path = dir.join("steps");
            let before = fs::read_to_string(&path).unwrap_or_default();
            fs::write(path, before + step)
        }
        let steps = [
            Migration {
                from: 1,
                what: "first",
                run: |dir| note(dir, "1"),
            },
            Migration {
                from: 2,
                what: "second",
                run: |dir| note(dir, "2"),
            },
        ];
        let dir = tempfile::tempdir().unwrap();
        migrate_by(dir.path(), 1, &[]).unwrap();
        migrate_by(dir.path(), 3, &steps).unwrap();
        migrate_by(dir.path(), 3, &steps).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("steps")).unwrap(), "12");
    }

    #[test]
    fn something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "a diary").unwrap();
        assert!(matches!(
            migrate(dir.path()),
            Err(OpenError::NotOurs { .. })
        ));
    }
}
