//! The counts over a restart: a file of one line with all of them, and a line for each event since.
//!
//! Every event is written before its call is answered, by one `write` that no kill can divide, so a process that is killed (-9)
//! loses nothing it has answered. It is not forced to the disk: when the machine itself dies, so does the worker, and what it had in
//! flight is lost in any case, which the id of the machine's boot in the file tells.
//!
//! Writing happens on the one thread that counts. It goes to memory (the page cache) and takes about a microsecond, less than handing
//! it to another thread would. A file that cannot be written costs nothing but its restart: counting goes on, and it is tried again.

use crate::counts::{Counts, Event, Id};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IntoInnerError, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use watchkeeper_core::{Dur, Micros};

/// The first line's first word: a later form of the file will have another number.
const FORM: &str = "watchkeeper-sidecar/1";

/// The file is written anew when it has grown by so much since. Less would write it anew several times a second under load, more would
/// take longer to read at start (this much: some 20 ms).
const GROWTH_MAX: u64 = 1024 * 1024;

/// A larger file is none of ours. Less than the largest that can be made (every id at its longest, and the growth: 3 MiB) would lose
/// counts; more would take memory for what something else has written.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// After a failure it is tried again so much later. Sooner would spend the time of requests on a disk that is full.
const RETRY_AFTER: Dur = Dur::secs(1);

/// The first line, after its first word.
#[derive(Deserialize)]
struct Head {
    boot: String,
    counts: Counts,
}

/// The same, to be written.
#[derive(Serialize)]
struct HeadOf<'a> {
    boot: &'a str,
    counts: &'a Counts,
}

/// What was found in the file.
#[derive(Debug)]
pub struct Found {
    /// The counts to go on with.
    pub counts: Counts,
    /// Whether they are those of a former process.
    pub restarted: bool,
    /// Requests in flight that ended with the machine.
    pub ended_with_machine: u64,
    /// What could not be read, and where it was put aside.
    pub broken: Option<String>,
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    boot: String,
    /// Held for as long as the process lives, so that two never write one file.
    _lock: File,
    /// None after a failure.
    file: Option<File>,
    size: u64,
    rewrite_at: u64,
    retry_at: Micros,
    line: Vec<u8>,
}

impl Journal {
    /// Reads the file, if there is one, and writes it anew.
    pub fn open(path: &Path, boot: &str, now: Micros) -> Result<(Self, Found)> {
        let lock_path = beside(path, "lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("opening STATE_FILE's lock {}", lock_path.display()))?;
        lock.try_lock().with_context(|| format!("locking {}: another sidecar uses this STATE_FILE", lock_path.display()))?;
        let found = read(path, boot, now)?;
        let mut journal = Self {
            path: path.to_owned(),
            boot: boot.to_owned(),
            _lock: lock,
            file: None,
            size: 0,
            rewrite_at: 0,
            retry_at: now,
            line: Vec::new(),
        };
        journal.rewrite(&found.counts).with_context(|| format!("writing STATE_FILE {}", path.display()))?;
        Ok((journal, found))
    }

    /// Writes an event down; `counts` are those after it.
    pub fn append(&mut self, at: Micros, event: &Event, counts: &Counts) -> Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| self.size < self.rewrite_at) else {
            return if at < self.retry_at && self.file.is_none() { Ok(()) } else { self.renew(at, counts) };
        };
        self.line.clear();
        encode(&mut self.line, at, event);
        match file.write_all(&self.line) {
            Ok(()) => {
                self.size += self.line.len() as u64;
                Ok(())
            }
            // Perhaps half a line was written: from here on the file is good only if it is written anew.
            Err(error) => {
                self.file = None;
                self.retry_at = at + RETRY_AFTER;
                Err(error).with_context(|| format!("writing STATE_FILE {}", self.path.display()))
            }
        }
    }

    fn renew(&mut self, at: Micros, counts: &Counts) -> Result<()> {
        self.rewrite(counts)
            .inspect_err(|_| self.retry_at = at + RETRY_AFTER)
            .with_context(|| format!("writing STATE_FILE {}", self.path.display()))
    }

    /// Writes all counts into a new file and puts it in the place of the old one: whoever reads finds the one or the other.
    fn rewrite(&mut self, counts: &Counts) -> Result<()> {
        self.file = None;
        let next = beside(&self.path, "new");
        let mut file = BufWriter::new(File::create(&next)?);
        write!(file, "{FORM} ")?;
        serde_json::to_writer(&mut file, &HeadOf { boot: &self.boot, counts })?;
        writeln!(file)?;
        let mut file = file.into_inner().map_err(IntoInnerError::into_error)?;
        std::fs::rename(&next, &self.path)?;
        self.size = file.stream_position()?;
        self.rewrite_at = self.size + GROWTH_MAX;
        self.file = Some(file);
        Ok(())
    }
}

