//! From rows to a configuration. Pure: rows and texts come in, texts and problems come out.
//!
//! Each monitor becomes a small text of its own in the form of a configuration file, named after its row, and with one line for each
//! column that says something. So the one decoder decides what is accepted, and its problems lead back to table, number and column.
//! The rows that it refuses are left out, and the rest is read again without them.

use crate::config::decode::Problem;
use crate::config::tree::Env;
use crate::config::{self, BadConfig, Config};
use crate::store::uptime_o::{MonitorRow, ScheduleRow, Tables};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// What the public id of a monitor of the tables begins with; its number follows as twelve hexadecimal digits. A version 8 UUID
/// (RFC 9562) holds what its maker likes. It never changes: it is what the history of a monitor hangs on, whatever its name.
pub const UID_PREFIX: &str = "7570746d-6f00-8000-8000-";

/// The public id of a monitor of the tables.
pub fn uid_of(id: i64) -> String {
    format!("{UID_PREFIX}{id:012x}")
}

/// The number that a public id holds, if it is one of these.
pub fn table_id_of(uid: &str) -> Option<i64> {
    i64::from_str_radix(uid.strip_prefix(UID_PREFIX)?, 16).ok()
}

/// What an attempt is asked with unless a row says otherwise.
const USER_AGENT: &str = "CustomMonitor/1.0";
/// Headers that the connection sets itself; those that UptimeOAgent was given it did not send either.
const NOT_SENT: [&str; 3] = ["connection", "content-length", "transfer-encoding"];
/// An attempt never takes longer, as for every monitor.
const TIMEOUT_MAX: i64 = 300;
/// A longer pace is refused, as for every monitor.
const PACE_MAX: i64 = 7 * 86_400;
/// The longest pace of repeated attempts, as for every monitor.
const RECHECK_MAX: i64 = 3_600;
/// An attempt fails if the answer is larger; the largest that can be configured.
const BODY_MAX: &str = "100MiB";
/// So much of a body is stored where the schedule asks for bodies; the most that can be.
const BODY_KEPT: &str = "32KiB";

/// A row that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadRow {
    /// Its table.
    pub table: &'static str,
    /// Its number.
    pub id: i64,
    /// The column at fault.
    pub column: &'static str,
    /// What was found, and what is accepted.
    pub why: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, id, column, why } = self;
        write!(f, "{table} {id} ({column}): {why}")
    }
}

/// A monitor's row as a text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RowText {
    id: i64,
    name: String,
    text: String,
    /// The column behind each line.
    columns: Vec<&'static str>,
}

impl RowText {
    /// What is wrong with it, whatever stands beside it.
    fn alone(&self, env: Env<'_>) -> Vec<BadRow> {
        let text = (self.name.clone(), self.text.clone().into_bytes());
        let refused = config::load_texts(&[text], env).err();
        refused.map_or_else(Vec::new, |refused| refused.problems.iter().map(|problem| self.bad(problem)).collect())
    }

    /// A problem of its text as one of its row.
    fn bad(&self, problem: &Problem) -> BadRow {
        let column = self.columns.get(problem.at.line.saturating_sub(1) as usize).copied().unwrap_or("id");
        let accepted = problem.accepted.as_ref().map(|accepted| format!("; accepted: {accepted}")).unwrap_or_default();
        BadRow { table: "api_monitors", id: self.id, column, why: format!("{}{accepted}", problem.found) }
    }
}

