//! What a person who asked is answered, in the channel's language: tables of patterns, and the lines made of them.
//!
//! Lengths, escaping and the words for health, instants and lengths of time are those of all other messages.

use super::deeds::{NAMED_MAX, Open, SILENCE_LEAST, SILENCE_MOST, Said, Status};
use crate::channel::Language;
use crate::channel::text::{Line, Text, moment, one_line, rough};
use crate::channel::words::fill;
use crate::store::IncidentView;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Micros, Severity};

/// `answerCallbackQuery` takes so many characters.
const BRIEF_MAX: usize = 200;

/// The words of one language. `{…}` is a place.
struct Words {
    help: &'static str,
    help_lines: [&'static str; 5],
    all_well: &'static str,
    not_well: &'static str,
    count: &'static str,
    paused: &'static str,
    none_open: &'static str,
    open: &'static str,
    line: &'static str,
    taken: &'static str,
    more: &'static str,
    acknowledged: &'static str,
    acknowledged_before: &'static str,
    over: &'static str,
    silenced: &'static str,
    silenced_rule: &'static str,
    silence_over: &'static str,
    no_incident: &'static str,
    ambiguous: &'static str,
    no_monitor: &'static str,
    near: &'static str,
    ack_usage: &'static str,
    silence_usage: &'static str,
    bad_length: &'static str,
    not_understood: &'static str,
}

static EN: Words = Words {
    help: "What I understand",
    help_lines: [
        "/status – how things stand",
        "/incidents – what is open",
        "/ack ID – I take this incident on",
        "/silence NAME|ID [1h] [comment] – tell nobody of it for so long",
        "/help – this list",
    ],
    all_well: "🟢 All is well",
    not_well: "🔴 {count} open incidents",
    count: "{health}: {count}",
    paused: "paused: {count}",
    none_open: "🟢 No incident is open",
    open: "🔴 {count} open incidents",
    line: "{mark} {id} {name}: {summary} (since {since}, {length})",
    taken: "{line}, taken on",
    more: "… and {count} more",
    acknowledged: "✅ You take on the incident of {name}",
    acknowledged_before: "Somebody has taken on the incident of {name} before",
    over: "That incident is over",
    silenced: "🔕 {name} is silenced until {until}",
    silenced_rule: "🔕 {name} ({rule}) is silenced until {until}",
    silence_over: "That silence would be over already",
    no_incident: "No open incident's id begins or ends with {what}",
    ambiguous: "{count} open incidents fit {what}: write more of the id",
    no_monitor: "There is no monitor and no open incident named {what}",
    near: "{sentence}; did you mean {near}?",
    ack_usage: "Write /ack and at least 4 characters of the incident's id; /incidents lists them",
    silence_usage: "Write /silence, a monitor's name or an incident's id, and if you like a length such as 2h and a comment",
    bad_length: "{what} is no length from {least} to {most}, such as 30m, 2h or 1d",
    not_understood: "This button is not understood any more",
};

static RU: Words = Words {
    help: "Что я понимаю",
    help_lines: [
        "/status – как обстоят дела",
        "/incidents – что сейчас открыто",
        "/ack ID – взять инцидент на себя",
        "/silence ИМЯ|ID [1h] [комментарий] – никому об этом не сообщать столько времени",
        "/help – этот список",
    ],
    all_well: "🟢 Всё в порядке",
    not_well: "🔴 Открытых инцидентов: {count}",
    count: "{health}: {count}",
    paused: "приостановлено: {count}",
    none_open: "🟢 Открытых инцидентов нет",
    open: "🔴 Открытых инцидентов: {count}",
    line: "{mark} {id} {name}: {summary} (с {since}, {length})",
    taken: "{line}, взят в работу",
    more: "… и ещё {count}",
    acknowledged: "✅ Инцидент по {name} за вами",
    acknowledged_before: "Инцидент по {name} уже взят в работу",
    over: "Этот инцидент уже завершён",
    silenced: "🔕 {name}: тишина до {until}",
    silenced_rule: "🔕 {name} ({rule}): тишина до {until}",
    silence_over: "Эта тишина уже закончилась бы",
    no_incident: "Нет открытого инцидента, номер которого начинается или кончается на {what}",
    ambiguous: "Открытых инцидентов, подходящих под {what}: {count}; напишите больше знаков",
    no_monitor: "Нет ни монитора, ни открытого инцидента с именем {what}",
    near: "{sentence}; может быть, {near}?",
    ack_usage: "Напишите /ack и не меньше 4 знаков номера инцидента; список – /incidents",
    silence_usage: "Напишите /silence, имя монитора или номер инцидента и, если нужно, длительность (2h) и комментарий",
    bad_length: "{what} – не длительность от {least} до {most}, например 30m, 2h или 1d",
    not_understood: "Эта кнопка больше не работает",
};

const fn own(language: Language) -> &'static Words {
    match language {
        Language::En => &EN,
        Language::Ru => &RU,
    }
}

