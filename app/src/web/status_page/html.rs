//! The page itself: HTML that needs no script, with the answer to "is it me?" in its first sentence.
//!
//! Nothing stands inline, so that it works under the strictest policy: what it looks like is in `page.css`, and the bars are lines whose dashes
//! are the days. Links are relative, so that it works under any path of a proxy, and at the root of a domain of its own.

use super::markup::Markup;
use super::view::{Day, Group, Impact, Line, Overall, PAST_DAYS, State, Trouble, View, Work};
use super::words::Words;
use crate::channel::Language;
use crate::channel::words::fill;
use crate::config::PageMessage;
use watchkeeper_core::{Dur, Micros};

/// Days with outages that are written out below a monitor. More make the page long; the bars show all.
const DAYS_LISTED_MAX: usize = 10;

/// Names in the line below the first sentence; the rest is counted.
const NAMED_MAX: usize = 4;

/// The form of each state, so that colour is never the only sign; drawn once and used by name.
const FORMS: &str = "<svg class=\"forms\" aria-hidden=\"true\"><defs>\
<symbol id=\"up\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"7\" class=\"f\"/><path class=\"c\" d=\"m5 8.2 2.1 2.1L11.2 6\"/></symbol>\
<symbol id=\"down\" viewBox=\"0 0 16 16\"><path class=\"f\" d=\"M5 1h6l4 4v6l-4 4H5l-4-4V5z\"/><path class=\"c\" d=\"m5.5 5.5 5 5m0-5-5 5\"/></symbol>\
<symbol id=\"degraded\" viewBox=\"0 0 16 16\"><path class=\"f\" d=\"M8 1.2 15.2 14.4H.8z\"/><path class=\"c\" d=\"M8 6v4m0 1.6v.9\"/></symbol>\
<symbol id=\"unknown\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6.2\" class=\"l d\"/><path class=\"l\" d=\"M6.3 6.4a1.8 1.8 0 1 1 2.3 1.8c-.5.2-.6.5-.6 1M8 11v.6\"/></symbol>\
<symbol id=\"work\" viewBox=\"0 0 16 16\"><rect x=\"1.8\" y=\"1.8\" width=\"12.4\" height=\"12.4\" rx=\"3\" class=\"l\"/><path class=\"l\" d=\"M5 8h6\"/></symbol>\
<symbol id=\"paused\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6.2\" class=\"l\"/><path class=\"l\" d=\"M6.3 5.5v5m3.4-5v5\"/></symbol>\
<symbol id=\"note\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6.2\" class=\"l\"/><path class=\"l\" d=\"M8 7.4v3.6M8 5v.3\"/></symbol>\
</defs></svg>";

/// The whole page.
pub(super) fn page(view: &View, style: &str) -> String {
    let words = Words::of(view.language);
    let overall = words.overall(view.overall);
    let mut out = Markup::default();
    head(&mut out, view.language, &format!("{overall} · {}", view.title), style, "../", Some(&view.slug));
    out.raw(FORMS).raw("<main><header><h1><bdi>").text(&view.title).raw("</bdi></h1>");
    if let Some(text) = &view.description {
        out.raw("<p>").text(text).raw("</p>");
    }
    out.raw("</header>");
    now(&mut out, view, words);
    if !view.messages.is_empty() {
        section(&mut out, words.messages);
        view.messages.iter().for_each(|message| self::message(&mut out, message, words));
        out.raw("</section>");
    }
    if !view.open.is_empty() {
        section(&mut out, words.open);
        view.open.iter().for_each(|trouble| self::trouble(&mut out, trouble, words));
        out.raw("</section>");
    }
    if !view.work.is_empty() {
        section(&mut out, words.work);
        view.work.iter().for_each(|work| self::work(&mut out, work, words));
        out.raw("</section>");
    }
    if view.groups.iter().all(|group| group.monitors.is_empty()) {
        out.raw("<section><p>").text(words.nothing).raw("</p></section>");
    } else {
        view.groups.iter().for_each(|group| self::group(&mut out, group, view, words));
        if view.left_out > 0 {
            out.raw("<p class=\"m\">").text(&fill(words.left_out, &[("n", &view.left_out.to_string())])).raw("</p>");
        }
        legend(&mut out, words);
    }
    past(&mut out, view, words);
    if view.subscribers {
        subscribe(&mut out, view, words);
    }
    foot(&mut out, view, words);
    out.raw("</main>");
    out.into_string()
}

