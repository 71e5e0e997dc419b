//! Worker: what the sidecar of a worker says: what is in flight and for how long, whether it drains, whether it is ready.
//!
//! `/status` is asked first, for our own sidecar says everything there; where there is none, `/metrics`, which every sidecar of the
//! contract has; then `/ready`; and last the manager of its bot, if the monitor names it, for how many updates wait. Each is a request of its own over a fresh connection, with phases like any other. Requests in flight
//! are a worker's business and never a fault; one that does not end is, and so is a drain that outlasts its grace.
//!
//! What it must never do: begin anything at the sidecar (`/drain` is not asked), or hold its clock against ours.

mod said;

pub use said::{StuckRequest, WorkerFacts, WorkerState};

use super::http::{self, HttpProbe};
use super::{Attempt, BODY_HEAD_MAX, Hop, HttpFacts, Probe, ProbeConfig, ProbeContext};
use crate::config::decode::{Fields, Key, Node, Problems, duration, integer, parsed, secret, shown};
use crate::config::tagged::Kind;
use crate::net::Fault;
use crate::net::tls::CertificateFacts;
use ::http::header::DATE;
use async_trait::async_trait;
use bytes::Bytes;
use said::{Activity, More};
use url::Url;
use watchkeeper_core::{Blind, Dur, Outcome, Reason};

/// A longer answer is a fault: our sidecar lists at most a hundred requests. More would hold memory for what nobody reads; less
/// would refuse a worker with long ids.
const ANSWER_MAX: usize = 64 << 10;

/// A request may take so long unless the monitor says otherwise: longer than any call that somebody waits for.
const STUCK_DEFAULT: Dur = Dur::secs(300);

const URL_FORM: &str = "an http:// or https:// URL without credentials and query, such as http://127.0.0.1:8081";

/// So many updates may wait unless the monitor says otherwise: what twenty workers are started for.
const LAG_DEFAULT: u64 = 100;

/// More than any topic holds that somebody waits for.
const LAG_MAX: i64 = 1_000_000_000;

const LAG_URL_FORM: &str = "an http:// or https:// URL without credentials, such as http://manager:8080/bots/abc123def456";

/// Keys of `worker:`.
pub const KEYS: &[Key] = &[
    Key {
        name: "url",
        form: URL_FORM,
        default: "",
        doc: "Where the worker's sidecar listens; /status, /metrics and /ready are asked below it.",
    },
    Key {
        name: "stuck_after",
        form: "a duration from 1s to 7d",
        default: "5m",
        doc: "A request in flight for longer is stuck, and the worker down.",
    },
    Key {
        name: "lag_url",
        form: LAG_URL_FORM,
        default: "",
        doc: "Where it stands how many updates wait for the workers of its bot: JSON with kafka_lag, as the manager answers.",
    },
    Key {
        name: "lag_max",
        form: "a whole number from 0 to 1000000000",
        default: "100",
        doc: "When more updates wait, its workers are behind, and the worker down.",
    },
    Key { name: "bearer_token", form: "a text", default: "", doc: "Sent to `lag_url`, and to nobody else." },
    Key { name: "bearer_token_file", form: "a path", default: "", doc: "A file that holds the token." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "worker",
    doc: "What a worker's sidecar says: requests in flight, stuck ones, a drain that does not end; and how many updates wait.",
    keys: KEYS,
    sections: &[],
    address: &["url", "lag_url"],
    examples: &[("url", "http://127.0.0.1:8081")],
    decode: |node, problems| Config::decode(node, problems).map(|c| ProbeConfig::Worker(Box::new(c))),
};

/// What `worker:` says.
#[derive(Clone, Debug)]
pub struct Config {
    shown: String,
    status: http::Config,
    metrics: http::Config,
    ready: http::Config,
    stuck_after: Dur,
    lag: Option<Lag<http::Config>>,
}

/// Who knows how many updates wait, and how many may.
#[derive(Clone, Debug)]
struct Lag<P> {
    page: P,
    most: u64,
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, KEYS, problems)?;
        let base = fields.require("url", problems).and_then(|n| parsed(n, URL_FORM, problems, base));
        let longest = Dur::secs(7 * 86_400);
        let stuck_after = fields.get("stuck_after").map_or(Some(STUCK_DEFAULT), |n| duration(n, Dur::secs(1)..=longest, problems));
        let before = problems.told();
        let lag = lag(&fields, problems);
        let base = base.filter(|_| problems.told() == before)?;
        Some(Self {
            status: page(&base, "status")?,
            metrics: page(&base, "metrics")?,
            ready: page(&base, "ready")?,
            shown: base.into(),
            stuck_after: stuck_after?,
            lag,
        })
    }

    /// What is watched.
    pub fn target(&self) -> String {
        self.shown.clone()
    }

    /// Ready to attempt.
    pub fn build(&self) -> Box<dyn Probe> {
        Box::new(WorkerProbe {
            status: self.status.probe(),
            metrics: self.metrics.probe(),
            ready: self.ready.probe(),
            stuck_after: self.stuck_after,
            lag: self.lag.as_ref().map(|lag| Lag { page: lag.page.probe(), most: lag.most }),
        })
    }
}

