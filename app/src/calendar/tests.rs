//! Calendars through daylight saving: by example, against the clock on the wall, and against all starts one by one.

use super::*;
use proptest::prelude::*;

/// Half-hour changes, changes at midnight, none at all.
const ZONES: [&str; 7] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Asia/Kathmandu"];

fn at(text: &str) -> Micros {
    Micros(text.parse::<Timestamp>().unwrap().as_microsecond())
}

fn hours(days_text: &str, from: &str, to: &str, name: &str) -> Hours {
    Hours::new(days(days_text).unwrap(), minute(from).unwrap(), minute(to).unwrap(), zone(name).unwrap()).unwrap()
}

fn opens(hours: &Hours, now: &str) -> String {
    hours.opens_at(at(now)).map_or_else(|| "open".to_owned(), |at| Timestamp::from_microsecond(at.0).unwrap().to_string())
}

#[test]
fn a_time_is_written_as_it_is_read() {
    let berlin = zone("Europe/Berlin").unwrap();
    let text = written(&berlin, at("2026-07-01T10:59:30Z"));
    assert_eq!(text, "2026-07-01 12:59");
    assert_eq!(begins(&berlin, civil(&text).unwrap()), Some(at("2026-07-01T10:59:00Z")));
}

#[test]
fn words() {
    assert_eq!(minute("09:00"), Some(540));
    assert_eq!(minute("9:05"), Some(545));
    assert_eq!(minute("24:00"), Some(1440));
    for bad in ["", "9", "24:01", "09:60", "9:5", "+9:00", "25:00", "09:00:00", "-1:00"] {
        assert_eq!(minute(bad), None, "{bad}");
    }
    assert_eq!(days("mon-fri"), Some([true, true, true, true, true, false, false]));
    assert_eq!(days("Sat - mon"), Some([true, false, false, false, false, true, true]));
    assert_eq!(days("sun"), Some([false, false, false, false, false, false, true]));
    assert_eq!((days("weekday"), days("mon-"), days("")), (None, None, None));
    assert!(civil("2026-12-01 02:00").is_some() && civil("2026-12-01T02:00").is_some());
    assert!(civil("2026-12-01").is_none() && civil("2026-13-01 02:00").is_none() && civil("2026-12-01 02:00Z").is_none());
    let utc = || zone("UTC").unwrap();
    assert!(Hours::new([false; 7], 0, 60, utc()).is_none(), "no day");
    assert!(Hours::new([true; 7], 60, 60, utc()).is_none(), "no length");
    assert!(Hours::new([true; 7], DAY_MINUTES, 60, utc()).is_none());
}

#[test]
fn working_hours() {
    let hours = hours("mon-fri", "09:00", "18:00", "Europe/Berlin");
    assert_eq!(opens(&hours, "2026-11-20T08:00:00Z"), "open", "Friday 09:00");
    assert_eq!(opens(&hours, "2026-11-20T16:59:59Z"), "open");
    assert_eq!(opens(&hours, "2026-11-20T17:00:00Z"), "2026-11-23T08:00:00Z", "from Friday evening to Monday");
    assert_eq!(opens(&hours, "2026-11-23T07:59:59Z"), "2026-11-23T08:00:00Z");
}

#[test]
fn hours_that_cross_midnight_belong_to_the_day_on_which_they_begin() {
    let hours = hours("fri", "22:00", "06:00", "UTC");
    assert_eq!(opens(&hours, "2026-11-20T21:00:00Z"), "2026-11-20T22:00:00Z");
    assert_eq!(opens(&hours, "2026-11-21T05:59:59Z"), "open", "Saturday morning");
    assert_eq!(opens(&hours, "2026-11-21T06:00:00Z"), "2026-11-27T22:00:00Z");
    assert_eq!(opens(&hours, "2026-11-20T03:00:00Z"), "2026-11-20T22:00:00Z", "Thursday does not count");
}

#[test]
fn a_doubled_hour_is_one_window_and_a_skipped_one_none() {
    // Berlin doubles 02:00–03:00 on 2026-10-25 (00:00Z–02:00Z) and skips it on 2026-03-29 (01:00Z).
    let early = hours("sun", "02:00", "02:30", "Europe/Berlin");
    assert_eq!(opens(&early, "2026-10-24T23:59:59Z"), "2026-10-25T00:00:00Z");
    for inside in ["2026-10-25T00:00:00Z", "2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z"] {
        assert_eq!(opens(&early, inside), "open", "{inside}");
    }
    assert_eq!(opens(&early, "2026-10-25T01:30:00Z"), "2026-11-01T01:00:00Z");
    assert_eq!(opens(&early, "2026-03-28T12:00:00Z"), "2026-04-05T00:00:00Z", "they do not take place on 29 March");
    let later = hours("sun", "02:30", "04:00", "Europe/Berlin");
    assert_eq!(opens(&later, "2026-03-29T00:59:59Z"), "2026-03-29T01:00:00Z", "the end of the gap");
    assert_eq!(opens(&later, "2026-03-29T01:59:59Z"), "open");
    assert_eq!(opens(&later, "2026-03-29T02:00:00Z"), "2026-04-05T00:30:00Z");
    let whole = hours("mon-sun", "00:00", "24:00", "Europe/Berlin");
    for always in ["2026-03-29T01:00:00Z", "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z"] {
        assert_eq!(opens(&whole, always), "open", "{always}");
    }
}

