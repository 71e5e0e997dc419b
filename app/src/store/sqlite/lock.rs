//! One process for each database file, by whatever name it is called: two nodes on one file would both decide.
//!
//! Two locks are held for as long as the store is open. The file beside the database says who holds it, under the database's real
//! name, so that symbolic links lead to the same one. The lock on the database itself holds for hard links too, which lead to other
//! write-ahead logs and would destroy it. That one is `flock`, which SQLite's own locks (`fcntl`) do not meet; but closing any
//! descriptor of a file drops every `fcntl` lock that the process has on it, so it is opened before SQLite opens the file, and
//! closed after.

use super::super::{Result, StoreError};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The right to use a database file.
pub(super) struct Lock {
    /// The database's real name.
    pub path: PathBuf,
    beside: File,
    itself: File,
}

impl Lock {
    /// Makes the file if it is not there, readable by its owner alone (it will hold push tokens), and takes both locks.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let refuse = |error: std::io::Error| StoreError::Refused(format!("the database {} cannot be opened: {error}", path.display()));
        if !path.exists() {
            drop(database(path).map_err(refuse)?);
        }
        let path = path.canonicalize().map_err(refuse)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let place = PathBuf::from(name);
        let unusable = |error: std::io::Error| StoreError::Refused(format!("the lock file {} cannot be used: {error}", place.display()));
        let mut beside = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&place).map_err(unusable)?;
        exclusive(&beside, &path, &place)?;
        let itself = database(&path).map_err(refuse)?;
        exclusive(&itself, &path, &path)?;
        // Its content tells a person who holds it.
        beside
            .set_len(0)
            .and_then(|()| std::io::Write::write_all(&mut beside, format!("{}\n", std::process::id()).as_bytes()))
            .map_err(unusable)?;
        Ok(Self { path, beside, itself })
    }

    /// Whether the file under the database's name is still the one that is open: what is written to one that was deleted or replaced is lost
    /// with the process, and nobody would see it before.
    pub(super) fn in_place(&self) -> std::io::Result<()> {
        let gone = |what: &str| std::io::Error::other(format!("the database {} {what} while it was in use", self.path.display()));
        let open = self.itself.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (open.dev(), open.ino()) => Ok(()),
            Ok(_) => Err(gone("was replaced by another file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(gone("was deleted")),
            Err(error) => Err(error),
        }
    }

    /// Lets go of both. Not only dropped: a child process that is being started right now has copies of the descriptors until it runs.
    pub(super) fn release(self) {
        // Nothing is left to be done about a lock that cannot be given back; it ends with the process.
        let _ = (self.itself.unlock(), self.beside.unlock());
    }
}

fn database(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn exclusive(file: &File, database: &Path, locked: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "the database {} is in use by another process ({} is locked): one process per file; stop the other, or use PostgreSQL for several nodes",
            database.display(),
            locked.display()
        ))),
        Err(TryLockError::Error(error)) => Err(StoreError::Refused(format!("{} cannot be locked: {error}", locked.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_deleted_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wk.db");
        let held = Lock::take(&path).unwrap();
        held.in_place().unwrap();
        std::fs::rename(&path, folder.path().join("kept.db")).unwrap();
        assert!(held.in_place().unwrap_err().to_string().contains("was deleted"));
        std::fs::write(&path, "").unwrap();
        assert!(held.in_place().unwrap_err().to_string().contains("was replaced"));
        std::fs::rename(folder.path().join("kept.db"), &path).unwrap();
        held.in_place().unwrap();
        held.release();
    }

    #[test]
    fn a_database_is_one_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let [real, soft, hard] = ["wk.db", "soft.db", "hard.db"].map(|name| folder.path().join(name));
        let held = Lock::take(&real).unwrap();
        std::os::unix::fs::symlink(&real, &soft).unwrap();
        std::fs::hard_link(&real, &hard).unwrap();
        for name in [&real, &soft, &hard] {
            let refused = Lock::take(name).err().map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|text| text.contains("one process per file")), "{}: {refused:?}", name.display());
        }
        held.release();
        for name in [&hard, &soft, &real] {
            Lock::take(name).unwrap().release();
        }
    }
}
