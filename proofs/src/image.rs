//! `./prove image`: the container image, built and run by a real engine: how large it is, that it starts without a shell,
//! without root and on a read-only root file system, and that its own health check finds it healthy.
//!
//! Uses the engine that `docker` reaches; without one, and with root, it starts `dockerd` in a folder of its own. Without
//! either it measures the static binary and says that the image was not built.

use crate::Setup;
use crate::child::{Guard, until};
use crate::report::Section;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The promise: an image under 15 MB.
const IMAGE_MAX_BYTES: f64 = 15e6;

/// Builds, measures, runs.
pub fn prove(_: &Setup) -> Result<Section> {
    let what = "`deploy/build-static`, then `docker build deploy`, then a container with `--read-only`, no network, and its health check every second.";
    let mut section = Section::new("image", what, 1, &["what", "measured"]);
    let built = Command::new("deploy/build-static").stdout(Stdio::null()).status().context("running deploy/build-static")?;
    anyhow::ensure!(built.success(), "deploy/build-static failed");
    let binary = std::fs::metadata("deploy/watchkeeper")?.len() as f64;
    section.row(vec!["static binary".into(), format!("{:.1} MB", binary / 1e6)]);
    let dir = tempfile::tempdir()?;
    match Engine::find(dir.path()) {
        None => {
            section.aim(binary < IMAGE_MAX_BYTES, "static binary under 15 MB");
            section.notes.push("No container engine could be reached or started: the image was not built and not run.".into());
        }
        Some(engine) => run(&mut section, &engine, dir.path())?,
    }
    Ok(section)
}

fn run(section: &mut Section, engine: &Engine, dir: &Path) -> Result<()> {
    let tag = format!("watchkeeper-proof-{}", std::process::id());
    engine.docker(&["build", "--quiet", "--tag", &tag, "deploy"])?;
    let size: f64 = engine.docker(&["image", "inspect", &tag, "--format", "{{.Size}}"])?.trim().parse()?;
    section.row(vec!["image".into(), format!("{:.1} MB", size / 1e6)]);
    section.row(vec!["the image as it is pulled (gzip)".into(), format!("{:.1} MB", engine.pulled(&tag, dir)? / 1e6)]);
    section.aim(size < IMAGE_MAX_BYTES, &format!("image of {:.1} MB, aim under 15 MB", size / 1e6));
    let user = engine.docker(&["image", "inspect", &tag, "--format", "{{.Config.User}}"])?;
    section.aim(!user.trim().is_empty() && !user.starts_with('0'), &format!("runs as user {}", user.trim()));

    let config = dir.join("watchkeeper.yaml");
    std::fs::write(
        &config,
        "server: { listen: 127.0.0.1:8470 }\nmonitors:\n  - { name: self, probe: { tcp: { address: \"127.0.0.1:8470\" } }, every: 1s, timeout: 1s }\n",
    )?;
    let mount = format!("{}:/etc/watchkeeper.yaml:ro", config.display());
    let began = Instant::now();
    let id =
        engine.docker(&["run", "--detach", "--read-only", "--network", "none", "--health-interval", "1s", "--volume", &mount, &tag])?;
    let id = id.trim();
    let healthy = until(Duration::from_mins(1), "a healthy container", || {
        let status = engine.docker(&["inspect", id, "--format", "{{.State.Health.Status}}"]).unwrap_or_default();
        (status.trim() == "healthy").then(|| began.elapsed())
    });
    match &healthy {
        Ok(after) => section.row(vec!["from run to healthy".into(), format!("{:.1} s", after.as_secs_f64())]),
        Err(_) => section.notes.push(format!("Its log: {}", engine.docker(&["logs", id]).unwrap_or_default().trim())),
    }
    section.aim(healthy.is_ok(), "its own health check finds it healthy, on a read-only root file system");
    let began = Instant::now();
    engine.docker(&["stop", "--time", "20", id])?;
    let code = engine.docker(&["inspect", id, "--format", "{{.State.ExitCode}}"])?;
    section.row(vec!["from stop to its end".into(), format!("{:.1} s", began.elapsed().as_secs_f64())]);
    section.aim(code.trim() == "0", &format!("ends with exit code {} when stopped", code.trim()));
    engine.docker(&["rm", "--force", "--volumes", id])?;
    engine.docker(&["image", "rm", "--force", &tag])?;
    Ok(())
}

/// A container engine: one that was there, or one of our own.
struct Engine {
    host: Option<String>,
    own: Option<Guard>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            // Asked, not killed: it ends its containerd too.
            let _ = own.stop(Duration::from_secs(20));
        }
    }
}

impl Engine {
    fn find(dir: &Path) -> Option<Self> {
        let there = Self { host: None, own: None };
        if there.docker(&["version"]).is_ok() {
            return Some(there);
        }
        let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        let path = |name: &str| dir.join(name).display().to_string();
        let socket = format!("unix://{}", path("docker.sock"));
        if !root {
            return None;
        }
        let Ok(child) = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "-H", &socket, "--pidfile", &path("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
        else {
            return None;
        };
        let own = Self { host: Some(socket), own: Some(Guard(child)) };
        let up = until(Duration::from_mins(1), "the start of dockerd", || own.docker(&["version"]).ok());
        up.ok().map(|_| own)
    }

    /// The bytes that a registry would send: the image's archive, packed.
    fn pulled(&self, tag: &str, dir: &Path) -> Result<f64> {
        let archive = dir.join("image.tar");
        self.docker(&["save", "--output", &archive.display().to_string(), tag])?;
        let packed = Command::new("gzip").arg(&archive).status().context("running gzip")?;
        anyhow::ensure!(packed.success(), "gzip failed");
        Ok(std::fs::metadata(dir.join("image.tar.gz"))?.len() as f64)
    }

    /// Runs the client; its standard output, or an error with its standard error.
    fn docker(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        // The classic builder: the newer one is a plugin that is often not installed.
        command.args(args).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        let output = command.output().context("running docker")?;
        anyhow::ensure!(output.status.success(), "docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
