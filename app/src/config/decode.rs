//! From a positioned tree to values: every item is decoded alone and reports its own problems.
//!
//! A section lists its keys once ([`Key`]): the list says what is accepted, finds the nearest known key for a
//! misspelt one, and makes `config default`. There is no serde here and no `flatten`: both lose the place of a fault.

use secrecy::SecretString;
use std::fmt::{self, Write as _};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a file; line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pos {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// From 1; 0 for a file as a whole.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Pos {
    /// The nth field of a document, which has no lines.
    pub(super) const fn in_a_document(file: Arc<str>, field: u32) -> Self {
        Self { file, line: field, column: 0 }
    }

    /// Whether it is a field of a document, and so the word of a tenant's administrator and not of the machine's.
    pub const fn in_document(&self) -> bool {
        self.column == 0 && self.line > 0
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Line 0 is the file as a whole; a document has only fields.
        if self.column == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}:{}", self.file, self.line, self.column) }
    }
}

/// One node of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Pos,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~`, or nothing.
    Null,
    /// A scalar after `${…}` was replaced. `quoted` ones are always text.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it stood in quotes or as a block.
        quoted: bool,
        /// The text with its `${…}`, if something was replaced: only this may be shown, the replacement may be a secret.
        written: Option<Box<str>>,
    },
    /// A scalar that could not be read; its problem is already noted, so that nothing more is said about it.
    Broken,
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping in the order of the file; keys are unique (checked by the parser).
    Map(Vec<(String, Pos, Node)>),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Pos,
    /// What was found.
    pub found: String,
    /// What is accepted.
    pub accepted: Option<String>,
    /// The nearest known word.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.found)?;
        if let Some(accepted) = &self.accepted {
            write!(f, "; accepted: {accepted}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

/// More problems are counted, not kept: one wrong word in what thousands of monitors share must not fill the memory with
/// their texts. Fewer would hide from a person what to mend next.
pub const PROBLEMS_MAX: usize = 100;

/// Everything that is wrong, as it is found; beyond a hundred only how many.
#[derive(Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    more: usize,
    told: usize,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, at: &Pos, found: impl Into<String>, accepted: impl Into<Option<String>>) {
        self.push(Problem { at: at.clone(), found: found.into(), accepted: accepted.into(), nearest: None });
    }

    /// Adds one that was made elsewhere. The same again at the same place, as many heirs tell it, counts once.
    pub fn push(&mut self, problem: Problem) {
        self.told += 1;
        if self.kept.contains(&problem) {
            return;
        }
        if self.is_full() {
            self.more += 1;
        } else {
            self.kept.push(problem);
        }
    }

    /// Counts one whose text nobody would read, because enough are kept.
    pub fn count(&mut self) {
        self.told += 1;
        self.more += 1;
    }

    /// Whether further ones are only counted.
    pub const fn is_full(&self) -> bool {
        self.kept.len() >= PROBLEMS_MAX
    }

    /// How often a problem was told, repeated ones too: it grows with each, and so shows whether a part is sound.
    pub const fn told(&self) -> usize {
        self.told
    }

    /// Whether nothing is wrong.
    pub const fn is_empty(&self) -> bool {
        self.told == 0
    }

    /// Those that are kept, in the order in which they were found.
    pub fn kept(&self) -> &[Problem] {
        &self.kept
    }

    /// Those that are kept, and how many more there were.
    pub fn into_parts(self) -> (Vec<Problem>, usize) {
        (self.kept, self.more)
    }
}

/// One key of a section: the reference, the check and the printed default come from it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What is accepted, in words: `a duration such as 10s`.
    pub form: &'static str,
    /// The default as YAML; empty if there is none.
    pub default: &'static str,
    /// One sentence: what it does.
    pub doc: &'static str,
}

/// A mapping whose keys were checked against its section.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// Where the mapping begins.
    pub at: &'a Pos,
    entries: &'a [(String, Pos, Node)],
    keys: &'static [Key],
}

