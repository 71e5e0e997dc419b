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

/// Notes a name that is none of the known ones (in their order), unless it is excepted; what is not a text has its problem already.
pub(super) fn known(node: &Node, what: &str, known: &[&str], excepted: impl Fn(&str) -> bool, problems: &mut Problems) {
    let Value::Scalar { text, .. } = &node.value else { return };
    if excepted(text) || known.contains(&text.as_str()) {
        return;
    }
    let more = known.len().saturating_sub(NAMES_SHOWN_MAX);
    let mut accepted = known.iter().take(NAMES_SHOWN_MAX).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        accepted = format!("{what}s of this tenant; it has none");
    } else if more > 0 {
        accepted.push_str(&format!(" and {more} more"));
    }
    problems.0.push(Problem {
        at: node.at.clone(),
        found: format!("unknown {what} {}", describe(node)),
        accepted: Some(accepted),
        nearest: nearest(text, known.iter().copied()),
    });
}

/// More names are counted rather than listed: a message is one line.
const NAMES_SHOWN_MAX: usize = 50;