#[test]
fn maintenance_once() {
    let berlin = zone("Europe/Berlin").unwrap();
    let once = |from: &str, to: &str| Window::once(civil(from).unwrap(), civil(to).unwrap(), &berlin);
    let window = once("2026-12-01 02:00", "2026-12-01 04:00").unwrap();
    assert_eq!(window.open_until(at("2026-12-01T00:59:59Z")), None);
    assert_eq!(window.open_until(at("2026-12-01T01:00:00Z")), Some(at("2026-12-01T03:00:00Z")));
    assert_eq!(window.open_until(at("2026-12-01T03:00:00Z")), None);
    assert_eq!(window.next(at("2026-12-01T00:59:59Z")), Some((at("2026-12-01T01:00:00Z"), at("2026-12-01T03:00:00Z"))));
    assert_eq!(window.next(at("2026-12-01T01:00:00Z")), None, "it has begun");
    assert!(once("2026-12-01 02:00", "2026-12-01 02:00").is_none());
    assert!(once("2026-03-29 02:10", "2026-03-29 02:50").is_none(), "skipped as a whole");
    assert_eq!(
        once("2026-10-25 02:00", "2026-10-25 03:00").unwrap().open_until(at("2026-10-25T01:30:00Z")),
        Some(at("2026-10-25T02:00:00Z"))
    );
}

