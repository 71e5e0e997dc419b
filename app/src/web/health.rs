//! Whether the process lives, whether it does its work, and the order to read its configuration again.

use super::Web;
use super::auth::Caller;
use super::error::ApiError;
use super::types::{HealthBody, Installation, ReadyBody, ReadyNote, Reloaded};
use crate::config::decode::show_duration;
use crate::deliver::Failing;
use crate::net::Guard;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use tokio::sync::{mpsc, oneshot};
use watchkeeper_core::{Dur, Micros};

/// A node that begins attempts later than this is not ready: its verdicts are late by as much. A smaller limit would flap on
/// a short pause of the machine.
pub const READY_LAG_MAX: Dur = Dur::secs(5);

/// Whose administrators look after the whole installation: its configuration, its nodes, and its first user.
pub(super) const OWNER_TENANT: &str = "default";

/// Whether the node does its work. Kept current by whoever watches its parts; texts name no secret and no address,
/// and nothing of a tenant, because `/ready` needs no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the store is reached, or why not.
    pub store: Result<(), String>,
    /// Whether the lease loop lives, or why not.
    pub leases: Result<(), String>,
    /// How much later than scheduled attempts begin now.
    pub schedule_lag: Dur,
    /// Why the newest configuration was refused; the one before is still in force.
    pub reload_problem: Option<String>,
    /// Objects that were made over the API and are not in force, of all tenants.
    pub left_out: usize,
    /// Objects that were made over the API whose secrets lie in the store as they are, of all tenants.
    pub in_clear: usize,
    /// Notices that were given up and not sent again, of all tenants.
    pub dead_letters: i64,
    /// Channels that have taken nothing for long, of all tenants.
    pub failing_channels: Vec<Failing>,
    /// Why the newest dead-man's ping did not come through.
    pub dead_man_problem: Option<String>,
    /// Since when this node's own network has been gone, if it is: its attempts say nothing.
    pub cut_off: Option<Micros>,
}

impl Default for Readiness {
    fn default() -> Self {
        let starting = Err("still starting".to_owned());
        Self {
            store: starting.clone(),
            leases: starting,
            schedule_lag: Dur::ZERO,
            reload_problem: None,
            left_out: 0,
            in_clear: 0,
            dead_letters: 0,
            failing_channels: Vec::new(),
            dead_man_problem: None,
            cut_off: None,
        }
    }
}

impl Readiness {
    /// Whether the node does its work.
    pub fn is_ready(&self) -> bool {
        self.body().ready
    }

    /// A bad reload is only a warning: the node goes on with what it had, and taking it out of service would not help. Nor
    /// would it for a message that no provider takes, nor for a dead-man's ping: whoever waits for that raises the alarm.
    fn body(&self) -> ReadyBody {
        let Self {
            store,
            leases,
            schedule_lag,
            reload_problem,
            left_out,
            in_clear,
            dead_letters,
            failing_channels,
            dead_man_problem,
            cut_off,
        } = self;
        let mut problems = Vec::new();
        if let Err(why) = store {
            problems.push(note("store", [why.clone()], format!("store: {why}")));
        }
        if let Err(why) = leases {
            problems.push(note("leases", [why.clone()], format!("leases: {why}")));
        }
        if *schedule_lag > READY_LAG_MAX {
            let [lag, limit] = [*schedule_lag, READY_LAG_MAX].map(show_duration);
            let text = format!("schedule: attempts begin {lag} late; the limit is {limit}");
            problems.push(note("late", [lag, limit], text));
        }
        if let Some(since) = cut_off {
            let since = moment(*since);
            let text = format!("network: this node has had none of its own since {since}");
            problems.push(note("cut_off", [since], text));
        }
        let mut warnings: Vec<ReadyNote> =
            reload_problem.iter().map(|why| note("configuration", [why.clone()], format!("configuration: {why}"))).collect();
        if *left_out > 0 {
            let (objects, are) = if *left_out == 1 { ("object that was", "is") } else { ("objects that were", "are") };
            let text = format!("{left_out} {objects} made over the API {are} left out; GET /api/v1/documents says why");
            warnings.push(note("left_out", [left_out.to_string()], text));
        }
        if *in_clear > 0 {
            let (objects, have) = if *in_clear == 1 { ("object that was", "has its") } else { ("objects that were", "have their") };
            let text =
                format!("{in_clear} {objects} made over the API {have} secrets in the store as they are; set server.secret_key_file");
            warnings.push(note("in_clear", [in_clear.to_string()], text));
        }
        if *dead_letters > 0 {
            let notices = if *dead_letters == 1 { "notice" } else { "notices" };
            let text = format!("{dead_letters} {notices} could not be delivered; see watchkeeper dead-letters");
            warnings.push(note("dead_letters", [dead_letters.to_string()], text));
        }
        if !failing_channels.is_empty() {
            let many = failing_channels.len();
            let (channels, has) = if many == 1 { ("channel", "has") } else { ("channels", "have") };
            let text = format!("{many} {channels} {has} taken nothing for a while; GET /api/v1/alert-channels says which");
            warnings.push(note("channels", [many.to_string()], text));
        }
        warnings.extend(dead_man_problem.iter().map(|why| note("dead_man", [why.clone()], format!("dead_man: {why}"))));
        let texts = |notes: &[ReadyNote]| notes.iter().map(|note| note.text.clone()).collect();
        let (ready, said, warned) = (problems.is_empty(), texts(&problems), texts(&warnings));
        problems.append(&mut warnings);
        ReadyBody { ready, problems: said, warnings: warned, notes: problems }
    }
}

