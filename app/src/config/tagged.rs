//! The one rule for tagged things (probes, channels, alerts): a mapping with exactly one kind key, and common keys beside it.
//!
//! A second kind, none, or an unknown one is a problem that lists the kinds. Kinds and keys of later work are known by
//! name and answered as not built yet, so that a file written for a newer version says why it does not load here.

use super::decode::{Fields, Key, Node, Pos, Problem, Problems, Value, names, nearest, shown, wrong};

/// One kind of a tagged thing: a line of its family's list.
pub struct Kind<T: 'static> {
    /// The kind key.
    pub name: &'static str,
    /// One sentence: what it is.
    pub doc: &'static str,
    /// The keys of its value, with those of its nested sections.
    pub keys: &'static [Key],
    /// Nested sections: the key that holds each, and its own keys.
    pub sections: &'static [(&'static str, &'static [Key])],
    /// What `config default` shows for keys without a default: `url: https://example.org/`.
    pub examples: &'static [(&'static str, &'static str)],
    /// Keys that name what is connected to, and how: a secret that is given beside them is given for that.
    pub address: &'static [&'static str],
    /// Reads its value. `None` as a whole: the kind is of later work.
    pub decode: fn(&Node, &mut Problems) -> Option<T>,
}

/// A family of tagged things.
pub struct Family<T: 'static> {
    /// What it is, for messages: `probe`.
    pub what: &'static str,
    /// The keys beside the kind.
    pub common: &'static [Key],
    /// The kinds there are.
    pub kinds: &'static [Kind<T>],
    /// Kinds of later work.
    pub later_kinds: &'static [&'static str],
    /// Common keys of later work.
    pub later_keys: &'static [&'static str],
}

/// A tagged thing whose kind was found.
pub struct Tagged<'a, T> {
    /// Where the kind key stands.
    pub at: &'a Pos,
    /// Its common keys.
    pub common: Fields<'a>,
    /// Its kind's word.
    pub name: &'static str,
    /// Its kind's value; `None` if that had problems.
    pub kind: Option<T>,
}

impl<T> Family<T> {
    fn kind_names(&self) -> String {
        self.kinds.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
    }

    /// Reads one tagged thing; all its problems are noted.
    pub fn open<'a>(&self, node: &'a Node, problems: &mut Problems) -> Option<Tagged<'a, T>> {
        let Value::Map(entries) = &node.value else {
            wrong(node, &format!("a mapping with one of {}", self.kind_names()), problems);
            return None;
        };
        let mut found: Option<(&Pos, &Kind<T>, &Node)> = None;
        let mut settled = false;
        let others: Vec<&'static str> =
            self.kinds.iter().map(|k| k.name).chain(self.later_kinds.iter().copied()).chain(self.later_keys.iter().copied()).collect();
        for (key, at, value) in entries {
            if let Some(kind) = self.kinds.iter().find(|k| k.name == key) {
                if let Some((first_at, first, _)) = found {
                    problems.add(
                        at,
                        format!("a second kind of {}, `{key}`; `{}` is already at {first_at}", self.what, first.name),
                        "one kind in a mapping".to_owned(),
                    );
                } else {
                    found = Some((at, kind, value));
                }
            } else if self.later_kinds.contains(&key.as_str()) {
                settled = true;
                not_built_yet(at, key, &self.kind_names(), problems);
            } else if self.later_keys.contains(&key.as_str()) {
                let common = names(self.common);
                not_built_yet(at, key, &common, problems);
            } else if !self.common.iter().any(|k| k.name == key) {
                settled = true;
                let known = || self.kinds.iter().map(|k| k.name).chain(self.common.iter().map(|k| k.name));
                problems.push(Problem {
                    at: at.clone(),
                    found: format!("unknown kind of {} or key, `{}`", self.what, shown(key)),
                    accepted: Some(if self.common.is_empty() {
                        format!("one of {}", self.kind_names())
                    } else {
                        format!("one of {}; beside it {}", self.kind_names(), names(self.common))
                    }),
                    nearest: nearest(key, known().chain(self.later_kinds.iter().copied())),
                });
            }
        }
        let mut unknown_noted = Problems::default();
        let common = Fields::open_beside(node, self.common, &others, &mut unknown_noted)?;
        let Some((at, kind, value)) = found else {
            if !settled {
                problems.add(&node.at, format!("no kind of {}", self.what), format!("one of {}", self.kind_names()));
            }
            return None;
        };
        // `down:` with nothing behind it means `down: {}`.
        let empty = Node { at: value.at.clone(), value: Value::Map(Vec::new()) };
        let value = if matches!(value.value, Value::Null) { &empty } else { value };
        Some(Tagged { at, common, name: kind.name, kind: (kind.decode)(value, problems) })
    }
}

/// Notes something of later work.
pub fn not_built_yet(at: &Pos, word: &str, accepted: &str, problems: &mut Problems) {
    problems.add(at, format!("`{word}`{NOT_BUILT_YET}"), Some(accepted.to_owned()).filter(|a| !a.is_empty()));
}

/// How the message about something of later work ends.
pub const NOT_BUILT_YET: &str = " is not built yet";

/// Notes every key of later work that a mapping has.
pub fn refuse_later(node: &Node, later: &[&str], problems: &mut Problems) {
    if let Value::Map(entries) = &node.value {
        for (key, at, _) in entries.iter().filter(|(key, _, _)| later.contains(&key.as_str())) {
            not_built_yet(at, key, "", problems);
        }
    }
}
