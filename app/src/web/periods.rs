//! A monitor's history over a period: uptime from exact state intervals, quantiles and counts from buckets.

use super::Web;
use super::api::{Params, Segment, own_monitor};
use super::auth::Caller;
use super::error::ApiError;
use super::types::{Bucket, Counts, MonitorMetrics, Quantiles, Seconds, SeenFrom, Time};
use crate::sketch::Sketch;
use crate::store::{MetricBucket, StateTimes};
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use std::collections::BTreeMap;
use watchkeeper_core::{Dur, Micros};

/// How far back one can look. Closed, so that every answer has a bounded number of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Hour,
    SixHours,
    Day,
    Week,
    Month,
    Quarter,
}

impl Period {
    const ALL: [Self; 6] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month, Self::Quarter];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Quarter => "90d",
        }
    }

    const fn length(self) -> Dur {
        Dur::secs(match self {
            Self::Hour => 3_600,
            Self::SixHours => 6 * 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Quarter => 90 * 86_400,
        })
    }

    /// The length of a bucket: fine ones are read from raw heartbeats, hours and days from rollups.
    const fn bucket(self) -> Dur {
        Dur::secs(match self {
            Self::Hour => 60,
            Self::SixHours => 5 * 60,
            Self::Day | Self::Week => 3_600,
            Self::Month | Self::Quarter => 86_400,
        })
    }

    fn span(self, now: Micros) -> Span {
        Span::new(self.as_str(), now - self.length(), now, self.bucket())
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    word: &'static str,
    from: Micros,
    to: Micros,
    bucket: Dur,
}

impl Span {
    /// The beginning is moved back to the beginning of a bucket, so that no bucket is cut.
    fn new(word: &'static str, from: Micros, to: Micros, bucket: Dur) -> Self {
        Self { word, from: Micros(from.0 - from.0.rem_euclid(bucket.0)), to, bucket }
    }

