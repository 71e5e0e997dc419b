//! How long a request took, as clients write it: Go's durations (`1.2s`, `850µs`, `1m2.5s`), and what Python and JavaScript make of
//! a small number (`9.5e-05s`). A bare number is seconds.
//!
//! Pure. It never guesses: what is not a length of time is `None`, and the caller counts the request without it.

use watchkeeper_core::Dur;

/// Longer texts are not read. A duration in full takes about thirty bytes; without a limit a client could have us read megabytes.
pub const TEXT_MAX: usize = 64;

/// More than this is a mistake of the client's (a time of day, milliseconds called seconds). Less would refuse long jobs; more would
/// let one wrong value drown the sum of all others.
pub const LONGEST: Dur = Dur::secs(31 * 86_400);

/// The length of time that the text says, to the microsecond; `None` if it says none, a negative one, or one beyond [`LONGEST`].
pub fn parse(text: &str) -> Option<Dur> {
    if text.is_empty() || text.len() > TEXT_MAX {
        return None;
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let (whole, after) = number(rest)?;
    let seconds = if after.is_empty() { whole } else { sum(&mut rest)? };
    let micros = (seconds * 1e6).round();
    (micros <= LONGEST.0 as f64).then_some(Dur(micros as i64))
}

/// The sum of numbers with units, in seconds.
fn sum(rest: &mut &str) -> Option<f64> {
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (value, after) = number(rest)?;
        let (unit, after) = unit(after)?;
        seconds += value * unit;
        *rest = after;
    }
    Some(seconds)
}

/// A number without a sign at the beginning of the text, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let mantissa = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let end = mantissa + exponent(&text[mantissa..]);
    // The mantissa is digits and points alone, so that `inf` and `nan` are no numbers here.
    let value = text[..end].parse().ok()?;
    Some((value, &text[end..]))
}

/// How many bytes of an exponent the text begins with: `e-05` in `e-05s`. No unit begins with an `e`.
fn exponent(text: &str) -> usize {
    let Some(power) = text.strip_prefix(['e', 'E']) else { return 0 };
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    let count = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if count == 0 { 0 } else { text.len() - digits.len() + count }
}

/// The unit at the beginning of the text, in seconds, and what follows it.
fn unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(text.len());
    let seconds = match &text[..end] {
        "ns" => 1e-9,
        // Both micro signs are in use: U+00B5, which Go prints, and the Greek letter U+03BC.
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Some((seconds, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_samples_and_go_write_is_read() {
        for (text, micros) in [
            ("1.2s", 1_200_000),
            ("1s", 1_000_000),
            ("850µs", 850),
            ("850μs", 850),
            ("850us", 850),
            ("350ms", 350_000),
            ("1h", 3_600_000_000),
            ("1m2.5s", 62_500_000),
            ("1h2m3.5s", 3_723_500_000),
            ("9.5e-05s", 95),
            ("1e-7s", 0),
            ("1E+2s", 100_000_000),
            ("0s", 0),
            ("0", 0),
            ("731ns", 1),
            ("125ns", 0),
            (".5s", 500_000),
            ("1.s", 1_000_000),
            ("+2s", 2_000_000),
            ("3", 3_000_000),
            ("0.25", 250_000),
            ("0.0034210681915283203s", 3_421),
            ("744h", 2_678_400_000_000),
        ] {
            assert_eq!(parse(text), Some(Dur(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_none() {
        for text in [
            "",
            " ",
            "s",
            "1x",
            "-1s",
            "1.2.3s",
            ".s",
            ".",
            "NaNs",
            "infs",
            "inf",
            "nan",
            "undefineds",
            "nulls",
            "1es",
            "1e-s",
            "1s2",
            "1 s",
            "745h",
            "1e300s",
            "1e999s",
            "٣s",
            "1sµ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("{}s", "0".repeat(TEXT_MAX))), None);
    }

    /// As Go's `time.Duration.String` writes it.
    fn as_go_writes(nanos: u64) -> String {
        let trimmed = |value: f64, digits: usize| {
            let text = format!("{value:.digits$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        };
        match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", trimmed(nanos as f64 / 1e3, 3)),
            1_000_000..1_000_000_000 => format!("{}ms", trimmed(nanos as f64 / 1e6, 6)),
            _ => {
                let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
                let seconds = format!("{}s", trimmed(rest as f64 / 1e9, 9));
                match (minutes / 60, minutes % 60) {
                    (0, 0) => seconds,
                    (0, minutes) => format!("{minutes}m{seconds}"),
                    (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_go_prints_is_read_to_the_microsecond(nanos in 0..2_600_000_000_000_000_u64) {
            let read = parse(&as_go_writes(nanos)).map(|d| d.0 as f64);
            prop_assert!(read.is_some_and(|micros| (micros - nanos as f64 / 1e3).abs() <= 1.0), "{} is {read:?}", as_go_writes(nanos));
        }

        #[test]
        fn whatever_float_a_program_prints_is_read(seconds in 0.0..2_600_000.0_f64, scientific: bool) {
            let text = if scientific { format!("{seconds:e}s") } else { format!("{seconds}s") };
            prop_assume!(text.len() <= TEXT_MAX);
            prop_assert_eq!(parse(&text), Some(Dur((seconds * 1e6).round() as i64)));
        }

        #[test]
        fn no_text_is_more_than_a_length_of_time(text in "\\PC{0,70}") {
            prop_assert!(parse(&text).is_none_or(|d| d.0 >= 0 && d <= LONGEST));
        }

        #[test]
        fn nothing_near_a_duration_is_more_than_a_length_of_time(text in "[0-9.eE+µμnmsuh-]{0,70}") {
            prop_assert!(parse(&text).is_none_or(|d| d.0 >= 0 && d <= LONGEST));
        }
    }
}
