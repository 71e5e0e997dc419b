//! Rows read back into the types of the contract, for both drivers. Every number comes as `i64`: queries cast where a column is smaller.

use super::accounts::{Account, AuditRow, Deed, SessionRow, TokenRow, TokenView, Totp, UserId, UserView};
use super::error::unreadable;
use super::fold;
use super::{
    Act, ActionRow, BeatRow, ChannelNotice, DeadLetter, DocumentRow, DueNotice, IncidentView, LinkPurpose, LiveRow, LiveWrite,
    MaintenanceObject, MonitorBrief, MonitorView, NoticeView, OpenIncident, PageParcel, PageWord, PushKind, PushRow, RetiredMonitor,
    SentMessage, Silence, SubscriberKind, SubscriberView, TimelineEntry,
};
use crate::channel::content::Content;
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Database, Decode, Row, Type};
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
use watchkeeper_core::verdict::{NoticeEvent, RuleState, Standing};
use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Dur, IncidentId, Micros, MonitorId, Outcome, TenantId};

/// A driver's result with our type.
pub(super) type Sql<T> = std::result::Result<T, sqlx::Error>;

/// A row of either driver, read by position.
pub(super) trait Columns {
    /// A number.
    fn int(&self, at: usize) -> Sql<i64>;
    /// A number or NULL.
    fn maybe_int(&self, at: usize) -> Sql<Option<i64>>;
    /// A text.
    fn text(&self, at: usize) -> Sql<String>;
    /// A text or NULL.
    fn maybe_text(&self, at: usize) -> Sql<Option<String>>;
    /// Bytes.
    fn bytes(&self, at: usize) -> Sql<Vec<u8>>;
    /// Bytes or NULL.
    fn maybe_bytes(&self, at: usize) -> Sql<Option<Vec<u8>>>;
}

impl<R> Columns for R
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database,
{
    fn int(&self, at: usize) -> Sql<i64> {
        self.try_get(at)
    }

    fn maybe_int(&self, at: usize) -> Sql<Option<i64>> {
        self.try_get(at)
    }

    fn text(&self, at: usize) -> Sql<String> {
        self.try_get(at)
    }

    fn maybe_text(&self, at: usize) -> Sql<Option<String>> {
        self.try_get(at)
    }

    fn bytes(&self, at: usize) -> Sql<Vec<u8>> {
        self.try_get(at)
    }

    fn maybe_bytes(&self, at: usize) -> Sql<Option<Vec<u8>>> {
        self.try_get(at)
    }
}

/// A document from: uid, tenant, its slug, kind, name, body, version, made_by, made_at, changed_by, changed_at.
pub(super) fn document(row: &impl Columns) -> Sql<DocumentRow> {
    Ok(DocumentRow {
        uid: row.text(0)?,
        tenant: TenantId(row.int(1)?),
        tenant_slug: row.text(2)?,
        kind: row.text(3)?,
        name: row.text(4)?,
        body: row.text(5)?,
        version: row.int(6)?,
        made_by: row.text(7)?,
        made_at: Micros(row.int(8)?),
        changed_by: row.text(9)?,
        changed_at: Micros(row.int(10)?),
    })
}

/// What a subscriber's link does.
pub(super) fn link_purpose(word: &str) -> Sql<LinkPurpose> {
    LinkPurpose::from_word(word).ok_or_else(|| unreadable("what a subscriber's link does"))
}

/// How a subscriber is told.
pub(super) fn subscriber_kind(word: &str) -> Sql<SubscriberKind> {
    SubscriberKind::from_word(word).ok_or_else(|| unreadable("how a subscriber is told"))
}

/// A subscriber from: id, uid, kind, address, created_at, confirmed_at.
pub(super) fn subscriber(row: &impl Columns) -> Sql<SubscriberView> {
    Ok(SubscriberView {
        id: row.int(0)?,
        uid: row.text(1)?,
        kind: subscriber_kind(&row.text(2)?)?,
        address: row.text(3)?,
        created_at: Micros(row.int(4)?),
        confirmed_at: row.maybe_int(5)?.map(Micros),
    })
}

