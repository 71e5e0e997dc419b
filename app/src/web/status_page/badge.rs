//! Badges: small SVG pictures for READMEs and intranets, under the addresses that Uptime Kuma and Gatus gave them.
//!
//! Only monitors that stand on a page without a password have any; of all others it is not said whether they exist. Most are made from what the
//! page shows. Uptime and response times over other windows are read once a minute at most, and only so many of them per second.

use super::super::Web;
use super::super::api::Segment;
use super::super::error::ApiError;
use super::super::periods::uptime_percent;
use super::markup::Markup;
use super::view::{Line, Members, State};
use super::{CACHED_LONGER, Shown, Visitor, answer, lock, shown, tag_of};
use crate::sketch::Sketch;
use crate::spec::{Fleet, OwnedPage, Pages};
use crate::store::TenantScope;
use axum::Json;
use axum::extract::Path;
use axum::extract::State as Given;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Serialize;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use url::form_urlencoded;
use watchkeeper_core::{Dur, Micros, MonitorId};

/// A window is at most so long: Kuma's longest, and what days are kept for.
const HOURS_MAX: i64 = 90 * 24;

/// A value is good for so long.
const VALUE_FRESH: Dur = Dur::secs(60);

/// So many values are kept: a few windows of every monitor of a large page. More is memory for strangers who ask for every hour; when it is
/// full, it is emptied.
const VALUES_MAX: usize = 4_096;

/// Values that are read per second. More would let strangers keep the store busy; fewer would leave READMEs without pictures.
const READS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");

/// Characters of a text in the address that are shown.
const TEXT_MAX: usize = 64;

/// Things that an address says about a badge. Kuma knows fewer.
const SAID_MAX: usize = 32;

const GREEN: &str = "#40cc11";
const GREY: &str = "#999";
const LABEL: &str = "#555";

/// Values by their window in hours, each with when it was read.
type Values = HashMap<(MonitorId, Value, i64), (Micros, Option<f64>)>;

/// What is kept between requests.
pub(super) struct Kept {
    index: Mutex<Option<Arc<Index>>>,
    values: Mutex<Values>,
    reads: DefaultDirectRateLimiter,
}

impl Default for Kept {
    fn default() -> Self {
        Self { index: Mutex::default(), values: Mutex::default(), reads: RateLimiter::direct(Quota::per_second(READS_PER_SECOND)) }
    }
}

/// Which page shows a monitor to everybody, by all its names.
struct Index {
    pages: Pages,
    fleet: Fleet,
    by_name: HashMap<String, (Arc<OwnedPage>, MonitorId)>,
}

/// A value that is read for a window of hours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Value {
    /// In percent.
    Uptime,
    /// The median of attempts that went well, in milliseconds.
    Response,
}

/// What Kuma's badges tell.
#[derive(Clone, Copy)]
enum Measure {
    Status,
    Uptime,
    Ping,
    AvgResponse,
    CertExp,
    Response,
}