impl<'a> Fields<'a> {
    /// Opens a mapping: anything else, and every unknown key, is a problem.
    pub fn open(node: &'a Node, keys: &'static [Key], problems: &mut Problems) -> Option<Self> {
        Self::open_beside(node, keys, &[], problems)
    }

    /// The same for a mapping in which other words may stand too: the caller deals with those.
    pub fn open_beside(node: &'a Node, keys: &'static [Key], others: &[&'static str], problems: &mut Problems) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            wrong(node, &format!("a mapping with {}", names(keys)), problems);
            return None;
        };
        for (key, at, _) in entries {
            let known = || keys.iter().map(|k| k.name).chain(others.iter().copied());
            if !known().any(|k| k == key) {
                problems.push(Problem {
                    at: at.clone(),
                    found: format!("unknown key `{}`", shown(key)),
                    accepted: Some(names(keys)),
                    nearest: nearest(key, known()),
                });
            }
        }
        Some(Self { at: &node.at, entries, keys })
    }

    /// The node of a key; absent and null are both `None`.
    pub fn get(&self, key: &'static str) -> Option<&'a Node> {
        debug_assert!(self.keys.iter().any(|k| k.name == key), "{key} is not in its section's list");
        self.entries.iter().find(|(k, _, _)| k == key).map(|(_, _, n)| n).filter(|n| !matches!(n.value, Value::Null))
    }

    /// Whether the key is there, with something behind it or not.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _, _)| known == key)
    }

    /// The place of a key's name; of the mapping if the key is absent.
    pub fn place(&self, key: &str) -> &'a Pos {
        self.entries.iter().find(|(k, _, _)| k == key).map_or(self.at, |(_, at, _)| at)
    }

    /// The node of a key that must be there.
    pub fn require(&self, key: &'static str, problems: &mut Problems) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            let form = self.keys.iter().find(|k| k.name == key).map(|k| k.form.to_owned());
            problems.add(self.at, format!("`{key}` is missing"), form);
        }
        found
    }
}

/// The keys' names, for messages.
pub fn names(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "no keys".to_owned();
    }
    keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
}

/// Longer texts are cut in messages: a message is one line.
const SHOWN_MAX: usize = 80;

/// A text on one line of a message.
pub fn shown(text: &str) -> String {
    let cut = if text.chars().count() > SHOWN_MAX { "…" } else { "" };
    format!("{}{cut}", text.chars().take(SHOWN_MAX).collect::<String>().escape_debug())
}

/// What a node is, for a message: the text of a scalar as it is written in the file (never what a variable held), or its shape.
pub fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Broken => "a value that could not be read".to_owned(),
        Value::Scalar { text, written, .. } => {
            format!("`{}`", shown(written.as_deref().unwrap_or(text)))
        }
        Value::Seq(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// The known word nearest to a misspelt one, if it is near enough to be meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    known.map(|k| (distance(word, k), k)).filter(|(d, k)| *d <= 1 + k.len() / 4).min().map(|(_, k)| k.to_owned())
}

/// Edit distance over characters, with a swap of neighbours as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Notes that a node is not what is accepted, unless its own problem is already noted.
pub fn wrong(node: &Node, accepted: &str, problems: &mut Problems) {
    if !matches!(node.value, Value::Broken) {
        problems.add(&node.at, format!("found {}", describe(node)), accepted.to_owned());
    }
}

/// A text; a list or mapping is a problem.
pub fn text(node: &Node, problems: &mut Problems) -> Option<String> {
    if let Value::Scalar { text, .. } = &node.value {
        return Some(text.clone());
    }
    wrong(node, "a text", problems);
    None
}

/// Larger secret files are refused: a wrong path would be read into the memory and sent as a header.
const SECRET_FILE_MAX: u64 = 64 * 1024;