/// The name of this boot of the machine; empty where the system gives none, and then all boots are one.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn read(path: &Path, boot: &str, now: Micros) -> Result<Found> {
    let none = Found { counts: Counts::new(now), restarted: false, ended_with_machine: 0, broken: None };
    let size = match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => anyhow::bail!("STATE_FILE {} is not a file", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(none),
        Err(error) => return Err(error).with_context(|| format!("reading STATE_FILE {}", path.display())),
    };
    let aside = beside(path, "broken");
    let put_aside = || format!("putting STATE_FILE aside as {}", aside.display());
    if size > FILE_MAX {
        std::fs::rename(path, &aside).with_context(put_aside)?;
        return Ok(Found { broken: Some(format!("it is larger than {FILE_MAX} bytes; it is now {}", aside.display())), ..none });
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading STATE_FILE {}", path.display()))?;
    let (found, fault) = replay(&bytes, boot, now).unwrap_or_else(|fault| (none, Some(fault)));
    let Some(fault) = fault else { return Ok(found) };
    std::fs::copy(path, &aside).with_context(put_aside)?;
    Ok(Found { broken: Some(format!("{fault}; a copy is {}", aside.display())), ..found })
}

/// The counts of the file, and what could not be read of the events; or why nothing could be.
fn replay(bytes: &[u8], boot: &str, now: Micros) -> Result<(Found, Option<String>), String> {
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    let head = lines.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(|line| line.strip_prefix(FORM));
    let head = head.ok_or_else(|| format!("it does not begin with {FORM}"))?;
    let head: Head = serde_json::from_str(head).map_err(|error| format!("its first line is not understood: {error}"))?;
    let mut counts = head.counts;
    if !counts.agree() {
        return Err("its figures contradict each other".to_owned());
    }
    let mut fault = None;
    for (nth, line) in lines.enumerate() {
        // A line without its end was cut by the death of the machine: its call may not have been answered.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let Some((at, event)) = decode(line) else {
            fault = Some(format!("its line {} is not understood: what follows was not read", nth + 2));
            break;
        };
        counts.apply(at, event);
    }
    counts.restarts += 1;
    let mut ended_with_machine = 0;
    if head.boot != boot {
        // Everything that was in flight began before now, even where the clock was set back.
        let before = now.max(counts.last_activity) + Dur(1);
        ended_with_machine = counts.active();
        counts.apply(now, Event::Lost(before));
    }
    Ok((Found { counts, restarted: true, ended_with_machine, broken: None }, fault))
}

/// `S TIME ID`, `E TIME ID DURATION`, `L BEFORE`, times in microseconds. `=` stands before an id, and `-` for none.
fn encode(line: &mut Vec<u8>, at: Micros, event: &Event) {
    let id = |id: &Option<Id>| id.as_ref().map_or_else(|| "-".to_owned(), |id| format!("={}", id.as_str()));
    // Writing to a Vec cannot fail.
    let _ = match event {
        Event::Start(name) => writeln!(line, "S {} {}", at.0, id(name)),
        Event::End(name, None) => writeln!(line, "E {} {} -", at.0, id(name)),
        Event::End(name, Some(took)) => writeln!(line, "E {} {} {}", at.0, id(name), took.0),
        Event::Lost(before) => writeln!(line, "L {}", before.0),
    };
}

