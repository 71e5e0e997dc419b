//! The building of our own broker, once for this version of it: a small cargo project is written into the user's cache folder and built
//! there with exactly the crates that its lock file names. What is left is one program; the next play uses it.
//!
//! It is apart from this program because who has a Kafka needs none of it, and it takes minutes to build.

use crate::names::hex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// The project: paths and texts. What is built follows from these alone.
const FILES: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../broker/Cargo.toml")),
    ("Cargo.lock", include_str!("../../broker/Cargo.lock")),
    ("src/main.rs", include_str!("../../broker/src/main.rs")),
];

/// The broker's crates have this version.
pub const TANSU: &str = "0.6.0";

/// What the program is called, in its folder and while it is built.
const PROGRAM: &str = "watchkeeper-broker";

/// Of what a failed build said so many lines are told: the error comes last.
const LINES_TOLD: usize = 20;

/// The longest line that is read of cargo. More is memory for something that is not cargo.
const LINE_MAX: usize = 1024 * 1024;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The crates are fetched.
    Fetching,
    /// So many of so many crates are built.
    Built(usize, usize),
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no folder for what is built.
    #[error("neither XDG_CACHE_HOME nor HOME is an absolute path, so there is no place to keep the broker in")]
    NoPlace,
    /// The folder cannot be written.
    #[error("keeping the broker in {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// There is no cargo.
    #[error("cargo is missing, with which the broker is built once; install Rust from https://rustup.rs")]
    NoCargo,
    /// It cannot be run.
    #[error("running cargo")]
    Cargo(#[source] io::Error),
    /// It failed, and that is what it said last.
    #[error("cargo could not build the broker in {} ({status}); it said last:\n{said}", .folder.display())]
    Failed {
        /// Where.
        folder: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        said: String,
    },
}

/// Where the broker is kept, whether it is there or not.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// In the cache folder that these variables name.
    pub fn of(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, BuildError> {
        let path = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))).ok_or(BuildError::NoPlace)?;
        let mut digest = Sha256::new();
        for (path, text) in FILES {
            digest.update(path);
            digest.update([0]);
            digest.update(text);
            digest.update([0]);
        }
        let digest = hex(&digest.finalize()[..4]);
        Ok(Self { folder: cache.join("watchkeeper").join(format!("broker-tansu-{TANSU}-{digest}")) })
    }

    /// Where.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program, once it is built.
    pub fn program(&self) -> PathBuf {
        self.folder.join(PROGRAM)
    }

    /// Builds it, unless it is there; cargo ends when this is dropped.
    pub async fn build(&self, mut tell: impl FnMut(Progress)) -> Result<PathBuf, BuildError> {
        let program = self.program();
        if program.is_file() {
            return Ok(program);
        }
        let folder = |error| BuildError::Folder(self.folder.clone(), error);
        self.write().map_err(folder)?;
        tell(Progress::Fetching);
        let wanted = self.crates().await?;
        tell(Progress::Built(0, wanted));
        let mut built = HashSet::new();
        let mut made = None;
        let arguments = ["build", "--locked", "--message-format=json-render-diagnostics", "--target-dir=target"];
        self.cargo(&arguments, |line| {
            let Ok(Artifact { package_id, target, executable }) = serde_json::from_str(line) else { return };
            let is = |wanted: &str| target.kind.iter().any(|kind| kind == wanted);
            if is("bin") {
                made = executable;
            }
            if !is("custom-build") && built.insert(package_id) {
                tell(Progress::Built(built.len().min(wanted), wanted));
            }
        })
        .await?;
        // Whole or not at all: another play may look for it at this moment.
        let made = made.unwrap_or_else(|| self.folder.join("target/debug").join(PROGRAM));
        let whole = self.folder.join(format!("{PROGRAM}.{}", std::process::id()));
        std::fs::copy(&made, &whole).and_then(|_| std::fs::rename(&whole, &program)).map_err(folder)?;
        // Gigabytes that nobody needs any more. What cannot be removed is in a cache folder.
        let _ = std::fs::remove_dir_all(self.folder.join("target"));
        Ok(program)
    }

    fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.folder.join("src"))?;
        for (path, text) in FILES {
            let path = self.folder.join(path);
            // One that is as it should be is left alone, so that what was built of it counts.
            if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            std::fs::write(path, text)?;
        }
        Ok(())
    }

    /// How many crates it takes on this machine.
    async fn crates(&self) -> Result<usize, BuildError> {
        let mut names = HashSet::new();
        self.cargo(&["tree", "--locked", "--edges=normal,build", "--prefix=none"], |line| {
            let mut words = line.split(' ');
            if let (Some(name), Some(version)) = (words.next(), words.next()) {
                names.insert(format!("{name} {version}"));
            }
        })
        .await?;
        Ok(names.len())
    }

    /// Runs cargo in the folder, and shows each line of its output to `see`.
    async fn cargo(&self, arguments: &[&str], mut see: impl FnMut(&str)) -> Result<(), BuildError> {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&self.folder).env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
        // Only for this machine, whatever is built otherwise.
        command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let no_cargo = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound { BuildError::NoCargo } else { BuildError::Cargo(error) }
        };
        let mut group = Group(command.spawn().map_err(no_cargo)?);
        let (output, errors) = (group.0.stdout.take(), group.0.stderr.take());
        let mut last = VecDeque::new();
        let keep = |line: &str| {
            if last.len() == LINES_TOLD {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        };
        let (seen, kept) = tokio::join!(lines(output, &mut see), lines(errors, keep));
        let status = seen.and(kept).and(group.0.wait().await).map_err(BuildError::Cargo)?;
        if status.success() {
            return Ok(());
        }
        let said = last.into_iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        Err(BuildError::Failed { folder: self.folder.clone(), status, said })
    }
}

/// What cargo says of something that it has built.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// Cargo with the compilers that it has started: they end with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
            // It may be ending by itself.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Shows each line that can be read.
async fn lines(from: Option<impl AsyncRead + Unpin>, mut see: impl FnMut(&str)) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let (mut from, mut line) = (BufReader::with_capacity(LINE_MAX, from), Vec::new());
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        see(String::from_utf8_lossy(&line).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(set: &[(&str, &str)]) -> Result<Place, BuildError> {
        Place::of(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn it_is_kept_where_the_system_keeps_what_can_be_made_again() {
        let of = |set| place(set).expect("a place").program().display().to_string();
        let program = of(&[("XDG_CACHE_HOME", "/cache"), ("HOME", "/home/a")]);
        assert!(program.starts_with("/cache/watchkeeper/broker-tansu-0.6.0-") && program.ends_with("/watchkeeper-broker"), "{program}");
        assert_eq!(of(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/home/a")]), program.replace("/cache/", "/home/a/.cache/"));
        assert!(matches!(place(&[("HOME", "")]), Err(BuildError::NoPlace)));
    }

    #[test]
    fn the_project_names_exactly_the_version_that_its_folder_does() {
        let [(_, manifest), (_, lock), _] = FILES;
        for name in ["tansu-cli", "tansu-broker", "tansu-storage"] {
            let wanted = manifest.lines().find(|line| line.starts_with(name)).expect("named");
            assert!(wanted.contains(&format!("\"={TANSU}\"")), "{wanted}");
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{TANSU}\"")), "{name}");
        }
        assert!(manifest.contains(&format!("version = \"{TANSU}\"\nedition")));
    }
}
