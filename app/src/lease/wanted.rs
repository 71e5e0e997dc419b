//! What one node should hold, given who else is alive. Pure.
//!
//! A node that takes part holds `member/<datacenter>/<name>`: that is how the others know of it. Shards of a datacenter are shared
//! by its members, shards of verdicts and single scopes by all. In an exclusive datacenter one member holds everything for as long
//! as it lives. A node whose configuration is not the one in force takes no part: it holds its own name and waits.

use super::node_of;
use super::seen::Seen;
use crate::clock::BootTime;
use crate::engine::{agent_scope, site_scope, verdict_scope};
use std::collections::BTreeSet;
use watchkeeper_core::share;

/// The scope of the configuration: its holder says which one is in force.
pub const SOURCE: &str = "source/files";
/// Members of all datacenters.
const MEMBER: &str = "member/";

/// What one node would hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The node.
    pub name: String,
    /// Where it stands.
    pub datacenter: String,
    /// Over how many shards the decisions are spread.
    pub shards: u16,
    /// Datacenters of which one node alone is active.
    pub exclusive: BTreeSet<String>,
    /// Scopes of which there is one each: budgets of channels, housekeeping.
    pub singles: BTreeSet<String>,
    /// Scopes of which there is one in its datacenter.
    pub of_datacenter: BTreeSet<String>,
    /// Whether its configuration is the one in force.
    pub takes_part: bool,
}

/// The share of one node.
pub(super) struct Share {
    /// What it should hold.
    pub scopes: BTreeSet<String>,
    /// How many nodes share, it included if it takes part.
    pub nodes: usize,
}

impl Wanted {
    /// What only this node may hold.
    pub fn agent_scope(&self) -> String {
        agent_scope(&self.name)
    }

    fn member(&self) -> String {
        format!("{}/{}", self.datacenter, self.name)
    }

    /// Its share, as things have been seen at `now`.
    pub(super) fn share(&self, seen: &Seen, holder: &str, now: BootTime) -> Share {
        let mut scopes = BTreeSet::from([self.agent_scope()]);
        // A member under our own name is what is left of our last life.
        let mut members: BTreeSet<&str> = seen
            .living(MEMBER, now)
            .filter(|row| row.holder == holder || node_of(row) != self.name)
            .filter_map(|row| row.scope.strip_prefix(MEMBER))
            .collect();
        let me = self.member();
        if !self.takes_part {
            members.remove(&*me);
            // Nobody is there whose configuration could be in force: ours may be.
            scopes.extend(members.is_empty().then(|| SOURCE.to_owned()));
            return Share { scopes, nodes: members.len() };
        }
        members.insert(&me);
        scopes.insert(format!("{MEMBER}{me}"));

        let active = self.active(&members, seen, now);
        let locals: Vec<&str> = active.iter().copied().filter(|member| datacenter_of(member) == self.datacenter).collect();
        for shard in shares(self.shards, &locals, &me) {
            scopes.insert(site_scope(&self.datacenter, shard));
        }
        scopes.extend(self.of_datacenter.iter().filter(|scope| share::owner(scope, &locals) == Some(&me)).cloned());
        for shard in shares(self.shards, &active, &me) {
            scopes.insert(verdict_scope(shard));
        }
        scopes.extend(self.singles.iter().filter(|scope| share::owner(scope, &active) == Some(&me)).cloned());

        // Whoever says which configuration is in force goes on saying it for as long as it lives.
        let nodes: Vec<&str> = members.iter().copied().collect();
        let says = seen.living(SOURCE, now).map(node_of).next().and_then(|name| nodes.iter().copied().find(|m| name_of(m) == name));
        if says.or_else(|| share::owner(SOURCE, &nodes)) == Some(&me) {
            scopes.insert(SOURCE.to_owned());
        }
        Share { scopes, nodes: members.len() }
    }