/// The configuration that the tables make beside the texts of `base`, with the rows that are left out.
pub fn configuration(tables: &Tables, base: &[(String, Vec<u8>)], env: Env<'_>) -> Result<(Config, Vec<BadRow>), BadConfig> {
    let (mut rows, mut bad) = texts(tables);
    let datacenters = ("datacenters".to_owned(), datacenters(tables));
    loop {
        let texts: Vec<(String, Vec<u8>)> = base
            .iter()
            .cloned()
            .chain([datacenters.clone()])
            .chain(rows.iter().map(|row| (row.name.clone(), row.text.clone().into_bytes())))
            .collect();
        let refused = match config::load_texts(&texts, env) {
            Ok(mut config) => {
                keep_every_detail(&mut config);
                return Ok((config, bad));
            }
            Err(refused) => refused,
        };
        // A list of problems has an end, so each row is first read alone: else many bad rows would take many readings of all.
        let mut found: Vec<BadRow> = rows.iter().flat_map(|row| row.alone(env)).collect();
        if found.is_empty() {
            let by_name: HashMap<&str, &RowText> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
            let of_row = |problem: &Problem| by_name.get(&*problem.at.file).map(|row| row.bad(problem));
            found = refused.problems.iter().filter_map(of_row).collect();
        }
        if found.is_empty() {
            return Err(refused);
        }
        let gone: HashSet<i64> = found.iter().map(|row| row.id).collect();
        rows.retain(|row| !gone.contains(&row.id));
        bad.extend(found);
    }
}

/// Every attempt is written where its headers are looked for, so the evidence of every attempt is kept.
pub fn keep_every_detail(config: &mut Config) {
    for monitor in config.tenants.iter_mut().flat_map(|tenant| &mut tenant.monitors) {
        monitor.keep_every_detail = monitor.uid.as_deref().is_some_and(|uid| table_id_of(uid).is_some());
    }
}

/// The datacenters as a text: in each of them one agent is active, as ever.
fn datacenters(tables: &Tables) -> Vec<u8> {
    let all: Vec<Json> = codes(tables).into_values().map(|code| json!({ "code": code, "exclusive": true })).collect();
    json!({ "datacenters": all }).to_string().into_bytes()
}

/// The texts of the monitors that are watched from anywhere, and the rows that no text can be made of.
fn texts(tables: &Tables) -> (Vec<RowText>, Vec<BadRow>) {
    let schedules: HashMap<i64, &ScheduleRow> = tables.schedules.iter().map(|row| (row.id, row)).collect();
    let (names, places) = (names(&tables.monitors), places(tables));
    let (mut texts, mut bad) = (Vec::new(), Vec::new());
    for monitor in &tables.monitors {
        let Some(place) = places.get(&monitor.id) else { continue };
        let name = names.get(&monitor.id).cloned().unwrap_or_default();
        let problem = |column, why: String| BadRow { table: "api_monitors", id: monitor.id, column, why };
        let schedule = match monitor.schedule {
            None => Err(problem("schedule_id", "found nothing; accepted: the id of a row of schedules".to_owned())),
            Some(id) => schedules.get(&id).copied().ok_or_else(|| {
                problem("schedule_id", format!("found {id}, which schedules has not; accepted: the id of a row of schedules"))
            }),
        };
        let made = schedule.and_then(|schedule| {
            let probe = probe(monitor, schedule.include_response_body).map_err(|(column, why)| problem(column, why))?;
            Ok(text(monitor, &name, schedule, place, probe))
        });
        match made {
            Ok(text) => texts.push(text),
            Err(row) => bad.push(row),
        }
    }
    (texts, bad)
}

/// The codes of the datacenters that each monitor is watched from; who is not here is watched from nowhere. All nodes must have the
/// same monitors, so it is the same for all of them.
fn places(tables: &Tables) -> HashMap<i64, Vec<String>> {
    let codes = codes(tables);
    let mut places: HashMap<i64, Vec<String>> = HashMap::new();
    for row in &tables.assignments {
        if let Some(code) = codes.get(&row.datacenter) {
            places.entry(row.monitor).or_default().push(code.clone());
        }
    }
    places
}

/// The codes of all datacenters as they can stand in a configuration, each once.
pub fn codes(tables: &Tables) -> BTreeMap<i64, String> {
    let mut taken = HashSet::new();
    let mut codes = BTreeMap::new();
    for row in &tables.datacenters {
        let good = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
        let plain: String = row.code.trim().chars().map(good).collect();
        let code = match plain.as_str() {
            "" => row.id.to_string(),
            known if taken.contains(known) => format!("{known}-{}", row.id),
            _ => plain,
        };
        taken.insert(code.clone());
        codes.insert(row.id, code);
    }
    codes
}