    /// Between two times: the finest buckets of which an answer has less than four hundred. `None` if that is no time, or longer than the
    /// longest period.
    fn between(from: Micros, to: Micros, now: Micros) -> Option<Self> {
        const HOUR: i64 = 3_600_000_000;
        let (to, length) = (to.min(now), to.min(now) - from);
        if length <= Dur::ZERO || length > Period::Quarter.length() {
            return None;
        }
        let seconds = match length.0 {
            short if short <= 6 * HOUR => 60,
            day if day <= 30 * HOUR => 5 * 60,
            weeks if weeks <= 15 * 24 * HOUR => 3_600,
            _ => 86_400,
        };
        Some(Self::new("between", from, to, Dur::secs(seconds)))
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsQuery {
    /// `1h`, `6h`, `24h`, `7d`, `30d`, `90d`; `24h` if not given.
    period: Option<String>,
    /// In place of `period`, with `to`: a time of its own, at most 90 days, in finer buckets the shorter it is.
    from: Option<Time>,
    /// With `from`.
    to: Option<Time>,
}

impl MetricsQuery {
    fn span(&self, now: Micros) -> Result<Span, ApiError> {
        match (self.period.as_deref(), self.from, self.to) {
            (None, None, None) => Ok(Period::Day.span(now)),
            (Some(word), None, None) => {
                let known = Period::ALL.into_iter().find(|period| period.as_str() == word);
                let accepted = || Period::ALL.map(Period::as_str).join(", ");
                known
                    .map(|period| period.span(now))
                    .ok_or_else(|| ApiError::bad_request(format!("`period` is not known; accepted are {}", accepted())))
            }
            (None, Some(Time(from)), Some(Time(to))) => Span::between(from, to, now)
                .ok_or_else(|| ApiError::bad_request("`from` is in the past and before `to`, and they are at most 90 days apart")),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                Err(ApiError::bad_request("a `period` is given, or `from` and `to` together"))
            }
        }
    }
}

/// `GET /api/v1/monitors/{id}/metrics?period=`: the last day if nobody says which.
pub(super) async fn metrics(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(query): Params<MetricsQuery>,
) -> Result<Json<MonitorMetrics>, ApiError> {
    let span = query.span(web.clock.now())?;
    let monitor = own_monitor(&web, &caller, &id).await?;
    let Span { from, to, bucket, .. } = span;
    let times = web.store.state_times(caller.scope, monitor.id, from, to).await?;
    let buckets = web.store.metrics(caller.scope, monitor.id, None, from, to, bucket).await?;
    let mut all = summed(span, &times, &buckets);
    let mut datacenters = web.store.datacenters().await?;
    if datacenters.len() > 1 {
        datacenters.sort_by(|a, b| a.1.cmp(&b.1));
        for (id, datacenter) in datacenters {
            let buckets = web.store.metrics(caller.scope, monitor.id, Some(id), from, to, bucket).await?;
            if !buckets.is_empty() {
                all.datacenters.push(seen_from(datacenter, &buckets));
            }
        }
    }
    Ok(Json(all))
}

fn seen_from(datacenter: String, buckets: &[MetricBucket]) -> SeenFrom {
    let Totals { attempts, sketch, .. } = Totals::of(buckets);
    let times = StateTimes { up: Dur(attempts.up), down: Dur(attempts.down), unknown: Dur(attempts.unknown) };
    let (availability_percent, total_us) = (uptime_percent(&times), quantiles(&sketch));
    SeenFrom { datacenter, availability_percent, attempts, total_us, buckets: buckets.iter().map(bucket).collect() }
}

/// Everything in some buckets.
#[derive(Default)]
struct Totals {
    attempts: Counts,
    sketch: Sketch,
    codes: BTreeMap<i32, i64>,
}

impl Totals {
    fn of(buckets: &[MetricBucket]) -> Self {
        let mut totals = Self::default();
        for bucket in buckets {
            totals.attempts.up += bucket.up;
            totals.attempts.down += bucket.down;
            totals.attempts.unknown += bucket.unknown;
            totals.sketch.merge(&bucket.sketch);
            for (code, count) in &bucket.codes {
                *totals.codes.entry(*code).or_default() += count;
            }
        }
        totals
    }
}

fn summed(span: Span, times: &StateTimes, buckets: &[MetricBucket]) -> MonitorMetrics {
    let Totals { attempts, sketch, codes } = Totals::of(buckets);
    let seconds = |d: Dur| d.0 as f64 / 1e6;
    MonitorMetrics {
        period: span.word.to_owned(),
        from: Time(span.from),
        to: Time(span.to),
        uptime_percent: uptime_percent(times),
        seconds: Seconds { up: seconds(times.up), down: seconds(times.down), unknown: seconds(times.unknown) },
        attempts,
        total_us: quantiles(&sketch),
        codes,
        bucket_seconds: span.bucket.0 / 1_000_000,
        buckets: buckets.iter().map(bucket).collect(),
        datacenters: Vec::new(),
    }
}

fn bucket(bucket: &MetricBucket) -> Bucket {
    Bucket {
        start: Time(bucket.start),
        attempts: Counts { up: bucket.up, down: bucket.down, unknown: bucket.unknown },
        total_us: quantiles(&bucket.sketch),
    }
}

fn quantiles(sketch: &Sketch) -> Quantiles {
    Quantiles { p50: sketch.quantile(0.5), p95: sketch.quantile(0.95), p99: sketch.quantile(0.99) }
}

/// Up among up and down, cut to 4 decimals: a second of outage in a year is never shown as 100.
pub(super) fn uptime_percent(times: &StateTimes) -> Option<f64> {
    let (up, known) = (i128::from(times.up.0), i128::from(times.up.0) + i128::from(times.down.0));
    // A window is at most some 366 days, so the quotient is at most 1 000 000 and exact as a float.
    (known > 0).then(|| (up * 1_000_000 / known) as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(up: i64, down: i64, unknown: i64) -> StateTimes {
        StateTimes { up: Dur(up), down: Dur(down), unknown: Dur(unknown) }
    }

    #[test]
    fn uptime_is_cut_never_rounded_up_and_unknown_does_not_count() {
        let cases = [
            (times(0, 0, 5), None),
            (times(1, 0, 99), Some(100.0)),
            (times(0, 7, 0), Some(0.0)),
            (times(1, 2, 0), Some(33.3333)),
            (times(2, 1, 0), Some(66.6666)),
            (times(Dur::secs(90 * 86_400).0, 1, 0), Some(99.9999)),
        ];
        for (given, want) in cases {
            assert_eq!(uptime_percent(&given), want, "{given:?}");
        }
    }

    #[test]
    fn every_period_is_whole_buckets_and_few_enough() {
        let now = Micros(1_770_000_123_456_789);
        for period in Period::ALL {
            let Span { from, to, .. } = period.span(now);
            assert_eq!(from.0 % period.bucket().0, 0, "{period:?}");
            let length = to - from;
            assert!(length >= period.length() && length.0 < period.length().0 + period.bucket().0, "{period:?}");
            assert!(length.0 / period.bucket().0 <= 200, "{period:?} has too many buckets for one answer");
        }
    }

    #[test]
    fn times_of_ones_own_are_whole_buckets_finer_the_shorter_they_are() {
        let now = Micros(1_770_000_123_456_789);
        let mut coarser = 0;
        for minutes in [1, 59, 6 * 60, 6 * 60 + 1, 30 * 60, 31 * 60, 15 * 1_440, 16 * 1_440, 90 * 1_440] {
            let from = now - Dur::secs(minutes * 60);
            let span = Span::between(from, now, now).unwrap_or_else(|| panic!("{minutes} minutes"));
            assert!(span.from <= from && span.from.0 % span.bucket.0 == 0, "{span:?}");
            assert!(span.bucket.0 >= coarser && (now - span.from).0 / span.bucket.0 < 400, "{span:?}");
            coarser = span.bucket.0;
        }
        assert_eq!(
            Span::between(now - Dur::secs(60), now + Dur::secs(60), now).map(|span| span.to),
            Some(now),
            "what is to come has no history"
        );
        for (from, to) in [(now, now), (now + Dur::secs(1), now + Dur::secs(2)), (now - Dur::secs(91 * 86_400), now)] {
            assert_eq!(Span::between(from, to, now), None);
        }
    }

    #[test]
    fn buckets_are_added_up() {
        let mut fast = Sketch::default();
        fast.add(1_000);
        let mut slow = Sketch::default();
        slow.add(100_000);
        slow.add(100_000);
        let one = MetricBucket { up: 2, down: 1, sketch: fast, codes: [(200, 2), (500, 1)].into(), ..MetricBucket::default() };
        let two = MetricBucket { up: 1, unknown: 4, sketch: slow, codes: [(200, 1)].into(), ..MetricBucket::default() };
        let sum = summed(Period::Hour.span(Micros(0)), &StateTimes::default(), &[one, two]);
        assert_eq!(sum.attempts, Counts { up: 3, down: 1, unknown: 4 });
        assert_eq!(sum.codes, BTreeMap::from([(200, 3), (500, 1)]));
        let p50 = sum.total_us.p50.unwrap();
        assert!((98_000..=102_000).contains(&p50), "{p50}");
        assert_eq!(sum.uptime_percent, None);
    }
}