/// What is to be sent to one, from: id, subscriber's uid, kind, address, the word's key and body, created_at, attempts.
pub(super) fn page_parcel(row: &impl Columns) -> Sql<PageParcel> {
    Ok(PageParcel {
        id: row.int(0)?,
        subscriber: row.text(1)?,
        kind: subscriber_kind(&row.text(2)?)?,
        address: row.text(3)?,
        word: row.maybe_text(4)?.zip(row.maybe_text(5)?).map(|(key, body)| PageWord { key, body }),
        created_at: Micros(row.int(6)?),
        attempts: row.int(7)?,
    })
}

/// A user from: uid, name, role, home, password, totp, created_at, seen_at.
pub(super) fn user(row: &impl Columns) -> Sql<UserView> {
    Ok(UserView {
        uid: row.text(0)?,
        name: row.text(1)?,
        role: row.text(2)?,
        home: row.int(3)? != 0,
        password: row.int(4)? != 0,
        totp: row.int(5)? != 0,
        created_at: Micros(row.int(6)?),
        seen_at: row.maybe_int(7)?.map(Micros),
    })
}

/// An account from: id, name, tenant_id, password, totp_on, totp_step, totp_secret.
pub(super) fn account(row: &impl Columns) -> Sql<Account> {
    let (on, step, secret) = (row.int(4)? != 0, row.int(5)?, row.maybe_bytes(6)?);
    Ok(Account {
        id: UserId(row.int(0)?),
        name: row.text(1)?,
        tenant: TenantId(row.int(2)?),
        password: row.maybe_text(3)?,
        totp: secret.map(|secret| Totp { secret, on, step }),
    })
}

/// A session from: user_id, uid, name, tenant_id, role, seen_at, totp_on.
pub(super) fn session(row: &impl Columns) -> Sql<SessionRow> {
    Ok(SessionRow {
        user: UserId(row.int(0)?),
        uid: row.text(1)?,
        name: row.text(2)?,
        tenant: TenantId(row.int(3)?),
        role: row.text(4)?,
        seen_at: Micros(row.int(5)?),
        totp: row.int(6)? != 0,
    })
}

/// A token from: tenant_id, name, role, prefix, expires_at, beginning at `from`.
pub(super) fn token(row: &impl Columns, from: usize) -> Sql<TokenRow> {
    Ok(TokenRow {
        tenant: TenantId(row.int(from)?),
        name: row.text(from + 1)?,
        role: row.text(from + 2)?,
        prefix: row.text(from + 3)?,
        expires_at: row.maybe_int(from + 4)?.map(Micros),
    })
}

/// A token as it is listed, from: id, created_at, made_by, and what [`token`] takes.
pub(super) fn token_view(row: &impl Columns) -> Sql<TokenView> {
    Ok(TokenView { id: row.int(0)?, created_at: Micros(row.int(1)?), made_by: row.maybe_text(2)?, token: token(row, 3)? })
}

/// An entry of the audit log from: id, at, actor, via, address, action, detail, status.
pub(super) fn audit(row: &impl Columns) -> Sql<AuditRow> {
    let deed = Deed {
        actor: row.text(2)?,
        via: row.text(3)?,
        address: row.text(4)?,
        action: row.text(5)?,
        detail: row.text(6)?,
        status: row.maybe_int(7)?.and_then(|status| u16::try_from(status).ok()),
    };
    Ok(AuditRow { id: row.int(0)?, at: Micros(row.int(1)?), deed })
}

/// A heartbeat from its 17 columns in the order of the table, beginning at `from`.
pub(super) fn beat(row: &impl Columns, from: usize) -> Sql<BeatRow> {
    let int = |column: usize| row.int(from + column);
    Ok(BeatRow {
        monitor: MonitorId(int(0)?),
        datacenter: DatacenterId(int(1)?),
        at: Micros(int(2)?),
        agent: AgentId(int(3)?),
        outcome: outcome(int(4)?, int(5)?)?,
        lag_us: int(6)?,
        dns_us: int(7)?,
        connect_us: int(8)?,
        tls_us: int(9)?,
        first_byte_us: int(10)?,
        transfer_us: int(11)?,
        total_us: int(12)?,
        code: int(13)? as i32,
        size: int(14)?,
        value: int(15)?,
        flags: int(16)? as i32,
    })
}