/// The monitors' names as they can stand in a configuration: one that several rows have is made different by their numbers.
fn names(monitors: &[MonitorRow]) -> HashMap<i64, String> {
    let plain = |row: &MonitorRow| {
        let name: String = row.name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let name = name.trim();
        if name.is_empty() { format!("monitor {}", row.id) } else { name.to_owned() }
    };
    let mut count: HashMap<String, usize> = HashMap::new();
    for row in monitors {
        *count.entry(plain(row)).or_default() += 1;
    }
    let name = |row: &MonitorRow| {
        let name = plain(row);
        if count.get(&name).is_some_and(|n| *n > 1) { format!("{name} ({})", row.id) } else { name }
    };
    monitors.iter().map(|row| (row.id, name(row))).collect()
}

/// Lays a row out with one line for each column.
fn text(monitor: &MonitorRow, name: &str, schedule: &ScheduleRow, place: &[String], probe: Vec<(&'static str, String)>) -> RowText {
    let pace = schedule.interval;
    // Of a pace that the decoder refuses nothing else is said.
    let (recheck, timeout) = if pace > PACE_MAX { (1, 1) } else { (pace.clamp(1, RECHECK_MAX), pace.clamp(1, TIMEOUT_MAX)) };
    let mut lines = vec![
        ("id", "{\"monitors\":[{".to_owned()),
        ("name", format!("\"name\":{},", scalar(name))),
        ("id", format!("\"id\":{},", scalar(&uid_of(monitor.id)))),
        ("datacenter_monitors", format!("\"datacenters\":{},", json!(place))),
        ("schedule_id", format!("\"labels\":{{\"schedule\":{}}},", scalar(&schedule.name))),
        ("schedule_id, interval", format!("\"every\":\"{pace}s\",\"recheck\":\"{recheck}s\",\"timeout\":\"{timeout}s\",")),
    ];
    lines.extend(probe);
    lines.push(("id", "}]}".to_owned()));
    let (columns, texts): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
    RowText { id: monitor.id, name: format!("api_monitors/{}", monitor.id), text: texts.join("\n"), columns }
}

/// What is asked and how, column by column; or the column at fault.
fn probe(monitor: &MonitorRow, with_body: bool) -> Result<Vec<(&'static str, String)>, (&'static str, String)> {
    let url = monitor.url.trim();
    let bare =
        |schemes: &[&str]| schemes.iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or(url).trim_end_matches('/').to_owned();
    match monitor.kind.trim().to_ascii_uppercase().as_str() {
        "HTTP" | "HTTPS" => http(monitor, url, with_body),
        "TCP" => Ok(vec![("url", format!("\"probe\":{{\"tcp\":{{\"address\":{}}}}}", scalar(&bare(&["tcp://"]))))]),
        "PING" | "ICMP" => {
            let host = bare(&["ping://", "icmp://"]);
            Ok(vec![("url", format!("\"probe\":{{\"icmp\":{{\"host\":{}}}}}", scalar(host.trim_start_matches('[').trim_end_matches(']'))))])
        }
        _ => Err(("type", format!("found `{}`; accepted: HTTPS, HTTP, TCP, PING", crate::config::decode::shown(&monitor.kind)))),
    }
}

fn http(monitor: &MonitorRow, url: &str, with_body: bool) -> Result<Vec<(&'static str, String)>, (&'static str, String)> {
    let mut headers = headers(monitor.headers.as_deref()).map_err(|why| ("headers", why))?;
    headers.retain(|name, _| !NOT_SENT.contains(&name.to_ascii_lowercase().as_str()));
    if !headers.keys().any(|name| name.eq_ignore_ascii_case("user-agent")) {
        headers.insert("User-Agent".to_owned(), USER_AGENT.to_owned());
    }
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{}:{}", json!(name), scalar(value))).collect();
    let body = match monitor.body.as_deref().map(serde_json::from_str::<Json>) {
        None | Some(Ok(Json::Null)) => String::new(),
        Some(Ok(Json::String(text))) => text,
        Some(Ok(other @ (Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)))) => other.to_string(),
        Some(Err(error)) => return Err(("body", format!("it is not JSON: {error}"))),
    };
    let keep = if with_body { BODY_KEPT } else { "0" };
    Ok(vec![
        ("url", format!("\"probe\":{{\"http\":{{\"url\":{},", scalar(url))),
        ("method", format!("\"method\":{},", scalar(&monitor.method.trim().to_ascii_uppercase()))),
        ("headers", format!("\"headers\":{{{}}},", headers.join(","))),
        ("body", format!("\"body\":{},", scalar(&body))),
        (
            "url",
            format!(
                "\"max_redirects\":10,\"max_body\":\"{BODY_MAX}\",\"keep_body\":\"{keep}\",\"expect\":{{\"status\":[\"200-299\"]}}}}}}"
            ),
        ),
    ])
}

