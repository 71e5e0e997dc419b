//! Vantage: whether this node itself can still look out, judged over all its monitors at once.
//!
//! A target that is silent and a node whose own network is gone look the same to one attempt. So a silent attempt stands as
//! the target's fault only with proof that the network was there at its end: another target answered, or the node's look at
//! its own means (name servers, gateway) was answered. Without proof a look is asked for; if that finds nothing either, the
//! node is *lost*, and silence says nothing about targets until something answers again.
//!
//! What is near (private addresses) and what is far are judged apart: a neighbour that answers does not prove that the
//! way out is there, while what answers from afar proves both. Targets on this host itself never come here.
//!
//! It must never call a node lost on the word of the targets alone, and never for longer than nothing answers: an alert that
//! is held back for a network that is there is an alert lost.

use crate::outcome::{Blind, Outcome, Reason};
use crate::time::{Dur, Micros};
use smallvec::SmallVec;

/// So many unrelated hosts must be silent together before a node is called lost whose own means were never seen to work: with
/// fewer, two broken services would hide themselves; with more, small fleets would have no protection at their start.
pub const TOGETHER: usize = 3;

/// Hosts are silent together when their attempts ended within so long of each other: longer than most timeouts, so that slow
/// and quick attempts at the same dead network meet.
const SPAN: Dur = Dur::secs(30);

/// An answer proves the network for so long before an attempt's end, and never for more than the second half of the attempt.
/// Longer would let an answer from before a cut speak for what came after it; shorter would ask for looks in a busy fleet.
const FRESH: Dur = Dur::secs(1);

/// An outage counts as over when the network has been back for so long; a shorter return is part of the same outage, so that
/// a link that comes and goes is told once.
const SETTLED: Dur = Dur::secs(5);

/// So many silent hosts are remembered; [`TOGETHER`] of them are enough.
const HOSTS_MAX: usize = 8;

/// What one attempt says of the network between this node and the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Something came back, be it a refusal: the network is there.
    Answered,
    /// Nothing came back, or only the word of something on the way.
    Silent,
    /// Neither: the attempt did not get so far, or a name server spoke for the target.
    Nothing,
}

/// What an outcome says of the network.
pub const fn says(outcome: Outcome) -> Says {
    match outcome {
        Outcome::Up => Says::Answered,
        Outcome::Unknown(blind) => match blind {
            Blind::NoRoute | Blind::NoNetwork => Says::Silent,
            Blind::Permission
            | Blind::NoResource
            | Blind::NoResolver
            | Blind::ForbiddenAddress
            | Blind::Late
            | Blind::Store
            | Blind::NoReceiver
            | Blind::Internal
            | Blind::Setup => Says::Nothing,
        },
        Outcome::Down(reason) => match reason {
            // A forwarder without its upstream refuses or fails rather than being silent.
            Reason::DnsServfail
            | Reason::DnsRefused
            | Reason::DnsTimeout
            | Reason::TcpTimeout
            | Reason::TcpUnreachable
            | Reason::TcpReadTimeout
            | Reason::TlsTimeout
            | Reason::HttpFirstByteTimeout
            | Reason::HttpBodyTimeout
            // What a proxy does not reach may be unreachable from here, or the proxy itself is.
            | Reason::HttpProxy
            | Reason::IcmpTimeout
            | Reason::IcmpUnreachable => Says::Silent,
            Reason::DnsNxdomain
            | Reason::DnsNoAnswer
            | Reason::DnsMalformed
            | Reason::DnsUnexpectedRcode
            | Reason::DnsUnexpectedAnswer
            | Reason::PushMissed
            | Reason::PushFailed => Says::Nothing,
            Reason::DnsNotListening
            | Reason::TcpRefused
            | Reason::TcpReset
            | Reason::TcpClosed
            | Reason::TcpUnexpected
            | Reason::TlsRefused
            | Reason::TlsProtocolTooOld
            | Reason::TlsExpired
            | Reason::TlsNotYetValid
            | Reason::TlsSelfSigned
            | Reason::TlsUnknownIssuer
            | Reason::TlsWrongHost
            | Reason::TlsBadCertificate
            | Reason::TlsNotTls
            | Reason::StarttlsRefused
            | Reason::HttpBodyTooLarge
            | Reason::HttpMalformed
            | Reason::HttpClosed
            | Reason::HttpRedirectLoop
            | Reason::HttpTooManyRedirects
            | Reason::HttpBadRedirect
            | Reason::HttpStatus
            | Reason::HttpTextMissing
            | Reason::HttpTextPresent
            | Reason::HttpPatternMissing
            | Reason::HttpJson
            | Reason::HttpHeader
            | Reason::IcmpLoss
            | Reason::IcmpJitter
            | Reason::WorkerStuck
            | Reason::WorkerNotDraining
            | Reason::WorkerNotReady
            | Reason::WorkerBehind => Says::Answered,
        },
    }
}

