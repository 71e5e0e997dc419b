//! What a heartbeat is in `api_heartbeats`. Pure: every value comes out such that its column takes it.
//!
//! Times are whole milliseconds, cut as UptimeOAgent cut them, and 0 for a phase that did not happen. Up to the first byte they count
//! from the start of the attempt. An attempt that says nothing about the target (`unknown`: this node had no network, no name server,
//! no permission) has no row: a column that is true or false could only be wrong about it.

use crate::probe::Attempt;
use crate::store::uptime_o::{ApiHeartbeat, Unmirrored};
use serde_json::{Map, Value as Json};
use watchkeeper_core::{Outcome, Reason};

/// So many characters fit into the columns of content type, server, cache status and error type.
const SHORT_MAX: usize = 50;
/// Thresholds of a schedule that has none.
const WARNING_MS: i64 = 300;
const CRITICAL_MS: i64 = 800;

/// The row of a heartbeat, written by that agent; `None` if it says nothing about the target.
pub fn row(beat: &Unmirrored, agent: i64) -> Option<ApiHeartbeat> {
    let reason = match beat.outcome {
        Outcome::Up => None,
        Outcome::Down(reason) => Some(reason),
        Outcome::Unknown(_) => return None,
    };
    // Evidence of a newer version is none: the numbers stand in the heartbeat itself.
    let attempt = beat.detail.as_deref().and_then(|json| serde_json::from_str::<Attempt>(json).ok());
    let http = attempt.as_ref().and_then(|attempt| attempt.http.as_ref());
    // Earlier hops were read to their end before the last one began.
    let transfer = attempt.as_ref().and_then(|attempt| attempt.hops.last()).map_or(beat.transfer_us, |hop| hop.transfer_us as i64);
    let first_byte = (beat.total_us - transfer).max(0);
    let failed = reason.is_some_and(|reason| error_type(reason, beat.code).is_some());
    let answered = beat.first_byte_us > 0 && (!failed || beat.code >= 0);
    let short = |text: Option<&String>| text.map(|text| cut(text)).filter(|text| !text.is_empty());
    let body = http.and_then(|http| http.body_head.as_deref()).filter(|_| beat.include_response_body);
    Some(ApiHeartbeat {
        monitor_id: beat.monitor,
        agent_id: agent,
        executed_at: beat.at,
        success: reason.is_none(),
        response_time_ms: ms(if failed { beat.total_us } else { first_byte }),
        response_size_bytes: whole(beat.size),
        response_status_code: whole(beat.code),
        response_content_type: short(http.and_then(|http| http.content_type.as_ref())),
        response_server: short(http.and_then(|http| http.server.as_ref())),
        response_cache_status: short(http.and_then(|http| http.cache_status.as_ref())),
        dns_lookup_ms: ms(beat.dns_us),
        tcp_connect_ms: ms(beat.connect_us),
        tls_handshake_ms: ms(beat.tls_us),
        time_to_first_byte_ms: if answered { ms(first_byte) } else { 0 },
        warning_threshold_ms: whole(beat.warning.unwrap_or(WARNING_MS)),
        critical_threshold_ms: whole(beat.critical.unwrap_or(CRITICAL_MS)),
        error_type: reason.and_then(|reason| error_type(reason, beat.code)).map(str::to_owned),
        error_message: reason.filter(|_| failed).map(|reason| error_message(reason, attempt.as_ref())),
        raw_request_headers: http.and_then(|http| headers(&http.request_headers)),
        raw_response_headers: http.and_then(|http| headers(&http.response_headers)),
        raw_response_body: body.map(json),
    })
}

