//! Confirm before shouting, the part about ourselves: the results of all attempts pass by here, and a silent one is held
//! until it is known that this node's own network is there.
//!
//! What an attempt proves and when a look is needed is decided by `core::vantage`; here are the look itself, the waiting,
//! and the word about the node when its network is back. An attempt is held for at most [`HOLD_MAX`]; if nothing could be
//! found out by then, it stands: telling fails open. Targets on this host itself say nothing either way, so that a fleet without an
//! outside is never suspect and never looked out for.

mod look;

pub use look::Means;

use crate::channel::content::NodeEvent;
use crate::clock::{Clock, next_beat};
use crate::config::decode::show_duration;
use crate::life::{self, Announcer};
use crate::net::{Guard, Net};
use crate::probe::Attempt;
use crate::spec::MonitorSpec;
use crate::telemetry::SharedMetrics;
use look::look;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use watchkeeper_core::vantage::{self as fold, Judgement, Look, Outage, Reach, Says, VantageState, Word};
use watchkeeper_core::{Blind, Dur, Micros, Outcome, Severity};

/// A silent attempt is held for so long at the most. Longer would delay every alert about a really dead target whose node
/// has no means of looking; shorter would decide before the look has ended.
const HOLD_MAX: Duration = Duration::from_secs(2);

/// How often the state is looked after, and how often a lost node looks whether its network is back.
const TICK: Duration = Duration::from_secs(1);

/// How often the means are looked at in good times, so that it is known which of them answer.
const ROUTINE: Duration = Duration::from_secs(60);

/// Outages that wait to be told. The store is out of reach for so many of them only when nobody could be told anyway.
const UNTOLD_MAX: usize = 16;

/// A word that the store did not take is tried again after so long.
const AGAIN: Duration = Duration::from_secs(2);

/// So many addresses are remembered as being this host's or not, until the next routine look.
const OWN_MAX: usize = 4_096;

/// This node's view of its own network; shared by everybody who makes attempts.
pub struct Vantage {
    known: Mutex<fold::Vantage>,
    ask: Notify,
    /// Counts the looks that have ended.
    looks: watch::Sender<u64>,
    /// Whether anything outside this host was tried since the last look.
    heard: AtomicBool,
    /// Addresses by whether they are this host's.
    own: Mutex<HashMap<IpAddr, bool>>,
    clock: Clock,
    metrics: SharedMetrics,
    state: watch::Sender<VantageState>,
}

/// Where an attempt was made.
struct Place<'a> {
    host: &'a str,
    reach: Reach,
    /// Whether what comes back from it proves anything: a name server on this host may answer out of its memory.
    proves: bool,
}

impl Vantage {
    /// Nothing is known yet; see [`Self::run`].
    pub fn new(clock: Clock, metrics: SharedMetrics) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            ask: Notify::new(),
            looks: watch::channel(0).0,
            heard: AtomicBool::new(false),
            own: Mutex::default(),
            clock,
            metrics,
            state: watch::channel(VantageState::Fine).0,
        })
    }

    /// The state as of the last tick.
    pub fn watch(&self) -> watch::Receiver<VantageState> {
        self.state.subscribe()
    }

    /// Takes in the result of an attempt that has just ended. One that is silent is held until it is clear whose fault that is;
    /// if it is ours, it becomes `Unknown(no_network)`.
    pub async fn settle(&self, spec: &MonitorSpec, began: Micros, attempt: &mut Attempt) {
        let says = fold::says(attempt.outcome);
        if says == Says::Nothing {
            return;
        }
        let Some(place) = self.place(spec, attempt).filter(|place| place.proves || says == Says::Silent) else { return };
        self.heard.store(true, Ordering::Relaxed);
        let word = Word { host: place.host, reach: place.reach, says, began, ended: self.clock.now() };
        if says == Says::Answered {
            lock(&self.known).hear(&word);
            return;
        }
        let until = Instant::now() + HOLD_MAX;
        let mut looks = self.looks.subscribe();
        loop {
            let judgement = lock(&self.known).hear(&word);
            match judgement {
                Judgement::Stands => return,
                Judgement::Blind { since } => return withhold(attempt, since),
                Judgement::Ask => self.ask.notify_one(),
            }
            // What is unknown anyway, or need not be confirmed, is not held.
            if !spec.confirm || !matches!(attempt.outcome, Outcome::Down(_)) {
                return;
            }
            match tokio::time::timeout_at(until.into(), looks.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Looks when asked, by routine, and all the time while lost; has every outage that is over told, once.
    pub async fn run(self: Arc<Self>, net: Arc<Net>, check: Vec<Means>, announcer: Announcer, stop: CancellationToken) {
        let (over, told) = mpsc::channel(UNTOLD_MAX);
        tokio::join!(self.keep_looking(&net, &check, over, &stop), tell_all(told, &announcer, &self.clock, &stop));
    }

    async fn keep_looking(&self, net: &Net, check: &[Means], over: mpsc::Sender<Outage>, stop: &CancellationToken) {
        let mut tick = tokio::time::interval_at(next_beat(TICK).into(), TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.ask.notified() => true,
                _ = tick.tick() => false,
            };
            let lost = matches!(lock(&self.known).state(), VantageState::Lost { .. });
            let routine = looked.is_none_or(|at| at.elapsed() >= ROUTINE) && self.heard.swap(false, Ordering::Relaxed);
            if asked || lost || routine {
                lock(&self.own).clear();
                looked = Some(Instant::now());
                if stop.run_until_cancelled(self.look(net, check)).await.is_none() {
                    return;
                }
            }
            self.show();
            let ended = lock(&self.known).outage_over(self.clock.now());
            if let Some(outage) = ended
                && over.try_send(outage).is_err()
            {
                tracing::warn!("an outage of this node's network is not told: too many wait to be");
            }
        }
    }

    async fn look(&self, net: &Net, check: &[Means]) {
        let began = self.clock.now();
        let found = look(net, check).await;
        lock(&self.known).looked(&Look { began, ended: self.clock.now(), outside: found.outside, gateway: found.gateway });
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// Publishes the state; says so when the node loses its network or has it back.
    fn show(&self) {
        let now = lock(&self.known).state();
        let before = self.state.send_replace(now);
        self.metrics.vantage.set(match now {
            VantageState::Fine => 0,
            VantageState::Suspect { .. } => 1,
            VantageState::Lost { .. } => 2,
        });
        match (before, now) {
            (VantageState::Lost { .. }, VantageState::Lost { .. })
            | (VantageState::Fine | VantageState::Suspect { .. }, VantageState::Fine | VantageState::Suspect { .. }) => {}
            (_, VantageState::Lost { since }) => {
                tracing::warn!(since = since.0, "this node has lost its own network; nothing is said of targets until it is back");
            }
            (VantageState::Lost { since }, VantageState::Fine | VantageState::Suspect { .. }) => {
                let lasted = show_duration(lasted(since, self.clock.now()));
                tracing::info!(since = since.0, "this node's own network is back after {lasted}");
            }
        }
    }

    /// Where the attempt was made; `None` on this host itself.
    fn place<'a>(&self, spec: &'a MonitorSpec, attempt: &Attempt) -> Option<Place<'a>> {
        let host = host_of(&spec.target);
        let address = attempt.hops.last().and_then(|hop| hop.address.as_deref()).and_then(ip_of).or_else(|| host.parse().ok());
        let Some(address) = address else {
            return (!host.eq_ignore_ascii_case("localhost")).then_some(Place { host, reach: Reach::Far, proves: true });
        };
        if !self.is_own(address) {
            let reach = if Guard::PublicOnly.allows(address) { Reach::Far } else { Reach::Near };
            return Some(Place { host, reach, proves: true });
        }
        // Asked for a name elsewhere, a name server of this host is only the first step of the way.
        (spec.kind == "dns" && host.is_empty()).then_some(Place { host, reach: Reach::Far, proves: false })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        if address.is_loopback() || address.is_unspecified() {
            return true;
        }
        let mut known = lock(&self.own);
        if let Some(own) = known.get(&address) {
            return *own;
        }
        // Only an address of this host can be bound to.
        let own = std::net::UdpSocket::bind((address, 0)).is_ok();
        if known.len() < OWN_MAX {
            known.insert(address, own);
        }
        own
    }
}