/// The outcome of its two stored numbers.
pub(super) fn outcome(kind: i64, why: i64) -> Sql<Outcome> {
    Outcome::from_codes(kind as i16, why as i16).ok_or_else(|| unreadable("a heartbeat's outcome is of a newer version"))
}

/// A monitor from: id, uid, name, kind, target, labels, paused, origin, config, health, since, why, created_at, fold.
pub(super) fn monitor(row: &impl Columns) -> Sql<MonitorView> {
    Ok(MonitorView {
        id: MonitorId(row.int(0)?),
        uid: row.text(1)?,
        name: row.text(2)?,
        kind: row.text(3)?,
        target: row.text(4)?,
        labels: json(&row.text(5)?, "a monitor's labels are not JSON")?,
        paused: row.int(6)? != 0,
        origin: row.text(7)?,
        config: json(&row.text(8)?, "a monitor's configuration is not JSON")?,
        health: health(row.maybe_int(9)?),
        since: row.maybe_int(10)?.map(Micros),
        why: row.maybe_text(11)?,
        created_at: Micros(row.int(12)?),
        flapping: flapping(row.maybe_text(13)?.as_deref()),
        last: None,
    })
}

/// A monitor in brief from: uid, name, kind, target, labels, paused, health, since, why, fold (or NULL where nothing of it flaps).
pub(super) fn brief(row: &impl Columns) -> Sql<MonitorBrief> {
    Ok(MonitorBrief {
        uid: row.text(0)?,
        name: row.text(1)?,
        kind: row.text(2)?,
        target: row.text(3)?,
        labels: json(&row.text(4)?, "a monitor's labels are not JSON")?,
        paused: row.int(5)? != 0,
        health: health(row.maybe_int(6)?),
        since: row.maybe_int(7)?.map(Micros),
        why: row.maybe_text(8)?,
        flapping: flapping(row.maybe_text(9)?.as_deref()),
    })
}

/// A stored health; unknown if there is none.
pub(super) fn health(code: Option<i64>) -> Health {
    code.and_then(|code| Health::from_code(code as i16)).unwrap_or_default()
}

/// The rules of which the incident flaps.
fn flapping(fold: Option<&str>) -> Vec<String> {
    let Some(verdict) = fold.and_then(fold::verdict) else { return Vec::new() };
    let flaps = |state: &RuleState| matches!(state, RuleState::Open(Standing { flap: Some(_), .. }));
    verdict.rules.iter().filter(|(_, state)| flaps(state)).map(|(key, _)| key.to_string()).collect()
}

/// An incident from: uid, id, monitor uid, monitor name, rule, status, severity, opened_at, resolved_at, resolved_why, reason, summary,
/// value, acknowledged_by, acknowledged_at, routed_by.
pub(super) fn incident(row: &impl Columns) -> Sql<IncidentView> {
    Ok(IncidentView {
        uid: row.text(0)?,
        id: IncidentId(row.int(1)?),
        monitor_uid: row.text(2)?,
        monitor: row.text(3)?,
        rule: row.text(4)?,
        status: row.text(5)?,
        severity: severity(row.int(6)?)?,
        opened_at: Micros(row.int(7)?),
        resolved_at: row.maybe_int(8)?.map(Micros),
        resolved_why: row.maybe_text(9)?,
        reason: row.maybe_text(10)?,
        summary: row.text(11)?,
        value: row.maybe_int(12)?,
        acknowledged_by: row.maybe_text(13)?,
        acknowledged_at: row.maybe_int(14)?.map(Micros),
        routed_by: row.maybe_text(15)?,
        timeline: Vec::new(),
        notices: Vec::new(),
    })
}