/// Where a target is, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At a private address: a neighbour may answer when the way out is gone.
    Near,
    /// Anywhere else, or not known.
    Far,
}

/// One attempt, as far as the network is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The host it was made at; what has the same name is one host.
    pub host: &'a str,
    /// Where that is.
    pub reach: Reach,
    /// What it says.
    pub says: Says,
    /// When it began.
    pub began: Micros,
    /// When it ended.
    pub ended: Micros,
}

/// What is to be done with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is the target's own.
    Stands,
    /// There is no proof of the network: look, then ask again.
    Ask,
    /// It says nothing of the target: this node is, or was then, lost.
    Blind {
        /// Since when.
        since: Micros,
    },
}

/// What the node found when it looked at its own means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it began.
    pub began: Micros,
    /// When it ended.
    pub ended: Micros,
    /// One of the name servers, or of the addresses that were configured for this, answered.
    pub outside: bool,
    /// The gateway answered.
    pub gateway: bool,
}

/// The node's own state, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VantageState {
    /// Nothing is known against it.
    Fine,
    /// Something was silent without proof of the network, and the node has not looked yet.
    Suspect {
        /// Since when nothing has answered.
        since: Micros,
    },
    /// The node's own network is gone.
    Lost {
        /// Since when nothing has answered.
        since: Micros,
    },
}

/// A time without network that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it began.
    pub since: Micros,
    /// When the network was back for good.
    pub until: Micros,
}

/// What this node knows of its own network.
#[derive(Clone, Debug, Default)]
pub struct Vantage {
    near: Side,
    far: Side,
    means: Means,
    outage: Option<(Micros, Option<Micros>)>,
}

/// Which means of looking are known to work.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    outside: bool,
    gateway: bool,
    /// A look in good times that nothing outside answered: if a target answers after it, those means are dead and not the network.
    unanswered: Option<Micros>,
}

#[derive(Clone, Debug, Default)]
struct Side {
    /// When something last answered.
    answered: Option<Micros>,
    suspicion: Option<Suspicion>,
    silent: SmallVec<[(Box<str>, Micros); 4]>,
    /// When a look began that found nothing, but was not enough to call the node lost.
    undecided: Option<Micros>,
    lost: Option<Lost>,
    regained: Option<(Micros, Micros)>,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Micros,
    /// An answer from then on dispels it.
    proof_from: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Micros,
    declared: Micros,
}

impl Vantage {
    /// Takes in one attempt. Asking again with the same word, after a look that began after the word's end, never gives
    /// [`Judgement::Ask`] again.
    pub fn hear(&mut self, word: &Word<'_>) -> Judgement {
        let judgement = match (word.says, word.reach) {
            (Says::Nothing, _) => return Judgement::Stands,
            (Says::Answered, Reach::Near) => self.near.answer(word.ended),
            (Says::Answered, Reach::Far) => {
                self.near.answer(word.ended);
                self.far.answer(word.ended)
            }
            (Says::Silent, Reach::Near) => self.near.silence(word),
            (Says::Silent, Reach::Far) => self.far.silence(word),
        };
        self.follow();
        judgement
    }

