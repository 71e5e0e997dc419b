//! Calendars: the weekly hours of a route, and windows of maintenance.
//!
//! People write wall-clock times, everything else knows only instants; here the one becomes the other. A time that a change to
//! summer time skips is the instant of the change; of a time that a change back doubles, a beginning is the first and an end
//! the last. So a doubled hour is one window, and hours that lie wholly in a skipped hour do not take place.
//!
//! Nothing here reads a clock, and nothing decides what a window means: `deliver/` and the engine do.

use crate::schedule::Cron;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};
use watchkeeper_core::{Dur, Micros};

/// So many days are looked at for the next opening: a week, and another for one whose hours were skipped.
const DAYS_LOOKED_AT: usize = 16;
/// So many recurring windows that overlap are seen as one. What comes later is seen when the last of them is over.
const MERGED_MAX: usize = 64;
/// Of one recurring window so many are told at most, and so many starts looked at. More than hourly over the weeks of a calendar is no
/// announcement; each start costs a search in its time zone.
pub const FALLS_MAX: usize = 1_000;
/// A day has so many minutes; the end of hours may be this one, `24:00`.
const DAY_MINUTES: u16 = 24 * 60;

/// The days of the week as they are written, from Monday.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of the week in a time zone. Those that end at or before their beginning reach into the next day; the day on which they
/// begin counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from: u16,
    to: u16,
    zone: TimeZone,
}

/// Whether a wall-clock time begins or ends something.
#[derive(Clone, Copy)]
enum Edge {
    Begin,
    End,
}

impl Hours {
    /// From days (Monday first) and minutes of the day. `None` unless there is a day, `from` is before 24:00, `to` is not
    /// after it, and they differ.
    pub fn new(days: [bool; 7], from: u16, to: u16, zone: TimeZone) -> Option<Self> {
        let good = days.contains(&true) && from < DAY_MINUTES && to <= DAY_MINUTES && from != to;
        good.then_some(Self { days, from, to, zone })
    }

    /// When they begin next; `None` while they last.
    pub fn opens_at(&self, now: Micros) -> Option<Micros> {
        let at = Timestamp::from_microsecond(now.0).ok()?;
        // What began yesterday may last until this morning.
        let mut day = at.to_zoned(self.zone.clone()).date().yesterday().ok()?;
        for _ in 0..DAYS_LOOKED_AT {
            if let Some((from, to)) = self.on(day)
                && now < to
            {
                return (from > now).then_some(from);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The hours that begin on a day.
    fn on(&self, day: Date) -> Option<(Micros, Micros)> {
        if !self.days[day.weekday().to_monday_zero_offset() as usize] {
            return None;
        }
        let last = if self.to <= self.from || self.to == DAY_MINUTES { day.tomorrow().ok()? } else { day };
        let from = instant(&self.zone, clock(day, self.from), Edge::Begin)?;
        let to = instant(&self.zone, clock(last, self.to % DAY_MINUTES), Edge::End)?;
        (from < to).then_some((from, to))
    }

    /// All of it on one line; the same text means the same hours.
    pub fn canonical(&self) -> String {
        let days: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
        format!("{} {}-{} {}", days.join(","), self.from, self.to, self.zone.iana_name().unwrap_or("UTC"))
    }
}

fn clock(day: Date, minute: u16) -> DateTime {
    // Minutes of a day are checked when hours are made.
    day.to_datetime(Time::constant((minute / 60 % 24) as i8, (minute % 60) as i8, 0, 0))
}

/// The instant of a wall-clock time; `None` beyond the years that are known.
fn instant(zone: &TimeZone, at: DateTime, edge: Edge) -> Option<Micros> {
    let instant = match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(at).ok()?,
        // Read with the later offset, a skipped time lies before the change.
        AmbiguousOffset::Gap { after, .. } => zone.following(after.to_timestamp(at).ok()?).next()?.timestamp(),
        AmbiguousOffset::Fold { before, after } => match edge {
            Edge::Begin => before.to_timestamp(at).ok()?,
            Edge::End => after.to_timestamp(at).ok()?,
        },
    };
    Some(Micros(instant.as_microsecond()))
}

/// The instant at which something begins that has a wall-clock time.
pub fn begins(zone: &TimeZone, at: DateTime) -> Option<Micros> {
    instant(zone, at, Edge::Begin)
}

/// A time zone by its IANA name.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// A minute of the day from `09:00`; `24:00` is its end.
pub fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
}

/// Days from `mon`, or `mon-fri`; a range may pass Sunday (`fri-mon`).
pub fn days(text: &str) -> Option<[bool; 7]> {
    let nth = |word: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(word.trim()));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (nth(first)?, nth(last)?),
        None => (nth(text)?, nth(text)?),
    };
    let mut days = [false; 7];
    for step in 0..=(last + 7 - first) % 7 {
        days[(first + step) % 7] = true;
    }
    Some(days)
}

