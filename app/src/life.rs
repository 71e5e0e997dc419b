//! Life signs: that this node began to watch, that it stopped, that it had failed.
//!
//! The words go through the outbox like any other, to the channels of `announce`. So that a run which ended badly is known to
//! the next one, every run keeps a mark in the store: when it began, when it was last alive, whether it ended in good order.
//! A killed process leaves that mark as it was; the next start reads it and says so. A crash loop is told once in a while with
//! its count, never once per crash.
//! It never decides about monitors, and nothing waits for it but the last moments of an orderly stop.

use crate::channel::content::{Content, NodeEvent, NodeWord};
use crate::clock::Clock;
use crate::config::decode::show_duration;
use crate::deliver::Deliverers;
use crate::lease::Leases;
use crate::store::{self, Store, WordWrite};
use crate::talk::Talk;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use watchkeeper_core::{Dur, Micros, Severity};

/// How often the mark is renewed. Rarer makes "last seen alive" less exact; more often writes for nothing.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// A node that fails over and over is told no more often than this. Longer hides a loop that gets worse; shorter tells the same
/// people of the same fault again.
const FAILED_EVERY: Dur = Dur::secs(600);
/// The store is asked again after so long when it was not reached.
const AGAIN: Duration = Duration::from_secs(2);
/// The last word may take so long to be written and to leave; then the process ends without waiting, and the outbox keeps it for
/// the next start. Together with the other steps of the stop well under the 30 s of most supervisors.
const LAST_WORD_MAX: Duration = Duration::from_secs(5);
/// A channel that is not ours by then is another node's. Longer holds up every stop in an installation of many nodes; shorter is too
/// short for a node that is stopped while it starts.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether the last word has left.
const LAST_WORD_LOOK: Duration = Duration::from_millis(50);
/// So many waiting notices of a channel are searched for the last word. Behind more it would not leave in time anyway.
const WAITING_MAX: i64 = 100;

/// Says words about this node.
#[derive(Clone)]
pub struct Announcer {
    /// The outbox.
    pub store: Arc<dyn Store>,
    /// Who is told.
    pub talk: watch::Receiver<Talk>,
    /// Woken when a word is in the outbox.
    pub deliverers: Arc<Deliverers>,
    /// This node.
    pub node: String,
    /// Where it stands.
    pub datacenter: String,
}

/// One word about this node.
#[derive(Clone, Debug)]
pub struct Word {
    /// What happened.
    pub event: NodeEvent,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub at: Micros,
    /// When it was over, if it is.
    pub until: Option<Micros>,
    /// One sentence for a person.
    pub summary: String,
}

impl Announcer {
    /// Puts the word into the outbox of every channel of `announce`; where none is named, that the node was cut off is told all
    /// the same, by [`crate::talk::Announce::urgent`]. The same event of the same time is the same word, however often it is
    /// said. Its cause, or `None` if nobody is to be told.
    pub async fn tell(&self, word: Word, now: Micros) -> store::Result<Option<String>> {
        let announce = self.talk.borrow().announce.clone();
        let Word { event, severity, at, until, summary } = word;
        let channels: Vec<_> = match event {
            NodeEvent::Started | NodeEvent::Stopped | NodeEvent::Failed => announce.channels.iter().map(|(id, _)| *id).collect(),
            NodeEvent::CutOff | NodeEvent::ChannelsFailed => announce.urgent.clone(),
        };
        if channels.is_empty() {
            return Ok(None);
        }
        let cause = format!("node/{}/{}/{}", self.node, event.as_str(), at.0);
        let content = NodeWord { event, node: self.node.clone(), datacenter: self.datacenter.clone(), severity, at, until, summary };
        let write = WordWrite {
            cause: cause.clone(),
            tenant: announce.tenant,
            channels: channels.clone(),
            severity,
            content: Content::Node(content),
            at: now,
        };
        self.store.tell(&[write]).await?;
        self.deliverers.wake(channels);
        Ok(Some(cause))
    }
}

/// One run of this node, as its mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// When it began.
    began: Micros,
    /// When it was last seen alive.
    alive: Micros,
    /// Whether it ended in good order.
    ended: bool,
    /// Runs that failed and have not been told.
    untold: u32,
    /// When the first of them was last seen alive.
    failed_at: Option<Micros>,
    /// When a failure was last told.
    told: Option<Micros>,
}