    /// Takes in what a look found.
    pub fn looked(&mut self, look: &Look) {
        let seen = self.means;
        let trusted = seen.outside || seen.gateway;
        // The gateway speaks for the way out only where nothing beyond it is known to answer.
        self.far.looked(look.outside || (look.gateway && !seen.outside), trusted, look);
        self.near.looked(look.outside || look.gateway, trusted, look);
        self.learn(look);
        self.follow();
    }

    /// The worse of what is near and what is far.
    pub fn state(&self) -> VantageState {
        let sides = || [&self.near, &self.far].into_iter();
        if let Some(since) = sides().filter_map(|s| s.lost.map(|l| l.since)).min() {
            return VantageState::Lost { since };
        }
        sides().filter_map(|s| s.suspicion.map(|s| s.since)).min().map_or(VantageState::Fine, |since| VantageState::Suspect { since })
    }

    /// The outage that has ended for good by now; given out once.
    pub fn outage_over(&mut self, now: Micros) -> Option<Outage> {
        let (since, until) = self.outage?;
        let until = until.filter(|until| now - *until >= SETTLED)?;
        self.outage = None;
        Some(Outage { since, until })
    }

    fn follow(&mut self) {
        if let VantageState::Lost { since } = self.state() {
            let since = self.outage.map_or(since, |(known, _)| known.min(since));
            self.outage = Some((since, None));
        } else if let Some((since, None)) = self.outage {
            let regained = [&self.near, &self.far].into_iter().filter_map(|s| s.regained.map(|(_, at)| at)).max();
            self.outage = Some((since, Some(regained.unwrap_or(since))));
        }
    }

    /// Remembers which means work. What never answers, or has stopped to while targets went on answering, is not relied upon.
    fn learn(&mut self, look: &Look) {
        if look.outside {
            self.means.outside = true;
            self.means.unanswered = None;
        } else if self.means.unanswered.is_some_and(|at| self.far.answered.or(self.near.answered).is_some_and(|answer| answer > at)) {
            self.means.outside = false;
        } else if self.means.unanswered.is_none() {
            self.means.unanswered = Some(look.ended);
        }
        if look.gateway || look.outside {
            // A gateway that is silent while what lies beyond it answers does not answer at all.
            self.means.gateway = look.gateway;
        }
    }
}

impl Side {
    fn answer(&mut self, at: Micros) -> Judgement {
        self.answered = self.answered.max(Some(at));
        if self.suspicion.is_some_and(|s| at >= s.proof_from) {
            self.suspicion = None;
            self.silent.clear();
        }
        if let Some(lost) = self.lost.filter(|lost| at >= lost.declared) {
            self.lost = None;
            self.silent.clear();
            self.regained = Some((lost.since, at));
        }
        Judgement::Stands
    }

    fn silence(&mut self, word: &Word<'_>) -> Judgement {
        if let Some(lost) = self.lost {
            return Judgement::Blind { since: lost.since };
        }
        if let Some((since, at)) = self.regained
            && word.began < at
        {
            return Judgement::Blind { since };
        }
        let half = Micros(word.began.0 + (word.ended - word.began).0 / 2);
        let proof_from = half.max(word.ended - FRESH);
        if self.answered.max(self.undecided).is_some_and(|at| at >= proof_from) {
            return Judgement::Stands;
        }
        let since = self.answered.map_or(word.began, |at| at.max(word.began));
        let suspicion = self.suspicion.get_or_insert(Suspicion { since, proof_from });
        suspicion.proof_from = suspicion.proof_from.max(proof_from);
        self.silent.retain(|(host, _)| **host != *word.host);
        if self.silent.len() == HOSTS_MAX {
            self.silent.remove(0);
        }
        self.silent.push((word.host.into(), word.ended));
        Judgement::Ask
    }

