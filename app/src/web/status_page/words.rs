//! The words of public pages, once per language: tables without logic. A `{place}` is filled by `channel::words::fill`.

use super::view::{Impact, Overall, State};
use crate::channel::Language;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use watchkeeper_core::{Dur, Micros};

/// All words of one language.
pub(super) struct Words {
    overall_empty: &'static str,
    overall_operational: &'static str,
    overall_maintenance: &'static str,
    overall_unknown: &'static str,
    overall_degraded: &'static str,
    overall_partial: &'static str,
    overall_major: &'static str,
    state_operational: &'static str,
    state_degraded: &'static str,
    state_outage: &'static str,
    state_unknown: &'static str,
    state_maintenance: &'static str,
    state_paused: &'static str,
    impact_outage: &'static str,
    impact_unsteady: &'static str,
    impact_slow: &'static str,
    /// `{time}`.
    pub(super) as_of: &'static str,
    pub(super) and_more: &'static str,
    pub(super) messages: &'static str,
    pub(super) open: &'static str,
    /// `{time}`.
    pub(super) began: &'static str,
    /// `{time}`.
    pub(super) taken: &'static str,
    /// `{from}`, `{to}`, `{length}`.
    pub(super) lasted: &'static str,
    /// `{title}`.
    pub(super) over: &'static str,
    pub(super) work: &'static str,
    /// `{time}`.
    pub(super) work_now: &'static str,
    /// `{from}`, `{to}`.
    pub(super) work_later: &'static str,
    /// `{days}`.
    pub(super) past: &'static str,
    /// `{days}`.
    pub(super) past_none: &'static str,
    pub(super) monitors: &'static str,
    pub(super) nothing: &'static str,
    /// `{percent}`.
    pub(super) uptime: &'static str,
    pub(super) uptime_none: &'static str,
    /// `{days}`.
    pub(super) days_ago: &'static str,
    pub(super) today: &'static str,
    /// `{days}`.
    pub(super) bars_well: &'static str,
    /// `{days}`, `{count}`.
    pub(super) bars_bad: &'static str,
    /// `{count}`.
    pub(super) details: &'static str,
    pub(super) legend: &'static str,
    pub(super) legend_up: &'static str,
    pub(super) legend_short: &'static str,
    pub(super) legend_down: &'static str,
    pub(super) legend_unknown: &'static str,
    pub(super) legend_none: &'static str,
    pub(super) left_out: &'static str,
    pub(super) subscribe: &'static str,
    pub(super) utc: &'static str,
    pub(super) not_now: &'static str,
    pub(super) not_now_text: &'static str,
    pub(super) password: &'static str,
    pub(super) password_text: &'static str,
    pub(super) too_many: &'static str,
    pub(super) too_many_text: &'static str,
    pub(super) over_text: &'static str,
    pub(super) work_over: &'static str,
    pub(super) by_mail: &'static str,
    pub(super) by_mail_text: &'static str,
    pub(super) mail_address: &'static str,
    pub(super) by_hook: &'static str,
    pub(super) by_hook_text: &'static str,
    pub(super) hook_address: &'static str,
    pub(super) no_hook: &'static str,
    pub(super) no_hook_text: &'static str,
    pub(super) asked_hook: &'static str,
    pub(super) asked_hook_text: &'static str,
    pub(super) subscribe_now: &'static str,
    pub(super) asked: &'static str,
    pub(super) asked_text: &'static str,
    pub(super) no_address: &'static str,
    pub(super) no_address_text: &'static str,
    pub(super) asked_often: &'static str,
    pub(super) asked_often_text: &'static str,
    pub(super) full: &'static str,
    pub(super) full_text: &'static str,
    pub(super) confirm: &'static str,
    /// `{title}`.
    pub(super) confirm_text: &'static str,
    pub(super) confirm_now: &'static str,
    pub(super) confirmed: &'static str,
    pub(super) confirmed_text: &'static str,
    pub(super) leave: &'static str,
    /// `{title}`.
    pub(super) leave_text: &'static str,
    pub(super) leave_now: &'static str,
    pub(super) left: &'static str,
    pub(super) left_text: &'static str,
    pub(super) stale: &'static str,
    pub(super) stale_text: &'static str,
    /// `{title}`.
    pub(super) letter_confirm: &'static str,
    /// `{title}`, `{page}`, `{link}`.
    pub(super) letter_confirm_text: &'static str,
    /// `{title}`, `{page}`, `{link}`.
    pub(super) letter_end: &'static str,
    /// In a date, from January.
    months: [&'static str; 12],
    /// Days, hours, minutes.
    units: [&'static str; 3],
    under_a_minute: &'static str,
    /// Between whole numbers and decimals; after a number of percent.
    percent: (&'static str, &'static str),
}

static EN: Words = Words {
    overall_empty: "Nothing is shown here yet",
    overall_operational: "All systems operational",
    overall_maintenance: "Maintenance in progress",
    overall_unknown: "Not everything can be checked right now",
    overall_degraded: "Some systems have problems",
    overall_partial: "Partial outage",
    overall_major: "Major outage",
    state_operational: "Operational",
    state_degraded: "Degraded",
    state_outage: "Outage",
    state_unknown: "Not known",
    state_maintenance: "Maintenance",
    state_paused: "Not checked",
    impact_outage: "Outage",
    impact_unsteady: "Works again, not steadily yet",
    impact_slow: "Slow responses",
    as_of: "As of {time}",
    and_more: "and {n} more",
    messages: "Messages",
    open: "What is wrong now",
    began: "Since {time}",
    taken: "Being worked on since {time}",
    lasted: "{from} – {to} ({length})",
    over: "Over: {title}",
    work: "Maintenance",
    work_now: "In progress, until {time}",
    work_later: "Planned: {from} – {to}",
    past: "The last {days} days",
    past_none: "No incidents in the last {days} days.",
    monitors: "Services",
    nothing: "No services are shown on this page.",
    uptime: "{percent} uptime",
    uptime_none: "no data yet",
    days_ago: "{days} days ago",
    today: "today",
    bars_well: "The last {days} days: no outages",
    bars_bad: "The last {days} days: days with outages: {count}",
    details: "Days with outages: {count}",
    legend: "One bar is one day in UTC",
    legend_up: "no outage",
    legend_short: "short outage",
    legend_down: "outage",
    legend_unknown: "mostly not checked",
    legend_none: "no data",
    left_out: "Not shown here: {n} more services",
    subscribe: "Subscribe",
    utc: "UTC",
    not_now: "The state is not known right now",
    not_now_text: "This page could not find out how things are. Please try again in a minute.",
    password: "This page needs a password",
    password_text: "Load the page again and enter the password. Any user name will do.",
    too_many: "Too many attempts",
    too_many_text: "Please wait a minute before you try another password.",
    over_text: "This is over.",
    work_over: "The maintenance is over.",
    by_mail: "Subscribe by e-mail",
    by_mail_text: "You are told of messages and maintenance on this page.",
    mail_address: "E-mail address",
    by_hook: "Subscribe by webhook",
    by_hook_text: "The same is sent to a URL of yours, as JSON. Its first call has a link to confirm with.",
    hook_address: "URL",
    no_hook: "That URL cannot be called",
    no_hook_text: "Please go back and give one that begins with https:// or http://, without a user and a fragment.",
    asked_hook: "Your URL is being called",
    asked_hook_text: "If it is not subscribed yet, it gets a call with a link. The subscription begins with a POST to that link within a day.",
    subscribe_now: "Subscribe",
    asked: "Please look at your mail",
    asked_text: "If that address is not subscribed yet, a message with a link goes to it. The subscription begins when you follow that link within a day.",
    no_address: "That is no e-mail address",
    no_address_text: "Please go back and write it as in name@example.org.",
    asked_often: "Too many requests",
    asked_often_text: "Please try again in an hour.",
    full: "No more subscriptions can be taken now",
    full_text: "Please try again tomorrow, or use one of the feeds.",
    confirm: "Confirm the subscription",
    confirm_text: "From then on you are told of messages and maintenance on: {title}",
    confirm_now: "Confirm",
    confirmed: "You are subscribed",
    confirmed_text: "Each message has a link with which you end that.",
    leave: "End the subscription",
    leave_text: "You are then no longer told of messages and maintenance on: {title}",
    leave_now: "Unsubscribe",
    left: "You are no longer subscribed",
    left_text: "Your address was removed.",
    stale: "This link is no longer good",
    stale_text: "It was used already, or it is too old.",
    letter_confirm: "Confirm your subscription: {title}",
    letter_confirm_text: "Somebody, probably you, wants this address to be told of messages and maintenance on\n\n{title}\n{page}\n\nTo confirm, open this page within a day:\n\n{link}\n\nIf it was not you, there is nothing to do: no further message comes without that, and the address is forgotten.",
    letter_end: "{page}\nYou subscribed to: {title}. To end that, open:\n{link}",
    months: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    units: ["d", "h", "min"],
    under_a_minute: "under a minute",
    percent: (".", "%"),
};

static RU: Words = Words {
    overall_empty: "Здесь пока ничего нет",
    overall_operational: "Всё работает",
    overall_maintenance: "Идут плановые работы",
    overall_unknown: "Сейчас не всё удаётся проверить",
    overall_degraded: "Есть нарушения в работе",
    overall_partial: "Частичный сбой",
    overall_major: "Сбой всех служб",
    state_operational: "Работает",
    state_degraded: "С нарушениями",
    state_outage: "Не работает",
    state_unknown: "Неизвестно",
    state_maintenance: "Плановые работы",
    state_paused: "Не проверяется",
    impact_outage: "Не работает",
    impact_unsteady: "Снова работает, пока неустойчиво",
    impact_slow: "Медленные ответы",
    as_of: "По состоянию на {time}",
    and_more: "и ещё {n}",
    messages: "Сообщения",
    open: "Что не так сейчас",
    began: "С {time}",
    taken: "Работы по устранению идут с {time}",
    lasted: "{from} – {to} ({length})",
    over: "Завершено: {title}",
    work: "Плановые работы",
    work_now: "Идут, до {time}",
    work_later: "Запланированы: {from} – {to}",
    past: "За последние {days} дн.",
    past_none: "За последние {days} дн. инцидентов не было.",
    monitors: "Службы",
    nothing: "На этой странице нет ни одной службы.",
    uptime: "доступность {percent}",
    uptime_none: "данных пока нет",
    days_ago: "{days} дн. назад",
    today: "сегодня",
    bars_well: "За последние {days} дн. сбоев не было",
    bars_bad: "За последние {days} дн.: дней со сбоями: {count}",
    details: "Дней со сбоями: {count}",
    legend: "Один столбик – один день по UTC",
    legend_up: "без сбоев",
    legend_short: "короткий сбой",
    legend_down: "сбой",
    legend_unknown: "почти не проверялось",
    legend_none: "нет данных",
    left_out: "Не показано служб: {n}",
    subscribe: "Подписаться",
    utc: "UTC",
    not_now: "Состояние сейчас неизвестно",
    not_now_text: "Не удалось узнать, как обстоят дела. Попробуйте ещё раз через минуту.",
    password: "Для этой страницы нужен пароль",
    password_text: "Загрузите страницу ещё раз и введите пароль. Имя пользователя может быть любым.",
    too_many: "Слишком много попыток",
    too_many_text: "Подождите минуту, прежде чем пробовать другой пароль.",
    over_text: "Это завершено.",
    work_over: "Плановые работы завершены.",
    by_mail: "Подписаться по эл. почте",
    by_mail_text: "Вы будете получать сообщения этой страницы и сведения о плановых работах.",
    mail_address: "Адрес эл. почты",
    by_hook: "Подписаться через вебхук",
    by_hook_text: "То же самое отправляется в виде JSON на ваш URL. В первом вызове – ссылка для подтверждения.",
    hook_address: "URL",
    no_hook: "Этот URL нельзя вызвать",
    no_hook_text: "Вернитесь и укажите URL, который начинается с https:// или http://, без имени пользователя и фрагмента.",
    asked_hook: "Ваш URL вызывается",
    asked_hook_text: "Если он ещё не подписан, в вызове придёт ссылка. Подписка начнётся с запроса POST по ней в течение суток.",
    subscribe_now: "Подписаться",
    asked: "Проверьте почту",
    asked_text: "Если этот адрес ещё не подписан, на него придёт письмо со ссылкой. Подписка начнётся, когда вы перейдёте по ней в течение суток.",
    no_address: "Это не адрес эл. почты",
    no_address_text: "Вернитесь и введите его в виде name@example.org.",
    asked_often: "Слишком много запросов",
    asked_often_text: "Попробуйте ещё раз через час.",
    full: "Сейчас новые подписки не принимаются",
    full_text: "Попробуйте завтра или воспользуйтесь лентой.",
    confirm: "Подтвердите подписку",
    confirm_text: "После этого вы будете получать сообщения и сведения о плановых работах: {title}",
    confirm_now: "Подтвердить",
    confirmed: "Вы подписаны",
    confirmed_text: "В каждом письме есть ссылка, по которой подписку можно отменить.",
    leave: "Отмена подписки",
    leave_text: "Вы больше не будете получать сообщения и сведения о плановых работах: {title}",
    leave_now: "Отписаться",
    left: "Подписка отменена",
    left_text: "Ваш адрес удалён.",
    stale: "Ссылка больше не действует",
    stale_text: "Она уже использована или устарела.",
    letter_confirm: "Подтвердите подписку: {title}",
    letter_confirm_text: "Кто-то (вероятно, вы) хочет, чтобы на этот адрес приходили сообщения и сведения о плановых работах:\n\n{title}\n{page}\n\nЧтобы подтвердить, откройте в течение суток эту страницу:\n\n{link}\n\nЕсли это были не вы, ничего делать не нужно: без подтверждения писем больше не будет, и адрес будет забыт.",
    letter_end: "{page}\nВы подписались на: {title}. Чтобы отменить подписку, откройте:\n{link}",
    months: ["января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября", "декабря"],
    units: ["д", "ч", "мин"],
    under_a_minute: "меньше минуты",
    percent: (",", " %"),
};

impl Words {
    /// Of a language.
    pub(super) const fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &EN,
            Language::Ru => &RU,
        }
    }