fn decode(line: &[u8]) -> Option<(Micros, Event)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (kind, time) = (words.next()?, Micros(words.next()?.parse().ok()?));
    let id = |word: &str| match word.strip_prefix('=') {
        Some(text) => Id::new(text).ok().map(Some),
        None => (word == "-").then_some(None),
    };
    let event = match kind {
        "S" => Event::Start(id(words.next()?)?),
        "E" => {
            let id = id(words.next()?)?;
            let took = match words.next()? {
                "-" => None,
                text => Some(Dur(text.parse().ok()?)),
            };
            Event::End(id, took)
        }
        "L" => Event::Lost(time),
        _ => return None,
    };
    words.next().is_none().then_some((time, event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Micros = Micros(1_760_000_000_000_000);

    fn id(text: &str) -> Id {
        Id::new(text).expect("an id")
    }

    fn open(path: &Path, boot: &str) -> (Journal, Found) {
        Journal::open(path, boot, NOW + Dur::secs(60)).expect("opened")
    }

    /// Some events on a new file, and the counts after them.
    fn written(path: &Path) -> Counts {
        let (mut journal, found) = Journal::open(path, "b1", NOW).expect("opened");
        assert!(!found.restarted);
        let mut counts = found.counts;
        for (second, event) in [
            Event::Start(None),
            Event::Start(Some(id("a=1"))),
            Event::Start(Some(id("-"))),
            Event::End(None, Some(Dur::millis(1_500))),
            Event::End(Some(id("-")), None),
            Event::Start(None),
        ]
        .into_iter()
        .enumerate()
        {
            let at = NOW + Dur::secs(second as i64);
            counts.apply(at, event.clone());
            journal.append(at, &event, &counts).expect("written");
        }
        counts
    }

    #[test]
    fn what_was_counted_is_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let mut counts = written(&path);
        let (_journal, found) = open(&path, "b1");
        counts.restarts = 1;
        assert_eq!((&found.counts, found.restarted, found.broken.as_deref()), (&counts, true, None));
        assert_eq!(found.counts.active(), 2);
    }

    #[test]
    fn what_was_in_flight_when_the_machine_died_is_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        written(&path);
        let (_journal, found) = open(&path, "b2");
        assert_eq!((found.ended_with_machine, found.counts.active(), found.counts.lost, found.counts.total), (2, 0, 2, 4));
    }

    #[test]
    fn a_cut_last_line_is_left_out_and_a_broken_one_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let counts = written(&path);
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, &whole[..whole.len() - 4]).expect("written");
        let (journal, found) = open(&path, "b1");
        assert_eq!((found.counts.total, found.broken), (counts.total - 1, None));
        drop(journal);
        std::fs::write(&path, [&whole[..], b"S nonsense\nS 1760000000000000 -\n"].concat()).expect("written");
        let (_journal, found) = open(&path, "b1");
        assert_eq!(found.counts.total, counts.total);
        assert!(found.broken.expect("told").starts_with("its line 8 is not understood"), "the place is named");
        assert!(dir.path().join("counts.broken").exists());
    }

    #[test]
    fn a_file_of_something_else_is_put_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let mut wrong = Counts::new(NOW);
        wrong.total = 7;
        let contradictory = format!("{FORM} {}\n", serde_json::to_string(&HeadOf { boot: "b1", counts: &wrong }).expect("json"));
        for text in ["", "hello\n", "watchkeeper-sidecar/2 {}\n", "watchkeeper-sidecar/1 {}\n", &contradictory] {
            std::fs::write(&path, text).expect("written");
            let (_journal, found) = open(&path, "b1");
            assert!(!found.restarted && found.broken.is_some() && found.counts.total == 0, "{text}");
            assert_eq!(std::fs::read_to_string(dir.path().join("counts.broken")).expect("kept"), text);
        }
    }

    #[test]
    fn two_cannot_use_one_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let (_journal, _) = open(&path, "b1");
        let error = format!("{:#}", Journal::open(&path, "b1", NOW).expect_err("refused"));
        assert!(error.contains("another sidecar uses this STATE_FILE"), "{error}");
    }

    #[test]
    fn the_file_does_not_grow_for_ever_and_loses_nothing_when_it_is_written_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let (mut journal, found) = open(&path, "b1");
        let mut counts = found.counts;
        for n in 0..60_000 {
            let event = if n % 3 == 2 { Event::End(None, Some(Dur::millis(1))) } else { Event::Start(None) };
            counts.apply(NOW + Dur(n), event.clone());
            journal.append(NOW + Dur(n), &event, &counts).expect("written");
            assert!(journal.size < 2 * GROWTH_MAX);
        }
        drop(journal);
        let (_journal, found) = open(&path, "b1");
        counts.restarts = 1;
        assert_eq!(found.counts, counts);
    }

    #[test]
    fn a_disk_that_is_full_costs_no_count_and_the_file_is_whole_again_afterwards() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("counts");
        let (mut journal, found) = open(&path, "b1");
        let mut counts = found.counts;
        journal.file = Some(OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
        let start = |journal: &mut Journal, counts: &mut Counts, second: i64| {
            counts.apply(NOW + Dur::secs(second), Event::Start(None));
            journal.append(NOW + Dur::secs(second), &Event::Start(None), counts)
        };
        assert!(start(&mut journal, &mut counts, 60).is_err());
        assert!(start(&mut journal, &mut counts, 60).is_ok(), "within the pause it is not tried, and not told again");
        assert!(start(&mut journal, &mut counts, 61).is_ok());
        drop(journal);
        assert_eq!(open(&path, "b1").1.counts.active(), 3);
    }

    proptest! {
        #[test]
        fn every_event_is_read_as_it_was_written(
            at in 0..i64::MAX, name in proptest::option::of("[!-~]{1,128}"), took in proptest::option::of(0..i64::MAX), kind in 0..3_u8,
        ) {
            let id = name.map(|name| Id::new(&name).expect("an id"));
            let event = match kind {
                0 => Event::Start(id),
                1 => Event::End(id, took.map(Dur)),
                _ => Event::Lost(Micros(at)),
            };
            let mut line = Vec::new();
            encode(&mut line, Micros(at), &event);
            prop_assert_eq!(decode(line.strip_suffix(b"\n").expect("a line")), Some((Micros(at), event)));
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let mut file = format!("{FORM} {}\n", serde_json::to_string(&HeadOf { boot: "", counts: &Counts::new(NOW) }).expect("json")).into_bytes();
            file.extend(&bytes);
            let (found, _) = replay(&file, "", NOW).expect("the head is good");
            prop_assert!(found.counts.agree());
        }
    }
}
