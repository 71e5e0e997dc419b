//! From the text of a file to a tree whose every node knows its place.
//!
//! The file is parsed once, by an event stream that is pulled and never recurses. `${NAME}`, `${NAME:-default}` and `$$`
//! are replaced in scalars after parsing, so that the replacement is never read as YAML: a password with a colon stays a
//! password. The environment comes in as a function. Anchors, aliases and tags are refused: `defaults:` holds what monitors
//! share, and a short file can then never unfold into a large one.

use super::decode::{Node, Pos, Problem, Problems, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::HashMap;
use std::sync::Arc;

/// Larger files are refused. Ten thousand monitors take about 3 MiB; more would let a wrong path (a log, an image) fill the memory.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// More nodes in one file are refused. A monitor takes about 20; more would let a generated file fill the memory.
pub const NODES_MAX: usize = 1_000_000;

/// Deeper nesting is refused. The deepest option lies 9 deep; deeper trees are mistakes, and walking them takes stack.
pub const DEPTH_MAX: usize = 32;

/// Longer scalars are refused, before and after `${…}` is replaced. A PEM chain takes 10 KiB; more would let one value fill every message about it.
pub const SCALAR_MAX: usize = 256 * 1024;

/// What replaces `${NAME}`: the environment, or a table in tests.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What is put for a variable that is not set where only a few values are asked for. No address can hold it.
pub(super) const UNSET: &str = "variable_that_is_not_set";

/// The same as [`parse`], but a variable that is not set is [`UNSET`] and no problem.
pub(super) fn parse_leniently(file: &str, bytes: &[u8], env: Env<'_>, problems: &mut Problems) -> Option<Node> {
    parse_with(file, bytes, &Replace::Variables { env, unset: Some(UNSET) }, problems)
}

/// The same as [`parse`] for what is no file: nothing is replaced in it.
pub(super) fn parse_literally(what: &str, bytes: &[u8], problems: &mut Problems) -> Option<Node> {
    parse_with(what, bytes, &Replace::Nothing, problems)
}

/// Parses one file. A broken file gives one problem and no tree, an empty one no tree and no problem;
/// faults in single nodes are added to `problems` and the rest is still read.
pub fn parse(file: &str, bytes: &[u8], env: Env<'_>, problems: &mut Problems) -> Option<Node> {
    parse_with(file, bytes, &Replace::Variables { env, unset: None }, problems)
}

/// What is replaced in scalars.
enum Replace<'e> {
    /// `${…}` and `$$`.
    Variables {
        env: Env<'e>,
        /// What is put for a variable that is not set; a problem if `None`.
        unset: Option<&'static str>,
    },
    Nothing,
}

fn parse_with(file: &str, bytes: &[u8], replace: &Replace<'_>, problems: &mut Problems) -> Option<Node> {
    let file: Arc<str> = file.into();
    let start = Pos { file: file.clone(), line: 1, column: 1 };
    if bytes.len() > FILE_MAX {
        problems.add(&start, format!("a file of {} bytes", bytes.len()), format!("at most {FILE_MAX} bytes"));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.matches('\n').count() as u32 + 1;
            let column = good.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
            problems.add(&Pos { file, line, column }, "a byte that is not UTF-8", "text in UTF-8".to_owned());
            return None;
        }
    };
    let mut build = Build { file, replace, problems, open: Vec::new(), root: None, nodes: 0, documents: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if !build.take(event, span) {
                    return None;
                }
            }
            Err(error) => {
                build.scan_error(&error, text);
                return None;
            }
        }
    }
    build.root
}

/// A collection that has begun and not ended.
struct Open {
    at: Pos,
    what: Collection,
}

enum Collection {
    Seq(Vec<Node>),
    Map { entries: Vec<(String, Pos, Node)>, places: HashMap<String, Pos>, key: Key },
}

/// What a mapping waits for.
#[derive(Default)]
enum Key {
    /// The next key.
    #[default]
    Next,
    /// The value of this key.
    Read(String, Pos),
    /// The value of a key that was refused: it is dropped.
    Refused,
}