fn note<const N: usize>(code: &str, values: [String; N], text: String) -> ReadyNote {
    ReadyNote { code: code.to_owned(), values: values.into(), text }
}

fn moment(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |at| format!("{at:.0}"))
}

/// `GET /health`: that this answers is the answer.
pub(super) async fn health() -> Json<HealthBody> {
    Json(HealthBody { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// `GET /ready`: 200, or 503 with what is wrong.
pub(super) async fn ready(State(web): State<Web>) -> (StatusCode, Json<ReadyBody>) {
    let body = web.control.ready.borrow().body();
    let status = if body.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body))
}

/// `GET /api/v1/about`: what this installation is, for whoever has to say it when asking for help.
pub(super) async fn about(State(web): State<Web>) -> Json<Installation> {
    let api_targets = match web.made.borrow().reach {
        Guard::Open | Guard::NoLinkLocal => "private",
        Guard::PublicOnly => "public",
    };
    Json(Installation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: web.node.clone(),
        store: web.store_kind.to_owned(),
        api_targets: api_targets.to_owned(),
    })
}

/// Whether the caller's tenant is the one whose people look after the installation.
pub(super) async fn owns_installation(web: &Web, caller: &Caller) -> Result<bool, ApiError> {
    Ok(web.store.tenants().await?.iter().any(|(id, slug)| *id == caller.scope.0 && slug == OWNER_TENANT))
}

/// `POST /-/reload`: reads the configuration again and answers when that is done.
pub(super) async fn reload(State(web): State<Web>, Extension(caller): Extension<Caller>) -> Result<Json<Reloaded>, ApiError> {
    if !owns_installation(&web, &caller).await? {
        return Err(ApiError::forbidden(format!("only an administrator of the tenant `{OWNER_TENANT}` may reload the configuration")));
    }
    let (answer, answered) = oneshot::channel();
    web.control.reload.try_send(answer).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => ApiError::too_many("a reload is already under way"),
        mpsc::error::TrySendError::Closed(_) => ApiError::unavailable("stopping", "the node is stopping"),
    })?;
    match answered.await {
        Ok(Ok(message)) => Ok(Json(Reloaded { message })),
        Ok(Err(problems)) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_configuration", problems.join("\n"))),
        Err(_dropped) => Err(ApiError::unavailable("stopping", "the node stopped before the reload was done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::RefusedClass;
    use watchkeeper_core::ChannelId;

    fn fine() -> Readiness {
        Readiness {
            store: Ok(()),
            leases: Ok(()),
            schedule_lag: Dur::ZERO,
            reload_problem: None,
            left_out: 0,
            in_clear: 0,
            dead_letters: 0,
            failing_channels: Vec::new(),
            dead_man_problem: None,
            cut_off: None,
        }
    }

    #[test]
    fn each_fault_alone_makes_it_not_ready_and_is_named() {
        assert_eq!(fine().body(), ReadyBody { ready: true, problems: vec![], warnings: vec![], notes: vec![] });
        let faults = [
            (Readiness { store: Err("out of reach for 12 s".into()), ..fine() }, "store: out of reach for 12 s"),
            (Readiness { leases: Err("no beat for 5 s".into()), ..fine() }, "leases: no beat for 5 s"),
            (Readiness { schedule_lag: Dur::secs(6), ..fine() }, "schedule: attempts begin 6s late; the limit is 5s"),
            (Readiness { cut_off: Some(Micros(0)), ..fine() }, "network: this node has had none of its own since 1970-01-01T00:00:00Z"),
        ];
        for (readiness, want) in faults {
            let body = readiness.body();
            assert_eq!((body.ready, body.problems, body.warnings), (false, vec![want.to_owned()], vec![]));
            assert_eq!(body.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(), [want]);
        }
        assert!(!Readiness::default().body().ready, "a node that has not said anything yet is not ready");
    }

    #[test]
    fn a_refused_configuration_is_only_a_warning() {
        let body = Readiness { reload_problem: Some("wk.yaml:3:1: unknown key".into()), ..fine() }.body();
        assert!(body.ready);
        assert_eq!(body.warnings, ["configuration: wk.yaml:3:1: unknown key"]);
    }

    #[test]
    fn what_could_not_be_delivered_is_only_a_warning() {
        let body = |dead_letters| Readiness { dead_letters, ..fine() }.body();
        assert!(body(3).ready);
        assert_eq!(body(3).warnings, ["3 notices could not be delivered; see watchkeeper dead-letters"]);
        assert_eq!(body(1).warnings, ["1 notice could not be delivered; see watchkeeper dead-letters"]);
    }

    #[test]
    fn what_is_said_can_be_said_in_other_words() {
        let body = Readiness { leases: Err("no beat for 5 s".into()), dead_letters: 3, ..fine() }.body();
        let notes: Vec<(&str, &[String])> = body.notes.iter().map(|note| (note.code.as_str(), note.values.as_slice())).collect();
        assert_eq!(notes, [("leases", &["no beat for 5 s".to_owned()][..]), ("dead_letters", &["3".to_owned()][..])]);
    }

    #[test]
    fn channels_that_take_nothing_are_counted_and_not_named_to_strangers() {
        let failing = |n: i64| Failing { channel: ChannelId(n), since: Micros(0), class: RefusedClass::Timeout };
        let body = Readiness { failing_channels: (1..=7).map(failing).collect(), ..fine() }.body();
        assert!(body.ready, "another place would not reach the provider either");
        assert_eq!(body.warnings, ["7 channels have taken nothing for a while; GET /api/v1/alert-channels says which"]);
    }
}
