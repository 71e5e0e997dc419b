//! `watchkeeper store …`: what is done to a store while no server uses it.

use super::{Ended, say};
use crate::store::copy::{Copied, Progress, Rows};
use crate::store::{self, StoreError};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Copy an installation into another, empty store, with everything it remembers
    Copy(CopyArgs),
}

/// Where from and where to.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The store that is read: sqlite://PATH or postgres://USER@HOST/DATABASE; no server may be using it
    from: String,
    /// The empty store that is filled; the password of either may be in PGPASSWORD or ~/.pgpass
    to: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A copy that is over sooner needs no progress.
const QUIET: Duration = Duration::from_secs(2);
/// More often nobody can read.
const EVERY: Duration = Duration::from_millis(200);

/// `watchkeeper store copy FROM TO`.
pub async fn copy(args: CopyArgs) -> Result<(), Ended> {
    let begun = Instant::now();
    let line = Mutex::new(String::new());
    let mut note = |progress: Progress<'_>| *held(&line) = progress_line(progress);
    let copying = store::copy::copy(&args.from, &args.to, &mut note);
    let copied = if std::io::stderr().is_terminal() { shown(copying, &line, &mut std::io::stderr(), QUIET).await } else { copying.await };
    let copied = match copied {
        Ok(copied) => copied,
        Err(error @ StoreError::Refused(_)) => return Err(Ended::Usage(anyhow::Error::new(error))),
        Err(error) => return Err(Ended::Failed(anyhow::Error::new(error))),
    };
    say(&if args.json { json(&copied) } else { text(&copied, begun.elapsed()) })
}

/// Does the work, and shows meanwhile how far it has come, in one line on the terminal that is written over and over.
async fn shown<T>(work: impl Future<Output = T>, line: &Mutex<String>, out: &mut impl Write, quiet: Duration) -> T {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + quiet, EVERY);
    let mut written = false;
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            _ = ticks.tick() => {
                written = true;
                write_over(out, &held(line));
            }
        }
    };
    if written {
        write_over(out, "");
    }
    done
}

/// Replaces what the terminal's line says.
fn write_over(out: &mut impl Write, text: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}

fn held(line: &Mutex<String>) -> MutexGuard<'_, String> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress_line(progress: Progress<'_>) -> String {
    let of = |doing: &str, Rows { table, rows, all }: Rows<'_>| {
        let percent = (rows * 100).checked_div(all).unwrap_or(100).min(100);
        format!("{doing} {table}: {percent} % ({} of {} rows)", grouped(rows), grouped(all))
    };
    match progress {
        Progress::Opening => "looking whether a node uses the source".into(),
        Progress::Counting(table) => format!("counting {table}"),
        Progress::Copying(rows) => of("copying", rows),
        Progress::Comparing(rows) => of("comparing", rows),
        Progress::Finishing => "finishing".into(),
    }
}

/// `1234567` as `1 234 567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn text(copied: &Copied, took: Duration) -> String {
    let Copied { from, to, tables } = copied;
    let rows: u64 = tables.iter().map(|table| table.rows).sum();
    let width = tables.iter().map(|table| table.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for table in tables.iter().filter(|table| table.rows > 0) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:width$}  {:>12}  {}", table.name, grouped(table.rows), table.checksum);
    }
    let _ = writeln!(
        out,
        "copied {from} to {to}: {} rows in {} tables, {:.1} s; every count and checksum agrees\n\
         next: set store.url to the new store and start; leave {from} stopped, or both would tell",
        grouped(rows),
        tables.len(),
        took.as_secs_f64()
    );
    out
}

fn json(copied: &Copied) -> String {
    let Copied { from, to, tables } = copied;
    let tables: Vec<_> =
        tables.iter().map(|table| serde_json::json!({ "name": table.name, "rows": table.rows, "checksum": table.checksum })).collect();
    format!("{}\n", serde_json::json!({ "from": from, "to": to, "tables": tables }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::copy::CopiedTable;

    #[test]
    fn says_what_was_copied_and_what_comes_next() {
        let table = |name: &str, rows| CopiedTable { name: name.into(), rows, checksum: "00ff".into() };
        let copied =
            Copied { from: "a.db".into(), to: "db:5432/wk".into(), tables: vec![table("wk_beat", 1_234_567), table("wk_push", 0)] };
        let said = text(&copied, Duration::from_millis(1_500));
        assert!(said.starts_with("wk_beat     1 234 567  00ff\ncopied a.db to db:5432/wk: 1 234 567 rows in 2 tables, 1.5 s;"), "{said}");
        let json: serde_json::Value = serde_json::from_str(&json(&copied)).unwrap();
        assert_eq!((&json["tables"][0]["rows"], &json["tables"][1]["name"]), (&1_234_567.into(), &"wk_push".into()));
        let rows = Rows { table: "wk_beat", rows: 5_000, all: 20_000 };
        assert_eq!(progress_line(Progress::Copying(rows)), "copying wk_beat: 25 % (5 000 of 20 000 rows)");
        assert_eq!(progress_line(Progress::Comparing(Rows { rows: 0, all: 0, ..rows })), "comparing wk_beat: 100 % (0 of 0 rows)");
    }

    /// Takes what is written, and says that something was.
    #[derive(Default)]
    struct Screen {
        shown: Vec<u8>,
        seen: std::sync::Arc<tokio::sync::Notify>,
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.shown.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            self.seen.notify_one();
            Ok(())
        }
    }

    #[tokio::test]
    async fn progress_is_shown_after_a_while_and_wiped_away() {
        let line = Mutex::new("opening".to_owned());
        let mut screen = Screen::default();
        let seen = screen.seen.clone();
        let work = async {
            seen.notified().await;
            *held(&line) = "copying".into();
            seen.notified().await;
            7
        };
        assert_eq!(shown(work, &line, &mut screen, Duration::ZERO).await, 7);
        assert_eq!(String::from_utf8(screen.shown).unwrap(), "\r\x1b[Kopening\r\x1b[Kcopying\r\x1b[K");
        let mut screen = Screen::default();
        shown(std::future::ready(()), &line, &mut screen, QUIET).await;
        assert_eq!(screen.shown, [0; 0], "what is over soon shows nothing");
    }
}