struct Build<'b> {
    file: Arc<str>,
    replace: &'b Replace<'b>,
    problems: &'b mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Build<'_> {
    /// Takes one event; false when the file is given up.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let at = Pos { file: self.file.clone(), line: span.start.line() as u32, column: span.start.col() as u32 + 1 };
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.problems.add(&at, "more content", format!("at most {NODES_MAX} values in one file"));
            return false;
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problems.add(
                        &at,
                        "a second document (`---`)",
                        "one document in a file; a directory may hold many files".to_owned(),
                    );
                    return false;
                }
            }
            Event::Alias(_) => {
                self.problems.add(&at, "an alias (`*name`)", ALIAS_HELP.to_owned());
                self.node(Node { at, value: Value::Broken });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_only(&at, anchor, tag.is_some());
                if text.len() > SCALAR_MAX {
                    self.problems.add(&at, format!("a text of {} bytes", text.len()), format!("at most {SCALAR_MAX} bytes"));
                    self.node(Node { at, value: Value::Broken });
                } else {
                    self.scalar(at, &text, style != ScalarStyle::Plain);
                }
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_only(&at, anchor, tag.is_some());
                return self.begin(at, Collection::Seq(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_only(&at, anchor, tag.is_some());
                return self.begin(at, Collection::Map { entries: Vec::new(), places: HashMap::new(), key: Key::Next });
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
        true
    }

    fn plain_only(&mut self, at: &Pos, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.problems.add(at, "an anchor (`&name`)", ALIAS_HELP.to_owned());
        }
        if tag {
            self.problems.add(at, "a tag (`!name`)", "values without tags".to_owned());
        }
    }

    fn begin(&mut self, at: Pos, what: Collection) -> bool {
        if self.open.len() >= DEPTH_MAX {
            self.problems.add(&at, "deeper nesting", format!("at most {DEPTH_MAX} levels"));
            return false;
        }
        self.open.push(Open { at, what });
        true
    }

    fn end(&mut self) {
        if let Some(Open { at, what }) = self.open.pop() {
            let value = match what {
                Collection::Seq(nodes) => Value::Seq(nodes),
                Collection::Map { entries, .. } => Value::Map(entries),
            };
            self.node(Node { at, value });
        }
    }

    fn scalar(&mut self, at: Pos, text: &str, quoted: bool) {
        let is_key = matches!(self.open.last(), Some(Open { what: Collection::Map { key: Key::Next, .. }, .. }));
        if is_key {
            return self.node(Node { at, value: Value::Scalar { text: text.to_owned(), quoted, written: None } });
        }
        if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return self.node(Node { at, value: Value::Null });
        }
        let replaced = match self.replace {
            Replace::Variables { env, unset } => substitute(text, env, *unset),
            Replace::Nothing => Ok(None),
        };
        let value = match replaced {
            Ok(None) => Value::Scalar { text: text.to_owned(), quoted, written: None },
            // What a variable leaves empty counts as not given: `"${TOPIC:-}"` switches an option off.
            Ok(Some(replaced)) if replaced.is_empty() => Value::Null,
            Ok(Some(replaced)) if replaced.len() <= SCALAR_MAX => Value::Scalar { text: replaced, quoted, written: Some(text.into()) },
            Ok(Some(_)) => {
                self.problems.add(&at, "a variable whose value is too long", format!("at most {SCALAR_MAX} bytes"));
                Value::Broken
            }
            Err((found, accepted)) => {
                self.problems.add(&at, found, accepted);
                Value::Broken
            }
        };
        self.node(Node { at, value });
    }

    /// Puts a finished node where it belongs.
    fn node(&mut self, node: Node) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.what {
            Collection::Seq(nodes) => nodes.push(node),
            Collection::Map { entries, places, key } => match std::mem::take(key) {
                Key::Read(name, place) => entries.push((name, place, node)),
                Key::Refused => {}
                Key::Next => {
                    let Value::Scalar { text, .. } = node.value else {
                        self.problems.add(&node.at, "a key that is not a word", "`key: value`".to_owned());
                        *key = Key::Refused;
                        return;
                    };
                    if let Some(first) = places.get(&text) {
                        self.problems.add(
                            &node.at,
                            format!("the key `{text}` again; it is already at {first}"),
                            "every key once".to_owned(),
                        );
                        *key = Key::Refused;
                    } else {
                        places.insert(text.clone(), node.at.clone());
                        *key = Key::Read(text, node.at);
                    }
                }
            },
        }
    }

    fn scan_error(&mut self, error: &ScanError, text: &str) {
        let at = Pos { file: self.file.clone(), line: error.marker().line() as u32, column: error.marker().col() as u32 + 1 };
        let line = text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or("");
        let accepted = if line.trim_start_matches(' ').starts_with('\t') {
            "YAML 1.2; indent with spaces, not with tabs"
        } else if line.contains("${") {
            "YAML 1.2; put values with ${…} in quotes: \"${NAME}\""
        } else {
            "YAML 1.2"
        };
        self.problems.push(Problem {
            at,
            found: format!("this is not YAML: {}", error.info()),
            accepted: Some(accepted.to_owned()),
            nearest: None,
        });
    }
}

const ALIAS_HELP: &str = "the value itself; `defaults:` holds what monitors share";