/// The word of a fault of the attempt; `None` if the answer came and is only not the wanted one: then its status says it.
pub fn error_type(reason: Reason, code: i64) -> Option<&'static str> {
    match reason {
        Reason::HttpStatus => None,
        Reason::DnsNxdomain
        | Reason::DnsServfail
        | Reason::DnsRefused
        | Reason::DnsNoAnswer
        | Reason::DnsTimeout
        | Reason::DnsMalformed
        | Reason::DnsUnexpectedRcode
        | Reason::DnsUnexpectedAnswer
        | Reason::DnsNotListening => Some("DNS_ERROR"),
        Reason::TcpTimeout | Reason::TcpReadTimeout | Reason::TlsTimeout | Reason::HttpFirstByteTimeout | Reason::IcmpTimeout => {
            Some("TIMEOUT")
        }
        Reason::TcpRefused | Reason::TcpReset | Reason::TcpUnreachable | Reason::TcpClosed | Reason::IcmpUnreachable => {
            Some("CONNECT_ERROR")
        }
        Reason::TlsRefused
        | Reason::TlsProtocolTooOld
        | Reason::TlsExpired
        | Reason::TlsNotYetValid
        | Reason::TlsSelfSigned
        | Reason::TlsUnknownIssuer
        | Reason::TlsWrongHost
        | Reason::TlsBadCertificate
        | Reason::TlsNotTls
        | Reason::StarttlsRefused => Some("TLS_ERROR"),
        Reason::HttpBodyTimeout | Reason::HttpBodyTooLarge => Some("READ_ERROR"),
        // With a status the head had come, and the fault is in the body.
        Reason::HttpClosed | Reason::HttpMalformed if code >= 0 => Some("READ_ERROR"),
        Reason::HttpClosed
        | Reason::HttpMalformed
        | Reason::HttpRedirectLoop
        | Reason::HttpTooManyRedirects
        | Reason::HttpBadRedirect
        | Reason::HttpTextMissing
        | Reason::HttpTextPresent
        | Reason::HttpPatternMissing
        | Reason::HttpJson
        | Reason::HttpHeader
        | Reason::HttpProxy => Some("HTTP_ERROR"),
        Reason::TcpUnexpected => Some("TCP_ERROR"),
        Reason::IcmpLoss | Reason::IcmpJitter => Some("PING_ERROR"),
        Reason::PushMissed | Reason::PushFailed => Some("PUSH_ERROR"),
        Reason::WorkerStuck | Reason::WorkerNotDraining | Reason::WorkerNotReady | Reason::WorkerBehind => Some("WORKER_ERROR"),
    }
}

fn error_message(reason: Reason, attempt: Option<&Attempt>) -> String {
    let known = attempt.and_then(|attempt| attempt.error.as_deref()).map(without_nul);
    known.unwrap_or_else(|| reason.sentence().to_owned())
}

fn ms(us: i64) -> i32 {
    whole(us / 1_000)
}

/// A number as its column holds it; absent ones are 0.
fn whole(n: i64) -> i32 {
    i32::try_from(n.max(0)).unwrap_or(i32::MAX)
}

/// PostgreSQL holds no NUL, neither in texts nor in JSON.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// The first characters, as many as fit.
fn cut(text: &str) -> String {
    without_nul(text).chars().take(SHORT_MAX).collect()
}

/// Headers as an object, their names as the world writes them; of one that came several times, all values.
fn headers(given: &[(String, String)]) -> Option<String> {
    if given.is_empty() {
        return None;
    }
    let mut object = Map::new();
    for (name, value) in given {
        let value = without_nul(value);
        match object.get_mut(&canonical(name)) {
            Some(Json::String(known)) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) | None => {
                object.insert(canonical(name), Json::String(value));
            }
        }
    }
    Some(Json::Object(object).to_string())
}

/// `content-type` as `Content-Type`: queries ask for it so.
fn canonical(name: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let letter = if first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        first = c == '-';
        letter
    };
    without_nul(name).chars().map(letter).collect()
}

/// A body as JSON: as it is if it is JSON, else as one text.
fn json(body: &str) -> String {
    let parsed = serde_json::from_str::<Json>(body).map(stripped);
    parsed.unwrap_or_else(|_| Json::String(without_nul(body))).to_string()
}