    fn looked(&mut self, passed: bool, trusted: bool, look: &Look) {
        if passed {
            self.answer(look.began);
            return;
        }
        let Some(suspicion) = self.suspicion.filter(|_| self.lost.is_none()) else { return };
        let together = self.silent.iter().filter(|(_, ended)| look.ended - *ended <= SPAN).count();
        if trusted || together >= TOGETHER {
            self.lost = Some(Lost { since: suspicion.since, declared: look.ended });
        } else {
            self.undecided = Some(look.began);
        }
        self.suspicion = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: i64) -> Micros {
        Micros(1_000_000_000 + n * 1_000)
    }

    fn word(host: &str, says: Says, began: i64, ended: i64) -> Word<'_> {
        Word { host, reach: Reach::Far, says, began: ms(began), ended: ms(ended) }
    }

    fn look(began: i64, outside: bool, gateway: bool) -> Look {
        Look { began: ms(began), ended: ms(began + 100), outside, gateway }
    }

    /// A node whose name server and gateway answered at second 0.
    fn seasoned() -> Vantage {
        let mut vantage = Vantage::default();
        vantage.looked(&look(0, true, true));
        vantage
    }

    #[test]
    fn an_answer_of_the_target_never_counts_against_the_node() {
        for reason in [Reason::TcpRefused, Reason::TcpReset, Reason::HttpStatus, Reason::TlsExpired, Reason::IcmpLoss] {
            assert_eq!(says(Outcome::Down(reason)), Says::Answered, "{reason:?}");
        }
        for reason in [Reason::DnsTimeout, Reason::DnsServfail, Reason::TcpTimeout, Reason::TcpUnreachable, Reason::IcmpTimeout] {
            assert_eq!(says(Outcome::Down(reason)), Says::Silent, "{reason:?}");
        }
        assert_eq!(says(Outcome::Unknown(Blind::NoRoute)), Says::Silent);
        assert_eq!(says(Outcome::Unknown(Blind::Late)), Says::Nothing);
    }

    #[test]
    fn a_dead_target_among_healthy_ones_stands_without_a_look() {
        let mut v = seasoned();
        v.hear(&word("b", Says::Answered, 10_400, 10_500));
        assert_eq!(v.hear(&word("a", Says::Silent, 10_000, 11_000)), Judgement::Stands);
        assert_eq!(v.state(), VantageState::Fine);
    }

    #[test]
    fn an_answer_from_before_the_cut_proves_nothing() {
        for (answered, began, ended) in [
            (10_100, 10_000, 11_000), // in its first half
            (10_100, 10_050, 20_000), // long before its end
            (9_999, 10_000, 10_001),  // before it, though only just
        ] {
            let mut v = seasoned();
            v.hear(&word("b", Says::Answered, answered - 10, answered));
            assert_eq!(v.hear(&word("a", Says::Silent, began, ended)), Judgement::Ask);
        }
    }

    #[test]
    fn a_look_that_is_answered_lets_the_failure_stand() {
        let mut v = seasoned();
        let dead = word("a", Says::Silent, 10_000, 11_000);
        assert_eq!(v.hear(&dead), Judgement::Ask);
        assert_eq!(v.state(), VantageState::Suspect { since: ms(10_000) });
        v.looked(&look(11_001, true, false));
        assert_eq!(v.hear(&dead), Judgement::Stands);
        assert_eq!(v.state(), VantageState::Fine);
    }

    #[test]
    fn a_look_that_finds_nothing_makes_the_node_lost_until_something_answers() {
        let mut v = seasoned();
        let silent = word("a", Says::Silent, 10_000, 11_000);
        v.hear(&silent);
        v.looked(&look(11_001, false, false));
        assert_eq!(v.hear(&silent), Judgement::Blind { since: ms(10_000) });
        assert_eq!(v.hear(&word("b", Says::Silent, 12_000, 12_001)), Judgement::Blind { since: ms(10_000) });
        assert_eq!(v.state(), VantageState::Lost { since: ms(10_000) });
        // A refusal is an answer.
        v.hear(&word("b", says(Outcome::Down(Reason::TcpRefused)), 20_000, 20_001));
        assert_eq!(v.state(), VantageState::Fine);
        // What began while it was lost says nothing, though it ends later.
        assert_eq!(v.hear(&word("a", Says::Silent, 19_500, 21_500)), Judgement::Blind { since: ms(10_000) });
        assert_eq!(v.hear(&word("a", Says::Silent, 22_000, 23_000)), Judgement::Ask);
    }

    #[test]
    fn a_node_whose_means_never_answered_is_lost_only_with_three_silent_hosts() {
        for hosts in 1..=4 {
            let mut v = Vantage::default();
            v.looked(&look(0, false, false));
            let names = ["a", "b", "c", "d"];
            for host in &names[..hosts] {
                assert_eq!(v.hear(&word(host, Says::Silent, 10_000, 11_000)), Judgement::Ask);
            }
            v.looked(&look(11_001, false, false));
            let judged = v.hear(&word("a", Says::Silent, 10_000, 11_000));
            assert_eq!(matches!(judged, Judgement::Blind { .. }), hosts >= TOGETHER, "{hosts}: {judged:?}");
            assert_ne!(judged, Judgement::Ask);
        }
    }

    #[test]
    fn one_host_by_many_names_of_monitors_is_one_host() {
        let mut v = Vantage::default();
        for ended in [11_000, 11_010, 11_020, 11_030] {
            v.hear(&word("a", Says::Silent, 10_000, ended));
        }
        v.looked(&look(11_100, false, false));
        assert_eq!(v.state(), VantageState::Fine);
    }

    #[test]
    fn neighbours_do_not_prove_the_way_out_but_the_far_proves_the_near() {
        let near = |says, began, ended| Word { reach: Reach::Near, ..word("n", says, began, ended) };
        let mut v = seasoned();
        v.hear(&near(Says::Answered, 10_900, 10_990));
        assert_eq!(v.hear(&word("a", Says::Silent, 10_000, 11_000)), Judgement::Ask);
        // The gateway answers, the name server that did before does not: the way out is gone, the neighbours are not.
        v.looked(&look(11_001, false, true));
        assert_eq!(v.hear(&word("a", Says::Silent, 10_000, 11_000)), Judgement::Blind { since: ms(10_000) });
        assert_eq!(v.hear(&near(Says::Silent, 10_500, 11_200)), Judgement::Stands);
        let mut v = seasoned();
        v.hear(&word("b", Says::Answered, 10_900, 10_990));
        assert_eq!(v.hear(&near(Says::Silent, 10_000, 11_000)), Judgement::Stands);
    }

    #[test]
    fn means_that_died_while_targets_answer_are_not_relied_upon() {
        let mut v = seasoned();
        v.looked(&look(60_000, false, false));
        v.hear(&word("b", Says::Answered, 90_000, 90_010));
        v.looked(&look(120_000, false, true));
        // The gateway now speaks for the way out.
        v.hear(&word("a", Says::Silent, 130_000, 131_000));
        v.looked(&look(131_001, false, true));
        assert_eq!(v.hear(&word("a", Says::Silent, 130_000, 131_000)), Judgement::Stands);
    }

    #[test]
    fn means_that_fall_silent_with_everything_else_are_still_relied_upon() {
        let mut v = seasoned();
        // A look by routine, before any attempt has failed.
        v.looked(&look(60_000, false, false));
        v.hear(&word("a", Says::Silent, 60_500, 61_500));
        v.looked(&look(61_501, false, false));
        assert!(matches!(v.state(), VantageState::Lost { .. }));
    }

    #[test]
    fn a_link_that_comes_and_goes_is_one_outage_told_when_it_is_over() {
        let mut v = seasoned();
        v.hear(&word("a", Says::Silent, 10_000, 11_000));
        v.looked(&look(11_001, false, false));
        assert_eq!(v.outage_over(ms(1_000_000)), None, "it lasts");
        v.looked(&look(20_000, true, true));
        assert_eq!(v.outage_over(ms(24_000)), None, "it may come back");
        v.hear(&word("a", Says::Silent, 23_000, 24_000));
        v.looked(&look(24_001, false, false));
        assert_eq!(v.outage_over(ms(30_000)), None);
        v.looked(&look(31_000, true, true));
        assert_eq!(v.outage_over(ms(36_000)), Some(Outage { since: ms(10_000), until: ms(31_000) }));
        assert_eq!(v.outage_over(ms(37_000)), None, "once");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Word { host: u8, near: bool, says: u8, took: i64 },
        Look { outside: bool, gateway: bool },
    }

    fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
        let step = prop_oneof![
            3 => (0..6_u8, any::<bool>(), 0..3_u8, 0..5_000_i64).prop_map(|(host, near, says, took)| Step::Word { host, near, says, took }),
            1 => (any::<bool>(), any::<bool>()).prop_map(|(outside, gateway)| Step::Look { outside, gateway }),
        ];
        proptest::collection::vec((1..3_000_i64, step), 0..80)
    }

    const SAYS: [Says; 3] = [Says::Answered, Says::Silent, Says::Nothing];
    const HOSTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    proptest! {
        #[test]
        fn it_is_lost_only_after_a_look_that_found_nothing_and_no_answer_since(steps in steps()) {
            let (mut v, mut now) = (Vantage::default(), 0);
            // When a look last found nothing at all, or nothing outside; and when something last answered.
            let (mut nothing, mut answer) = (None, None);
            for (pause, step) in steps {
                now += pause;
                match step {
                    Step::Word { host, near, says, took } => {
                        let reach = if near { Reach::Near } else { Reach::Far };
                        let says = SAYS[usize::from(says)];
                        let w = Word { host: HOSTS[usize::from(host)], reach, says, began: ms(now - took), ended: ms(now) };
                        let judged = v.hear(&w);
                        if says != Says::Silent {
                            prop_assert_eq!(judged, Judgement::Stands);
                        }
                        if says == Says::Answered && !near {
                            answer = Some(now);
                            prop_assert!(!matches!(v.state(), VantageState::Lost { .. }), "an answer from afar ends it");
                        }
                        if let Judgement::Blind { since } = judged {
                            prop_assert!(nothing.is_some() && since <= ms(now));
                        }
                        if judged == Judgement::Ask {
                            // A look after the word's end always decides.
                            let mut then = v.clone();
                            then.looked(&look(now, false, false));
                            prop_assert_ne!(then.hear(&w), Judgement::Ask);
                            let mut then = v.clone();
                            then.looked(&look(now, true, false));
                            prop_assert_eq!(then.hear(&w), Judgement::Stands);
                        }
                    }
                    Step::Look { outside, gateway } => {
                        v.looked(&look(now, outside, gateway));
                        now += 100;
                        if outside {
                            prop_assert_eq!(v.state(), VantageState::Fine);
                        } else {
                            nothing = Some(now);
                        }
                    }
                }
                if let VantageState::Lost { .. } = v.state() {
                    prop_assert!(nothing.is_some_and(|at| answer.is_none_or(|answer| answer <= at)));
                }
            }
        }

        #[test]
        fn with_means_that_always_answer_nothing_is_ever_held_back(steps in steps()) {
            let (mut v, mut now) = (Vantage::default(), 0);
            for (pause, step) in steps {
                now += pause;
                let Step::Word { host, near, says, took } = step else { continue };
                let reach = if near { Reach::Near } else { Reach::Far };
                let w = Word { host: HOSTS[usize::from(host)], reach, says: SAYS[usize::from(says)], began: ms(now - took), ended: ms(now) };
                if v.hear(&w) == Judgement::Ask {
                    v.looked(&look(now, true, true));
                    prop_assert_eq!(v.hear(&w), Judgement::Stands);
                }
                prop_assert_eq!(v.outage_over(ms(now + 100_000)), None);
            }
        }
    }
}
