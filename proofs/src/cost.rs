//! `./prove cost`: what a whole check (probe, decision, commit) costs in CPU against a bare hyper loop that makes the
//! same requests at the same rate against the same target in the same run; and how 10 000 monitors fare on two cores.

use crate::Setup;
use crate::child::{Serve, free_port, on_core, pause};
use crate::nginx::Nginx;
use crate::report::Section;
use crate::stats::{cpu_seconds, histogram_percentile, rss_anon_mib, series_sum};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Each program is measured for so long per round. Shorter, and one tick of the CPU clock (10 ms) shows at 50/s; longer
/// only takes longer.
const WINDOW: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 3;
/// Beyond this the start of so many monitors hangs.
const START_LIMIT: Duration = Duration::from_mins(1);

/// One setting of the comparison.
struct Case {
    name: &'static str,
    https: bool,
    monitors: u32,
    every_s: u32,
    /// The aim for the ratio; `None` where it is only stated.
    aim: Option<f64>,
}

impl Case {
    fn rate(&self) -> f64 {
        f64::from(self.monitors) / f64::from(self.every_s)
    }
}

const CASES: [Case; 6] = [
    Case { name: "HTTP at 50/s", https: false, monitors: 500, every_s: 10, aim: Some(1.3) },
    Case { name: "HTTP at 1 000/s", https: false, monitors: 10_000, every_s: 10, aim: Some(1.3) },
    Case { name: "HTTP near saturation", https: false, monitors: 8_000, every_s: 1, aim: None },
    Case { name: "HTTPS at 50/s", https: true, monitors: 500, every_s: 10, aim: Some(1.15) },
    Case { name: "HTTPS at 1 000/s", https: true, monitors: 10_000, every_s: 10, aim: Some(1.15) },
    Case { name: "HTTPS near saturation", https: true, monitors: 2_400, every_s: 1, aim: None },
];

/// CPU and checks of one program, summed over rounds.
#[derive(Default)]
struct Used {
    cpu_s: f64,
    checks: f64,
    failed: f64,
    wall_s: f64,
}

impl Used {
    fn ms_per_check(&self) -> f64 {
        self.cpu_s * 1e3 / self.checks.max(1.0)
    }
}

/// Runs both halves.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "CPU per check, user and system (`/proc/PID/stat`), of `watchkeeper serve` on SQLite against a bare hyper + tokio loop; a fresh connection \
         per check, HTTPS with a full TLS 1.3 handshake (P-256). Target nginx on one core, checker on the other; {} s per program and round, the \
         programs alternating. Then 10 000 monitors without pinning.",
        WINDOW.as_secs()
    );
    let mut section = Section::new("cost", what, rounds, &["case", "bare loop", "watchkeeper", "ratio", "checks/s reached"]);
    let dir = tempfile::tempdir()?;
    // With one core there is nothing to pin.
    let (target_core, checker_core) = if std::thread::available_parallelism()?.get() >= 2 { (Some(0), Some(1)) } else { (None, None) };
    let nginx = Nginx::prepare(&dir.path().join("nginx"), target_core)?;
    let running = nginx.start()?;
    for case in &CASES {
        // A process that ends under load is a result, and the other cases are still worth knowing.
        if let Err(error) = compare(&mut section, setup, case, &nginx, dir.path(), rounds, checker_core) {
            section.row(vec![case.name.to_owned(), String::new(), String::new(), String::new(), format!("ended: {error:#}")]);
            section.aim(false, &format!("{}: measured to its end", case.name));
        }
    }
    drop(running);
    let nginx = Nginx::prepare(&dir.path().join("nginx-free"), None)?;
    let _running = nginx.start()?;
    for monitors in [100, 1_000, 10_000] {
        if let Err(error) = scale(&mut section, setup, monitors, &nginx, dir.path()) {
            section.aim(false, &format!("{monitors} monitors: ended: {error:#}"));
        }
    }
    Ok(section)
}

fn compare(section: &mut Section, setup: &Setup, case: &Case, nginx: &Nginx, dir: &Path, rounds: u32, core: Option<usize>) -> Result<()> {
    let (mut bare, mut ours) = (Used::default(), Used::default());
    for round in 0..rounds {
        run_bare(&mut bare, nginx, case, core)?;
        let folder = dir.join(format!("{}-{}-{}-{round}", case.https, case.monitors, case.every_s));
        run_ours(&mut ours, setup, case, nginx, &folder, core)?;
    }
    let ratio = ours.ms_per_check() / bare.ms_per_check();
    section.row(vec![
        case.name.to_owned(),
        format!("{:.3} ms", bare.ms_per_check()),
        format!("{:.3} ms", ours.ms_per_check()),
        format!("{ratio:.2}"),
        format!("{:.0} / {:.0}", bare.checks / bare.wall_s, ours.checks / ours.wall_s),
    ]);
    if bare.failed + ours.failed > 0.0 {
        section.notes.push(format!("{}: {} checks of the bare loop and {} of ours failed.", case.name, bare.failed, ours.failed));
    }
    if let Some(aim) = case.aim {
        section.aim(ratio <= aim, &format!("{}: {ratio:.2} times the bare loop, aim at most {aim}", case.name));
    }
    Ok(())
}

