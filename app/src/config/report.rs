//! How problems are shown: one line each, in the order of the files; with the source line for a person; as JSON for a machine.

use super::decode::{Pos, Problem, Problems};
use std::collections::HashMap;
use std::fmt::{self, Write as _};

/// A configuration that was refused, with everything that is wrong.
#[derive(Debug)]
pub struct BadConfig {
    /// What is wrong, by place; never empty, at most a hundred.
    pub problems: Vec<Problem>,
    /// How many more there are, whose texts were not kept.
    more: usize,
    /// The source lines that problems point at.
    lines: HashMap<(String, u32), String>,
}

/// Longer source lines are not repeated below a problem: the caret would stand on another line of the terminal.
const LINE_SHOWN_MAX: usize = 160;

impl BadConfig {
    pub(super) fn new(problems: Problems, texts: &[(String, Vec<u8>)]) -> Self {
        let (mut problems, more) = problems.into_parts();
        // Stable, so that problems of one place stay in the order in which they were found.
        problems.sort_by(|a, b| (&a.at.file, a.at.line, a.at.column).cmp(&(&b.at.file, b.at.line, b.at.column)));
        let mut lines = HashMap::new();
        for (name, bytes) in texts {
            let wanted: Vec<u32> = problems.iter().filter(|p| *p.at.file == **name).map(|p| p.at.line).collect();
            if wanted.is_empty() {
                continue;
            }
            for (line, number) in String::from_utf8_lossy(bytes).lines().zip(1..) {
                if wanted.binary_search(&number).is_ok() {
                    lines.insert((name.clone(), number), line.to_owned());
                }
            }
        }
        Self { problems, more, lines }
    }

    /// One thing, which is wrong with what a key says and not with how it is written.
    pub fn about(key: &str, found: String, accepted: String) -> Self {
        let at = Pos { file: key.into(), line: 0, column: 0 };
        Self { problems: vec![Problem { at, found, accepted: Some(accepted), nearest: None }], more: 0, lines: HashMap::new() }
    }

    /// How many things are wrong.
    pub const fn count(&self) -> usize {
        self.problems.len() + self.more
    }

    /// One line each, and one for those whose texts were not kept.
    pub fn told(&self) -> Vec<String> {
        self.problems.iter().map(ToString::to_string).chain(self.rest()).collect()
    }

    fn rest(&self) -> Option<String> {
        match self.more {
            0 => None,
            1 => Some("and 1 more problem".to_owned()),
            more => Some(format!("and {more} more problems")),
        }
    }

    /// With the source line and a caret below each problem. For the terminal of who wrote the file only: the line may hold a secret.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{problem}");
            let line = self.lines.get(&(problem.at.file.to_string(), problem.at.line));
            if let Some(line) = line.filter(|l| l.chars().count() <= LINE_SHOWN_MAX) {
                let number = problem.at.line.to_string();
                // Tabs are kept in the indent, so that the caret stands below its character whatever a tab's width.
                let indent: String =
                    line.chars().take(problem.at.column.saturating_sub(1) as usize).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let _ = writeln!(out, "  {number} | {line}\n  {} | {indent}^", " ".repeat(number.len()));
            }
        }
        if let Some(rest) = self.rest() {
            let _ = writeln!(out, "{rest}");
        }
        out
    }

    /// A list of `{file, line, column, found, accepted, nearest}`, and how many more there are.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |p: &Problem| {
            serde_json::json!({
                "file": &*p.at.file, "line": p.at.line, "column": p.at.column,
                "found": p.found, "accepted": p.accepted, "nearest": p.nearest,
            })
        };
        serde_json::json!({ "problems": self.problems.iter().map(one).collect::<Vec<_>>(), "more": self.more })
    }
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told().join("\n"))
    }
}

impl std::error::Error for BadConfig {}