impl Run {
    /// The run that follows `before`, which the mark remembers.
    fn after(before: Option<&Self>, now: Micros) -> Self {
        let mut run = Self { began: now, alive: now, ended: false, untold: 0, failed_at: None, told: None };
        if let Some(before) = before {
            run = Self { untold: before.untold, failed_at: before.failed_at, told: before.told, ..run };
            if !before.ended {
                run.untold = run.untold.saturating_add(1);
                run.failed_at = run.failed_at.or(Some(before.alive.min(now)));
            }
        }
        run
    }

    /// The word about failed runs, if one is due.
    fn failure(&self, now: Micros) -> Option<Word> {
        let at = self.failed_at.filter(|_| self.untold > 0)?;
        // A time of the future was written under a clock that was wrong.
        if self.told.is_some_and(|told| told <= now && now < told + FAILED_EVERY) {
            return None;
        }
        let gap = show_duration(Dur::secs((self.began - at).0.max(0) / 1_000_000));
        let summary = match self.untold {
            1 => format!("it ended without stopping in good order, and began to watch again about {gap} later"),
            n => {
                format!("it ended {n} times without stopping in good order; after the last time it began to watch again about {gap} later")
            }
        };
        Some(Word { event: NodeEvent::Failed, severity: Severity::Warning, at, until: Some(self.began), summary })
    }

    /// After the failures have been told.
    fn told(self, now: Micros) -> Self {
        Self { untold: 0, failed_at: None, told: Some(now), ..self }
    }
}

/// What the task knows of its own run.
struct State {
    /// When it began.
    began: Micros,
    /// What the mark says, once it is written.
    run: Option<Run>,
    /// That it began, until it is told.
    owed: Option<Word>,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Asked,
    /// A part of it ended by itself: the next start tells of a failure.
    Fault,
}

/// The task that keeps the mark and says the words.
pub struct Life {
    /// Says words.
    pub announcer: Announcer,
    /// UTC.
    pub clock: Clock,
    /// Which channels are ours to deliver to.
    pub leases: Leases,
    /// How many monitors are watched at the start.
    pub monitors: usize,
}

impl Life {
    fn name(&self) -> String {
        format!("node/{}/run", self.announcer.node)
    }