#[test]
fn maintenance_again_and_again() {
    let window = Window::every("0 3 * * SUN", "Europe/Berlin", Dur::secs(7_200)).unwrap();
    assert_eq!(window.next(at("2026-11-22T02:00:00Z")), Some((at("2026-11-29T02:00:00Z"), at("2026-11-29T04:00:00Z"))), "the one after");
    assert_eq!(window.open_until(at("2026-11-22T01:59:59Z")), None);
    assert_eq!(window.open_until(at("2026-11-22T02:00:00Z")), Some(at("2026-11-22T04:00:00Z")));
    assert_eq!(window.open_until(at("2026-11-22T03:59:59Z")), Some(at("2026-11-22T04:00:00Z")));
    assert_eq!(window.open_until(at("2026-11-22T04:00:00Z")), None);
    // 02:30 is skipped on 29 March: it opens at the end of the gap, for its whole length.
    let early = Window::every("30 2 * * *", "Europe/Berlin", Dur::secs(3_600)).unwrap();
    assert_eq!(early.open_until(at("2026-03-29T01:30:00Z")), Some(at("2026-03-29T02:00:00Z")));
    // 02:30 is doubled on 25 October: it opens once, the first time.
    assert_eq!(early.open_until(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:30:00Z")));
    assert_eq!(early.open_until(at("2026-10-25T01:45:00Z")), None);
    let touching = Window::every("0 * * * *", "UTC", Dur::secs(3_600)).unwrap();
    assert!(touching.open_until(at("2026-11-22T03:30:00Z")).unwrap() >= at("2026-11-24T00:00:00Z"), "one long window");
    assert!(Window::every("0 3 * * SUN", "Mars/Olympus", Dur::secs(1)).is_err());
    assert!(Window::every("0 3 * * SUN", "UTC", Dur::ZERO).is_err());
}

#[test]
fn windows_are_told_as_they_will_fall() {
    let told = |window: &Window, from: &str, to: &str, mut starts: usize| {
        let shown = |at: Micros| Timestamp::from_microsecond(at.0).unwrap().to_string();
        let falls = window.within(at(from), at(to), &mut starts);
        (falls.into_iter().map(|(from, to)| format!("{} {}", shown(from), shown(to))).collect::<Vec<_>>(), starts)
    };
    // Berlin changes to winter time on 25 October: 03:00 there is another instant after it.
    let weekly = Window::every("0 3 * * SUN", "Europe/Berlin", Dur::secs(7_200)).unwrap();
    let (falls, left) = told(&weekly, "2026-10-18T02:00:00Z", "2026-10-25T02:00:01Z", 10);
    assert_eq!(
        falls,
        ["2026-10-18T01:00:00Z 2026-10-18T03:00:00Z", "2026-10-25T02:00:00Z 2026-10-25T04:00:00Z"],
        "one that is open counts"
    );
    assert_eq!(left, 7, "two, and the one after them");
    assert_eq!(told(&weekly, "2026-10-18T03:00:00Z", "2026-10-25T02:00:00Z", 10).0, Vec::<String>::new(), "neither end belongs to it");
    let touching = Window::every("0 * * * *", "UTC", Dur::secs(3_600)).unwrap();
    let (falls, _) = told(&touching, "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", 100);
    assert_eq!(falls, ["2026-11-22T00:00:00Z 2026-11-23T00:00:00Z"]);
    assert_eq!(
        told(&touching, "2026-11-22T00:00:00Z", "2027-11-22T00:00:00Z", 3),
        (vec!["2026-11-22T00:00:00Z 2026-11-22T03:00:00Z".to_owned()], 0)
    );
    let once = Window::Once { from: at("2026-11-22T00:00:00Z"), to: at("2026-11-23T00:00:00Z") };
    assert_eq!(told(&once, "2026-11-22T23:59:59Z", "2026-11-24T00:00:00Z", 0).0.len(), 1);
    assert_eq!(told(&once, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", 0).0.len(), 0);
    assert_eq!(weekly.recurs(), Some(("0 3 * * SUN", "Europe/Berlin", Dur::secs(7_200))));
}

#[test]
fn windows_are_stored_and_read_back() {
    let every = Window::every("0 3 * * SUN", "Europe/Berlin", Dur::secs(7_200)).unwrap();
    for window in [Window::Once { from: Micros(1), to: Micros(2) }, every] {
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window, "{text}");
    }
    assert!(serde_json::from_str::<Window>(r#"{"every":{"cron":"x","zone":"UTC","lasts":1}}"#).is_err());
}

/// Instants near changes to and from summer time, and any others.
fn instants() -> impl Strategy<Value = i64> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-03-08T05:00:00Z",
        "2026-11-01T05:00:00Z",
        "2026-04-23T22:00:00Z",
        "2026-10-29T21:00:00Z",
    ];
    let near = prop::sample::select(changes.to_vec()).prop_flat_map(|change| {
        let change = at(change).0 / 1_000_000;
        change - 90_000..change + 90_000
    });
    prop_oneof![near, 1_767_225_600_i64..1_830_297_600]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn hours_are_what_the_clock_on_the_wall_says(days in prop::array::uniform7(any::<bool>()), from in 0_u16..1440, length in 1_u16..1440, name in prop::sample::select(ZONES.to_vec()), now in instants()) {
        let to = if from + length == 1440 { 1440 } else { (from + length) % 1440 };
        prop_assume!(days.contains(&true));
        let tz = zone(name).unwrap();
        let hours = Hours::new(days, from, to, tz.clone()).unwrap();
        let now = Micros(now * 1_000_000);
        let wall = Timestamp::from_microsecond(now.0).unwrap().to_zoned(tz.clone());
        let minute = wall.hour() as u16 * 60 + wall.minute() as u16;
        let on = |day: Date| days[day.weekday().to_monday_zero_offset() as usize];
        let (today, yesterday) = (on(wall.date()), on(wall.date().yesterday().unwrap()));
        let says = if from < to { today && from <= minute && minute < to } else { today && minute >= from || yesterday && minute < to };
        let doubled = matches!(tz.to_ambiguous_timestamp(wall.datetime()).offset(), AmbiguousOffset::Fold { .. });
        match hours.opens_at(now) {
            None => prop_assert!(says || doubled, "open at {wall}"),
            Some(opens) => {
                prop_assert!(!says, "closed at {}", wall);
                prop_assert!(opens > now && hours.opens_at(opens).is_none());
                prop_assert_eq!(hours.opens_at(Micros(opens.0 - 1)), Some(opens));
            }
        }
    }

    #[test]
    fn a_recurring_window_is_open_exactly_between_its_starts_and_their_ends(pattern in prop::sample::select(vec!["30 2 * * *", "0 3 * * SUN", "0 0 * * *", "15 */6 * * *", "0 2,3 * * *", "40 * * * *"]), minutes in 1_i64..3_000, name in prop::sample::select(ZONES.to_vec()), now in instants()) {
        let (now, lasts) = (Micros(now * 1_000_000), Dur::secs(minutes * 60));
        let window = Window::every(pattern, name, lasts).unwrap();
        let cron = Cron::parse(pattern, name).unwrap();
        // All starts, each after the one before, from long ago.
        let mut start = now - Dur::secs(12 * 86_400);
        let mut end = None;
        while let Some(next) = cron.next(start).filter(|next| *next <= now) {
            start = next;
            end = Some(next + lasts).filter(|end| *end > now);
        }
        let open = window.open_until(now);
        prop_assert_eq!(open.is_some(), end.is_some(), "{:?} {:?}", open, end);
        if let (Some(open), Some(end)) = (open, end) {
            prop_assert!(open >= end && open > now);
        }
    }
}