/// A date and time of day without a zone: `2026-12-01 02:00`.
pub fn civil(text: &str) -> Option<DateTime> {
    ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"].iter().find_map(|form| DateTime::strptime(form, text).ok())
}

/// A time as [`civil`] reads it: by the clock of a zone, to the minute.
pub fn written(zone: &TimeZone, at: Micros) -> String {
    let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or(jiff::Timestamp::MIN);
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// When maintenance is: once, or again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum Window {
    /// From one instant to another, which does not belong to it.
    Once {
        /// Its first instant.
        from: Micros,
        /// The first instant after it.
        to: Micros,
    },
    /// As a cron pattern says.
    Every(Box<Recurring>),
}

/// A window that recurs.
#[derive(Clone, Debug)]
pub struct Recurring {
    pattern: String,
    zone: String,
    lasts: Dur,
    cron: Cron,
}

impl PartialEq for Recurring {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.zone, self.lasts) == (&other.pattern, &other.zone, other.lasts)
    }
}

impl Window {
    /// One window between two wall-clock times; `None` if it would have no length.
    pub fn once(from: DateTime, to: DateTime, zone: &TimeZone) -> Option<Self> {
        let (from, to) = (instant(zone, from, Edge::Begin)?, instant(zone, to, Edge::End)?);
        (from < to).then_some(Self::Once { from, to })
    }

    /// One that begins whenever the pattern says and lasts so long. The error says what is accepted.
    pub fn every(pattern: &str, zone: &str, lasts: Dur) -> Result<Self, String> {
        if lasts <= Dur::ZERO {
            return Err("a window without a length".to_owned());
        }
        let cron = Cron::parse(pattern, zone)?;
        Ok(Self::Every(Box::new(Recurring { pattern: pattern.to_owned(), zone: zone.to_owned(), lasts, cron })))
    }

    /// When it is over, if it is open now. Windows that overlap or touch are one.
    pub fn open_until(&self, now: Micros) -> Option<Micros> {
        match self {
            Self::Once { from, to } => (*from <= now && now < *to).then_some(*to),
            Self::Every(every) => every.open_until(now),
        }
    }

    /// Those that lie in [from, to), wholly or in part, oldest first; windows that overlap or touch are one. `starts` is how many may still
    /// be looked at, and less by those that were.
    pub fn within(&self, from: Micros, to: Micros, starts: &mut usize) -> Vec<(Micros, Micros)> {
        match self {
            Self::Once { from: begin, to: end } => {
                if *begin < to && from < *end {
                    vec![(*begin, *end)]
                } else {
                    vec![]
                }
            }
            Self::Every(every) => every.within(from, to, starts),
        }
    }

    /// How it recurs, if it does: pattern, time zone, length.
    pub fn recurs(&self) -> Option<(&str, &str, Dur)> {
        match self {
            Self::Once { .. } => None,
            Self::Every(every) => Some((&every.pattern, &every.zone, every.lasts)),
        }
    }

    /// The next one that has not begun: from when to when.
    pub fn next(&self, now: Micros) -> Option<(Micros, Micros)> {
        match self {
            Self::Once { from, to } => (now < *from).then_some((*from, *to)),
            Self::Every(every) => every.cron.next(now).map(|from| (from, from + every.lasts)),
        }
    }
}

impl Recurring {
    fn within(&self, from: Micros, to: Micros, starts: &mut usize) -> Vec<(Micros, Micros)> {
        let mut falls: Vec<(Micros, Micros)> = vec![];
        let mut before = from - self.lasts;
        for _ in 0..FALLS_MAX.min(*starts) {
            *starts -= 1;
            let Some(start) = self.cron.next(before).filter(|start| *start < to) else { break };
            let end = start + self.lasts;
            match falls.last_mut() {
                Some((_, last)) if start <= *last => *last = end,
                Some(_) | None => falls.push((start, end)),
            }
            before = start;
        }
        falls
    }

    fn open_until(&self, now: Micros) -> Option<Micros> {
        let mut start = self.cron.next(now - self.lasts).filter(|start| *start <= now)?;
        let mut end = start + self.lasts;
        for _ in 0..MERGED_MAX {
            let Some(next) = self.cron.next(start).filter(|next| *next <= end) else { break };
            start = next;
            end = next + self.lasts;
        }
        Some(end)
    }
}

/// A window as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Stored {
    Once { from: Micros, to: Micros },
    Every { cron: String, zone: String, lasts: Dur },
}

impl TryFrom<Stored> for Window {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        match stored {
            Stored::Once { from, to } => Ok(Self::Once { from, to }),
            Stored::Every { cron, zone, lasts } => Self::every(&cron, &zone, lasts),
        }
    }
}

impl From<Window> for Stored {
    fn from(window: Window) -> Self {
        match window {
            Window::Once { from, to } => Self::Once { from, to },
            Window::Every(every) => Self::Every { cron: every.pattern, zone: every.zone, lasts: every.lasts },
        }
    }
}

#[cfg(test)]
mod tests;