/// The keys about updates that wait. A token that goes nowhere is a mistake.
fn lag(fields: &Fields<'_>, problems: &mut Problems) -> Option<Lag<http::Config>> {
    let most = fields.get("lag_max").map_or(Some(LAG_DEFAULT.cast_signed()), |n| integer(n, 0..=LAG_MAX, problems));
    let token = secret(fields, "bearer_token", "bearer_token_file", problems);
    let Some(node) = fields.get("lag_url") else {
        for key in ["bearer_token", "bearer_token_file"] {
            if fields.get(key).is_some() {
                problems.add(fields.place(key), format!("`{key}` without `lag_url`"), "both, or none".to_owned());
            }
        }
        return None;
    };
    let plain = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| url.username().is_empty() && url.password().is_none())?;
        Some(whole(http::Config::of_url(url).ok()?))
    };
    let mut page = parsed(node, LAG_URL_FORM, problems, plain)?;
    if let Some(token) = token {
        let Some(with) = page.with_bearer(&token) else {
            problems.add(fields.place("bearer_token"), "a token with characters that no header can carry", "printable ASCII".to_owned());
            return None;
        };
        page = with;
    }
    Some(Lag { page, most: most?.cast_unsigned() })
}

fn base(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (plain && http::Config::of_url(url.clone()).is_ok()).then_some(url)
}

/// A page of the sidecar: judged as it is, without redirects, and read whole.
fn page(base: &Url, name: &str) -> Option<http::Config> {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    Some(whole(http::Config::of_url(url).ok()?))
}

/// Read whole, and judged as it is.
fn whole(mut config: http::Config) -> http::Config {
    (config.max_redirects, config.max_body, config.keep_body) = (0, ANSWER_MAX, ANSWER_MAX);
    config
}

struct WorkerProbe {
    status: HttpProbe,
    metrics: HttpProbe,
    ready: HttpProbe,
    stuck_after: Dur,
    lag: Option<Lag<HttpProbe>>,
}

#[async_trait]
impl Probe for WorkerProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        let mut visit = Visit::default();
        let result = self.look(cx, &mut visit).await;
        visit.ended(result.err())
    }
}

