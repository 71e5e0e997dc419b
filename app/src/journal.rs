//! The journal of a node that is cut off from its store: what would have been committed, in order, in files of its own.
//!
//! A record is on the disk before anything follows from it: each is one line, checksum and JSON, and is synced. A line that a crash tore
//! ends the journal there. The files are small, so that what has landed in the store is forgotten file by file, and that the oldest can be
//! written anew without its quiet heartbeats when the journal is full. A decision is never dropped, nor what was told.
//!
//! Everything here blocks; callers are not on the runtime's threads.

use crate::store::{Batch, IncidentWrite, Told};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use watchkeeper_core::{IncidentId, Outcome};

/// A file is closed at this size. Larger ones are more to hold in memory when they are read back; smaller ones are more files.
const FILE_MAX: u64 = 512 << 10;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// What would have been committed.
    Batch(Batch),
    /// What a channel took meanwhile.
    Told(Told),
}

/// What a whole journal says of what happened while it was written.
#[derive(Debug, Default)]
pub struct Meanwhile {
    /// What channels took.
    pub told: Vec<Told>,
    /// How incidents ended: an [`IncidentWrite::Resolve`] of each.
    pub ends: HashMap<IncidentId, IncidentWrite>,
}

/// One file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    number: u64,
    bytes: u64,
    /// Its quiet heartbeats are gone already.
    thinned: bool,
}

/// The journal in one folder.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    limit: u64,
    /// Oldest first.
    parts: VecDeque<Part>,
    /// The newest, while it is written.
    open: Option<File>,
    /// Held for as long as the journal is: no second process writes here.
    _lock: File,
}