/// A page that says why there is none, in the form of one. `up` leads from where it is to where pages lie beside each other.
pub(super) fn instead(language: Language, title: &str, text: &str, style: &str, up: &'static str) -> String {
    let mut out = Markup::default();
    head(&mut out, language, title, style, up, None);
    out.raw("<main><header><h1>").text(title).raw("</h1><p>").text(text).raw("</p></header></main>");
    out.into_string()
}

/// The same with a button that sends a form to where the page is.
pub(super) fn with_button(language: Language, title: &str, text: &str, button: &str, style: &str, up: &'static str) -> String {
    let mut out = Markup::default();
    head(&mut out, language, title, style, up, None);
    out.raw("<main><header><h1>").text(title).raw("</h1><p>").text(text).raw("</p></header><form method=\"post\"><button>");
    out.text(button).raw("</button></form></main>");
    out.into_string()
}

fn head(out: &mut Markup, language: Language, title: &str, style: &str, up: &'static str, feeds: Option<&str>) {
    out.raw("<!doctype html><html lang=\"").text(language.as_str());
    out.raw("\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    out.raw("<meta name=\"color-scheme\" content=\"light dark\"><title>").text(title).raw("</title>");
    out.raw("<link rel=\"stylesheet\" href=\"").raw(up).raw("status.css?").text(style).raw("\">");
    if let Some(slug) = feeds {
        out.raw("<link rel=\"alternate\" type=\"application/atom+xml\" href=\"../status/").text(slug).raw("/atom\">");
        out.raw("<link rel=\"alternate\" type=\"application/rss+xml\" href=\"../status/").text(slug).raw("/rss\">");
    }
    out.raw("</head><body>");
}

fn section(out: &mut Markup, title: &str) {
    out.raw("<section><h2>").text(title).raw("</h2>");
}

/// A form, by the name of its drawing.
fn form(out: &mut Markup, name: &'static str) {
    out.raw("<svg class=\"i\" aria-hidden=\"true\"><use href=\"#").raw(name).raw("\"/></svg>");
}

const fn form_of(state: State) -> &'static str {
    match state {
        State::Operational => "up",
        State::Degraded => "degraded",
        State::Outage => "down",
        State::Unknown => "unknown",
        State::Maintenance => "work",
        State::Paused => "paused",
    }
}

const fn form_of_all(overall: Overall) -> &'static str {
    match overall {
        Overall::Operational => "up",
        Overall::Maintenance => "work",
        Overall::Empty | Overall::Unknown => "unknown",
        Overall::Degraded => "degraded",
        Overall::Partial | Overall::Major => "down",
    }
}

/// The first sentence, what it is about, and when that was.
fn now(out: &mut Markup, view: &View, words: &Words) {
    let look = form_of_all(view.overall);
    out.raw("<section class=\"now ").raw(look).raw("\">");
    form(out, look);
    out.raw("<div><h2>").text(words.overall(view.overall)).raw("</h2>");
    let affected = view.affected();
    if !affected.is_empty() {
        out.raw("<p>");
        for (nth, line) in affected.iter().take(NAMED_MAX).enumerate() {
            out.raw(if nth == 0 { "<bdi>" } else { ", <bdi>" }).text(&line.title).raw("</bdi>");
        }
        if affected.len() > NAMED_MAX {
            let more = (affected.len() - NAMED_MAX).to_string();
            out.raw(" ").text(&fill(words.and_more, &[("n", &more)]));
        }
        out.raw("</p>");
    }
    out.raw("<p class=\"m\">").text(&fill(words.as_of, &[("time", &words.time_utc(view.now))])).raw("</p></div></section>");
}

fn message(out: &mut Markup, message: &PageMessage, words: &Words) {
    out.raw("<article class=\"note\"><h3>");
    form(out, "note");
    out.raw("<bdi>").text(&message.title).raw("</bdi></h3>");
    for update in &message.updates {
        out.raw("<p class=\"t\">").text(&update.text).raw("</p><p class=\"m\">").text(&words.time_utc(update.at)).raw("</p>");
    }
    out.raw("<p class=\"t\">").text(&message.text).raw("</p><p class=\"m\">");
    match message.until {
        Some(until) => from_to(out, message.at, until, words),
        None => _ = out.text(&words.time_utc(message.at)),
    }
    out.raw("</p></article>");
}