/// An entry of a timeline from: nth, at, kind, actor, text, evidence.
pub(super) fn entry(row: &impl Columns) -> Sql<TimelineEntry> {
    let evidence = row.maybe_text(5)?;
    Ok(TimelineEntry {
        nth: row.int(0)? as i32,
        at: Micros(row.int(1)?),
        kind: row.text(2)?,
        actor: row.maybe_text(3)?,
        text: row.text(4)?,
        evidence: evidence.map(|text| json(&text, "an incident's evidence is not JSON")).transpose()?,
    })
}

/// What became of a notice from: channel name, event, state, attempts, last_error, why, next_at, created_at, sent_at.
pub(super) fn notice(row: &impl Columns) -> Sql<NoticeView> {
    let state = row.text(2)?;
    let waits = matches!(state.as_str(), "due" | "held");
    Ok(NoticeView {
        channel: row.text(0)?,
        event: row.text(1)?,
        attempts: row.int(3)? as u32,
        last_error: row.maybe_text(4)?,
        why: row.maybe_text(5)?,
        next_at: row.maybe_int(6)?.filter(|_| waits).map(Micros),
        created_at: Micros(row.int(7)?),
        sent_at: row.maybe_int(8)?.map(Micros),
        state,
    })
}

/// What a channel got from: the columns of [`notice`], the incident's uid, payload.
pub(super) fn channel_notice(row: &impl Columns) -> Sql<ChannelNotice> {
    Ok(ChannelNotice { notice: notice(row)?, incident_uid: row.maybe_text(9)?, content: content(&row.text(10)?)? })
}

/// A due notice without its circumstances from: id, cause, channel, tenant, incident, event, severity, payload, attempts, created_at,
/// held, cooldown, resolved_at.
pub(super) fn due(row: &impl Columns) -> Sql<DueNotice> {
    let incident = row.maybe_int(4)?.map(IncidentId);
    let event = NoticeEvent::parse(&row.text(5)?);
    if incident.is_some() && event.is_none() {
        return Err(unreadable("a notice's event is of a newer version"));
    }
    Ok(DueNotice {
        id: row.int(0)?,
        cause: row.text(1)?,
        channel: ChannelId(row.int(2)?),
        tenant: TenantId(row.int(3)?),
        incident,
        event: event.filter(|_| incident.is_some()),
        severity: severity(row.int(6)?)?,
        content: content(&row.text(7)?)?,
        attempts: row.int(8)? as u32,
        with: row.maybe_int(16)?,
        created_at: Micros(row.int(9)?),
        held: row.int(10)? != 0,
        cooldown: Dur(row.int(11)?),
        over: row.maybe_int(12)?.map(Micros),
        told: None,
        unheard: false,
        last_about_rule: None,
        parents: Vec::new(),
    })
}

/// What a stored payload says.
fn content(json: &str) -> Sql<Content> {
    Content::parse(json).map_err(|_| unreadable("a notice's message is not readable"))
}

/// A dead letter from: id, channel name, incident's public id, event, payload, attempts, last_error, created_at.
pub(super) fn dead_letter(row: &impl Columns) -> Sql<DeadLetter> {
    Ok(DeadLetter {
        id: row.int(0)?,
        channel: row.text(1)?,
        incident_uid: row.maybe_text(2)?,
        event: row.text(3)?,
        content: content(&row.text(4)?)?,
        attempts: row.int(5)? as u32,
        last_error: row.maybe_text(6)?,
        created_at: Micros(row.int(7)?),
    })
}

/// A message that left from: sent_at, digest.
pub(super) fn sent_message(row: &impl Columns) -> Sql<SentMessage> {
    Ok(SentMessage { at: Micros(row.int(0)?), digest: row.int(1)? != 0 })
}

/// A silence from: uid, matcher, starts_at, ends_at, author, comment.
pub(super) fn silence(row: &impl Columns) -> Sql<Silence> {
    Ok(Silence {
        uid: row.text(0)?,
        matcher: json(&row.text(1)?, "a silence's matcher is not readable")?,
        starts_at: Micros(row.int(2)?),
        ends_at: Micros(row.int(3)?),
        author: row.text(4)?,
        comment: row.text(5)?,
    })
}