/// A secret that stands under `key`, or in the file that its twin `key_file` names (relative to the configuration file; the
/// line end that editors add is dropped). An empty one counts as absent. Both at once, and an unreadable file, are problems.
pub fn secret(fields: &Fields<'_>, key: &'static str, key_file: &'static str, problems: &mut Problems) -> Option<SecretString> {
    let (inline, file) = (fields.get(key), fields.get(key_file));
    match (inline, file) {
        (Some(_), Some(file)) => {
            problems.add(&file.at, format!("both `{key}` and `{key_file}`"), "one of them".to_owned());
            None
        }
        (Some(node), None) => text(node, problems).filter(|t| !t.is_empty()).map(SecretString::from),
        (None, Some(file)) => secret_file(file, problems),
        (None, None) => None,
    }
}

fn secret_file(node: &Node, problems: &mut Problems) -> Option<SecretString> {
    let path = beside(&node.at, &text(node, problems)?);
    let read = read_regular(&path, SECRET_FILE_MAX + 1)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| std::io::Error::other("it holds a byte that is not UTF-8")));
    let fault = match read {
        Ok(content) if content.len() as u64 > SECRET_FILE_MAX => format!("is larger than {SECRET_FILE_MAX} bytes"),
        Ok(content) => match content.trim_end_matches(['\r', '\n']) {
            "" => "is empty".to_owned(),
            secret => return Some(SecretString::from(secret)),
        },
        Err(error) => format!("cannot be read: {error}"),
    };
    problems.add(&node.at, format!("{} {fault}", path.display()), "a file that holds the secret".to_owned());
    None
}