fn stripped(json: Json) -> Json {
    match json {
        Json::String(text) => Json::String(without_nul(&text)),
        Json::Array(items) => Json::Array(items.into_iter().map(stripped).collect()),
        Json::Object(entries) => Json::Object(entries.into_iter().map(|(key, value)| (without_nul(&key), stripped(value))).collect()),
        other @ (Json::Null | Json::Bool(_) | Json::Number(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Hop, HttpFacts};
    use watchkeeper_core::{Blind, Micros};

    fn beat(outcome: Outcome) -> Unmirrored {
        Unmirrored {
            monitor: 4,
            name: "shop".to_owned(),
            at: Micros(1_700_000_000_123_456),
            outcome,
            dns_us: 1_999,
            connect_us: 2_000,
            tls_us: 0,
            first_byte_us: 10_500,
            transfer_us: 4_000,
            total_us: 18_499,
            code: 200,
            size: 22,
            detail: None,
            warning: None,
            critical: Some(1_000),
            include_response_body: true,
        }
    }

    fn with(mut beat: Unmirrored, http: HttpFacts, error: Option<&str>) -> Unmirrored {
        let hops = vec![Hop { transfer_us: 4_000, ..Hop::default() }];
        let attempt = Attempt { http: Some(http), hops, ..Attempt::ended(beat.outcome, error.map(str::to_owned)) };
        beat.detail = Some(serde_json::to_string(&attempt).unwrap());
        beat
    }

    #[test]
    fn a_good_answer() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let http = HttpFacts {
            content_type: Some("application/json".to_owned()),
            server: Some("nginx".to_owned()),
            request_headers: vec![header("user-agent", "CustomMonitor/1.0")],
            response_headers: vec![header("cf-cache-status", "HIT"), header("vary", "a"), header("vary", "b")],
            body_head: Some(r#"{"ip": "192.0.2.1"}"#.to_owned()),
            ..HttpFacts::default()
        };
        let row = row(&with(beat(Outcome::Up), http, None), 11).unwrap();
        assert_eq!((row.monitor_id, row.agent_id, row.success, row.executed_at.0), (4, 11, true, 1_700_000_000_123_456));
        assert_eq!((row.dns_lookup_ms, row.tcp_connect_ms, row.tls_handshake_ms), (1, 2, 0));
        assert_eq!((row.response_time_ms, row.time_to_first_byte_ms), (14, 14), "until the head, not the body");
        assert_eq!((row.warning_threshold_ms, row.critical_threshold_ms), (300, 1_000));
        assert_eq!((row.response_status_code, row.response_size_bytes, row.error_type), (200, 22, None));
        assert_eq!(row.response_cache_status, None);
        assert_eq!(row.raw_request_headers.as_deref(), Some(r#"{"User-Agent":"CustomMonitor/1.0"}"#));
        assert_eq!(row.raw_response_headers.as_deref(), Some(r#"{"Cf-Cache-Status":"HIT","Vary":"a, b"}"#));
        assert_eq!(row.raw_response_body.as_deref(), Some(r#"{"ip":"192.0.2.1"}"#));
    }

    #[test]
    fn a_body_is_kept_only_where_the_schedule_says_so() {
        let http = HttpFacts { body_head: Some("x".to_owned()), ..HttpFacts::default() };
        let mut beat = with(beat(Outcome::Up), http, None);
        beat.include_response_body = false;
        assert_eq!(row(&beat, 1).unwrap().raw_response_body, None);
    }

    #[test]
    fn what_a_column_would_refuse_is_made_to_fit() {
        let long = "é".repeat(51);
        let http = HttpFacts {
            content_type: Some(long.clone()),
            server: Some("ng\0inx".to_owned()),
            cache_status: Some("\0".to_owned()),
            response_headers: vec![("x\0y".to_owned(), "a\0b".to_owned())],
            body_head: Some("<html>\0 \"quoted\"".to_owned()),
            ..HttpFacts::default()
        };
        let row = row(&with(beat(Outcome::Down(Reason::HttpClosed)), http, Some("cut\0off")), 1).unwrap();
        assert_eq!(row.response_content_type, Some("é".repeat(50)));
        assert_eq!((row.response_server.as_deref(), row.response_cache_status), (Some("nginx"), None));
        assert_eq!(row.raw_response_headers.as_deref(), Some(r#"{"Xy":"ab"}"#));
        assert_eq!(row.raw_response_body.as_deref(), Some(r#""<html> \"quoted\"""#));
        assert_eq!((row.error_type.as_deref(), row.error_message.as_deref()), (Some("READ_ERROR"), Some("cutoff")));
        assert!(!row.success, "an answer that breaks off is no success");
    }

    #[test]
    fn bodies_are_json_whatever_they_are() {
        let cases = [
            (r#"{"a":"b\u0000c"}"#, r#"{"a":"bc"}"#),
            (r#"{"a":1e999}"#, r#""{\"a\":1e999}""#),
            (r#""\ud800""#, r#""\"\\ud800\"""#),
            ("", r#""""#),
            ("[1, null]", "[1,null]"),
        ];
        for (body, want) in cases {
            assert_eq!(json(body), want, "{body}");
        }
    }

    #[test]
    fn faults_have_words_and_an_unwanted_status_has_none() {
        let mut failed = beat(Outcome::Down(Reason::TcpRefused));
        (failed.code, failed.size, failed.first_byte_us) = (-1, -1, 0);
        let refused = row(&failed, 1).unwrap();
        assert_eq!(
            (refused.error_type.as_deref(), refused.error_message.as_deref()),
            (Some("CONNECT_ERROR"), Some("the connection was refused"))
        );
        assert_eq!((refused.response_status_code, refused.response_size_bytes, refused.time_to_first_byte_ms), (0, 0, 0));
        assert_eq!(refused.response_time_ms, 18);
        let mut status = beat(Outcome::Down(Reason::HttpStatus));
        status.code = 503;
        let status = row(&status, 1).unwrap();
        assert_eq!((status.success, status.error_type, status.error_message, status.response_status_code), (false, None, None, 503));
        for reason in Reason::ALL {
            assert!(error_type(*reason, -1).is_none_or(|word| word.len() <= SHORT_MAX), "{reason:?}");
        }
        assert_eq!(row(&beat(Outcome::Unknown(Blind::NoNetwork)), 1), None);
    }

    #[test]
    fn numbers_that_do_not_fit_are_the_largest() {
        let mut long = beat(Outcome::Up);
        (long.size, long.total_us, long.warning) = (i64::MAX, i64::MAX, Some(-5));
        let row = row(&long, 1).unwrap();
        assert_eq!((row.response_size_bytes, row.response_time_ms, row.warning_threshold_ms), (i32::MAX, i32::MAX, 0));
    }
}