    /// The members that work: all of a datacenter, or the one of an exclusive one.
    fn active<'m>(&self, members: &BTreeSet<&'m str>, seen: &Seen, now: BootTime) -> Vec<&'m str> {
        let alone = |datacenter: &str| {
            let locals: Vec<&'m str> = members.iter().copied().filter(|member| datacenter_of(member) == datacenter).collect();
            let first = site_scope(datacenter, 0);
            let holds = seen.living(&first, now).find(|row| row.scope == first).map(node_of);
            let stays = holds.and_then(|name| locals.iter().copied().find(|member| name_of(member) == name));
            stays.or_else(|| share::owner(datacenter, &locals))
        };
        let works = |member: &&'m str| {
            let datacenter = datacenter_of(member);
            !self.exclusive.contains(datacenter) || alone(datacenter) == Some(*member)
        };
        members.iter().copied().filter(works).collect()
    }
}

/// The shards that fall to one of these nodes.
fn shares(shards: u16, nodes: &[&str], me: &str) -> impl Iterator<Item = u16> {
    let owners = share::owners(shards, nodes);
    let mine = nodes.iter().position(|node| *node == me);
    (0..shards).zip(owners).filter_map(move |(shard, owner)| (Some(owner) == mine).then_some(shard))
}

fn datacenter_of(member: &str) -> &str {
    member.split_once('/').map_or("", |(datacenter, _)| datacenter)
}

