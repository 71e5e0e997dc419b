//! `depends_on`: the parents of a monitor exist in its tenant, and nothing depends on itself.
//!
//! It looks at the tree, so that a monitor with other problems is judged too.

use super::decode::{self, Node, Problems, Value};
use super::fleet::name_of;
use super::named;
use std::collections::HashMap;

/// More parents are refused: each is looked at for every notice.
pub(super) const PARENTS_MAX: usize = 32;

/// Notes unknown parents, and every cycle once. `known` are the names of the tenant's monitors.
pub(super) fn check(monitors: &[&Node], known: &[&str], problems: &mut Problems) {
    let mut graph: Vec<Vec<(usize, &Node)>> = Vec::with_capacity(monitors.len());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (nth, node) in monitors.iter().enumerate() {
        if let Some(name) = name_of(node) {
            places.entry(name).or_insert(nth);
        }
    }
    for node in monitors {
        let mut parents = Vec::new();
        for named in named::child(node, "depends_on").map(named::listed).unwrap_or_default() {
            named::known(named, "monitor", known, |_| false, problems);
            if let Value::Scalar { text, .. } = &named.value
                && let Some(parent) = places.get(text.as_str())
            {
                parents.push((*parent, named));
            }
        }
        graph.push(parents);
    }
    cycles(monitors, &graph, problems);
}

/// How far a monitor has been followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    /// It is on the path, at that place.
    OnPath(usize),
    Done,
}

/// Follows every path without recursion: a chain may be as long as the fleet.
fn cycles(monitors: &[&Node], graph: &[Vec<(usize, &Node)>], problems: &mut Problems) {
    let mut seen = vec![Seen::Not; graph.len()];
    for start in 0..graph.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        let mut enter = (seen[start] == Seen::Not).then_some(start);
        loop {
            if let Some(nth) = enter.take() {
                seen[nth] = Seen::OnPath(path.len());
                path.push((nth, 0));
            }
            let Some((nth, next)) = path.last_mut() else { break };
            let Some((parent, named)) = graph[*nth].get(*next) else {
                seen[*nth] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[*parent] {
                Seen::Not => enter = Some(*parent),
                Seen::Done => {}
                Seen::OnPath(from) => {
                    let ring = path[from..].iter().map(|(nth, _)| *nth).chain([*parent]);
                    let names: Vec<&str> = ring.map(|nth| name_of(monitors[nth]).unwrap_or_default()).collect();
                    let found = format!("a monitor that depends on itself: {}", shown(&names));
                    problems.add(&named.at, found, "dependencies that end somewhere".to_owned());
                }
            }
        }
    }
}

/// A longer cycle is shown by its beginning and its end: a message is one line.
const SHOWN_MAX: usize = 12;

fn shown(names: &[&str]) -> String {
    let quoted = |names: &[&str]| names.iter().map(|n| format!("`{}`", decode::shown(n))).collect::<Vec<_>>().join(" → ");
    if names.len() <= SHOWN_MAX {
        return quoted(names);
    }
    let half = SHOWN_MAX / 2;
    format!("{} → … → {}", quoted(&names[..half]), quoted(&names[names.len() - half..]))
}
