//! What a DNS answer must be, and how its records are written.

use crate::config::decode::{Fields, Key, Node, Problems, list, one_of, parsed, text};
use crate::net::Fault;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use regex::Regex;
use std::net::IpAddr;
use watchkeeper_core::Reason;

/// So many answers are named in an error.
const NAMED_MAX: usize = 8;

/// Keys of `dns: { expect: … }`.
pub const EXPECT_KEYS: &[Key] = &[
    Key { name: "rcode", form: "NOERROR, NXDOMAIN, … or a list of them", default: "NOERROR", doc: "Response codes that are good." },
    Key { name: "answers", form: "a list of texts", default: "", doc: "Each must be among the answers: \"10 mail.example.org\"." },
    Key { name: "answers_any", form: "a list of texts", default: "", doc: "At least one must be among the answers." },
    Key { name: "answer_matches", form: "a regular expression", default: "", doc: "Must match at least one answer." },
];

const RCODES: &[(&str, ResponseCode)] = &[
    ("NOERROR", ResponseCode::NoError),
    ("FORMERR", ResponseCode::FormErr),
    ("SERVFAIL", ResponseCode::ServFail),
    ("NXDOMAIN", ResponseCode::NXDomain),
    ("NOTIMP", ResponseCode::NotImp),
    ("REFUSED", ResponseCode::Refused),
    ("YXDOMAIN", ResponseCode::YXDomain),
    ("YXRRSET", ResponseCode::YXRRSet),
    ("NXRRSET", ResponseCode::NXRRSet),
    ("NOTAUTH", ResponseCode::NotAuth),
    ("NOTZONE", ResponseCode::NotZone),
];

/// The word of the IANA registry, or `RCODE16` for one without.
pub fn rcode_word(code: ResponseCode) -> String {
    RCODES.iter().find(|(_, c)| *c == code).map_or_else(|| format!("RCODE{}", u16::from(code)), |(word, _)| (*word).to_owned())
}

/// Conditions on an answer.
#[derive(Clone, Debug)]
pub struct Expect {
    rcodes: Vec<ResponseCode>,
    all: Vec<String>,
    any: Vec<String>,
    matches: Option<Regex>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { rcodes: vec![ResponseCode::NoError], all: Vec::new(), any: Vec::new(), matches: None }
    }
}

impl Expect {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, EXPECT_KEYS, problems)?;
        let rcodes = match fields.get("rcode") {
            Some(node) => list(node, problems, |n, p| one_of(n, RCODES, p)),
            None => Some(vec![ResponseCode::NoError]),
        };
        let mut texts = |key| fields.get(key).map_or(Some(Vec::new()), |n| list(n, problems, text));
        let (all, any) = (texts("answers"), texts("answers_any"));
        let matches = match fields.get("answer_matches") {
            Some(node) => parsed(node, "a regular expression", problems, |t| Regex::new(t).ok()).map(Some),
            None => Some(None),
        };
        Some(Self { rcodes: rcodes?, all: all?, any: any?, matches: matches? })
    }

    /// Why this answer is not the expected one.
    pub fn fault(&self, message: &Message, kind: RecordType, name: &Name) -> Result<(), Fault> {
        let code = message.metadata.response_code;
        if !self.rcodes.contains(&code) {
            return Err(Fault::down(rcode_reason(code), format!("{name} {kind}: the response code is {}", rcode_word(code))));
        }
        let answers: Vec<String> =
            message.answers.iter().filter(|r| r.record_type() == kind).map(|record| answer_text(record, kind)).collect();
        let content = !self.all.is_empty() || !self.any.is_empty() || self.matches.is_some();
        if answers.is_empty() && (content || code == ResponseCode::NoError) {
            return Err(Fault::down(Reason::DnsNoAnswer, format!("{name} has no {kind} record")));
        }
        let has = |wanted: &str| answers.iter().any(|answer| same(answer, wanted, kind));
        let unexpected = |what: String| {
            let named = answers.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
            Err(Fault::down(Reason::DnsUnexpectedAnswer, format!("{name} {kind}: {what}; the answers are {named}")))
        };
        if let Some(missing) = self.all.iter().find(|wanted| !has(wanted)) {
            return unexpected(format!("`{missing}` is missing"));
        }
        if !self.any.is_empty() && !self.any.iter().any(|wanted| has(wanted)) {
            return unexpected(format!("none of `{}` is there", self.any.join("`, `")));
        }
        match &self.matches {
            Some(regex) if !answers.iter().any(|a| regex.is_match(a)) => unexpected(format!("nothing matches `{regex}`")),
            Some(_) | None => Ok(()),
        }
    }
}

fn rcode_reason(code: ResponseCode) -> Reason {
    // Not our enum, and open at its end: what has no name of its own is unexpected.
    if code == ResponseCode::NXDomain {
        Reason::DnsNxdomain
    } else if code == ResponseCode::ServFail {
        Reason::DnsServfail
    } else if code == ResponseCode::Refused {
        Reason::DnsRefused
    } else {
        Reason::DnsUnexpectedRcode
    }
}

/// One record as text: its data alone if it is of the asked type (`10 mail.example.org`), else with its type before it.
pub fn answer_text(record: &Record, asked: RecordType) -> String {
    let free_text = matches!(record.data, RData::TXT(_) | RData::CAA(_));
    let data = record.data.to_string();
    let data = if free_text { data } else { data.split(' ').map(without_root).collect::<Vec<_>>().join(" ") };
    if record.record_type() == asked { data } else { format!("{} {data}", record.record_type()) }
}

/// A name without the dot of the root; the root itself stays.
fn without_root(word: &str) -> &str {
    word.strip_suffix('.').filter(|w| !w.is_empty()).unwrap_or(word)
}

/// Names have no case and may be written with the dot of the root; texts are compared as they are.
fn same(answer: &str, wanted: &str, kind: RecordType) -> bool {
    if matches!(kind, RecordType::TXT | RecordType::CAA) {
        return answer == wanted;
    }
    let (mut left, mut right) = (answer.split_whitespace(), wanted.split_whitespace());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if same_word(a, b) => {}
            (Some(_), _) | (None, Some(_)) => return false,
        }
    }
}

/// An IPv6 address can be written in many ways.
fn same_word(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        (Ok(_), Err(_)) | (Err(_), _) => without_root(a).eq_ignore_ascii_case(without_root(b)),
    }
}
