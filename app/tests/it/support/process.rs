//! The shipped program as a process of its own, which can be killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A stop in good order takes at most so long; see the graces of `app.rs`.
const STOP_MAX: Duration = Duration::from_secs(40);

/// A running `watchkeeper serve`; killed when dropped.
pub struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a configuration with its own SQLite file into the folder.
pub fn configured(folder: &Path, yaml: &str) -> PathBuf {
    configured_on(folder, &format!("sqlite://{}", folder.join("wk.db").display()), yaml)
}

/// Writes a configuration with that store into the folder.
pub fn configured_on(folder: &Path, store: &str, yaml: &str) -> PathBuf {
    let path = folder.join("watchkeeper.yaml");
    let head = format!("server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\nstore: {{ url: '{store}' }}\n");
    std::fs::write(&path, format!("{head}{yaml}")).unwrap();
    path
}

impl Program {
    /// Starts it on a configuration file.
    pub fn serve(config: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).unwrap();
        Self::serve_logging_to(config, log)
    }

    /// The same with a log of its own.
    pub fn serve_logging_to(config: &Path, log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper"));
        command.arg("serve").arg("--config").arg(config).current_dir(config.parent().unwrap());
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// The same, with what it says on standard output kept.
    pub fn serve_saying_to(config: &Path, out: impl Into<Stdio>) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper"));
        command.arg("serve").arg("--config").arg(config).current_dir(config.parent().unwrap());
        Self(command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().unwrap())
    }

    /// Starts it in a folder with these variables and nothing else that configures it; standard output goes to `log`.
    pub fn serve_by_variables(folder: &Path, variables: &[(&str, &str)], log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper"));
        command.arg("serve").current_dir(folder).env_clear().envs(variables.iter().copied());
        Self(command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().unwrap())
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// As a supervisor stops it: SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(STOP_MAX, ended).await.expect("it ends within its graces")
    }
}