    /// The first sentence of a page.
    pub(super) const fn overall(&self, overall: Overall) -> &'static str {
        match overall {
            Overall::Empty => self.overall_empty,
            Overall::Operational => self.overall_operational,
            Overall::Maintenance => self.overall_maintenance,
            Overall::Unknown => self.overall_unknown,
            Overall::Degraded => self.overall_degraded,
            Overall::Partial => self.overall_partial,
            Overall::Major => self.overall_major,
        }
    }

    /// The word that stands beside a monitor.
    pub(super) const fn state(&self, state: State) -> &'static str {
        match state {
            State::Operational => self.state_operational,
            State::Degraded => self.state_degraded,
            State::Outage => self.state_outage,
            State::Unknown => self.state_unknown,
            State::Maintenance => self.state_maintenance,
            State::Paused => self.state_paused,
        }
    }

    /// What an incident means for whoever uses the service.
    pub(super) const fn impact(&self, impact: Impact) -> &'static str {
        match impact {
            Impact::Outage => self.impact_outage,
            Impact::Unsteady => self.impact_unsteady,
            Impact::Slow => self.impact_slow,
        }
    }

    /// `3 Nov 2026`.
    pub(super) fn day(&self, at: Micros) -> String {
        let Some(at) = civil(at) else { return String::new() };
        format!("{} {} {}", at.day(), self.months[usize::from(at.month().unsigned_abs()).saturating_sub(1) % 12], at.year())
    }

    /// `3 Nov 2026, 14:05`.
    pub(super) fn time(&self, at: Micros) -> String {
        let clock = civil(at).map(|at| format!("{:02}:{:02}", at.hour(), at.minute())).unwrap_or_default();
        format!("{}, {clock}", self.day(at))
    }

    /// The same with the zone.
    pub(super) fn time_utc(&self, at: Micros) -> String {
        format!("{} {}", self.time(at), self.utc)
    }

    /// From one time to another, the day only once if it is the same: `3 Nov 2026, 14:05`, `15:10 UTC`.
    pub(super) fn between(&self, from: Micros, to: Micros) -> (String, String) {
        let end = self.time_utc(to);
        let same = format!("{}, ", self.day(from));
        (self.time(from), end.strip_prefix(&same).map_or_else(|| end.clone(), str::to_owned))
    }

    /// `1 d 4 h`, `1 h 12 min`, `under a minute`.
    pub(super) fn length(&self, length: Dur) -> String {
        let minutes = length.0 / 60_000_000;
        let parts = [minutes / 1_440, minutes / 60 % 24, minutes % 60];
        let named: Vec<String> =
            parts.iter().zip(self.units).filter(|(n, _)| **n > 0).take(2).map(|(n, unit)| format!("{n} {unit}")).collect();
        if named.is_empty() { self.under_a_minute.to_owned() } else { named.join(" ") }
    }

    /// A percentage with two decimals, cut: what was down for a second is never shown as 100.
    pub(super) fn percent(&self, percent: f64) -> String {
        let hundredths = (percent * 100.0 + 1e-6).floor() as i64;
        let (point, sign) = self.percent;
        if hundredths == 10_000 { format!("100{sign}") } else { format!("{}{point}{:02}{sign}", hundredths / 100, hundredths % 100) }
    }
}

