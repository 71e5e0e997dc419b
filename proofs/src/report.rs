//! What a proof found, and where it is written.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// The result of one proof.
pub struct Section {
    /// The proof's name: also its heading, by which an older result is found and replaced.
    pub name: &'static str,
    /// What was done, in one or two sentences.
    pub what: String,
    /// How often.
    pub rounds: u32,
    /// Head and rows of the table.
    pub head: Vec<&'static str>,
    /// One per thing measured.
    pub rows: Vec<Vec<String>>,
    /// What else is to be said: aims met and missed.
    pub notes: Vec<String>,
    /// Whether every aim was met.
    pub good: bool,
}

impl Section {
    /// An empty one.
    pub fn new(name: &'static str, what: impl Into<String>, rounds: u32, head: &[&'static str]) -> Self {
        Self { name, what: what.into(), rounds, head: head.to_vec(), rows: Vec::new(), notes: Vec::new(), good: true }
    }

    /// Adds a row and says it, so that a long proof shows its progress.
    pub fn row(&mut self, cells: Vec<String>) {
        println!("{}: {}", self.name, cells.join(" · "));
        self.rows.push(cells);
    }

    /// Judges an aim.
    pub fn aim(&mut self, met: bool, what: &str) {
        self.good &= met;
        self.notes.push(format!("{} {what}", if met { "Met:" } else { "**Missed:**" }));
    }

    /// Judges that nothing was found, and shows what was.
    pub fn none(&mut self, found: &[String], what: &str) {
        let shown: Vec<&str> = found.iter().take(FOUND_SHOWN).map(String::as_str).collect();
        let shown = if shown.is_empty() { String::new() } else { format!(": {}", shown.join("; ")) };
        self.aim(found.is_empty(), &format!("{what}: {} found{shown}", found.len()));
    }

    /// As Markdown, without the heading.
    pub fn show(&self) -> String {
        let mut out = format!("{}\n\n", self.what);
        let rule = vec!["---"; self.head.len()];
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} |\n|{}|", self.head.join(" | "), rule.join("|"));
        for row in &self.rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }

    /// Replaces this proof's section of the document, or adds it.
    pub fn write(&self, path: &Path, machine: &str, seed: u64) -> Result<()> {
        let old = std::fs::read_to_string(path).unwrap_or_else(|_| PREFACE.to_owned());
        let heading = format!("## {}\n", self.name);
        let body = format!(
            "{heading}\n`./prove {}` · {} rounds · seed {seed} · {machine}\n\n{}\n",
            self.name,
            self.rounds,
            self.show().trim_end()
        );
        let new = match old.find(&heading) {
            None => format!("{}\n\n{body}", old.trim_end()),
            Some(start) => {
                let end = old[start + heading.len()..].find("\n## ").map_or(old.len(), |at| start + heading.len() + at + 1);
                let rest = &old[end..];
                let gap = if rest.is_empty() { "" } else { "\n" };
                format!("{}{body}{gap}{rest}", &old[..start])
            }
        };
        std::fs::write(path, new).with_context(|| format!("writing {}", path.display()))
    }
}

/// So much of what was wrong is shown; the rest is counted.
const FOUND_SHOWN: usize = 5;

const PREFACE: &str = "# Proofs

What was measured, on which machine, by which command. `./prove NAME` measures again and replaces its section here.
";

/// Processor, cores, memory and kernel, on one line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split(':').nth(1)).map(|v| v.trim().to_owned()).unwrap_or_default()
    };
    let model = field(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory_kib: u64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {} GiB, Linux {}", memory_kib.div_ceil(1024 * 1024), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_result_replaces_the_old_one_and_leaves_the_others() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("PROOFS.md");
        let mut one = Section::new("one", "First.", 1, &["a"]);
        one.row(vec!["1".into()]);
        let two = Section::new("two", "Second.", 1, &["a"]);
        one.write(&path, "m", 1).expect("written");
        two.write(&path, "m", 1).expect("written");
        one.rows[0][0] = "2".into();
        one.write(&path, "m", 2).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.matches("## one").count(), 1);
        assert_eq!(text.matches("## two").count(), 1);
        assert!(text.contains("| 2 |") && !text.contains("| 1 |"));
    }
}
