//! A real PostgreSQL of a proof's own: in a folder of its own, on a port of its own, as an unprivileged user.

use crate::child::{Guard, free_port, until};
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The running server.
pub struct Postgres {
    guard: Option<Guard>,
    port: u16,
    bin: PathBuf,
    data: PathBuf,
    root: bool,
    /// What it is started with besides what all proofs need.
    options: Vec<String>,
}

impl Postgres {
    /// Starts one, or says what is missing.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, &[])
    }

    /// The same with settings of its own (`name=value`).
    pub fn start_with(dir: &Path, settings: &[&str]) -> Result<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing (Debian package postgresql)")?;
        let mut bins: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).filter(|b| b.join("postgres").exists()).collect();
        bins.sort();
        let bin = bins.pop().context("PostgreSQL is missing (Debian package postgresql)")?;
        let data = dir.join("postgres");
        std::fs::create_dir_all(&data)?;
        let root = std::fs::metadata("/proc/self")?.uid() == 0;
        if root {
            // The server refuses root, and its user must be able to reach the folder.
            run(Command::new("chown").arg("postgres").arg(&data))?;
            run(Command::new("chmod").arg("755").arg(dir))?;
        }
        let port = free_port()?;
        let options = settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]).collect();
        let mut this = Self { guard: None, port, bin, data: data.clone(), root, options };
        run(this.command("initdb").args(["--no-sync", "--auth=trust", "--username=wk", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data))?;
        this.up()?;
        Ok(this)
    }

    /// Starts it (again), and waits until it answers.
    pub fn up(&mut self) -> Result<()> {
        until(Duration::from_mins(1), "the start of PostgreSQL", || {
            // After a kill it may refuse until the last of its former processes is gone.
            let runs = self.guard.as_mut().is_some_and(|guard| guard.0.try_wait().is_ok_and(|ended| ended.is_none()));
            let spawned = if runs { Ok(()) } else { self.spawn() };
            match spawned {
                Ok(()) => self.psql("select 1").ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        })?
    }

    fn spawn(&mut self) -> Result<()> {
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(&self.data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-p", &self.port.to_string()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting PostgreSQL")?;
        self.guard = Some(Guard(child));
        Ok(())
    }

    /// Sends it a signal that ends it, by its name without `SIG`, and waits for its end.
    pub fn down(&mut self, signal: &str) -> Result<()> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        run(Command::new("kill").args([&format!("-{signal}"), &guard.pid().to_string()]))?;
        guard.wait(Duration::from_secs(30))?;
        Ok(())
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database and gives its URL.
    pub fn database(&self, name: &str) -> Result<String> {
        self.psql(&format!("create database {name}"))?;
        Ok(format!("postgres://wk@127.0.0.1:{}/{name}", self.port))
    }

    /// The same database by its socket, which waits for no acknowledgements as TCP may.
    pub fn by_socket(&self, name: &str) -> String {
        format!("postgres://wk@localhost:{}/{name}?host={}", self.port, self.data.display())
    }

    fn psql(&self, sql: &str) -> Result<()> {
        let port = self.port.to_string();
        run(self.command("psql").args(["-q", "-h", "127.0.0.1", "-p", &port, "-U", "wk", "-d", "postgres", "-c", sql]))
    }

    /// One of its programs, as a user that it accepts. `setpriv` becomes the program, so that its process id is the server's.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if self.root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            // A fast shutdown ends its own processes too.
            let _ = Command::new("kill").args(["-INT", &guard.pid().to_string()]).status();
            let _ = guard.wait(Duration::from_secs(20));
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {}", command.get_program().display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
