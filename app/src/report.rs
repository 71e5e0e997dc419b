//! Reports: the state of everything that a tenant watches, at a fixed pace.
//!
//! One node makes them, the one that keeps house. When a period ends it reads the report out of the store and puts it into
//! the outbox under a cause that names the period: whatever crashes and whoever takes over, the same period is the same
//! notice, so it is told once. How far a report has come stands in the store as a mark. Of periods that ended while no node
//! ran, only the latest is made up for; the first report follows the first whole period.
//! It looks at the store and at nothing else, and never decides who is disturbed by it: that is the outbox's plan.

use crate::channel::content::{Content, REPORT_SHOWN, Report, ReportLine};
use crate::clock::Clock;
use crate::deliver::Deliverers;
use crate::lease::Leases;
use crate::schedule::Cron;
use crate::store::{self, IncidentFilter, MonitorView, PAGE_MAX, Store, TenantScope, WordWrite};
use crate::talk::Talk;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{ChannelId, Dur, IncidentId, Micros, Severity, TenantId};

/// How often it is looked whether a period has ended, or the lease has come to us. Rarer makes reports late after a
/// take-over; more often asks the clock for nothing.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// No look follows another sooner: a clock that is slewed backwards must not make us spin.
const LOOK_LEAST: Duration = Duration::from_millis(50);
/// Incidents of one period are counted up to here. More would make one report read the store for minutes; fewer makes the
/// number wrong after a storm.
const COUNTED_MAX: u32 = 100_000;

/// When a report's periods end.
#[derive(Clone, Debug)]
pub enum Period {
    /// At multiples of this length since 1970, in UTC.
    Every(Dur),
    /// As a cron pattern says.
    Cron(Box<Cron>),
}

impl Period {
    /// The newest period that has ended: from, to.
    pub fn latest(&self, now: Micros) -> Option<(Micros, Micros)> {
        match self {
            Self::Every(length) => {
                let length = length.0.max(1);
                let to = Micros(now.0.div_euclid(length) * length);
                Some((Micros(to.0 - length), to))
            }
            Self::Cron(cron) => {
                let to = cron.previous(now, true)?;
                Some((cron.previous(to, false)?, to))
            }
        }
    }

    /// When the running period ends.
    pub fn next(&self, now: Micros) -> Option<Micros> {
        match self {
            Self::Every(length) => {
                let length = length.0.max(1);
                Some(Micros((now.0.div_euclid(length) + 1) * length))
            }
            Self::Cron(cron) => cron.next(now),
        }
    }
}

/// One report of one tenant.
#[derive(Clone, Debug)]
pub struct ReportSpec {
    /// Whose.
    pub tenant: TenantId,
    /// The owner's slug.
    pub tenant_slug: String,
    /// Its name, unique in the tenant.
    pub name: String,
    /// When its periods end.
    pub period: Period,
    /// Who gets it.
    pub channels: Vec<ChannelId>,
}

impl ReportSpec {
    /// Its mark: the end of the newest period that was told, or when it was first seen.
    fn mark(&self) -> String {
        format!("report/{}/{}", self.tenant_slug, self.name)
    }
}

/// The task that makes reports.
pub struct Reporter {
    /// Where everything is read, and the outbox.
    pub store: Arc<dyn Store>,
    /// UTC.
    pub clock: Clock,
    /// Whether it is ours to make them.
    pub leases: Leases,
    /// The lease under which they are made.
    pub lease: &'static str,
    /// What is configured.
    pub talk: watch::Receiver<Talk>,
    /// Woken when a report is in the outbox.
    pub deliverers: Arc<Deliverers>,
}

/// What is known of each report's mark, for as long as the lease is ours.
#[derive(Default)]
struct Known {
    epoch: Option<i64>,
    marks: HashMap<String, Micros>,
}

