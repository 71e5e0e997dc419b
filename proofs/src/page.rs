//! `./prove page`: five thousand monitors with ninety days behind them. How long a person with a cold browser waits and what is sent, how
//! smoothly the list runs by, how fast the bars of all come, and how soon hundreds of open pages know of a change, also those whose line
//! is cut now and then.

use crate::Setup;
use crate::child::{Serve, free_port, get, pause, until};
use crate::killing::Target;
use crate::report::Section;
use crate::stats::percentile;
use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use watchkeeper::clock::Clock;
use watchkeeper_core::Micros;
use watchkeeper_core::quorum::Health;

/// Whether an answer is about every monitor.
type Whole = fn(&Value) -> bool;

const MONITORS: u32 = 5_000;
/// So many of them watch what goes down and comes back.
const SHAKY: u32 = 5;
const CHANGES: u32 = 10;
const DAYS: i64 = 90;
const DAY: i64 = 86_400_000_000;
/// Each monitor was down so often within the ninety days.
const TROUBLES: i64 = 6;
const READS: usize = 20;
const READERS: usize = 500;
/// Of the readers, so many lose their line now and then.
const SHAKEN: usize = 50;
const CONNECTED_FOR: Duration = Duration::from_secs(4);
const AWAY_FOR: Duration = Duration::from_secs(1);

const USABLE_AIM: f64 = 1_000.0;
const BYTES_AIM: f64 = 300e3;
/// A screen shows 60 frames a second; two that fall out are seen by few.
const FRAME_AIM: f64 = 50.0;
const BARS_AIM: f64 = 100.0;
const CHANGE_AIM: f64 = 500.0;

/// Runs it once.
pub fn prove(setup: &Setup) -> Result<Section> {
    let what = format!(
        "{MONITORS} HTTP monitors on SQLite, each {DAYS} days old and down {TROUBLES} times since; a cold Chromium at 1280 × 800 loads the page \
         and scrolls. Then {READERS} readers of the live stream, {SHAKEN} of which lose their line every few seconds, while {SHAKY} monitors \
         change {CHANGES} times together. Browser, readers and server share the machine."
    );
    let mut section = Section::new("page", what, 1, &["", "p50", "p95", "p99", "max"]);
    let dir = tempfile::tempdir()?;
    let (well, shaky) = (Target::start()?, Target::start()?);
    let (file, port) = configure(dir.path(), &well, &shaky)?;
    let start = || Serve::start(&setup.binary, &file, port, None, Duration::from_mins(2));
    // A first life knows the monitors; then they get their past.
    let first = start()?;
    let token = std::fs::read_to_string(dir.path().join("watchkeeper.db.token")).context("reading the token")?.trim().to_owned();
    settled(port, &token)?;
    anyhow::ensure!(first.guard.stop(Duration::from_secs(30))?, "watchkeeper did not end well");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remember(&dir.path().join("watchkeeper.db")))?;
    let serve = start()?;
    settled(port, &token)?;

    bars(&mut section, port, &token)?;
    browser(&mut section, port, &token)?;
    runtime.block_on(changes(&mut section, port, &token, &shaky))?;
    anyhow::ensure!(serve.guard.stop(Duration::from_secs(30))?, "watchkeeper did not end well");
    Ok(section)
}

fn configure(dir: &Path, well: &Target, shaky: &Target) -> Result<(std::path::PathBuf, u16)> {
    let port = free_port()?;
    let mut config = format!(
        "server: {{ listen: 127.0.0.1:{port} }}\nstore: {{ url: sqlite://watchkeeper.db }}\n\
         defaults: {{ every: 60s, timeout: 5s, down_after: 1 }}\nmonitors:\n"
    );
    for nth in 0..MONITORS {
        let (target, every) = if nth < SHAKY { (shaky, ", every: 1s, recheck: 1s, flap_window: 0s") } else { (well, "") };
        config.push_str(&format!("  - {{ name: m{nth}, probe: {{ http: {{ url: \"{}\" }} }}{every} }}\n", target.url()));
    }
    let file = dir.join("watchkeeper.yaml");
    std::fs::write(&file, config)?;
    Ok((file, port))
}

/// Waits until every monitor was looked at.
fn settled(port: u16, token: &str) -> Result<()> {
    until(Duration::from_mins(3), "a look at every monitor", || {
        pause(Duration::from_millis(500));
        let days: Value = serde_json::from_str(&get(port, "/api/v1/uptime?days=1", Some(token)).ok()?).ok()?;
        (days["items"].as_array()?.len() == MONITORS as usize).then_some(())
    })
}