impl Measure {
    const ALL: [(&'static str, Self); 6] = [
        ("status", Self::Status),
        ("uptime", Self::Uptime),
        ("ping", Self::Ping),
        ("avg-response", Self::AvgResponse),
        ("cert-exp", Self::CertExp),
        ("response", Self::Response),
    ];
}

/// A monitor that has badges.
struct Found {
    page: Arc<Shown>,
    scope: TenantScope,
    monitor: MonitorId,
}

impl Found {
    fn line(&self) -> Result<&Line, ApiError> {
        self.page.view.lines().into_iter().find(|line| line.id == self.monitor).ok_or_else(absent)
    }
}

fn absent() -> ApiError {
    ApiError::not_found("badge")
}

/// The monitor of that name, on the first page that shows it to everybody.
async fn find(web: &Web, name: &str) -> Result<Found, ApiError> {
    let index = index(web);
    let (page, monitor) = index.by_name.get(name).ok_or_else(absent)?.clone();
    let scope = TenantScope(page.tenant);
    let page = shown(web, page).await.map_err(|_| ApiError::unavailable("store_unavailable", "how it is cannot be said now; try again"))?;
    Ok(Found { page, scope, monitor })
}

/// Made anew when another configuration has come into force.
fn index(web: &Web) -> Arc<Index> {
    let (pages, fleet) = (web.pages.borrow().clone(), web.fleet.borrow().clone());
    let mut kept = lock(&web.0.status_pages.badges.index);
    if let Some(index) = kept.as_ref().filter(|index| index.is_of(&pages, &fleet)) {
        return index.clone();
    }
    let mut by_name = HashMap::new();
    for page in pages.0.iter().flat_map(|pages| pages.iter()).filter(|page| page.config.password.is_none()) {
        for (group, monitors) in Members::of(page, &fleet).into_groups() {
            for (spec, title) in monitors {
                // Of two with the same name, the first in the configuration has it. An id is nobody else's.
                let names = [spec.id.0.to_string(), spec.uid.clone(), gatus_key(group.as_deref(), &title)];
                for name in names {
                    by_name.entry(name).or_insert((page.clone(), spec.id));
                }
            }
        }
    }
    let index = Arc::new(Index { pages, fleet, by_name });
    *kept = Some(index.clone());
    index
}

impl Index {
    fn is_of(&self, pages: &Pages, fleet: &Fleet) -> bool {
        let same = match (&self.pages.0, &pages.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && Arc::ptr_eq(&self.fleet.0, &fleet.0)
    }
}

/// `group_name`, as Gatus writes it.
fn gatus_key(group: Option<&str>, name: &str) -> String {
    let plain = |text: &str| {
        text.trim()
            .to_lowercase()
            .chars()
            .map(|c| if matches!(c, '/' | '_' | '.' | ',' | '#' | ' ' | '+' | '&') { '-' } else { c })
            .collect::<String>()
    };
    format!("{}_{}", plain(group.unwrap_or_default()), plain(name))
}

/// A value over the last hours.
async fn value(web: &Web, found: &Found, value: Value, hours: i64) -> Result<Option<f64>, ApiError> {
    let kept = &web.0.status_pages.badges;
    let (key, now) = ((found.monitor, value, hours), web.clock.now());
    let known = lock(&kept.values).get(&key).filter(|(at, _)| now - *at < VALUE_FRESH).map(|(_, known)| *known);
    if let Some(known) = known {
        return Ok(known);
    }
    kept.reads.check().map_err(|_| ApiError::too_many("too many badges at once; try again in a second"))?;
    let read = match value {
        Value::Uptime => {
            let from = now - Dur::secs(hours * 3_600);
            uptime_percent(&web.store.state_times(found.scope, found.monitor, from, now).await?)
        }
        Value::Response => {
            // Whole hours, or whole days for long windows: those are summed up already.
            let bucket = Dur::secs(if hours <= 48 { 3_600 } else { 86_400 });
            let begin = (now - Dur::secs(hours * 3_600)).0;
            let from = Micros(begin - begin.rem_euclid(bucket.0));
            let mut all = Sketch::default();
            for one in web.store.metrics(found.scope, found.monitor, None, from, now, bucket).await? {
                all.merge(&one.sketch);
            }
            all.quantile(0.5).map(|us| us as f64 / 1_000.0)
        }
    };
    let mut values = lock(&kept.values);
    if values.len() >= VALUES_MAX {
        values.clear();
    }
    values.insert(key, (now, read));
    Ok(read)
}

// --- Uptime Kuma's

/// `GET /api/badge/{id}/{measure}`.
pub(in super::super) async fn kuma_badge(
    Given(web): Given<Web>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
    visitor: Visitor,
) -> Result<Response, ApiError> {
    let Path((id, measure)) = path.map_err(|_| absent())?;
    kuma(&web, &id, &measure, None, &uri, &visitor).await
}

/// `GET /api/badge/{id}/{measure}/{window}`.
pub(in super::super) async fn kuma_badge_over(
    Given(web): Given<Web>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    uri: Uri,
    visitor: Visitor,
) -> Result<Response, ApiError> {
    let Path((id, measure, window)) = path.map_err(|_| absent())?;
    kuma(&web, &id, &measure, Some(&window), &uri, &visitor).await
}

async fn kuma(web: &Web, id: &str, measure: &str, window: Option<&str>, uri: &Uri, visitor: &Visitor) -> Result<Response, ApiError> {
    let found = find(web, id).await?;
    let line = found.line()?;
    let measure = Measure::ALL.iter().find(|(word, _)| *word == measure).map(|(_, measure)| *measure).ok_or_else(absent)?;
    let said = Said::read(uri.query().unwrap_or_default());
    let hours = window.map_or(Some(24), hours).ok_or_else(|| {
        ApiError::bad_request(format!("a window is a number of hours, or one such as 24h, 7d or 30d, up to {} days", HOURS_MAX / 24))
    })?;
    let none = || Badge {
        label: String::new(),
        message: "N/A".to_owned(),
        color: GREY.to_owned(),
        label_color: LABEL.to_owned(),
        square: said.square,
    };
    let valued = |label: &str, number: Option<String>, suffix: &str, color: &str| match number {
        Some(number) => said.badge(label, &number, suffix, color),
        None => none(),
    };
    let whole = |ms: f64| format!("{}", ms.round() as i64);
    let badge = match measure {
        Measure::Status => said.status(line.state).unwrap_or_else(none),
        Measure::Uptime => {
            let percent = value(web, &found, Value::Uptime, hours).await?;
            let suffix = said.get("labelSuffix").unwrap_or("h");
            let label = format!("Uptime ({hours}{suffix})");
            valued(&label, percent.map(plain_percent), "%", percent.map_or(GREY, uptime_color))
        }
        Measure::Ping | Measure::AvgResponse => {
            let took = value(web, &found, Value::Response, hours).await?;
            let label = if matches!(measure, Measure::Ping) { "Avg. Ping" } else { "Avg. Response" };
            valued(&format!("{label} ({hours}h)"), took.map(whole), "ms", "blue")
        }
        Measure::Response => valued("Response", line.ping_us.map(|us| whole(us as f64 / 1_000.0)), "ms", "blue"),
        Measure::CertExp => match line.cert_days {
            Some(days) => said.certificate(days),
            None => Badge { message: "No/Bad Cert".to_owned(), ..none() },
        },
    };
    Ok(picture(&badge, visitor))
}

/// Hours of a window: a number of hours, or one with its unit.
fn hours(window: &str) -> Option<i64> {
    let (number, unit) = match window.as_bytes().last()? {
        b'h' => (&window[..window.len() - 1], 1),
        b'd' => (&window[..window.len() - 1], 24),
        _ => (window, 1),
    };
    let plain = !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit());
    let hours = plain.then(|| number.parse::<i64>().ok()).flatten()? * unit;
    (1..=HOURS_MAX).contains(&hours).then_some(hours)
}

/// `99.98`, `100`: cut, never rounded up.
fn plain_percent(percent: f64) -> String {
    let hundredths = (percent * 100.0 + 1e-6).floor() as i64;
    if hundredths == 10_000 { "100".to_owned() } else { format!("{}.{:02}", hundredths / 100, hundredths % 100) }
}

/// What the address says about how the badge looks. Unknown things are Kuma's own, and left alone.
struct Said {
    texts: HashMap<String, String>,
    square: bool,
}

impl Said {
    fn read(query: &str) -> Self {
        let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
        let texts: HashMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .take(SAID_MAX)
            .map(|(key, value)| (cut(&key), cut(&crate::foreign::on_one_line(&value))))
            .collect();
        let square = texts.get("style").is_some_and(|style| style == "flat-square");
        Self { texts, square }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// A colour of the address, if it is one.
    fn color(&self, key: &str, usual: &str) -> String {
        let given = self.get(key).and_then(color);
        given.or_else(|| color(usual)).unwrap_or_else(|| GREY.to_owned())
    }

    fn badge(&self, label: &str, message: &str, suffix: &str, color: &str) -> Badge {
        let part = |key| self.get(key).unwrap_or_default();
        Badge {
            label: format!("{}{}", part("labelPrefix"), self.get("label").unwrap_or(label)),
            message: format!("{}{message}{}", part("prefix"), self.get("suffix").unwrap_or(suffix)),
            color: self.color("color", color),
            label_color: self.color("labelColor", LABEL),
            square: self.square,
        }
    }

    fn status(&self, state: State) -> Option<Badge> {
        let (name, word, usual) = match state {
            State::Operational | State::Degraded => ("up", "Up", "#66c20a"),
            State::Outage => ("down", "Down", "#c2290a"),
            State::Unknown => ("pending", "Pending", "#f8a306"),
            State::Maintenance => ("maintenance", "Maintenance", "#1747f5"),
            State::Paused => return None,
        };
        let message = self.get(&format!("{name}Label")).unwrap_or(word).to_owned();
        let color = self.color(&format!("{name}Color"), usual);
        let label = self.get("label").unwrap_or("Status").to_owned();
        Some(Badge { label, message, color, label_color: self.color("labelColor", LABEL), square: self.square })
    }

    fn certificate(&self, days: i64) -> Badge {
        let limit = |key, usual| self.get(key).and_then(|text| text.parse().ok()).unwrap_or(usual);
        let (key, usual) = if days > limit("warnDays", 14) {
            ("upColor", "#66c20a")
        } else if days > limit("downDays", 7) {
            ("warnColor", "#eed202")
        } else {
            ("downColor", "#c2290a")
        };
        Badge { color: self.color(key, usual), ..self.badge("Cert Exp.", &days.to_string(), " days", GREY) }
    }
}

// --- Gatus'

/// `GET /api/v1/endpoints/{key}/health/badge.svg`.
pub(in super::super) async fn gatus_health(Given(web): Given<Web>, Segment(key): Segment, visitor: Visitor) -> Result<Response, ApiError> {
    let found = find(&web, &key).await?;
    let (word, color, _) = health(found.line()?.state);
    Ok(picture(&Badge::plain("health", word, color), &visitor))
}

/// What shields.io makes a badge of.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Shields {
    schema_version: u8,
    label: String,
    message: &'static str,
    color: &'static str,
}

/// `GET /api/v1/endpoints/{key}/health/badge.shields`.
pub(in super::super) async fn gatus_shields(Given(web): Given<Web>, Segment(key): Segment) -> Result<Response, ApiError> {
    let found = find(&web, &key).await?;
    let line = found.line()?;
    let (message, _, color) = health(line.state);
    let mut response = Json(Shields { schema_version: 1, label: line.title.clone(), message, color }).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHED_LONGER));
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

