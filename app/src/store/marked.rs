//! Which hours are marked for their rollup already, so that an unchanged `up` costs no second write.

use super::flat::hour_of;
use super::{Batch, BeatRow};
use std::collections::{BTreeSet, HashSet};

/// Marks: (hour, monitor, datacenter), in the order in which they are written and locked.
pub(super) type Marks = BTreeSet<(i64, i64, i64)>;

/// Which (hour, monitor, datacenter) of the newest hour are marked dirty already, so that an unchanged `up` costs no second
/// write. Cleared when hours are computed.
#[derive(Default)]
pub(super) struct Marked {
    hour: i64,
    known: HashSet<(i64, i64)>,
}

impl Marked {
    /// What this batch must mark: everything older than the newest hour, and what is new in it.
    pub(super) fn unmarked(&self, batch: &Batch) -> Marks {
        let known = |(hour, monitor, datacenter): &(i64, i64, i64)| *hour == self.hour && self.known.contains(&(*monitor, *datacenter));
        batch.beats.iter().map(of_beat).filter(|mark| !known(mark)).collect()
    }

    /// Remembers what a commit has marked.
    pub(super) fn add(&mut self, hours: Marks) {
        let Some((newest, _, _)) = hours.last() else { return };
        if *newest > self.hour {
            self.hour = *newest;
            self.known.clear();
        }
        self.known
            .extend(hours.into_iter().filter(|(hour, _, _)| *hour == self.hour).map(|(_, monitor, datacenter)| (monitor, datacenter)));
    }

    /// Forgets everything: marks were used up.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Every mark that the batch stands for.
pub(super) fn all(batch: &Batch) -> Marks {
    batch.beats.iter().map(of_beat).collect()
}

fn of_beat(beat: &BeatRow) -> (i64, i64, i64) {
    (hour_of(beat.at), beat.monitor.0, beat.datacenter.0)
}