fn name_of(member: &str) -> &str {
    member.split_once('/').map_or(member, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LeaseRow;
    use std::time::Duration;

    const TAKE_OVER: Duration = Duration::from_secs(6);

    fn wanted(name: &str, datacenter: &str) -> Wanted {
        Wanted {
            name: name.into(),
            datacenter: datacenter.into(),
            shards: 16,
            exclusive: BTreeSet::new(),
            singles: BTreeSet::from(["housekeeping".to_owned(), "channel/a".to_owned()]),
            of_datacenter: BTreeSet::new(),
            takes_part: true,
        }
    }

    fn row(scope: &str, holder: &str, beat: i64) -> LeaseRow {
        LeaseRow { scope: scope.into(), holder: holder.into(), epoch: 1, beat }
    }

    fn members(names: &[&str], beat: i64) -> Vec<LeaseRow> {
        names.iter().map(|m| row(&format!("member/{m}"), &format!("{}#boot", name_of(m)), beat)).collect()
    }

    fn scopes(wanted: &Wanted, seen: &Seen, now: BootTime) -> BTreeSet<String> {
        wanted.share(seen, &format!("{}#boot", wanted.name), now).scopes
    }

    #[test]
    fn a_lone_node_holds_everything() {
        let (seen, now) = (Seen::new(TAKE_OVER), BootTime::now());
        let all = scopes(&wanted("a", "local"), &seen, now);
        assert_eq!(all.len(), 16 + 16 + 2 + 3, "{all:?}");
        for scope in ["agent/a", "member/local/a", "source/files", "site/local/15", "verdict/0", "channel/a", "housekeeping"] {
            assert!(all.contains(scope), "{scope}");
        }
    }

    #[test]
    fn nodes_of_two_datacenters_share_without_gap_or_overlap() {
        let now = BootTime::now();
        let mut seen = Seen::new(TAKE_OVER);
        seen.note(members(&["ny/a", "ny/b", "va/c"], 1), now);
        let shares: Vec<_> = [("a", "ny"), ("b", "ny"), ("c", "va")].map(|(n, d)| scopes(&wanted(n, d), &seen, now)).into();
        for shard in 0..16 {
            let holders = |scope: &str| shares.iter().filter(|s| s.contains(scope)).count();
            assert_eq!(holders(&site_scope("ny", shard)), 1);
            assert!(shares[2].contains(&site_scope("va", shard)));
            assert_eq!(holders(&verdict_scope(shard)), 1);
        }
        for single in ["housekeeping", "channel/a", "source/files"] {
            assert_eq!(shares.iter().filter(|s| s.contains(single)).count(), 1, "{single}");
        }
    }

    #[test]
    fn where_all_stand_in_one_place_sight_and_verdict_of_a_shard_are_one_nodes() {
        let now = BootTime::now();
        let mut seen = Seen::new(TAKE_OVER);
        seen.note(members(&["local/a", "local/b", "local/c"], 1), now);
        for name in ["a", "b", "c"] {
            let mine = scopes(&wanted(name, "local"), &seen, now);
            for shard in 0..16 {
                assert_eq!(mine.contains(&site_scope("local", shard)), mine.contains(&verdict_scope(shard)));
            }
        }
    }

    #[test]
    fn a_member_that_stands_still_is_no_longer_counted() {
        let now = BootTime::now();
        let mut seen = Seen::new(TAKE_OVER);
        seen.note(members(&["local/a", "local/b"], 1), now);
        let later = now + TAKE_OVER;
        seen.note(vec![row("member/local/a", "a#boot", 2), row("member/local/b", "b#boot", 1)], later);
        let all = scopes(&wanted("a", "local"), &seen, later);
        assert!((0..16).all(|shard| all.contains(&site_scope("local", shard))));
    }

    #[test]
    fn the_active_node_of_an_exclusive_datacenter_stays() {
        let now = BootTime::now();
        let mut of = wanted("a", "va");
        of.exclusive = BTreeSet::from(["va".to_owned()]);
        let count = |seen: &Seen, name: &str| {
            let all = scopes(&Wanted { name: name.into(), ..of.clone() }, seen, now);
            all.iter().filter(|scope| scope.starts_with("site/") || scope.starts_with("verdict/")).count()
        };
        for active in ["a", "b"] {
            let mut seen = Seen::new(TAKE_OVER);
            let mut table = members(&["va/a", "va/b"], 1);
            table.push(row("site/va/0", &format!("{active}#boot"), 5));
            seen.note(table, now);
            let counts = [count(&seen, "a"), count(&seen, "b")];
            assert_eq!(counts, if active == "a" { [32, 0] } else { [0, 32] });
        }
    }

    #[test]
    fn what_each_datacenter_has_one_of_is_its_active_nodes() {
        let now = BootTime::now();
        let mut seen = Seen::new(TAKE_OVER);
        let mut table = members(&["va/a", "va/b", "ny/c"], 1);
        table.push(row("site/va/0", "b#boot", 5));
        seen.note(table, now);
        for (exclusive, most) in [(BTreeSet::new(), ["a", "b"].as_slice()), (BTreeSet::from(["va".to_owned()]), &["b"])] {
            let holds = |name: &str, datacenter: &str| {
                let of_datacenter = BTreeSet::from([format!("mirror/{datacenter}")]);
                let mut all = Wanted { of_datacenter, exclusive: exclusive.clone(), ..wanted(name, datacenter) };
                all.takes_part = true;
                scopes(&all, &seen, now).contains(&format!("mirror/{datacenter}"))
            };
            let holders: Vec<&str> = ["a", "b"].into_iter().filter(|name| holds(name, "va")).collect();
            assert!(holders.len() == 1 && most.contains(&holders[0]), "{holders:?}");
            assert!(holds("c", "ny"));
        }
    }

    #[test]
    fn a_node_with_another_configuration_holds_its_name_alone_while_others_live() {
        let now = BootTime::now();
        let other = Wanted { takes_part: false, ..wanted("b", "local") };
        let mut seen = Seen::new(TAKE_OVER);
        assert_eq!(scopes(&other, &seen, now), ["agent/b", "source/files"].map(str::to_owned).into());
        seen.note(members(&["local/a"], 1), now);
        assert_eq!(scopes(&other, &seen, now), ["agent/b"].map(str::to_owned).into());
    }

    #[test]
    fn the_right_to_say_which_configuration_is_in_force_does_not_wander() {
        let now = BootTime::now();
        for says in ["a", "b", "c"] {
            let mut seen = Seen::new(TAKE_OVER);
            let mut table = members(&["local/a", "local/b", "local/c"], 1);
            table.push(row(SOURCE, &format!("{says}#boot"), 3));
            seen.note(table, now);
            for name in ["a", "b", "c"] {
                assert_eq!(scopes(&wanted(name, "local"), &seen, now).contains(SOURCE), name == says);
            }
        }
    }
}