/// Gatus' word, its colour, and that of shields.io.
const fn health(state: State) -> (&'static str, &'static str, &'static str) {
    match state {
        State::Operational | State::Degraded => ("up", GREEN, "brightgreen"),
        State::Outage => ("down", "#c7130a", "red"),
        State::Unknown | State::Maintenance | State::Paused => ("?", "#ccb311", "yellow"),
    }
}

/// `GET /api/v1/endpoints/{key}/uptimes/{window}/badge.svg`.
pub(in super::super) async fn gatus_uptime(
    Given(web): Given<Web>,
    path: Result<Path<(String, String)>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, ApiError> {
    let (found, window, hours) = gatus(&web, path).await?;
    let percent = value(&web, &found, Value::Uptime, hours).await?;
    let message = percent.map_or_else(|| "?".to_owned(), |percent| format!("{}%", plain_percent(percent)));
    Ok(picture(&Badge::plain(&format!("uptime {window}"), &message, percent.map_or(GREY, uptime_color)), &visitor))
}

/// `GET /api/v1/endpoints/{key}/response-times/{window}/badge.svg`.
pub(in super::super) async fn gatus_response_time(
    Given(web): Given<Web>,
    path: Result<Path<(String, String)>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, ApiError> {
    let (found, window, hours) = gatus(&web, path).await?;
    let took = value(&web, &found, Value::Response, hours).await?;
    let message = took.map_or_else(|| "?".to_owned(), |ms| format!("{}ms", ms.round() as i64));
    Ok(picture(&Badge::plain(&format!("response time {window}"), &message, took.map_or(GREY, response_color)), &visitor))
}

async fn gatus(web: &Web, path: Result<Path<(String, String)>, PathRejection>) -> Result<(Found, &'static str, i64), ApiError> {
    const WINDOWS: [(&str, i64); 4] = [("1h", 1), ("24h", 24), ("7d", 168), ("30d", 720)];
    let Path((key, window)) = path.map_err(|_| absent())?;
    let found = find(web, &key).await?;
    let (window, hours) = WINDOWS
        .into_iter()
        .find(|(word, _)| *word == window)
        .ok_or_else(|| ApiError::bad_request("the window is not known; accepted are 1h, 24h, 7d and 30d"))?;
    Ok((found, window, hours))
}

fn uptime_color(percent: f64) -> &'static str {
    match percent {
        p if p >= 97.5 => GREEN,
        p if p >= 95.0 => "#94cc11",
        p if p >= 90.0 => "#ccd311",
        p if p >= 80.0 => "#ccb311",
        p if p >= 65.0 => "#cc8111",
        _ => "#c7130a",
    }
}

fn response_color(ms: f64) -> &'static str {
    match ms {
        ms if ms <= 50.0 => GREEN,
        ms if ms <= 200.0 => "#94cc11",
        ms if ms <= 300.0 => "#ccd311",
        ms if ms <= 500.0 => "#ccb311",
        ms if ms <= 750.0 => "#cc8111",
        _ => "#c7130a",
    }
}