fn civil(at: Micros) -> Option<jiff::civil::DateTime> {
    Timestamp::from_microsecond(at.0).ok().map(|at| at.to_zoned(TimeZone::UTC).datetime())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        Micros(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn times_lengths_and_percentages_are_said_as_people_say_them() {
        let (from, same, other) = (at("2026-11-03T14:05:59Z"), at("2026-11-03T15:10:00Z"), at("2027-01-31T00:00:00Z"));
        assert_eq!(EN.time_utc(from), "3 Nov 2026, 14:05 UTC");
        assert_eq!(RU.day(other), "31 января 2027");
        assert_eq!(EN.between(from, same), ("3 Nov 2026, 14:05".to_owned(), "15:10 UTC".to_owned()));
        assert_eq!(EN.between(from, other).1, "31 Jan 2027, 00:00 UTC");
        let lengths = [(59, "under a minute"), (60, "1 min"), (4_320, "1 h 12 min"), (86_400, "1 d"), (100_000, "1 d 3 h")];
        for (seconds, want) in lengths {
            assert_eq!(EN.length(Dur::secs(seconds)), want);
        }
        let percents = [(100.0, "100%"), (99.9999, "99.99%"), (99.98, "99.98%"), (0.0, "0.00%"), (66.6666, "66.66%")];
        for (percent, want) in percents {
            assert_eq!(EN.percent(percent), want);
        }
        assert_eq!(RU.percent(99.5), "99,50 %");
    }
}
