//! `/metrics`: our own series, the process, and the newest result of every monitor under blackbox_exporter's names.
//!
//! The answer is Prometheus' text format 0.0.4, whatever is asked for: every scraper reads it. It is made and sent family by
//! family in small pieces from one snapshot, so that ten thousand monitors never need the whole text in memory.
//!
//! A monitor whose newest outcome is `Unknown` has no `probe_success`: 0 would page somebody for a fault of ours.

use super::Web;
use super::auth::bearer;
use super::error::ApiError;
use crate::live::Latest;
use crate::spec::MonitorSpec;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use secrecy::ExposeSecret as _;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Outcome, Reason};

/// The type of what is answered.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// A piece is sent once it is so long. Smaller ones cost system calls, larger ones memory per scraper.
const PIECE: usize = 64 * 1024;

/// Lets a request pass if no metrics token is set, or it carries it.
pub(super) async fn require_metrics_token(State(web): State<Web>, request: Request, next: Next) -> Result<Response, ApiError> {
    if let Some(wanted) = &web.metrics_token {
        let given = bearer(request.headers()).unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(wanted.expose_secret().as_bytes())) {
            return Err(ApiError::unauthorized());
        }
    }
    Ok(next.run(request).await)
}

/// `GET /metrics`.
pub(super) async fn metrics(State(web): State<Web>) -> Result<Response, ApiError> {
    let metrics = Arc::clone(&web.metrics);
    let own = tokio::task::spawn_blocking(move || {
        let mut out = as_text_format(&metrics.encode());
        super::process::append(&mut out);
        out
    });
    let own = own.await.map_err(|_| ApiError::internal())?;
    let rows = snapshot(&web);
    let mut writer = Some(Writer { rows, family: 0, row: 0 });
    let probes = std::iter::from_fn(move || {
        let mut piece = String::new();
        let more = writer.as_mut()?.write_piece(&mut piece);
        if !more {
            writer = None;
        }
        Some(piece)
    });
    let pieces = std::iter::once(own).chain(probes).map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    Ok(response)
}

/// Turns the OpenMetrics text of our own series into the older format: counters carry `_total` in their head lines too,
/// there are no units, and no end mark.
fn as_text_format(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 1_024);
    let counters: Vec<&str> = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let head = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        match head.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counters.contains(&name) => {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{mark}{name}_total {rest}");
            }
            Some(_) | None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// One monitor and its newest facts.
struct Row {
    spec: Arc<MonitorSpec>,
    latest: Latest,
}

/// The newest facts of every watched monitor, by tenant and name.
fn snapshot(web: &Web) -> Vec<Row> {
    let fleet = web.fleet.borrow().clone();
    let mut rows: Vec<Row> = web.live.with(|table| {
        table.iter().filter_map(|(id, latest)| Some(Row { spec: Arc::clone(fleet.0.get(id)?), latest: latest.clone() })).collect()
    });
    rows.sort_unstable_by(|a, b| (&a.spec.tenant_slug, &a.spec.name).cmp(&(&b.spec.tenant_slug, &b.spec.name)));
    rows
}

/// One family of series.
struct Family {
    name: &'static str,
    help: &'static str,
    samples: fn(&Row, &mut Samples<'_>),
}

/// Writes the samples of one family for one monitor.
struct Samples<'o> {
    out: &'o mut String,
    name: &'static str,
    spec: &'o MonitorSpec,
}

impl Samples<'_> {
    fn one(&mut self, value: f64) {
        self.labelled("", "", value);
    }

    fn labelled(&mut self, label: &str, word: &str, value: f64) {
        self.out.push_str(self.name);
        self.out.push_str("{monitor=\"");
        escape(&self.spec.name, self.out);
        self.out.push_str("\",tenant=\"");
        escape(&self.spec.tenant_slug, self.out);
        self.out.push_str("\",kind=\"");
        escape(self.spec.kind, self.out);
        self.out.push_str("\",target=\"");
        escape(&self.spec.target, self.out);
        if !label.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(self.out, "\",{label}=\"");
            escape(word, self.out);
        }
        let _ = writeln!(self.out, "\"}} {value}");
    }

    fn phases(&mut self, phases: &[(&str, i64)]) {
        for (phase, us) in phases {
            self.labelled("phase", phase, seconds(*us));
        }
    }
}