/// The first `most` bytes of a regular file, symbolic links followed. A pipe or a device would keep the reader for ever, and
/// is refused before it is opened.
pub(crate) fn read_regular(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a named pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        return Err(std::io::Error::other(format!("it is {found}, not a regular file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path of the configuration: a relative one starts where the file stands that names it.
pub fn beside(at: &Pos, path: &str) -> PathBuf {
    Path::new(at.file.as_ref()).parent().map_or_else(|| path.into(), |folder| folder.join(path))
}

/// A value that `parse` makes of a text; `form` says what is accepted.
pub fn parsed<T>(node: &Node, form: &str, problems: &mut Problems, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let value = match &node.value {
        Value::Scalar { text, .. } => parse(text),
        Value::Null | Value::Broken | Value::Seq(_) | Value::Map(_) => None,
    };
    if value.is_none() {
        wrong(node, form, problems);
    }
    value
}

/// `true` or `false`.
pub fn boolean(node: &Node, problems: &mut Problems) -> Option<bool> {
    parsed(node, "true or false", problems, |t| t.parse().ok())
}

/// A whole number within a range.
pub fn integer(node: &Node, range: std::ops::RangeInclusive<i64>, problems: &mut Problems) -> Option<i64> {
    let form = format!("a whole number from {} to {}", range.start(), range.end());
    parsed(node, &form, problems, |t| t.parse().ok().filter(|n| range.contains(n)))
}

/// One of a few words.
pub fn one_of<T: Copy>(node: &Node, words: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let form = words.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
    if let Value::Scalar { text, .. } = &node.value {
        let value = words.iter().find(|(w, _)| w == text).map(|(_, v)| *v);
        if value.is_none() {
            let nearest = nearest(text, words.iter().map(|(w, _)| *w));
            problems.push(Problem { at: node.at.clone(), found: format!("found {}", describe(node)), accepted: Some(form), nearest });
        }
        return value;
    }
    wrong(node, &form, problems);
    None
}

/// Every item of a list, each decoded alone; a single value stands for a list of one.
pub fn list<T>(node: &Node, problems: &mut Problems, mut item: impl FnMut(&Node, &mut Problems) -> Option<T>) -> Option<Vec<T>> {
    match &node.value {
        Value::Seq(nodes) => {
            let decoded: Vec<Option<T>> = nodes.iter().map(|n| item(n, problems)).collect();
            decoded.into_iter().collect()
        }
        Value::Scalar { .. } | Value::Map(_) => item(node, problems).map(|one| vec![one]),
        Value::Null => Some(Vec::new()),
        Value::Broken => None,
    }
}

/// Every entry of a mapping with free keys.
pub fn entries<T>(
    node: &Node,
    problems: &mut Problems,
    mut item: impl FnMut(&Node, &mut Problems) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let Value::Map(found) = &node.value else {
        wrong(node, "a mapping", problems);
        return None;
    };
    let decoded: Vec<Option<(String, T)>> = found.iter().map(|(k, _, n)| item(n, problems).map(|v| (k.clone(), v))).collect();
    decoded.into_iter().collect()
}

/// A duration in Go's form (`1m30s`, `850ms`, `14d`), or plain seconds.
pub fn duration(
    node: &Node,
    range: std::ops::RangeInclusive<watchkeeper_core::Dur>,
    problems: &mut Problems,
) -> Option<watchkeeper_core::Dur> {
    // What is recommended must be accepted.
    let fits = |example: &&str| parse_duration(example).is_some_and(|length| range.contains(&length));
    let examples: Vec<&str> = ["10s", "1m30s", "850ms", "1h", "14d"].into_iter().filter(fits).take(3).collect();
    let such_as = examples.join(", ");
    let form = format!("a duration from {} to {}, such as {such_as}", show_duration(*range.start()), show_duration(*range.end()));
    parsed(node, &form, problems, |t| parse_duration(t).filter(|d| range.contains(d)))
}

/// Parses Go's durations with `d` for days added; a bare number is seconds.
pub fn parse_duration(text: &str) -> Option<watchkeeper_core::Dur> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(watchkeeper_core::Dur::secs(i64::from(seconds)));
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "us" | "µs" | "μs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3_600e6,
            "d" => 86_400e6,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_len..];
    }
    // 3 000 years: the sum with any instant stays far from overflow.
    (!text.is_empty() && total < 1e17).then_some(watchkeeper_core::Dur(total.round() as i64))
}

/// A duration as a person writes it: `1h30m`, `14d`, `850ms`.
pub fn show_duration(d: watchkeeper_core::Dur) -> String {
    if d.0 == 0 {
        return "0s".to_owned();
    }
    let mut rest = d.0;
    let mut out = String::new();
    for (unit, us) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)] {
        if rest >= us {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}{unit}", rest / us);
            rest %= us;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_beyond_a_number_are_counted_and_repeated_ones_are_told_once() {
        let mut problems = Problems::default();
        let at = |line| Pos { file: "wk.yaml".into(), line, column: 1 };
        for line in (1..=PROBLEMS_MAX as u32).chain(1..=7).chain(1_001..=1_005) {
            problems.add(&at(line), "a fault", None);
        }
        problems.count();
        assert_eq!(problems.told(), PROBLEMS_MAX + 13);
        let (kept, more) = problems.into_parts();
        assert_eq!((kept.len(), more), (PROBLEMS_MAX, 6));
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        let said = super::super::load(Some(&link), &|_| None).unwrap_err().to_string();
        assert!(said.contains("it is a named pipe, not a regular file"), "{said}");
        let file = folder.path().join("wk.yaml");
        std::fs::write(&file, "server: { metrics_token_file: pipe }\nchannels: [ { name: a, webhook: { url_file: pipe } } ]\n").unwrap();
        let said = super::super::load(Some(&file), &|_| None).unwrap_err().to_string();
        assert_eq!(said.matches("it is a named pipe, not a regular file").count(), 2, "{said}");
        std::fs::write(&file, "server: { metrics_token_file: /dev/zero }\n").unwrap();
        let said = super::super::load(Some(&file), &|_| None).unwrap_err().to_string();
        assert!(said.contains("it is a device, not a regular file"), "{said}");
        assert_eq!(read_regular(&file, 6).unwrap(), b"server");
    }
}