/// Replaces `${NAME}`, `${NAME:-default}` (unset or empty) and `$$`; `None` if there is nothing to replace.
/// Any other `$` stays, as in a pattern that ends with one.
fn substitute(text: &str, env: Env<'_>, unset: Option<&str>) -> Result<Option<String>, (String, String)> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some(end) = inside.find('}') else {
                return Err(("`${` without its `}`".to_owned(), FORMS.to_owned()));
            };
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inside[..end], None),
            };
            if name.is_empty()
                || name.starts_with(|c: char| c.is_ascii_digit())
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            {
                return Err((format!("`${{{}}}`", &inside[..end]), FORMS.to_owned()));
            }
            match (env(name), default) {
                (Some(value), _) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (Some(_), None) => {}
                (None, None) => {
                    if let Some(word) = unset {
                        out.push_str(word);
                        rest = &inside[end + 1..];
                        continue;
                    }
                    return Err((format!("the variable `{name}` is not set"), format!("set it, or give a default: ${{{name}:-default}}")));
                }
            }
            rest = &inside[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// A text with its variables replaced; or what is wrong, and what is accepted.
pub(super) fn replaced(text: &str, env: Env<'_>) -> Result<String, (String, String)> {
    Ok(substitute(text, env, None)?.unwrap_or_else(|| text.to_owned()))
}

const FORMS: &str = "${NAME} or ${NAME:-default}, NAME of letters, digits and _; $$ stands for $";

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "WORD" => Some("a: [b".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables() {
        let cases = [
            ("plain", Ok(None)),
            ("ends$", Ok(None)),
            ("$.path", Ok(None)),
            ("x${WORD}y", Ok(Some("xa: [by"))),
            ("${EMPTY}", Ok(Some(""))),
            ("${EMPTY:-d}", Ok(Some("d"))),
            ("${NONE:-d-e}$$ $", Ok(Some("d-e$ $"))),
            ("$${WORD}", Ok(Some("${WORD}"))),
            ("${NONE}", Err("the variable `NONE` is not set")),
            ("${NONE", Err("`${` without its `}`")),
            ("${a b}", Err("`${a b}`")),
        ];
        for (text, want) in cases {
            let got = substitute(text, &env, None);
            assert_eq!(got.as_ref().map(|o| o.as_deref()).map_err(|(found, _)| found.as_str()), want, "{text}");
        }
    }

    #[test]
    fn a_replacement_is_never_read_as_yaml() {
        let mut problems = Problems::default();
        let tree = parse("f", b"k: ${WORD}\nl: '${EMPTY}'\n", &env, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let Some(Node { value: Value::Map(entries), .. }) = tree else { panic!("{tree:?}") };
        assert!(matches!(&entries[0].2.value, Value::Scalar { text, .. } if text == "a: [b"));
        assert!(matches!(&entries[1].2.value, Value::Null));
    }

    #[test]
    fn places_are_of_the_token() {
        let mut problems = Problems::default();
        let tree = parse("f", "\u{feff}a:\n  - {b: 1, é: zwei}\n".as_bytes(), &env, &mut problems);
        let Some(Node { value: Value::Map(entries), .. }) = tree else { panic!("{tree:?}") };
        let Value::Seq(items) = &entries[0].2.value else { panic!("{entries:?}") };
        let Value::Map(inner) = &items[0].value else { panic!("{items:?}") };
        assert_eq!(inner[0].1.to_string(), "f:2:6");
        assert_eq!(inner[1].2.at.to_string(), "f:2:15");
    }

    #[test]
    fn what_is_refused() {
        let deep = "[".repeat(DEPTH_MAX + 1);
        let cases: &[(&[u8], &str)] = &[
            (b"a: 1\na: 2\n", "f:2:1: the key `a` again; it is already at f:1:1"),
            (b"a: &x 1\n", "f:1:4: an anchor"),
            (b"a: 1\nb: *x\n", "f:2:"),
            (b"a: !!str 1\n", "f:1:"),
            (b"a: 1\n---\nb: 1\n", "f:2:"),
            (b"a:\n\tb: 1\n", "f:2:"),
            (b"a: \xff\n", "f:1:4: a byte that is not UTF-8"),
            (deep.as_bytes(), "f:1:33: deeper nesting"),
            (b"? [a]\n: b\n", "f:1:3: a key that is not a word"),
        ];
        for (bytes, want) in cases {
            let mut problems = Problems::default();
            parse("f", bytes, &env, &mut problems);
            let text = problems.kept().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(text.starts_with(want), "{:?}: {text}", String::from_utf8_lossy(bytes));
        }
    }
}