/// A label's value as the format wants it: backslash, quote and line end are escaped.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

/// Every family of probe results. Names, meanings and phases are blackbox_exporter's, except those that begin with ours.
const FAMILIES: &[Family] = &[
    Family {
        name: "watchkeeper_monitor_health",
        help: "What is true of the monitor: 0 unknown, 1 up, 2 degraded, 3 pending, 4 down",
        samples: |row, out| out.one(health_number(row.latest.health)),
    },
    Family {
        name: "watchkeeper_probe_last_time_seconds",
        help: "When the newest attempt began, in Unix time",
        samples: |row, out| out.one(seconds(row.latest.beat.at.0)),
    },
    Family {
        name: "probe_success",
        help: "Whether the newest attempt found the target up; absent while this node cannot look",
        samples: |row, out| match row.latest.beat.outcome {
            Outcome::Up => out.one(1.0),
            Outcome::Down(_) => out.one(0.0),
            Outcome::Unknown(_) => {}
        },
    },
    Family {
        name: "probe_duration_seconds",
        help: "How long the newest attempt took",
        samples: |row, out| out.one(seconds(row.latest.beat.total_us)),
    },
    Family {
        name: "probe_dns_lookup_time_seconds",
        help: "How long the name lookup took",
        samples: |row, out| {
            if row.spec.kind != PUSH {
                out.one(seconds(row.latest.beat.dns_us));
            }
        },
    },
    Family {
        name: "probe_ip_protocol",
        help: "Whether the connection used IPv4 or IPv6",
        samples: |row, out| {
            if row.latest.ip_protocol != 0 {
                out.one(f64::from(row.latest.ip_protocol));
            }
        },
    },
    Family {
        name: "probe_http_status_code",
        help: "Status of the last response; 0 if there was none",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                out.one(f64::from(row.latest.beat.code.max(0)));
            }
        },
    },
    Family {
        name: "probe_http_duration_seconds",
        help: "How long each phase of the HTTP request took, summed over redirects",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                let beat = &row.latest.beat;
                out.phases(&[
                    ("resolve", beat.dns_us),
                    ("connect", beat.connect_us),
                    ("tls", beat.tls_us),
                    ("processing", beat.first_byte_us),
                    ("transfer", beat.transfer_us),
                ]);
            }
        },
    },
    Family {
        name: "probe_http_redirects",
        help: "Redirects followed",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                out.one(f64::from(row.latest.redirects));
            }
        },
    },
    Family {
        name: "probe_http_ssl",
        help: "Whether TLS was used for the last request",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                out.one(f64::from(u8::from(!row.latest.tls_version.is_empty())));
            }
        },
    },
    Family {
        name: "probe_http_version",
        help: "The version of HTTP of the last response",
        samples: |row, out| {
            if let Ok(version) = row.latest.http_version.parse::<f64>() {
                out.one(version);
            }
        },
    },
    Family {
        name: "probe_http_content_length",
        help: "The announced length of the body; -1 if none was",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                out.one(row.latest.content_length as f64);
            }
        },
    },
    Family {
        name: "probe_http_uncompressed_body_length",
        help: "The length of the body as it was read",
        samples: |row, out| {
            if row.spec.kind == HTTP && row.latest.beat.size >= 0 {
                out.one(row.latest.beat.size as f64);
            }
        },
    },
    Family {
        name: "probe_failed_due_to_regex",
        help: "Whether the newest attempt failed because of what the body holds or lacks",
        samples: |row, out| {
            if row.spec.kind == HTTP {
                out.one(f64::from(u8::from(failed_on_content(row.latest.beat.outcome))));
            }
        },
    },
    Family {
        name: "probe_ssl_earliest_cert_expiry",
        help: "When the first certificate of the chain expires, in Unix time",
        samples: |row, out| {
            if row.latest.cert_earliest_expiry != 0 {
                out.one(row.latest.cert_earliest_expiry as f64);
            }
        },
    },
    Family {
        name: "probe_tls_version_info",
        help: "The version of TLS that was used",
        samples: |row, out| {
            if !row.latest.tls_version.is_empty() {
                out.labelled("version", row.latest.tls_version, 1.0);
            }
        },
    },
    Family {
        name: "probe_icmp_duration_seconds",
        help: "How long each phase of the ICMP request took",
        samples: |row, out| {
            if row.spec.kind == ICMP {
                let beat = &row.latest.beat;
                out.phases(&[("resolve", beat.dns_us), ("setup", beat.connect_us), ("rtt", beat.first_byte_us)]);
            }
        },
    },
    Family {
        name: "watchkeeper_probe_icmp_jitter_seconds",
        help: "Mean deviation of the round trip",
        samples: |row, out| {
            if row.latest.jitter_us >= 0 {
                out.one(seconds(row.latest.jitter_us));
            }
        },
    },
    Family {
        name: "watchkeeper_probe_icmp_loss_ratio",
        help: "Lost packets, from 0 to 1",
        samples: |row, out| {
            if row.spec.kind == ICMP && row.latest.beat.value >= 0 {
                out.one(row.latest.beat.value as f64 / 1e3);
            }
        },
    },
    Family {
        name: "watchkeeper_probe_worker_active_requests",
        help: "What the worker has in flight",
        samples: |row, out| {
            if row.spec.kind == WORKER && row.latest.beat.value >= 0 {
                out.one(row.latest.beat.value as f64);
            }
        },
    },
    Family {
        name: "probe_dns_duration_seconds",
        help: "How long each phase of the DNS question took",
        samples: |row, out| {
            if row.spec.kind == DNS {
                let beat = &row.latest.beat;
                out.phases(&[("resolve", beat.dns_us), ("connect", beat.connect_us), ("request", beat.first_byte_us)]);
            }
        },
    },
];