fn url(nginx: &Nginx, https: bool) -> String {
    if https { format!("https://127.0.0.1:{}/", nginx.https) } else { format!("http://127.0.0.1:{}/", nginx.http) }
}

fn run_bare(used: &mut Used, nginx: &Nginx, case: &Case, core: Option<usize>) -> Result<()> {
    let myself = std::env::current_exe()?;
    let seconds = WINDOW.as_secs();
    let output = on_core(core, &myself)
        .args(["--bare", &url(nginx, case.https), &case.rate().to_string(), &seconds.to_string()])
        .arg(nginx.ca_file())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running the bare loop")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    anyhow::ensure!(numbers.len() == 3, "the bare loop said {text:?}");
    used.cpu_s += numbers[0];
    used.checks += numbers[1];
    used.failed += numbers[2];
    used.wall_s += seconds as f64;
    Ok(())
}

fn run_ours(used: &mut Used, setup: &Setup, case: &Case, nginx: &Nginx, folder: &Path, core: Option<usize>) -> Result<()> {
    let serve = start(setup, case.monitors, case.every_s, &url(nginx, case.https), nginx, folder, core)?;
    // One interval, so that every monitor has been checked once and nothing is done for the first time.
    pause(Duration::from_secs(u64::from(case.every_s) + 2));
    let pid = serve.guard.pid();
    let before = serve.metrics()?;
    let (cpu, began) = (cpu_seconds(pid)?, Instant::now());
    pause(WINDOW);
    used.cpu_s += cpu_seconds(pid)? - cpu;
    used.wall_s += began.elapsed().as_secs_f64();
    let after = serve.metrics()?;
    let grown = |name: &str| series_sum(&after, name) - series_sum(&before, name);
    used.checks += grown("watchkeeper_checks_total");
    used.failed += grown("watchkeeper_checks_total{result=\"down\"}") + grown("watchkeeper_checks_total{result=\"unknown\"}");
    serve.guard.stop(Duration::from_secs(20))?;
    Ok(())
}

fn scale(section: &mut Section, setup: &Setup, monitors: u32, nginx: &Nginx, dir: &Path) -> Result<()> {
    let every_s = 10;
    let serve = start(setup, monitors, every_s, &url(nginx, false), nginx, &dir.join(format!("scale-{monitors}")), None)?;
    pause(Duration::from_secs(u64::from(every_s) + 2));
    let before = serve.metrics()?;
    pause(Duration::from_mins(1));
    let after = serve.metrics()?;
    let memory = rss_anon_mib(serve.guard.pid())?;
    let (lag, checks) = histogram_percentile(&before, &after, "watchkeeper_check_lag_seconds", 99.0);
    let missed = series_sum(&after, "watchkeeper_missed_windows_total");
    section.notes.push(format!(
        "{monitors} HTTP monitors every {every_s} s, two cores shared with the target: {checks:.0} checks in 60 s, start lag p99 at most {:.0} ms, \
         {missed:.0} windows missed, RssAnon {memory:.1} MiB.",
        lag * 1e3
    ));
    let aim = match monitors {
        100 => 25.0,
        1_000 => 60.0,
        _ => 150.0,
    };
    section.aim(memory < aim, &format!("{monitors} monitors: RssAnon {memory:.1} MiB, aim under {aim} MiB"));
    if monitors == 10_000 {
        section.aim(lag <= 0.1, &format!("{monitors} monitors: start lag p99 within the {:.0} ms bucket, aim under 100 ms", lag * 1e3));
        section.aim(missed == 0.0, &format!("{monitors} monitors: {missed:.0} windows missed, aim none"));
    }
    serve.guard.stop(Duration::from_secs(20))?;
    Ok(())
}

fn start(setup: &Setup, monitors: u32, every_s: u32, url: &str, nginx: &Nginx, folder: &Path, core: Option<usize>) -> Result<Serve> {
    std::fs::create_dir_all(folder)?;
    let port = free_port()?;
    let ca = if url.starts_with("https") { format!(", ca_file: {}", nginx.ca_file().display()) } else { String::new() };
    let mut config = format!("server: {{ listen: 127.0.0.1:{port} }}\nstore: {{ url: sqlite://watchkeeper.db }}\nmonitors:\n");
    let timeout_s = every_s.min(5);
    for nth in 0..monitors {
        config.push_str(&format!(
            "  - {{ name: m{nth}, every: {every_s}s, timeout: {timeout_s}s, probe: {{ http: {{ url: \"{url}\"{ca} }} }} }}\n"
        ));
    }
    let file = folder.join("watchkeeper.yaml");
    std::fs::write(&file, config)?;
    Serve::start(&setup.binary, &file, port, core, START_LIMIT)
}
