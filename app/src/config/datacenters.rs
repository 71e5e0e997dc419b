//! The section `datacenters`: what holds for all nodes of a place. A place needs no entry: it is there when a node joins it.

use super::decode::{Fields, Key, Node, Problems};
use super::{decode, sections};
use std::collections::BTreeSet;

/// Keys of a datacenter.
pub const DATACENTER: &[Key] = &[
    Key { name: "code", form: "a code", default: "", doc: "As `agent.datacenter` of its nodes says it." },
    Key {
        name: "exclusive",
        form: "true or false",
        default: "false",
        doc: "One of its nodes does everything for as long as it lives, and the others stand by.",
    },
];

/// Reads the section: the codes of exclusive datacenters.
pub(super) fn exclusive(tops: &[Fields<'_>], problems: &mut Problems) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut exclusive = BTreeSet::new();
    for node in tops.iter().filter_map(|top| top.get("datacenters")) {
        let all = decode::list(node, problems, |node, problems| datacenter(node, &mut known, problems)).unwrap_or_default();
        exclusive.extend(all.into_iter().filter_map(|(code, alone)| alone.then_some(code)));
    }
    exclusive
}

fn datacenter(node: &Node, known: &mut BTreeSet<String>, problems: &mut Problems) -> Option<(String, bool)> {
    let fields = Fields::open(node, DATACENTER, problems)?;
    let code = fields.require("code", problems).and_then(|n| sections::code(n, problems));
    let alone = fields.get("exclusive").map_or(Some(false), |n| decode::boolean(n, problems));
    let code = code?;
    if !known.insert(code.clone()) {
        problems.add(&node.at, format!("the datacenter `{code}` again"), "every datacenter once".to_owned());
        return None;
    }
    Some((code, alone?))
}