/// A first line in bold, and lines below it.
fn lines(title: String, lines: Vec<String>) -> Text {
    Text::new(Line::bold_of(title), lines.into_iter().map(Line::plain_of).collect())
}

/// The answer to a command.
pub(super) fn say(said: &Said, language: Language, now: Micros) -> Text {
    let words = own(language);
    match said {
        Said::Help => lines(words.help.to_owned(), words.help_lines.map(str::to_owned).to_vec()),
        Said::Status(status) => status_lines(status, language, now),
        Said::Incidents(open) if open.named.is_empty() => lines(words.none_open.to_owned(), Vec::new()),
        Said::Incidents(open) => lines(fill(words.open, &[("count", &total(open).to_string())]), open_lines(open, language, now)),
        Said::Ambiguous { open, .. } => lines(sentence(said, language), open_lines(open, language, now)),
        Said::Acknowledged { .. }
        | Said::AcknowledgedBefore { .. }
        | Said::Over
        | Said::Silenced { .. }
        | Said::SilenceOver
        | Said::NoIncident(_)
        | Said::NoMonitor { .. }
        | Said::AckUsage
        | Said::SilenceUsage
        | Said::BadLength(_)
        | Said::NotUnderstood => lines(sentence(said, language), Vec::new()),
    }
}

/// The answer to a button: one sentence.
pub(super) fn brief(said: &Said, language: Language) -> String {
    one_line(&sentence(said, language), BRIEF_MAX)
}

fn sentence(said: &Said, language: Language) -> String {
    let words = own(language);
    match said {
        Said::Acknowledged { monitor } => fill(words.acknowledged, &[("name", monitor)]),
        Said::AcknowledgedBefore { monitor } => fill(words.acknowledged_before, &[("name", monitor)]),
        Said::Over => words.over.to_owned(),
        Said::Silenced { monitor, rule: None, until } => {
            fill(words.silenced, &[("name", monitor), ("until", &moment(*until, language.words()))])
        }
        Said::Silenced { monitor, rule: Some(rule), until } => {
            fill(words.silenced_rule, &[("name", monitor), ("rule", rule), ("until", &moment(*until, language.words()))])
        }
        Said::SilenceOver => words.silence_over.to_owned(),
        Said::NoIncident(what) => fill(words.no_incident, &[("what", what)]),
        Said::Ambiguous { part, open } => fill(words.ambiguous, &[("what", part), ("count", &total(open).to_string())]),
        Said::NoMonitor { what, near } => {
            let sentence = fill(words.no_monitor, &[("what", what)]);
            near.as_ref().map_or_else(|| sentence.clone(), |near| fill(words.near, &[("sentence", &sentence), ("near", near)]))
        }
        Said::AckUsage => words.ack_usage.to_owned(),
        Said::SilenceUsage => words.silence_usage.to_owned(),
        Said::BadLength(what) => fill(
            words.bad_length,
            &[("what", what), ("least", &rough(SILENCE_LEAST, language.words())), ("most", &rough(SILENCE_MOST, language.words()))],
        ),
        Said::NotUnderstood => words.not_understood.to_owned(),
        Said::Help | Said::Status(_) | Said::Incidents(_) => words.help.to_owned(),
    }
}

fn total(open: &Open) -> usize {
    open.named.len() + open.more
}

fn status_lines(status: &Status, language: Language, now: Micros) -> Text {
    let words = own(language);
    let mut counts: Vec<String> = status
        .counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(health, count)| {
            fill(words.count, &[("health", language.words().health[health.code() as usize]), ("count", &count.to_string())])
        })
        .collect();
    if status.paused > 0 {
        counts.push(fill(words.paused, &[("count", &status.paused.to_string())]));
    }
    let wrong = |(health, count): &(Health, u32)| !matches!(health, Health::Up) && *count > 0;
    let title = match total(&status.open) {
        0 if status.counts.iter().any(wrong) => counts.remove(0),
        0 => words.all_well.to_owned(),
        count => fill(words.not_well, &[("count", &count.to_string())]),
    };
    let counts = Some(counts.join(", ")).filter(|counts| !counts.is_empty());
    lines(title, counts.into_iter().chain(open_lines(&status.open, language, now)).collect())
}