impl Journal {
    /// The journal in this folder, which is made if it is not there, with what an earlier process has left. `limit` in bytes.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| io::Error::other("another process uses it"))?;
        let mut parts = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".journal")).and_then(|n| n.parse().ok()) else { continue };
            parts.push(Part { path: entry.path(), number, bytes: entry.metadata()?.len(), thinned: false });
        }
        parts.sort_by_key(|part| part.number);
        Ok(Self { folder: folder.to_owned(), limit, parts: parts.into(), open: None, _lock: lock })
    }

    /// Whether nothing waits in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Its size on the disk.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Adds a record and has it on the disk. How many quiet heartbeats had to go for it.
    pub fn append(&mut self, record: &Record) -> io::Result<u64> {
        let line = line(record)?;
        let mut dropped = 0;
        while self.bytes() + line.len() as u64 > self.limit {
            let Some(thinned) = self.thin()? else { break };
            dropped += thinned;
        }
        if self.parts.back().is_none_or(|part| part.bytes >= FILE_MAX) {
            self.open = None;
        }
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let number = self.parts.back().map_or(1, |part| part.number + 1);
                let path = self.folder.join(format!("{number:08}.journal"));
                let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
                File::open(&self.folder)?.sync_all()?;
                self.parts.push_back(Part { path, number, bytes: 0, thinned: false });
                none.insert(file)
            }
        };
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            // What follows must not stand behind a torn line.
            self.open = None;
            return Err(error);
        }
        if let Some(part) = self.parts.back_mut() {
            part.bytes += line.len() as u64;
        }
        Ok(dropped)
    }

    /// Writes the oldest file that has any anew without its quiet heartbeats, and says how many that were; `None` when none has.
    fn thin(&mut self) -> io::Result<Option<u64>> {
        let last = self.parts.len().saturating_sub(1);
        let Some((place, part)) = self.parts.iter_mut().enumerate().find(|(_, part)| !part.thinned) else { return Ok(None) };
        if place == last {
            self.open = None;
        }
        let (mut kept, mut dropped) = (Vec::new(), 0);
        each(&part.path, |record| {
            match record {
                Record::Batch(mut batch) => {
                    let before = batch.beats.len();
                    batch.beats.retain(|beat| beat.outcome != Outcome::Up);
                    dropped += (before - batch.beats.len()) as u64;
                    kept.extend(line(&Record::Batch(batch))?);
                }
                told @ Record::Told(_) => kept.extend(line(&told)?),
            }
            Ok(())
        })?;
        let anew = part.path.with_extension("anew");
        let mut file = File::create(&anew)?;
        file.write_all(&kept)?;
        file.sync_all()?;
        fs::rename(&anew, &part.path)?;
        File::open(&self.folder)?.sync_all()?;
        part.bytes = kept.len() as u64;
        part.thinned = true;
        Ok(Some(dropped))
    }

    /// What was told, and what ended, in all of it.
    pub fn meanwhile(&self) -> io::Result<Meanwhile> {
        let mut all = Meanwhile::default();
        for part in &self.parts {
            each(&part.path, |record| {
                match record {
                    Record::Told(told) => all.told.push(told),
                    Record::Batch(batch) => {
                        let writes = batch.decisions.into_iter().flat_map(|decision| decision.incidents);
                        all.ends.extend(writes.filter_map(|write| match &write {
                            IncidentWrite::Resolve { id, .. } => Some((*id, write)),
                            IncidentWrite::Open { .. } | IncidentWrite::Acknowledge { .. } | IncidentWrite::Note { .. } => None,
                        }));
                    }
                }
                Ok(())
            })?;
        }
        Ok(all)
    }

    /// The batches of the oldest file; what is added from now on goes to another one. Empty when there is no file.
    pub fn oldest(&mut self) -> io::Result<Vec<Batch>> {
        let Some(part) = self.parts.front() else { return Ok(Vec::new()) };
        if self.parts.len() == 1 {
            self.open = None;
        }
        let mut batches = Vec::new();
        each(&part.path, |record| {
            match record {
                Record::Batch(batch) => batches.push(batch),
                Record::Told(_) => {}
            }
            Ok(())
        })?;
        Ok(batches)
    }

    /// Forgets the oldest file: all of it is in the store.
    pub fn forget_oldest(&mut self) -> io::Result<()> {
        if let Some(part) = self.parts.front() {
            fs::remove_file(&part.path)?;
            self.parts.pop_front();
        }
        Ok(())
    }

    /// Keeps a batch that the store refuses for good beside the journal, for a person.
    pub fn set_aside(&self, batch: &Batch) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("refused-{}-{}.json", batch.boot, batch.number));
        fs::write(&path, serde_json::to_vec_pretty(batch)?)?;
        Ok(path)
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", checksum(json.as_bytes())).into_bytes())
}

/// Every record of one file, one after the other, up to the first line that is not whole.
fn each(path: &Path, mut of: impl FnMut(Record) -> io::Result<()>) -> io::Result<()> {
    for (nth, line) in BufReader::new(File::open(path)?).split(b'\n').enumerate() {
        let Some(record) = parsed(&line?) else {
            tracing::warn!(file = %path.display(), line = nth + 1, "the journal ends with a line that a crash has torn");
            break;
        };
        of(record)?;
    }
    Ok(())
}