// --- the picture

/// A label and a message, each on its colour.
struct Badge {
    label: String,
    message: String,
    color: String,
    label_color: String,
    square: bool,
}

fn picture(badge: &Badge, visitor: &Visitor) -> Response {
    let svg = badge.svg();
    let tag = tag_of(svg.as_bytes());
    let mut response = answer(svg.into(), &tag, "image/svg+xml", CACHED_LONGER, visitor);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

impl Badge {
    fn plain(label: &str, message: &str, color: &str) -> Self {
        Self { label: label.to_owned(), message: message.to_owned(), color: color.to_owned(), label_color: LABEL.to_owned(), square: false }
    }

    fn svg(&self) -> String {
        let width_of = |text: &str| if text.is_empty() { 0 } else { width(text) + 10 };
        let (label, message) = (width_of(&self.label), width_of(&self.message));
        let whole = label + message;
        let mut out = Markup::default();
        out.raw("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"").number(whole).raw("\" height=\"20\" role=\"img\" aria-label=\"");
        let named = if self.label.is_empty() { self.message.clone() } else { format!("{}: {}", self.label, self.message) };
        out.text(&named).raw("\"><title>").text(&named).raw("</title><clipPath id=\"r\"><rect width=\"").number(whole);
        out.raw("\" height=\"20\" rx=\"")
            .number(if self.square { 0_i64 } else { 3 })
            .raw("\"/></clipPath><g clip-path=\"url(#r)\"><rect width=\"");
        out.number(label).raw("\" height=\"20\" fill=\"").text(&self.label_color).raw("\"/><rect x=\"").number(label);
        out.raw("\" width=\"").number(message).raw("\" height=\"20\" fill=\"").text(&self.color);
        out.raw("\"/></g><g text-anchor=\"middle\" font-family=\"Verdana,Geneva,DejaVu Sans,sans-serif\" font-size=\"11\">");
        let mut word = |text: &str, middle: i64, ground: &str| {
            if text.is_empty() {
                return;
            }
            out.raw("<text x=\"").number(middle).raw("\" y=\"14\" textLength=\"").number(width(text)).raw("\" fill=\"");
            out.raw(if is_light(ground) { "#1a1a1a" } else { "#fff" }).raw("\">").text(text).raw("</text>");
        };
        word(&self.label, label / 2, &self.label_color);
        word(&self.message, label + message / 2, &self.color);
        out.raw("</g></svg>");
        out.into_string()
    }
}

/// About how wide a text is in Verdana of 11 pixels. `textLength` makes it so wide, in any font.
fn width(text: &str) -> i64 {
    let tenths: i64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '\'' | '|' => 32,
            ' ' | 'f' | 't' | 'I' | '.' | ',' | ':' | ';' | '!' | '(' | ')' | '[' | ']' | '/' | '-' | 'r' => 44,
            'm' | 'W' | '%' | '@' | '\u{1100}'.. => 112,
            'w' | 'M' | 'Q' | 'O' | 'G' | 'D' | 'H' | 'N' => 90,
            'A'..='Z' => 78,
            ' '..='~' => 68,
            _ => 74,
        })
        .sum();
    (tenths + 9) / 10
}