impl WorkerProbe {
    async fn look(&self, cx: &ProbeContext, visit: &mut Visit) -> Result<(), Fault> {
        let mut answer = visit.ask(cx, &self.status, "/status").await?;
        let more = More::read(&answer.body).filter(|_| answer.good);
        if more.is_none() {
            answer = visit.ask(cx, &self.metrics, "/metrics").await?;
            if !answer.good {
                return Err(Fault::down(Reason::HttpStatus, format!("/metrics answers {}", answer.status)));
            }
        }
        let wrong = |problem| Fault::down(Reason::HttpJson, format!("what it says is not of a worker's sidecar: {problem}"));
        let activity = Activity::read(&answer.body).map_err(wrong)?;
        let ready = visit.ask(cx, &self.ready, "/ready").await?;
        let mut facts = said::facts(&activity, more, answer.date.as_deref().and_then(said::date), ready.good, self.stuck_after);
        let not_ready = format!("/ready answers {}: {}", ready.status, shown(&String::from_utf8_lossy(&ready.body)));
        let judged = said::judge(&facts, self.stuck_after, &not_ready);
        let waiting = match &self.lag {
            None => None,
            Some(lag) => Some((visit.waiting(cx, &lag.page).await, lag.most)),
        };
        facts.kafka_lag = waiting.as_ref().and_then(|(waiting, _)| waiting.as_ref().ok().copied());
        visit.facts = Some(facts);
        // What is wrong with the worker itself says more.
        judged?;
        match waiting {
            Some((Ok(waiting), most)) if waiting > most => {
                Err(Fault::down(Reason::WorkerBehind, format!("{waiting} updates wait; {most} may")))
            }
            Some((Err(fault), _)) => Err(fault),
            Some((Ok(_), _)) | None => Ok(()),
        }
    }
}

/// A complete answer of the sidecar.
struct Answer {
    /// Whether its status is one of success.
    good: bool,
    status: u16,
    /// The value of its `Date`.
    date: Option<Vec<u8>>,
    body: Bytes,
}

/// What came of the pages so far.
#[derive(Default)]
struct Visit {
    hops: Vec<Hop>,
    http: Option<HttpFacts>,
    certificate: Option<CertificateFacts>,
    facts: Option<Box<WorkerFacts>>,
}

impl Visit {
    /// Asks for a page. That its status is none of success is for whoever asked to judge.
    async fn ask(&mut self, cx: &ProbeContext, page: &HttpProbe, path: &str) -> Result<Answer, Fault> {
        let (attempt, exchange) = page.read(cx).await;
        let Attempt { outcome, error, hops, http, certificate, .. } = attempt;
        self.hops.extend(hops);
        self.http = http;
        self.certificate = certificate.or(self.certificate.take());
        let good = match outcome {
            Outcome::Up => true,
            Outcome::Down(Reason::HttpStatus) => false,
            Outcome::Down(_) | Outcome::Unknown(_) => {
                return Err(Fault { outcome, text: format!("{path}: {}", error.unwrap_or_default()) });
            }
        };
        let Some((head, body)) = exchange.and_then(|done| Some((done.head?, done.body))) else {
            return Err(Fault::unknown(Blind::Internal, format!("{path}: there is no answer to read")));
        };
        Ok(Answer { good, status: head.status.as_u16(), date: head.headers.get(DATE).map(|value| value.as_bytes().to_vec()), body })
    }

    /// Asks how many updates wait. The status that the heartbeat has stays that of the sidecar.
    async fn waiting(&mut self, cx: &ProbeContext, page: &HttpProbe) -> Result<u64, Fault> {
        let http = self.http.take();
        let answered = self.ask(cx, page, "lag_url").await;
        self.http = http;
        let answered = answered?;
        if !answered.good {
            return Err(Fault::down(Reason::HttpStatus, format!("lag_url answers {}", answered.status)));
        }
        said::waiting(&answered.body).map_err(|problem| Fault::down(Reason::HttpJson, format!("lag_url: {problem}")))
    }

    fn ended(self, fault: Option<Fault>) -> Attempt {
        let (outcome, error) = fault.map_or((Outcome::Up, None), |fault| (fault.outcome, Some(fault.text)));
        let total_us = self.hops.iter().map(Hop::sum_us).sum();
        let mut http = self.http;
        if let Some(head) = http.as_mut().and_then(|http| http.body_head.as_mut()) {
            head.truncate(head.floor_char_boundary(BODY_HEAD_MAX));
        }
        Attempt { hops: self.hops, total_us, http, certificate: self.certificate, worker: self.facts, ..Attempt::ended(outcome, error) }
    }
}