/// A matcher as it is stored.
pub(super) fn matcher(matcher: &Matcher) -> String {
    serde_json::to_string(matcher).expect("matchers have text keys only, so they are JSON")
}

/// A maintenance window from: name, matcher, window, origin.
pub(super) fn maintenance(row: &impl Columns) -> Sql<MaintenanceObject> {
    Ok(MaintenanceObject { name: row.text(0)?, matcher: row.text(1)?, window: row.text(2)?, origin: row.text(3)? })
}

/// An action from: id, incident, monitor, action, actor, at, comment.
pub(super) fn action(row: &impl Columns) -> Sql<ActionRow> {
    let act = Act::parse(&row.text(3)?);
    Ok(ActionRow {
        id: row.int(0)?,
        incident: IncidentId(row.int(1)?),
        monitor: MonitorId(row.int(2)?),
        act: act.ok_or_else(|| unreadable("an action is of a newer version"))?,
        actor: row.text(4)?,
        at: Micros(row.int(5)?),
        comment: row.maybe_text(6)?,
    })
}

/// What a monitor depends on from: monitor, parent's name, parent's health; at the beginning nothing is known of its health.
pub(super) fn parent(row: &impl Columns) -> Sql<(i64, (String, Health))> {
    let health = row.maybe_int(2)?.and_then(|code| Health::from_code(code as i16)).unwrap_or_default();
    Ok((row.int(0)?, (row.text(1)?, health)))
}

/// A push from: id, monitor, kind, exit, ping_us, body, at.
pub(super) fn push(row: &impl Columns) -> Sql<PushRow> {
    let kind = PushKind::from_code(row.int(2)? as i16);
    Ok(PushRow {
        id: row.int(0)?,
        monitor: MonitorId(row.int(1)?),
        kind: kind.ok_or_else(|| unreadable("a push's kind is of a newer version"))?,
        exit: row.maybe_int(3)?.map(|exit| exit as i32),
        ping_us: row.maybe_int(4)?,
        body: row.text(5)?,
        at: Micros(row.int(6)?),
    })
}

/// An open incident from: monitor, id, uid, rule, opened_at, summary, reason, acknowledged_by.
pub(super) fn open_incident(row: &impl Columns) -> Sql<(MonitorId, OpenIncident)> {
    let incident = OpenIncident {
        id: IncidentId(row.int(1)?),
        uid: row.text(2)?,
        rule: RuleKey::new(&row.text(3)?),
        opened_at: Micros(row.int(4)?),
        summary: row.text(5)?,
        reason: row.maybe_text(6)?,
        acknowledged_by: row.maybe_text(7)?,
    };
    Ok((MonitorId(row.int(0)?), incident))
}

/// A retired monitor from: id, uid, name, kind, target, tenant id, tenant slug.
pub(super) fn retired(row: &impl Columns) -> Sql<RetiredMonitor> {
    Ok(RetiredMonitor {
        id: MonitorId(row.int(0)?),
        uid: row.text(1)?,
        name: row.text(2)?,
        kind: row.text(3)?,
        target: row.text(4)?,
        tenant: TenantId(row.int(5)?),
        tenant_slug: row.text(6)?,
    })
}

/// A live event from: id, at, kind, data.
pub(super) fn live(row: &impl Columns) -> Sql<LiveRow> {
    let data = json(&row.text(3)?, "a live event is not JSON")?;
    Ok(LiveRow { id: row.int(0)?, event: LiveWrite { at: Micros(row.int(1)?), kind: row.text(2)?, data } })
}

/// The severity of its stored number.
fn severity(code: i64) -> Sql<Severity> {
    Severity::from_code(code as i16).ok_or_else(|| unreadable("a severity is of a newer version"))
}

/// A stored JSON text; `what` is wrong if it is none.
pub(super) fn json<T: DeserializeOwned>(text: &str, what: &'static str) -> Sql<T> {
    serde_json::from_str(text).map_err(|_| unreadable(what))
}