/// Gives every monitor its past: well, but for some hours now and then.
async fn remember(file: &Path) -> Result<()> {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
    let mut tx = db.begin().await?;
    let rows = sqlx::query("SELECT monitor_id, min(start) FROM wk_interval GROUP BY monitor_id").fetch_all(&mut *tx).await?;
    let (up, down) = (i64::from(Health::Up.code()), i64::from(Health::Down.code()));
    for row in rows {
        let (monitor, known): (i64, i64) = (row.get(0), row.get(1));
        let mut at = known - (DAYS - 1) * DAY;
        let step = (known - at) / (TROUBLES + 1);
        let mut past = Vec::new();
        for nth in 0..TROUBLES {
            let fails = at + step - (monitor * 7 + nth * 3) % 24 * 3_600_000_000;
            let back = fails + (1 + (monitor + nth) % 5) * 1_800_000_000;
            past.extend([(at, fails, up), (fails, back, down)]);
            at = back;
        }
        past.push((at, known, up));
        for (start, end, state) in past {
            sqlx::query("INSERT INTO wk_interval (monitor_id, start, end_at, state) VALUES ($1, $2, $3, $4)")
                .bind(monitor)
                .bind(start)
                .bind(end)
                .bind(state)
                .execute(&mut *tx)
                .await?;
        }
    }
    tx.commit().await?;
    db.close().await?;
    Ok(())
}

fn row(section: &mut Section, what: &str, values: &[f64], unit: &str) {
    let figure = |p: f64| format!("{:.0} {unit}", percentile(values, p));
    section.row(vec![what.to_owned(), figure(50.0), figure(95.0), figure(99.0), figure(100.0)]);
}

/// The days of all monitors: exactly, and as the page takes them to draw.
fn bars(section: &mut Section, port: u16, token: &str) -> Result<()> {
    let exact = |item: &Value| item["troubled"].as_array().is_some_and(|days| days.len() >= TROUBLES as usize);
    let drawn = |item: &Value| item["days"].as_str().is_some_and(|days| days.matches(['d', 's']).count() >= TROUBLES as usize);
    let forms: [(&str, Whole); 2] = [("uptime", exact), ("bars", drawn)];
    for (path, is_whole) in forms {
        let mut took = Vec::new();
        for _ in 0..READS {
            let began = Instant::now();
            let text = get(port, &format!("/api/v1/{path}?days={DAYS}"), Some(token))?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
            // What it takes to read two megabytes of JSON is the reader's.
            let answer: Value = serde_json::from_str(&text)?;
            let items = answer["items"].as_array().context("the answer has no items")?;
            anyhow::ensure!(items.iter().filter(|item| is_whole(item)).count() == MONITORS as usize, "not every monitor has its past");
        }
        row(section, &format!("days of all monitors in one request, /api/v1/{path}"), &took, "ms");
        let p95 = percentile(&took, 95.0);
        section.aim(
            p95 < BARS_AIM,
            &format!(
                "{DAYS}-day bars of {MONITORS} monitors in one request (/api/v1/{path}): {p95:.0} ms (p95 of {READS}), aim under {BARS_AIM:.0} ms"
            ),
        );
    }
    Ok(())
}