/// A colour that SVG knows, of those that badges have: a name, or `#rgb`, `#rrggbb`, the mark left out or not.
fn color(text: &str) -> Option<String> {
    let named = match text {
        "brightgreen" => Some("#4c1"),
        "green" => Some("#97ca00"),
        "yellowgreen" => Some("#a4a61d"),
        "yellow" => Some("#dfb317"),
        "orange" => Some("#fe7d37"),
        "red" => Some("#e05d44"),
        "blue" => Some("#007ec6"),
        "grey" | "gray" => Some("#555"),
        "lightgrey" | "lightgray" => Some("#9f9f9f"),
        _ => None,
    };
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let digits = text.strip_prefix('#').unwrap_or(text);
    if matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(format!("#{}", digits.to_ascii_lowercase()));
    }
    ((3..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())).then(|| text.to_owned())
}

/// Whether dark letters are read better on it.
fn is_light(color: &str) -> bool {
    let digits = color.trim_start_matches('#');
    let channel = |nth: usize| {
        let part = if digits.len() == 3 {
            digits.get(nth..=nth).map(|d| d.repeat(2))
        } else {
            digits.get(2 * nth..2 * nth + 2).map(str::to_owned)
        };
        part.and_then(|part| u32::from_str_radix(&part, 16).ok())
    };
    let (Some(red), Some(green), Some(blue)) = (channel(0), channel(1), channel(2)) else { return false };
    color.starts_with('#') && red * 299 + green * 587 + blue * 114 > 150_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_hours_with_or_without_their_unit() {
        let cases = [("24", Some(24)), ("24h", Some(24)), ("7d", Some(168)), ("90d", Some(2_160)), ("1", Some(1))];
        for (text, want) in cases {
            assert_eq!(hours(text), want, "{text}");
        }
        for bad in ["", "h", "0", "0h", "-1", "91d", "2161", "99999", "1y", "1.5h", "24hh", "٣"] {
            assert_eq!(hours(bad), None, "{bad}");
        }
    }

    #[test]
    fn colours_are_names_or_digits_and_nothing_else() {
        let cases = [("red", "#e05d44"), ("#FFF", "#fff"), ("00ff7f", "#00ff7f"), ("rebeccapurple", "rebeccapurple")];
        for (text, want) in cases {
            assert_eq!(color(text).as_deref(), Some(want));
        }
        for bad in ["", "#12", "url(#a)", "red\"", "RED", "a b", "#12345g"] {
            assert_eq!(color(bad), None, "{bad}");
        }
        assert!(is_light("#fff") && is_light("#eed202") && !is_light("#555") && !is_light("#1747f5") && !is_light("navy"));
    }

    #[test]
    fn keys_are_written_as_gatus_writes_them() {
        let cases =
            [(Some("Core"), "Front End", "core_front-end"), (Some("a/b test"), "a", "a-b-test_a"), (None, "us.west_2", "_us-west-2")];
        for (group, name, want) in cases {
            assert_eq!(gatus_key(group, name), want);
        }
    }

    #[test]
    fn a_badge_is_as_wide_as_its_words_and_shows_no_markup() {
        let svg = Badge::plain("<b>\"&", "up", GREEN).svg();
        assert!(svg.contains("&lt;b&gt;&quot;&amp;: up") && !svg.contains("<b>"), "{svg}");
        assert!(width("Uptime (24h)") > width("up") && width("日本") == 23);
    }
}
