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

    /// From when to when: the beginning is moved back to the beginning of a bucket, so that no bucket is cut.
    fn window(self, now: Micros) -> (Micros, Micros) {
        let begin = (now - self.length()).0;
        (Micros(begin - begin.rem_euclid(self.bucket().0)), now)
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsQuery {
    /// `1h`, `6h`, `24h`, `7d`, `30d`, `90d`; `24h` if not given.
    period: Option<String>,
}

/// `GET /api/v1/monitors/{id}/metrics?period=`: the last day if nobody says which.
pub(super) async fn metrics(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(query): Params<MetricsQuery>,
) -> Result<Json<MonitorMetrics>, ApiError> {
    let period = match query.period.as_deref() {
        None => Period::Day,
        Some(word) => Period::ALL.into_iter().find(|p| p.as_str() == word).ok_or_else(|| {
            let accepted = Period::ALL.map(Period::as_str).join(", ");
            ApiError::bad_request(format!("`period` is not known; accepted are {accepted}"))
        })?,
    };
    let monitor = own_monitor(&web, &caller, &id).await?;
    let (from, to) = period.window(web.clock.now());
    let times = web.store.state_times(caller.scope, monitor.id, from, to).await?;
    let buckets = web.store.metrics(caller.scope, monitor.id, None, from, to, period.bucket()).await?;
    let mut all = summed(period, from, to, &times, &buckets);
    let mut datacenters = web.store.datacenters().await?;
    if datacenters.len() > 1 {
        datacenters.sort_by(|a, b| a.1.cmp(&b.1));
        for (id, datacenter) in datacenters {
            let buckets = web.store.metrics(caller.scope, monitor.id, Some(id), from, to, period.bucket()).await?;
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

fn summed(period: Period, from: Micros, to: Micros, times: &StateTimes, buckets: &[MetricBucket]) -> MonitorMetrics {
    let Totals { attempts, sketch, codes } = Totals::of(buckets);
    let seconds = |d: Dur| d.0 as f64 / 1e6;
    MonitorMetrics {
        period: period.as_str().to_owned(),
        from: Time(from),
        to: Time(to),
        uptime_percent: uptime_percent(times),
        seconds: Seconds { up: seconds(times.up), down: seconds(times.down), unknown: seconds(times.unknown) },
        attempts,
        total_us: quantiles(&sketch),
        codes,
        bucket_seconds: period.bucket().0 / 1_000_000,
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
            let (from, to) = period.window(now);
            assert_eq!(from.0 % period.bucket().0, 0, "{period:?}");
            let length = to - from;
            assert!(length >= period.length() && length.0 < period.length().0 + period.bucket().0, "{period:?}");
            assert!(length.0 / period.bucket().0 <= 200, "{period:?} has too many buckets for one answer");
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
        let sum = summed(Period::Hour, Micros(0), Micros(1), &StateTimes::default(), &[one, two]);
        assert_eq!(sum.attempts, Counts { up: 3, down: 1, unknown: 4 });
        assert_eq!(sum.codes, BTreeMap::from([(200, 3), (500, 1)]));
        let p50 = sum.total_us.p50.unwrap();
        assert!((98_000..=102_000).contains(&p50), "{p50}");
        assert_eq!(sum.uptime_percent, None);
    }
}