fn parsed(line: &[u8]) -> Option<Record> {
    let (sum, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if sum != checksum(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn checksum(bytes: &[u8]) -> u32 {
    let hash = Sha256::digest(bytes);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BeatRow, Decision};
    use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Micros, MonitorId, Reason};

    const ROOMY: u64 = 1 << 30;

    fn beat(at: i64, outcome: Outcome) -> BeatRow {
        BeatRow {
            monitor: MonitorId(1),
            datacenter: DatacenterId(1),
            at: Micros(at),
            agent: AgentId(1),
            outcome,
            lag_us: 2,
            dns_us: 3,
            connect_us: 4,
            tls_us: 5,
            first_byte_us: 6,
            transfer_us: 7,
            total_us: 25,
            code: 200,
            size: 512,
            value: -1,
            flags: 0,
        }
    }

    fn batch(number: u64, beats: usize) -> Record {
        let mut beats: Vec<BeatRow> = (0..beats as i64).map(|n| beat(n, Outcome::Up)).collect();
        beats.push(beat(-1, Outcome::Down(Reason::HttpStatus)));
        let decisions = vec![Decision::default()];
        Record::Batch(Batch { number, boot: "b".to_owned(), beats, decisions, ..Batch::default() })
    }

    fn told(cause: &str) -> Record {
        let (cause, key) = (cause.to_owned(), "k".to_owned());
        Record::Told(Told { cause, channel: ChannelId(1), key, digest: false, provider_id: None, at: Micros(1) })
    }

    fn all(journal: &mut Journal) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        while !journal.is_empty() {
            all.extend(journal.oldest().unwrap().into_iter().map(|batch| (batch.number, batch.beats.len())));
            journal.forget_oldest().unwrap();
        }
        all
    }

    #[test]
    fn what_was_written_is_read_back_in_order_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), ROOMY).unwrap();
        assert!(Journal::open(folder.path(), ROOMY).is_err(), "one process at a time");
        // More than one file.
        let many = 60_000;
        for record in [batch(1, 2), told("a"), batch(2, many), batch(3, 0)] {
            assert_eq!(journal.append(&record).unwrap(), 0);
        }
        drop(journal);
        let mut journal = Journal::open(folder.path(), ROOMY).unwrap();
        assert_eq!(journal.meanwhile().unwrap().told.len(), 1);
        // What is added while it is read comes after it.
        assert_eq!(journal.oldest().unwrap().iter().map(|batch| batch.number).collect::<Vec<_>>(), [1, 2]);
        journal.append(&batch(4, 1)).unwrap();
        assert_eq!(all(&mut journal), [(1, 3), (2, many + 1), (3, 1), (4, 2)]);
        assert_eq!(journal.bytes(), 0);
    }

    #[test]
    fn a_torn_line_ends_the_journal_and_nothing_is_written_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), ROOMY).unwrap();
        journal.append(&batch(1, 1)).unwrap();
        journal.append(&batch(2, 1)).unwrap();
        drop(journal);
        let path = folder.path().join("00000001.journal");
        let whole = fs::read(&path).unwrap();
        for cut in [2, 5, 40] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut journal = Journal::open(folder.path(), ROOMY).unwrap();
            journal.append(&batch(3, 1)).unwrap();
            assert_eq!(all(&mut journal), [(1, 2), (3, 2)], "cut by {cut}");
        }
        let mut wrong = whole.clone();
        let middle = whole.len() * 3 / 4;
        wrong[middle] ^= 1;
        fs::write(&path, &wrong).unwrap();
        assert_eq!(all(&mut Journal::open(folder.path(), ROOMY).unwrap()), [(1, 2)], "a bit that turned");
    }

    #[test]
    fn a_full_journal_loses_quiet_heartbeats_oldest_first_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 5 << 20;
        let mut journal = Journal::open(folder.path(), limit).unwrap();
        let mut dropped = 0;
        for number in 1..=400 {
            dropped += journal.append(&batch(number, 500)).unwrap();
            journal.append(&told(&number.to_string())).unwrap();
            assert!(journal.bytes() <= limit, "{} at {number}", journal.bytes());
        }
        assert_eq!(journal.meanwhile().unwrap().told.len(), 400);
        let left = all(&mut journal);
        assert_eq!(left.len(), 400, "every batch with a decision");
        assert!(left.iter().all(|(_, beats)| *beats >= 1), "what was not up is kept");
        assert_eq!(left[0].1, 1, "the oldest went first");
        assert_eq!(left[399].1, 501);
        assert_eq!(left.iter().map(|(_, beats)| *beats as u64 - 1).sum::<u64>() + dropped, 400 * 500, "all are counted");
    }
}