fn open_lines(open: &Open, language: Language, now: Micros) -> Vec<String> {
    let words = own(language);
    let mut lines: Vec<String> = open.named.iter().take(NAMED_MAX).map(|(id, incident)| open_line(id, incident, language, now)).collect();
    if open.more > 0 {
        lines.push(fill(words.more, &[("count", &open.more.to_string())]));
    }
    lines
}

fn open_line(id: &str, incident: &IncidentView, language: Language, now: Micros) -> String {
    let words = own(language);
    let mark = match incident.severity {
        Severity::Critical => "🔴",
        Severity::Warning => "🟠",
        Severity::Info => "🔵",
    };
    let line = fill(
        words.line,
        &[
            ("mark", mark),
            ("id", id),
            ("name", &incident.monitor),
            ("summary", &incident.summary),
            ("since", &moment(incident.opened_at, language.words())),
            ("length", &rough(now - incident.opened_at, language.words())),
        ],
    );
    if incident.status == "acknowledged" { fill(words.taken, &[("line", &line)]) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_escaped_and_bounded_in_both_languages() {
        let name = "<b>&".repeat(400);
        for language in [Language::En, Language::Ru] {
            let said = Said::Silenced { monitor: name.clone(), rule: None, until: Micros(1_795_317_127_000_000) };
            assert!(brief(&said, language).chars().count() <= BRIEF_MAX);
            let html = crate::channel::telegram::html(&say(&said, language, Micros(0)));
            assert!(!html.replacen("<b>", "", 1).replacen("</b>", "", 1).contains('<'), "{html}");
        }
    }

    #[test]
    fn of_several_incidents_that_fit_each_is_named() {
        let incident = |uid: &str, monitor: &str| {
            let view = IncidentView {
                uid: uid.to_owned(),
                id: watchkeeper_core::IncidentId(1),
                monitor_uid: String::new(),
                monitor: monitor.to_owned(),
                rule: "down".to_owned(),
                status: "open".to_owned(),
                severity: Severity::Critical,
                opened_at: Micros(0),
                resolved_at: None,
                resolved_why: None,
                reason: None,
                summary: "it broke".to_owned(),
                value: None,
                acknowledged_by: None,
                acknowledged_at: None,
                routed_by: None,
                timeline: vec![],
                notices: vec![],
            };
            (uid.to_owned(), view)
        };
        let open = Open { named: vec![incident("019a-1", "shop"), incident("019a-2", "db")], more: 0 };
        let said = Said::Ambiguous { part: "019a".to_owned(), open };
        let answer = say(&said, Language::En, Micros(60_000_000)).plain();
        assert!(answer.starts_with("2 open incidents fit 019a: write more of the id\n🔴 019a-1 shop: it broke"), "{answer}");
        assert!(answer.contains("\n🔴 019a-2 db: it broke"), "{answer}");
    }

    #[test]
    fn silence_is_confirmed_with_its_end() {
        let said = Said::Silenced { monitor: "shop".to_owned(), rule: Some("down".to_owned()), until: Micros(1_795_317_127_000_000) };
        assert_eq!(brief(&said, Language::En), "🔕 shop (down) is silenced until 03:12:07 UTC, 22 Nov 2026");
        assert_eq!(brief(&said, Language::Ru), "🔕 shop (down): тишина до 03:12:07 UTC, 22.11.2026");
    }

    #[test]
    fn a_status_says_first_whether_anything_is_wrong() {
        let well = Status { counts: vec![(Health::Down, 0), (Health::Up, 3)], paused: 1, open: Open::default() };
        let answer = say(&Said::Status(well), Language::En, Micros(0));
        assert_eq!(answer.plain(), "🟢 All is well\nup: 3, paused: 1");
        let blind = Status { counts: vec![(Health::Unknown, 2), (Health::Up, 3)], ..Status::default() };
        let answer = say(&Said::Status(blind), Language::En, Micros(0));
        assert_eq!(answer.plain(), "unknown: 2\nup: 3");
    }
}