/// Kinds that have families of their own.
const HTTP: &str = "http";
const ICMP: &str = "icmp";
const DNS: &str = "dns";
const PUSH: &str = "push";
const WORKER: &str = "worker";

fn health_number(health: Health) -> f64 {
    f64::from(health.code())
}

fn failed_on_content(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Down(Reason::HttpPatternMissing | Reason::HttpTextMissing | Reason::HttpTextPresent))
}

/// Where the writing of the probe families stands.
struct Writer {
    rows: Vec<Row>,
    family: usize,
    row: usize,
}

impl Writer {
    /// Writes the next piece; false once all is written.
    fn write_piece(&mut self, out: &mut String) -> bool {
        out.reserve(PIECE + 1_024);
        while let Some(family) = FAMILIES.get(self.family) {
            if self.row == 0 && !self.rows.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} gauge", family.name, family.help);
            }
            while let Some(row) = self.rows.get(self.row) {
                (family.samples)(row, &mut Samples { out: &mut *out, name: family.name, spec: &row.spec });
                self.row += 1;
                if out.len() >= PIECE {
                    return true;
                }
            }
            (self.family, self.row) = (self.family + 1, 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_series_lose_what_only_openmetrics_knows() {
        let given = "# HELP wk_checks Attempts.\n# TYPE wk_checks counter\nwk_checks_total{result=\"up\"} 1\n\
                     # HELP wk_lag_seconds Lag.\n# TYPE wk_lag_seconds histogram\n# UNIT wk_lag_seconds seconds\nwk_lag_seconds_sum 0.0\n# EOF\n";
        let want = "# HELP wk_checks_total Attempts.\n# TYPE wk_checks_total counter\nwk_checks_total{result=\"up\"} 1\n\
                    # HELP wk_lag_seconds Lag.\n# TYPE wk_lag_seconds histogram\nwk_lag_seconds_sum 0.0\n";
        assert_eq!(as_text_format(given), want);
    }

    #[test]
    fn labels_are_escaped() {
        let mut out = String::new();
        escape("a\\b\"c\nd\té", &mut out);
        assert_eq!(out, "a\\\\b\\\"c\\nd\té");
    }

    #[test]
    fn no_family_is_named_twice() {
        let names: std::collections::BTreeSet<&str> = FAMILIES.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