/// Has every outage told, however often the store must be asked.
async fn tell_all(mut outages: mpsc::Receiver<Outage>, announcer: &Announcer, clock: &Clock, stop: &CancellationToken) {
    while let Some(outage) = outages.recv().await {
        while let Err(error) = announcer.tell(word(&outage), clock.now()).await {
            tracing::warn!(error = %crate::chain(&error), "that this node had no network could not be told; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return;
            }
        }
    }
}

/// An outage as it is told.
fn word(outage: &Outage) -> life::Word {
    let lasted = show_duration(lasted(outage.since, outage.until));
    life::Word {
        event: NodeEvent::CutOff,
        severity: Severity::Warning,
        at: outage.since,
        until: Some(outage.until),
        summary: format!("its own network was gone for {lasted}; nothing is known of its targets for that time"),
    }
}

/// To the second.
fn lasted(since: Micros, until: Micros) -> Dur {
    Dur::secs(((until - since).0 / 1_000_000).max(1))
}

fn withhold(attempt: &mut Attempt, since: Micros) {
    if !matches!(attempt.outcome, Outcome::Down(_)) {
        return;
    }
    let since = jiff::Timestamp::from_microsecond(since.0).map_or_else(|_| since.0.to_string(), |at| format!("{at:.0}"));
    let said = attempt.error.take().unwrap_or_default();
    attempt.outcome = Outcome::Unknown(Blind::NoNetwork);
    attempt.error = Some(format!("this node has had no network since {since}, so this says nothing of the target: {said}"));
}

fn ip_of(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| address.parse()).ok()
}

/// The host in `https://host:port/path`; empty if none is named.
fn host_of(target: &str) -> &str {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((address, _)) => address,
        // An IPv6 address without brackets has several colons.
        None if authority.matches(':').count() == 1 => authority.split(':').next().unwrap_or_default(),
        None => authority,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held; if it did, what it guards is still whole.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_every_form_of_target() {
        for (target, host) in [
            ("https://shop.example.org/health?a=b", "shop.example.org"),
            ("http://127.0.0.1:8080/", "127.0.0.1"),
            ("tcp://[::1]:5432", "::1"),
            ("icmp://2001:db8::1", "2001:db8::1"),
            ("dns:///example.org?type=A", ""),
            ("dns://192.0.2.1:53/example.org?type=A", "192.0.2.1"),
            ("", ""),
        ] {
            assert_eq!(host_of(target), host, "{target}");
        }
    }

    #[test]
    fn what_is_withheld_keeps_what_was_said() {
        let mut attempt = Attempt::ended(Outcome::Down(watchkeeper_core::Reason::TcpTimeout), Some("connecting: no answer".to_owned()));
        withhold(&mut attempt, Micros(1_795_317_120_000_000));
        assert_eq!(attempt.outcome, Outcome::Unknown(Blind::NoNetwork));
        assert_eq!(
            attempt.error.as_deref(),
            Some("this node has had no network since 2026-11-22T03:12:00Z, so this says nothing of the target: connecting: no answer")
        );
    }
}