fn browser(section: &mut Section, port: u16, token: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/prove.mjs");
    let out = Command::new("node")
        .arg(script)
        .args([&format!("http://127.0.0.1:{port}/"), token, &MONITORS.to_string()])
        .output()
        .context("running node; the page's tools are installed by `npm --prefix ui ci`")?;
    anyhow::ensure!(out.status.success(), "the browser failed: {}", String::from_utf8_lossy(&out.stderr));
    let found: Value = serde_json::from_slice(&out.stdout).context("reading what the browser found")?;
    let numbers = |key: &str| -> Vec<f64> { found[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let [usable, drawn, bytes, search, frames] = ["usable_ms", "drawn_ms", "bytes", "search_ms", "frames_ms"].map(numbers);
    row(section, "until all monitors are there, in a cold browser", &usable, "ms");
    row(section, "until their past is there too", &drawn, "ms");
    row(section, "sent until then, compressed", &bytes, "B");
    row(section, "a search among all", &search, "ms");
    row(section, "between two frames while scrolling", &frames, "ms");
    let half = percentile(&usable, 50.0);
    section.aim(
        half > 0.0 && half < USABLE_AIM,
        &format!("the dashboard is usable after {half:.0} ms (p50 of {}), aim under {USABLE_AIM:.0} ms", usable.len()),
    );
    let most = percentile(&bytes, 100.0);
    section.aim(
        most > 0.0 && most < BYTES_AIM,
        &format!("{:.0} kB are sent until their past is there too, aim under {:.0} kB", most / 1e3, BYTES_AIM / 1e3),
    );
    let late = percentile(&frames, 95.0);
    section.aim(
        late > 0.0 && late < FRAME_AIM,
        &format!("{late:.0} ms between two frames while scrolling (p95), aim under {FRAME_AIM:.0} ms"),
    );
    Ok(())
}

/// What one reader of the stream has seen.
#[derive(Default)]
struct Reader {
    /// The place in the log at which it began.
    from: i64,
    /// The events since, in the order in which they came.
    ids: Vec<i64>,
    /// From a change to the event, in milliseconds; of those that happened while the line was good.
    after: Vec<f64>,
}

async fn changes(section: &mut Section, port: u16, token: &str, shaky: &Target) -> Result<()> {
    let (over, local) = (std::sync::Arc::new(AtomicBool::new(false)), tokio::task::LocalSet::new());
    let readers: Vec<_> = (0..READERS).map(|nth| local.spawn_local(read_on(port, token.to_owned(), nth < SHAKEN, over.clone()))).collect();
    let found = local
        .run_until(async {
            // All of them are there before anything changes.
            tokio::time::sleep(Duration::from_secs(5)).await;
            for nth in 0..CHANGES {
                shaky.down.store(nth % 2 == 0, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            tokio::time::sleep(AWAY_FOR + CONNECTED_FOR).await;
            over.store(true, Ordering::Relaxed);
            let mut found = Vec::new();
            for reader in readers {
                found.push(reader.await.context("a reader panicked")??);
            }
            Ok::<_, anyhow::Error>(found)
        })
        .await?;
    let all: BTreeSet<i64> = found.iter().flat_map(|reader| reader.ids.iter().copied()).collect();
    let after: Vec<f64> = found.iter().flat_map(|reader| reader.after.iter().copied()).collect();
    row(section, &format!("from a change to {READERS} readers ({} events)", after.len()), &after, "ms");
    let p99 = percentile(&after, 99.0);
    section.aim(
        p99 > 0.0 && p99 < CHANGE_AIM,
        &format!("{READERS} readers know of a change after {p99:.0} ms (p99), aim under {CHANGE_AIM:.0} ms"),
    );
    let wanted = (SHAKY * CHANGES) as usize;
    section.aim(all.len() >= wanted, &format!("{} events in all, of {wanted} changes at least", all.len()));
    let faults: Vec<String> = found
        .iter()
        .enumerate()
        .filter(|(_, reader)| !reader.ids.iter().copied().eq(all.range(reader.from + 1..).copied()))
        .map(|(nth, reader)| {
            format!("reader {nth} saw {} since {} of {}", reader.ids.len(), reader.from, all.range(reader.from + 1..).count())
        })
        .collect();
    section.none(&faults, "readers with a gap, a repetition or another order, those whose line was cut included");
    Ok(())
}

/// Reads until it is over; one that is shaken loses its line and comes back with its place, again and again.
async fn read_on(port: u16, token: String, shaken: bool, over: std::sync::Arc<AtomicBool>) -> Result<Reader> {
    let mut reader = Reader::default();
    let mut place = None;
    while !over.load(Ordering::Relaxed) {
        let limit = if shaken { CONNECTED_FOR } else { Duration::from_mins(10) };
        // The end of the line is no fault: it is cut here, or everything is over.
        if let Ok(ended) = tokio::time::timeout(limit, read(port, &token, &mut place, &mut reader, &over)).await {
            ended?;
        } else {
            tokio::time::sleep(AWAY_FOR).await;
        }
    }
    Ok(reader)
}

async fn read(port: u16, token: &str, place: &mut Option<i64>, reader: &mut Reader, over: &AtomicBool) -> Result<()> {
    let clock = Clock::system();
    let began = clock.now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let last = place.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!("GET /api/v1/stream/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    anyhow::ensure!(first.contains(" 200 "), "the stream answered {first}");
    let (mut kind, mut id) = (String::new(), 0);
    while !over.load(Ordering::Relaxed) {
        // Over is over, also while nothing comes.
        let Ok(line) = tokio::time::timeout(Duration::from_millis(200), lines.next_line()).await else { continue };
        let line = line?.context("the stream ended")?;
        if let Some(word) = line.strip_prefix("event: ") {
            word.clone_into(&mut kind);
        } else if let Some(number) = line.strip_prefix("id: ") {
            id = number.parse().context("an id is a number")?;
        } else if let Some(data) = line.strip_prefix("data: ") {
            anyhow::ensure!(kind != "resync", "the stream could not go on after {id}");
            if kind == "connected" {
                if place.is_none() {
                    reader.from = id;
                }
            } else {
                reader.ids.push(id);
                let at = moment(data)?;
                if at > began {
                    reader.after.push((clock.now() - at).0 as f64 / 1e3);
                }
            }
            *place = Some(id);
        }
    }
    Ok(())
}

/// When the change happened that an event tells of.
fn moment(data: &str) -> Result<Micros> {
    let data: Value = serde_json::from_str(data)?;
    let at: jiff::Timestamp = data["at"].as_str().context("an event has no time")?.parse()?;
    Ok(Micros(at.as_microsecond()))
}