/// From when to when, without a length.
fn from_to(out: &mut Markup, from: Micros, to: Micros, words: &Words) {
    let (from, to) = words.between(from, to);
    out.text(&from).raw(" – ").text(&to);
}

/// `Shop: outage`, with its times.
fn trouble(out: &mut Markup, trouble: &Trouble, words: &Words) {
    let look = match trouble.impact {
        Impact::Outage => "down",
        Impact::Unsteady | Impact::Slow => "degraded",
    };
    out.raw("<article class=\"").raw(if trouble.ended.is_some() { "over" } else { look }).raw("\"><h3>");
    form(out, look);
    out.raw("<span><bdi>").text(&trouble.title).raw("</bdi>: ").text(words.impact(trouble.impact)).raw("</span></h3><p class=\"m\">");
    if let Some(ended) = trouble.ended {
        let (from, to) = words.between(trouble.began, ended);
        out.text(&fill(words.lasted, &[("from", &from), ("to", &to), ("length", &words.length(ended - trouble.began))]));
    } else {
        out.text(&fill(words.began, &[("time", &words.time_utc(trouble.began))]));
        if let Some(taken) = trouble.taken {
            out.raw("<br>").text(&fill(words.taken, &[("time", &words.time_utc(taken))]));
        }
    }
    out.raw("</p></article>");
}

fn work(out: &mut Markup, work: &Work, words: &Words) {
    out.raw("<article class=\"work\"><h3>");
    form(out, "work");
    for (nth, title) in work.titles.iter().take(NAMED_MAX).enumerate() {
        out.raw(if nth == 0 { "<span><bdi>" } else { ", <bdi>" }).text(title).raw("</bdi>");
    }
    if work.titles.len() > NAMED_MAX {
        let more = (work.titles.len() - NAMED_MAX).to_string();
        out.raw(" ").text(&fill(words.and_more, &[("n", &more)]));
    }
    out.raw("</span></h3><p class=\"m\">");
    match work.from {
        Some(from) => {
            let (from, to) = words.between(from, work.until);
            out.text(&fill(words.work_later, &[("from", &from), ("to", &to)]));
        }
        None => _ = out.text(&fill(words.work_now, &[("time", &words.time_utc(work.until))])),
    }
    out.raw("</p></article>");
}

fn group(out: &mut Markup, group: &Group, view: &View, words: &Words) {
    if group.monitors.is_empty() {
        return;
    }
    out.raw("<section><h2>").text(group.name.as_deref().unwrap_or(words.monitors)).raw("</h2><ul>");
    for line in &group.monitors {
        let look = form_of(line.state);
        out.raw("<li class=\"").raw(look).raw("\"><div class=\"a\"><h3><bdi>").text(&line.title).raw("</bdi></h3><span class=\"s\">");
        form(out, look);
        out.text(words.state(line.state)).raw("</span></div>");
        bars(out, line, view, words);
        out.raw("</li>");
    }
    out.raw("</ul></section>");
}

/// A class and the middle of a line of it: good days are low, bad ones high, so that they differ without colour.
const fn bar(day: Day) -> (&'static str, &'static str) {
    match day {
        Day::None => ("n", "22.5"),
        Day::Unknown => ("x", "20"),
        Day::Up => ("u", "17"),
        Day::Short => ("h", "14"),
        Day::Down => ("o", "12"),
    }
}

