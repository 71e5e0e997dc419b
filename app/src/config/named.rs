//! Names that one place of the tree uses and another gives: channels, monitors, rules.
//!
//! What is named is looked for in the tree, not in what was decoded, so that something with other problems is told of these too.

use super::decode::{Node, Problem, Problems, Value, describe, nearest, shown};

/// The value of a key, if the node is a mapping that has it.
pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(name, _, _)| name == key).map(|(_, _, value)| value)
}

/// A list's items; nothing has none, and anything else stands for a list of one.
pub(super) fn listed(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::Seq(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        Value::Broken | Value::Scalar { .. } | Value::Map(_) => vec![node],
    }
}

/// Notes a name that is none of the known ones (which are sorted), unless it is excepted; what is not a text has its problem already.
pub(super) fn known(node: &Node, what: &str, known: &[&str], excepted: impl Fn(&str) -> bool, problems: &mut Problems) {
    let Value::Scalar { text, .. } = &node.value else { return };
    if excepted(text) || known.binary_search(&text.as_str()).is_ok() {
        return;
    }
    if problems.is_full() {
        problems.count();
        return;
    }
    let more = known.len().saturating_sub(NAMES_SHOWN_MAX);
    let mut accepted = known.iter().take(NAMES_SHOWN_MAX).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        accepted = format!("{what}s of this tenant; it has none");
    } else if more > 0 {
        accepted.push_str(&format!(" and {more} more"));
    }
    problems.push(Problem {
        at: node.at.clone(),
        found: format!("unknown {what} {}", describe(node)),
        accepted: Some(accepted),
        nearest: nearest(text, known.iter().copied()),
    });
}

/// More names are counted rather than listed: a message is one line, and the nearest name is said anyway.
const NAMES_SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::decode::PROBLEMS_MAX;
    use super::super::load_texts;
    use std::fmt::Write as _;

    #[test]
    fn thousands_of_wrong_names_among_thousands_make_a_short_message() {
        let mut text = "channels:\n".to_owned();
        for n in 0..2_000 {
            let _ = writeln!(text, "- {{ name: channel-{n:04}, webhook: {{ url: \"http://127.0.0.1:9/\" }} }}");
        }
        text.push_str("monitors:\n");
        for n in 0..500 {
            let _ = writeln!(text, "- {{ name: m{n}, probe: {{ push: {{ expect_every: 1h }} }}, notify: [chanel-{n:04}] }}");
        }
        let bad = load_texts(&[("wk.yaml".to_owned(), text.into_bytes())], &|_| None).unwrap_err();
        assert_eq!((bad.problems.len(), bad.count()), (PROBLEMS_MAX, 500));
        let told = bad.to_string();
        assert!(told.contains("channel-0007 and 1992 more; did you mean `channel-0000`?"), "{told}");
        assert!(!told.contains("channel-0008,"), "{told}");
        assert!(told.ends_with("\nand 400 more problems"), "{told}");
        assert_eq!(bad.to_json()["more"], 400);
        assert!(bad.pretty().ends_with("and 400 more problems\n"));
    }
}