/// The headers of a row: an object of texts, numbers and truth values.
fn headers(text: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    const FORM: &str = "accepted: an object of names and texts";
    let object: Map<String, Json> = match text.map(serde_json::from_str::<Json>) {
        None | Some(Ok(Json::Null)) => Map::new(),
        Some(Ok(Json::Object(object))) => object,
        Some(Ok(Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_))) => return Err(format!("found no object; {FORM}")),
        Some(Err(error)) => return Err(format!("it is not JSON: {error}")),
    };
    let value = |(name, value): (String, Json)| match value {
        Json::String(text) => Ok((name, text)),
        Json::Bool(_) | Json::Number(_) => Ok((name, value.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => Err(format!("`{}` is no text; {FORM}", crate::config::decode::shown(&name))),
    };
    object.into_iter().map(value).collect()
}

/// A text as a scalar of a configuration: in quotes, so that it stays a text, and with every `$` as it is.
fn scalar(text: &str) -> String {
    let text = if text.contains("${") || text.contains("$$") { text.replace('$', "$$") } else { text.to_owned() };
    Json::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MonitorConfig;
    use crate::probe::ProbeConfig;
    use crate::store::uptime_o::{AgentRow, Assignment, DatacenterRow};

    fn monitor(id: i64, kind: &str, url: &str) -> MonitorRow {
        let (name, method) = (format!("monitor-{id}"), "GET".to_owned());
        MonitorRow { id, name, method, kind: kind.to_owned(), url: url.to_owned(), schedule: Some(1), headers: None, body: None }
    }

    fn tables(monitors: Vec<MonitorRow>) -> Tables {
        let schedule = |id, interval| ScheduleRow {
            id,
            name: format!("{interval}s"),
            interval,
            include_response_body: false,
            warning: None,
            critical: None,
        };
        let datacenter = |id, code: &str| DatacenterRow { id, code: code.to_owned(), name: code.to_owned(), region: None };
        Tables {
            schedules: vec![schedule(1, 60), schedule(2, 0), schedule(3, 7_200), schedule(4, 2_000_000_000)],
            assignments: monitors.iter().map(|row| Assignment { datacenter: 1, monitor: row.id }).collect(),
            monitors,
            datacenters: vec![datacenter(1, "va"), datacenter(2, "ny")],
            agents: vec![AgentRow { id: 11, name: "VA Agent".to_owned(), datacenter: Some(1) }],
        }
    }

    fn read(tables: &Tables) -> (Vec<MonitorConfig>, Vec<String>) {
        let (config, bad) = configuration(tables, &[], &|_| None).unwrap();
        (config.tenants[0].monitors.clone(), bad.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_row_is_a_monitor() {
        let mut row = monitor(4, "HTTPS", "https://example.org/a?b=${c}&d=$$e");
        row.name = "Shop \"one\"".to_owned();
        row.method = "post".to_owned();
        row.headers = Some(r#"{"X-Team":"sre","X-N":7,"Content-Length":"9","X-Dollar":"${HOME}"}"#.to_owned());
        row.body = Some(r#"{"limit": 200, "sort": {"b": "${x}"}}"#.to_owned());
        let (monitors, bad) = read(&tables(vec![row]));
        assert_eq!(bad, Vec::<String>::new());
        let [shop] = &monitors[..] else { panic!("{monitors:?}") };
        assert_eq!((shop.name.as_str(), shop.uid.as_deref()), ("Shop \"one\"", Some("7570746d-6f00-8000-8000-000000000004")));
        assert_eq!((shop.timeout.0, shop.cadence.recheck.0), (60_000_000, 60_000_000));
        assert!(shop.keep_every_detail);
        let ProbeConfig::Http(http) = &shop.probe else { panic!("{:?}", shop.probe) };
        assert_eq!((http.method.as_str(), http.url.as_str(), http.max_redirects), ("POST", "https://example.org/a?b=${c}&d=$$e", 10));
        let header = |name: &str| http.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((header("x-team"), header("x-n"), header("x-dollar")), (Some("sre"), Some("7"), Some("${HOME}")));
        assert_eq!((header("user-agent"), header("content-length")), (Some("CustomMonitor/1.0"), None));
        assert_eq!(&http.body[..], br#"{"limit":200,"sort":{"b":"${x}"}}"#);
    }

    #[test]
    fn a_body_that_is_a_text_is_sent_as_it_is_and_a_user_agent_of_ones_own_is_kept() {
        let mut row = monitor(1, "http", "http://127.0.0.1:1/");
        row.body = Some("\"plain \\u00e9\"".to_owned());
        row.headers = Some(r#"{"user-agent":"mine"}"#.to_owned());
        let (monitors, _) = read(&tables(vec![row]));
        let ProbeConfig::Http(http) = &monitors[0].probe else { panic!("{monitors:?}") };
        assert_eq!((std::str::from_utf8(&http.body), &http.headers["user-agent"]), (Ok("plain é"), &"mine".parse().unwrap()));
    }

    #[test]
    fn the_type_says_how() {
        let rows = [("TCP", "tcp://127.0.0.1:5432"), ("TCP", "127.0.0.1:5432"), ("PING", "127.0.0.1"), ("ping", "ping://[::1]/")];
        let rows = rows.iter().zip(1..).map(|((kind, url), id)| monitor(id, kind, url)).collect();
        let (monitors, bad) = read(&tables(rows));
        assert_eq!(bad, Vec::<String>::new());
        let targets: Vec<String> = monitors.iter().map(|monitor| monitor.probe.target()).collect();
        assert_eq!(targets[..2], ["tcp://127.0.0.1:5432", "tcp://127.0.0.1:5432"]);
        assert!(targets[2].contains("127.0.0.1") && targets[3].contains("::1"), "{targets:?}");
    }

    #[test]
    fn a_bad_row_is_told_with_its_column_and_concerns_no_other() {
        let good = monitor(1, "HTTP", "http://127.0.0.1:1/");
        let mut rows = vec![good.clone()];
        let mut bad = |id, change: &dyn Fn(&mut MonitorRow)| {
            let mut row = MonitorRow { id, name: format!("bad {id}"), ..good.clone() };
            change(&mut row);
            rows.push(row);
        };
        bad(2, &|row| row.schedule = None);
        bad(3, &|row| row.schedule = Some(99));
        bad(4, &|row| row.url = "not a url".to_owned());
        bad(5, &|row| row.kind = "GOPHER".to_owned());
        bad(6, &|row| row.schedule = Some(2));
        bad(7, &|row| row.method = "BREW".to_owned());
        bad(8, &|row| row.headers = Some("[1]".to_owned()));
        bad(9, &|row| row.headers = Some(r#"{"a b":"c"}"#.to_owned()));
        bad(11, &|row| row.schedule = Some(4));
        bad(10, &|row| (row.kind, row.url) = ("TCP".to_owned(), "nowhere".to_owned()));
        let (monitors, told) = read(&tables(rows));
        assert_eq!(monitors.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["monitor-1"]);
        let mut told: Vec<&str> = told.iter().map(String::as_str).collect();
        told.sort_by_key(|text| text.split(' ').nth(1).and_then(|id| id.parse::<i64>().ok()));
        let begins = [
            "api_monitors 2 (schedule_id): found nothing",
            "api_monitors 3 (schedule_id): found 99, which schedules has not",
            "api_monitors 4 (url): found `not a url`; accepted: an http:// or https:// URL",
            "api_monitors 5 (type): found `GOPHER`; accepted: HTTPS, HTTP, TCP, PING",
            "api_monitors 6 (schedule_id, interval): found `0s`; accepted: a duration from 1s",
            "api_monitors 7 (method): found `BREW`; accepted: GET, HEAD",
            "api_monitors 8 (headers): found no object",
            "api_monitors 9 (headers): `a b` and its value cannot be sent as a header",
            "api_monitors 10 (url): found `nowhere`; accepted: host:port",
            "api_monitors 11 (schedule_id, interval): found `2000000000s`; accepted: a duration from 1s to 7d",
        ];
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (told, begin) in told.iter().zip(begins) {
            assert!(told.starts_with(begin), "{told}");
        }
    }

    #[test]
    fn each_of_many_bad_rows_is_told() {
        // More than a list of problems holds.
        let rows = (1..=400).map(|id| monitor(id, "HTTP", if id % 2 == 0 { "http://127.0.0.1:1/" } else { "nowhere" })).collect();
        let (monitors, told) = read(&tables(rows));
        assert_eq!((monitors.len(), told.len()), (200, 200));
    }

    #[test]
    fn what_is_wrong_elsewhere_is_refused_as_a_whole() {
        let base = [("watchkeeper.yaml".to_owned(), b"monitros: []\n".to_vec())];
        let refused = configuration(&tables(vec![monitor(1, "HTTP", "http://h/")]), &base, &|_| None).unwrap_err();
        assert!(refused.to_string().contains("watchkeeper.yaml:1:1: unknown key `monitros`"), "{refused}");
    }

    #[test]
    fn only_what_is_assigned_is_watched() {
        let rows = (1..=3).map(|id| monitor(id, "HTTP", "http://a/")).collect();
        let mut tables = tables(rows);
        let assigned = [(1, 2), (1, 3), (2, 3), (99, 1)];
        tables.assignments = assigned.map(|(datacenter, monitor)| Assignment { datacenter, monitor }).into();
        let found: Vec<(String, Vec<String>)> = read(&tables).0.into_iter().map(|m| (m.name, m.datacenters)).collect();
        let want = [("monitor-2", vec!["va"]), ("monitor-3", vec!["ny", "va"])];
        assert_eq!(found, want.map(|(name, codes)| (name.to_owned(), codes.into_iter().map(str::to_owned).collect::<Vec<_>>())));
        let exclusive = configuration(&tables, &[], &|_| None).unwrap().0.exclusive;
        assert_eq!(exclusive, ["ny", "va"].map(str::to_owned).into(), "one agent of each is active");
    }

    #[test]
    fn names_and_codes_that_are_not_unique_are_made_so() {
        let mut rows = vec![monitor(1, "HTTP", "http://a/"), monitor(2, "HTTP", "http://b/"), monitor(3, "HTTP", "http://c/")];
        rows[0].name = "same".to_owned();
        rows[1].name = " same\n".to_owned();
        rows[2].name = "\t".to_owned();
        let (monitors, bad) = read(&tables(rows));
        assert_eq!(bad, Vec::<String>::new());
        assert_eq!(monitors.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["same (1)", "same (2)", "monitor 3"]);
        let mut tables = tables(Vec::new());
        tables.datacenters[1].code = "va".to_owned();
        tables.datacenters.push(DatacenterRow { id: 3, code: "S F".to_owned(), ..tables.datacenters[0].clone() });
        assert_eq!(codes(&tables).into_values().collect::<Vec<_>>(), ["va", "va-2", "S-F"]);
    }

    #[test]
    fn the_public_id_holds_the_number() {
        for id in [1, 4, 65_536, i64::from(i32::MAX)] {
            let uid = uid_of(id);
            assert_eq!((table_id_of(&uid), uuid::Uuid::parse_str(&uid).map(|u| u.to_string())), (Some(id), Ok(uid)));
        }
        assert_eq!(table_id_of("0190c1d8-6d2f-7c3a-9d3e-0d6f5a1b2c3d"), None);
    }
}