impl Reporter {
    /// Makes reports until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut known = Known::default();
        let mut outage = false;
        loop {
            // Dropped in the middle it is as if the node had crashed there: the period is told by the next one.
            let Some(result) = stop.run_until_cancelled(self.round(&mut known)).await else { return };
            let wait = match result {
                Ok(wait) => {
                    outage = false;
                    wait
                }
                Err(error) => {
                    if !std::mem::replace(&mut outage, true) {
                        tracing::warn!(error = %crate::chain(&error), "reports cannot be made; trying again");
                    }
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives as long as the reloader; without it nothing changes any more.
                Ok(()) = self.talk.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at every report, and says when to look again.
    async fn round(&mut self, known: &mut Known) -> store::Result<Duration> {
        let Some(fence) = self.leases.fence(self.lease) else {
            *known = Known::default();
            return Ok(LOOK_EVERY);
        };
        if known.epoch != Some(fence.epoch) {
            *known = Known { epoch: Some(fence.epoch), marks: HashMap::new() };
        }
        let talk = self.talk.borrow_and_update().clone();
        for report in &*talk.reports {
            self.look(report, known).await?;
        }
        let now = self.clock.now();
        let next = talk.reports.iter().filter_map(|report| report.period.next(now)).min();
        Ok(next.map_or(LOOK_EVERY, |at| (at - now).to_std().clamp(LOOK_LEAST, LOOK_EVERY)))
    }

    /// The stored mark, or now for a report that is new.
    async fn mark(&self, name: &str, now: Micros) -> store::Result<Micros> {
        let stored = self.store.mark(name).await?.and_then(|text| text.parse().ok()).map(Micros);
        // One from the future was made by a clock that was wrong: it would silence the report until then.
        if let Some(mark) = stored.filter(|mark| *mark <= now) {
            return Ok(mark);
        }
        self.store.set_mark(name, &now.0.to_string()).await?;
        Ok(now)
    }

    /// Tells the newest period of one report, if it has not been told.
    async fn look(&self, report: &ReportSpec, known: &mut Known) -> store::Result<()> {
        let name = report.mark();
        let now = self.clock.now();
        let Some((from, to)) = report.period.latest(now) else { return Ok(()) };
        let mark = if let Some(mark) = known.marks.get(&name) { *mark } else { self.mark(&name, now).await? };
        known.marks.insert(name.clone(), mark);
        if from < mark {
            return Ok(());
        }
        let scope = TenantScope(report.tenant);
        let content = compute(&*self.store, scope, &report.tenant_slug, &report.name, from, to).await?;
        let word = WordWrite {
            cause: format!("{name}/{}", to.0),
            tenant: report.tenant,
            channels: report.channels.clone(),
            severity: Severity::Info,
            content: Content::Report(content),
            at: now,
        };
        self.store.tell(&[word]).await?;
        self.store.set_mark(&name, &to.0.to_string()).await?;
        known.marks.insert(name, to);
        self.deliverers.wake(report.channels.iter().copied());
        tracing::info!(tenant = %report.tenant_slug, report = %report.name, "the report {} is made", report.name);
        Ok(())
    }
}

/// Reads a report out of the store: health as it is now, uptime and incidents of [from, to).
pub async fn compute(store: &dyn Store, scope: TenantScope, tenant: &str, name: &str, from: Micros, to: Micros) -> store::Result<Report> {
    let mut counts: Vec<(Health, u32)> = ORDER.iter().map(|health| (*health, 0)).collect();
    let (mut paused, mut lines) = (0, Vec::new());
    let mut after: Option<String> = None;
    loop {
        let page = store.monitors(scope, after.as_deref(), PAGE_MAX).await?;
        for monitor in &page {
            if monitor.paused {
                paused += 1;
                continue;
            }
            if let Some((_, count)) = counts.iter_mut().find(|(health, _)| *health == monitor.health) {
                *count += 1;
            }
            lines.push(line(store, scope, monitor, from, to).await?);
        }
        let Some(last) = page.last().filter(|_| page.len() as i64 == PAGE_MAX) else { break };
        after = Some(last.name.clone());
    }
    let badness = |line: &ReportLine| ORDER.iter().position(|health| *health == line.health);
    lines.sort_by(|a, b| (badness(a), a.uptime_mpct, &a.monitor).cmp(&(badness(b), b.uptime_mpct, &b.monitor)));
    let more = lines.len().saturating_sub(REPORT_SHOWN) as u32;
    lines.truncate(REPORT_SHOWN);
    let opened = count_incidents(store, scope, None, Some((to, IncidentId(0))), from).await?;
    let open = count_incidents(store, scope, Some("unresolved"), None, Micros(i64::MIN)).await?;
    Ok(Report { name: name.to_owned(), tenant: tenant.to_owned(), from, to, counts, paused, lines, more, opened, open })
}

/// Worst first.
const ORDER: [Health; 5] = [Health::Down, Health::Unknown, Health::Pending, Health::Degraded, Health::Up];

async fn line(store: &dyn Store, scope: TenantScope, monitor: &MonitorView, from: Micros, to: Micros) -> store::Result<ReportLine> {
    let times = store.state_times(scope, monitor.id, from, to).await?;
    let known = times.up.0 + times.down.0;
    Ok(ReportLine {
        monitor: monitor.name.clone(),
        kind: monitor.kind.clone(),
        health: monitor.health,
        why: monitor.why.clone().filter(|_| monitor.health != Health::Up),
        // Rounded down: 100 % is said only of what was never down.
        uptime_mpct: (known > 0).then(|| (i128::from(times.up.0) * 100_000 / i128::from(known)) as u32),
    })
}

/// Incidents of a status that began at or after `from`, newest first from the cursor on; at most [`COUNTED_MAX`].
async fn count_incidents(
    store: &dyn Store,
    scope: TenantScope,
    status: Option<&str>,
    mut before: Option<(Micros, IncidentId)>,
    from: Micros,
) -> store::Result<u32> {
    let mut count = 0;
    while count < COUNTED_MAX {
        let filter = IncidentFilter { status: status.map(str::to_owned), monitor_uid: None, before, limit: PAGE_MAX };
        let page = store.incidents(scope, &filter).await?;
        count += page.iter().filter(|incident| incident.opened_at >= from).count() as u32;
        match page.last() {
            Some(last) if page.len() as i64 == PAGE_MAX && last.opened_at >= from => before = Some((last.opened_at, last.id)),
            Some(_) | None => break,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn periods_lie_on_a_grid_that_no_restart_moves() {
        let six = Period::Every(Dur::secs(6 * 3_600));
        assert_eq!(six.latest(Micros(13 * HOUR)), Some((Micros(6 * HOUR), Micros(12 * HOUR))));
        assert_eq!(six.latest(Micros(12 * HOUR)), Some((Micros(6 * HOUR), Micros(12 * HOUR))));
        assert_eq!(six.latest(Micros(12 * HOUR - 1)), Some((Micros(0), Micros(6 * HOUR))));
        assert_eq!(six.next(Micros(12 * HOUR)), Some(Micros(18 * HOUR)));
    }

    #[test]
    fn a_pattern_says_when_periods_end_in_its_zone() {
        let at = |text: &str| Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let nine = Period::Cron(Box::new(Cron::parse("0 9 * * *", "Europe/Berlin").unwrap()));
        // The clocks go back on 25 October 2026: the day has 25 hours.
        let (before, after) = (at("2026-10-24T07:00:00Z"), at("2026-10-25T08:00:00Z"));
        assert_eq!(nine.latest(at("2026-10-25T08:00:00Z")), Some((before, after)));
        assert_eq!(nine.latest(at("2026-10-26T07:59:59Z")), Some((before, after)));
        assert_eq!(nine.next(after), Some(at("2026-10-26T08:00:00Z")));
    }
}