fn bars(out: &mut Markup, line: &Line, view: &View, words: &Words) {
    let days = view.days.to_string();
    let count = line.outages.len().to_string();
    let label = if line.outages.is_empty() {
        fill(words.bars_well, &[("days", &days)])
    } else {
        fill(words.bars_bad, &[("days", &days), ("count", &count)])
    };
    out.raw("<svg class=\"b\" preserveAspectRatio=\"none\" viewBox=\"0 0 ").number(view.days * 4 - 1);
    out.raw(" 24\" role=\"img\" aria-label=\"").text(&label).raw("\">");
    let mut begin = 0;
    for run in line.bars.chunk_by(|one, next| one == next) {
        let (class, middle) = bar(run[0]);
        out.raw("<path class=\"").raw(class).raw("\" d=\"M").number(begin * 4).raw(" ").raw(middle);
        out.raw("h").number(run.len() * 4 - 1).raw("\"/>");
        begin += run.len();
    }
    out.raw("</svg><div class=\"k m\"><span>").text(&fill(words.days_ago, &[("days", &days)])).raw("</span><span>");
    match line.uptime {
        Some(percent) => out.text(&fill(words.uptime, &[("percent", &words.percent(percent))])),
        None => out.text(words.uptime_none),
    };
    out.raw("</span><span>").text(words.today).raw("</span></div>");
    if line.outages.is_empty() {
        return;
    }
    out.raw("<details class=\"m\"><summary>").text(&fill(words.details, &[("count", &count)])).raw("</summary><ul>");
    for (nth, down) in line.outages.iter().take(DAYS_LISTED_MAX) {
        let day = words.day(view.from + Dur(nth * 86_400_000_000));
        out.raw("<li>").text(&day).raw(": ").text(&words.length(*down)).raw("</li>");
    }
    if line.outages.len() > DAYS_LISTED_MAX {
        let more = (line.outages.len() - DAYS_LISTED_MAX).to_string();
        out.raw("<li>").text(&fill(words.and_more, &[("n", &more)])).raw("</li>");
    }
    out.raw("</ul></details>");
}

fn legend(out: &mut Markup, words: &Words) {
    out.raw("<p class=\"e m\">").text(words.legend).raw(": ");
    let all = [
        (Day::Up, words.legend_up),
        (Day::Short, words.legend_short),
        (Day::Down, words.legend_down),
        (Day::Unknown, words.legend_unknown),
        (Day::None, words.legend_none),
    ];
    for (day, word) in all {
        let (class, middle) = bar(day);
        out.raw("<span><svg viewBox=\"0 0 11 24\" aria-hidden=\"true\"><path class=\"").raw(class).raw("\" d=\"M0 ").raw(middle);
        out.raw("h11\"/></svg>").text(word).raw("</span> ");
    }
    out.raw("</p>");
}

fn past(out: &mut Markup, view: &View, words: &Words) {
    let days = PAST_DAYS.to_string();
    out.raw("<section><h2>").text(&fill(words.past, &[("days", &days)])).raw("</h2>");
    if view.past.is_empty() && view.past_messages.is_empty() {
        out.raw("<p class=\"m\">").text(&fill(words.past_none, &[("days", &days)])).raw("</p>");
    }
    view.past_messages.iter().for_each(|message| self::message(out, message, words));
    view.past.iter().for_each(|trouble| self::trouble(out, trouble, words));
    if view.past_more > 0 {
        let more = view.past_more.to_string();
        out.raw("<p class=\"m\">").text(&fill(words.and_more, &[("n", &more)])).raw("</p>");
    }
    out.raw("</section>");
}

/// The forms for whoever wants to be told.
fn subscribe(out: &mut Markup, view: &View, words: &Words) {
    section(out, words.by_mail);
    out.raw("<p class=\"m\">").text(words.by_mail_text).raw("</p>");
    form_to(
        out,
        view,
        (words.mail_address, words.subscribe_now),
        "<input type=\"email\" name=\"address\" required maxlength=\"254\" autocomplete=\"email\">",
    );
    if view.webhooks {
        out.raw("<details><summary class=\"m\">").text(words.by_hook).raw("</summary><p class=\"m\">").text(words.by_hook_text).raw("</p>");
        form_to(out, view, (words.hook_address, words.subscribe_now), "<input type=\"url\" name=\"webhook\" required maxlength=\"500\">");
        out.raw("</details>");
    }
    out.raw("</section>");
}

/// One field with its label, and a button.
fn form_to(out: &mut Markup, view: &View, (label, button): (&str, &str), field: &'static str) {
    out.raw("<form method=\"post\" action=\"../status/").text(&view.slug).raw("/subscribers\"><label>").text(label).raw(" ").raw(field);
    out.raw("</label><button>").text(button).raw("</button></form>");
}

fn foot(out: &mut Markup, view: &View, words: &Words) {
    out.raw("<footer class=\"m\">").text(words.subscribe);
    for (what, tail) in [("Atom", "/atom"), ("RSS", "/rss"), ("JSON", ".json")] {
        out.raw(if what == "Atom" { ": <a href=\"../status/" } else { ", <a href=\"../status/" });
        out.text(&view.slug).text(tail).raw("\">").text(what).raw("</a>");
    }
    out.raw("</footer>");
}
