//! `watchkeeper key …`: makes the file of keys that seals secrets in the store, and puts a new key in front of the others.
//!
//! It touches that file alone. The server seals with the first key as soon as it reads its configuration again, and seals anew what another
//! key sealed; only then is an old one of no use any more.

use super::{Ended, say};
use crate::seal::{self, KEYS_MAX, Keys};
use anyhow::{Context as _, anyhow};
use secrecy::zeroize::Zeroizing;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a file with a new key that seals secrets in the store
    Create {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Put a new key in front of those of a file: it seals from then on, and the others still open
    Rotate {
        /// The file
        file: PathBuf,
    },
}

/// Runs one.
pub fn run(command: &KeyCommand) -> Result<(), Ended> {
    match command {
        KeyCommand::Create { file } => create(file),
        KeyCommand::Rotate { file } => rotate(file),
    }
}

fn create(file: &Path) -> Result<(), Ended> {
    let line = seal::new_line().map_err(|error| anyhow!("the operating system gave no random bytes for a key: {error}"))?;
    let text = Zeroizing::new(format!("# Seals secrets in Watchkeeper's store; without it they are lost.\n{}\n", *line));
    write(file, &text).with_context(|| format!("the key file {} could not be made", file.display()))?;
    let place = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    say(&format!(
        "{} holds a new key. Keep a copy apart from the store, and say in the configuration of every node:\nserver:\n  secret_key_file: {}\n",
        file.display(),
        place.display()
    ))
}

fn rotate(file: &Path) -> Result<(), Ended> {
    // A link stays one: the file that it leads to is replaced.
    let file = &file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let unusable = |why: String| Ended::Usage(anyhow!("{} {why}", file.display()));
    let before = seal::content_of(file).map_err(unusable)?;
    let keys = Keys::read(&before).map_err(unusable)?.ids().count();
    if keys >= KEYS_MAX {
        return Err(unusable(format!("holds {keys} keys already; delete the lines of the last ones first")));
    }
    let line = seal::new_line().map_err(|error| anyhow!("the operating system gave no random bytes for a key: {error}"))?;
    let text = Zeroizing::new(format!("{}\n{}", *line, *seal::lines(&before).map_err(unusable)?));
    // Beside it, and then in its place: a file with half of the keys would lock up what the others sealed.
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    write(&beside, &text)
        .with_context(|| {
            let fault = if beside.exists() {
                "is in the way; if no rotation is running, one was cut off: remove it"
            } else {
                "could not be written"
            };
            format!("{} {fault}", beside.display())
        })
        .and_then(|()| std::fs::rename(&beside, file).with_context(|| format!("{} could not be replaced", file.display())))?;
    say(&format!(
        "{} has a new key in front. Give the file to every node and reload: the server seals everything anew, and says so in its log. \
         Then the older keys, in the lines below, can go.\n",
        file.display()
    ))
}

/// Makes a file that only its owner can read.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_file_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wk.key");
        create(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let first = seal::read_file(&file).unwrap();
        let Ended::Failed(error) = create(&file).unwrap_err() else { panic!("it is there") };
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert_eq!(seal::read_file(&file).unwrap(), first, "nothing was changed");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(seal::read_file(&file).unwrap_err(), "has the mode 0640, so that others than its owner may use it");
    }

    #[test]
    fn a_new_key_comes_in_front_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wk.key");
        std::fs::write(&file, [0xf7; 32]).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
        let old = seal::read_file(&file).unwrap();
        let sealed = old.seal(b"x", &["place"]).unwrap();
        for keys in 2..=KEYS_MAX {
            rotate(&file).unwrap();
            let now = seal::read_file(&file).unwrap();
            assert_eq!(now.ids().count(), keys);
            assert_eq!(now.ids().last(), old.ids().next());
            assert_eq!(seal::open(&sealed, &["place"], Some(&now)).unwrap().as_slice(), b"x");
            assert!(!seal::is_newest(&sealed, &now));
        }
        let Ended::Usage(error) = rotate(&file).unwrap_err() else { panic!("there are too many") };
        assert!(error.to_string().ends_with("holds 8 keys already; delete the lines of the last ones first"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