    /// Says how the last run ended and that this one began, keeps the mark, and says the last word when `end` comes.
    pub async fn run(self, mut end: oneshot::Receiver<End>) {
        let mut state = State { began: self.clock.now(), run: None, owed: None };
        let mut outage = false;
        let how = loop {
            // A step that the end interrupts is as if the node had been killed in it.
            let step = tokio::select! {
                how = &mut end => break how,
                step = self.step(&mut state) => step,
            };
            let wait = match step {
                Ok(()) => {
                    outage = false;
                    ALIVE_EVERY
                }
                Err(error) => {
                    if !std::mem::replace(&mut outage, true) {
                        tracing::warn!(error = %crate::chain(&error), "the mark of this run cannot be kept; trying again");
                    }
                    AGAIN
                }
            };
            tokio::select! {
                how = &mut end => break how,
                () = tokio::time::sleep(wait) => {}
            }
        };
        // Dropped without a word: the program ends in disorder, and the mark stays as it is.
        let (Ok(End::Asked), Some(run)) = (how, state.run) else { return };
        match tokio::time::timeout(LAST_WORD_MAX, self.last_word(run)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %crate::chain(&error), "that this node stops could not be told"),
            Err(_) => tracing::warn!("that this node stops is told after its next start: it did not leave in time"),
        }
    }

    /// Renews the mark, and says what there is to say; at first it reads the mark of the run before. The mark comes before the word
    /// that this run began, so that from then on its end is noticed. A failure is told before the mark says so: a crash between the
    /// two repeats the word under the same cause.
    async fn step(&self, state: &mut State) -> store::Result<()> {
        let now = self.clock.now();
        let run = if let Some(run) = &mut state.run {
            run
        } else {
            let before = self.announcer.store.mark(&self.name()).await?.and_then(|text| serde_json::from_str::<Run>(&text).ok());
            let run = Run::after(before.as_ref(), state.began);
            self.keep(&run).await?;
            if before.is_some_and(|before| !before.ended) {
                tracing::warn!(node = %self.announcer.node, "the run before this one ended without stopping in good order");
            } else {
                // After a failure, the word about it says that the node watches again.
                state.owed = Some(self.started(state.began));
            }
            state.run.insert(run)
        };
        if let Some(word) = &state.owed {
            self.announcer.tell(word.clone(), now).await?;
            state.owed = None;
        }
        run.alive = now;
        if let Some(word) = run.failure(now) {
            self.announcer.tell(word, now).await?;
            *run = run.clone().told(now);
        }
        self.keep(run).await
    }

    fn started(&self, at: Micros) -> Word {
        let summary = format!("version {}, {}", env!("CARGO_PKG_VERSION"), crate::counted(self.monitors, "monitor"));
        Word { event: NodeEvent::Started, severity: Severity::Info, at, until: None, summary }
    }

    async fn keep(&self, run: &Run) -> store::Result<()> {
        let text = serde_json::to_string(run).expect("numbers and booleans are JSON");
        self.announcer.store.set_mark(&self.name(), &text).await
    }

    /// Says that the node stops, notes it, and waits until the word has left or is in hand.
    async fn last_word(&self, run: Run) -> store::Result<()> {
        let now = self.clock.now();
        let lasted = show_duration(Dur::secs((now - run.began).0.max(0) / 1_000_000));
        let word = Word {
            event: NodeEvent::Stopped,
            severity: Severity::Info,
            at: now,
            until: None,
            summary: format!("it was told to stop, after {lasted}"),
        };
        let cause = self.announcer.tell(word, now).await?;
        self.keep(&Run { alive: now, ended: true, ..run }).await?;
        let Some(cause) = cause else { return Ok(()) };
        let announce = self.announcer.talk.borrow().announce.clone();
        let began = Instant::now();
        for (channel, lease) in &announce.channels {
            // What another node delivers, it delivers without us; but a lease may still be on its way to a node that has just begun.
            while began.elapsed() < LEASE_WAIT || self.leases.fence(lease).is_some() {
                let waiting = self.announcer.store.due_notices(*channel, self.clock.now(), WAITING_MAX).await?;
                if !waiting.iter().any(|notice| notice.cause == cause) {
                    break;
                }
                tokio::time::sleep(LAST_WORD_LOOK).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Micros = Micros(1_795_317_120_000_000);

    fn run(began: i64, alive: i64) -> Run {
        Run { alive: START + Dur::secs(alive), ..Run::after(None, START + Dur::secs(began)) }
    }

    #[test]
    fn a_run_that_ended_well_is_no_failure() {
        let before = Run { ended: true, ..run(0, 60) };
        let now = START + Dur::secs(90);
        assert!(Run::after(Some(&before), now).failure(now).is_none());
        assert!(Run::after(None, now).failure(now).is_none(), "nor is the very first");
    }

    #[test]
    fn a_failure_is_told_by_the_next_run_and_a_loop_once_in_ten_minutes_with_its_count() {
        let mut now = START + Dur::secs(90);
        let mut current = Run::after(Some(&run(0, 60)), now);
        let word = current.failure(now).expect("it is told at once");
        assert_eq!((word.at, word.until), (START + Dur::secs(60), Some(now)));
        assert_eq!(word.summary, "it ended without stopping in good order, and began to watch again about 30s later");
        current = current.told(now);
        for _ in 0..5 {
            now = now + Dur::secs(20);
            current = Run { alive: now, ..Run::after(Some(&current), now) };
            assert!(current.failure(now).is_none(), "within ten minutes of the last word");
        }
        assert!(current.failure(now + Dur::secs(499)).is_none());
        let word = current.failure(now + Dur::secs(500)).expect("a node that lives on tells what it owes");
        assert!(word.summary.starts_with("it ended 5 times"), "{}", word.summary);
    }

    #[test]
    fn a_mark_of_a_clock_that_was_wrong_delays_nothing() {
        let before = Run { told: Some(START + Dur::secs(999_999)), ..run(0, 60) };
        let now = START + Dur::secs(90);
        assert!(Run::after(Some(&before), now).failure(now).is_some());
    }
}
