//! Small numbers about many measurements, and about a process.

use anyhow::{Context, Result};

/// The value below which `percent` of the measurements lie (nearest rank); 0 of none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// CPU time a process has used so far, user and system together, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    // Clock ticks are 100 per second on every Linux that user space sees (USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("reading the CPU time of process {pid}"))?;
    // The name in parentheses may hold blanks: fields are counted after it. utime and stime are fields 14 and 15.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    anyhow::ensure!(ticks.len() == 2, "/proc/{pid}/stat has an unknown form");
    Ok((ticks[0] + ticks[1]) / TICKS_PER_SECOND)
}

/// Private memory of a process (`RssAnon`), in MiB.
pub fn rss_anon_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("reading the memory of process {pid}"))?;
    let kib = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).and_then(|v| v.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.context("/proc/PID/status has no RssAnon")? / 1024.0)
}

/// The sum of a series over its labels in Prometheus' text form.
pub fn series_sum(metrics: &str, name: &str) -> f64 {
    // From a positive zero: the sum of nothing would be a negative one.
    lines_of(metrics, name).filter_map(|(_, value)| value.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
}

/// The upper bound of the bucket that holds the percentile of a histogram between two scrapes, and how many fell in all.
pub fn histogram_percentile(before: &str, after: &str, name: &str, percent: f64) -> (f64, f64) {
    let bucket = format!("{name}_bucket");
    let buckets = |text: &str| -> Vec<(f64, f64)> {
        lines_of(text, &bucket)
            .filter_map(|(labels, value)| {
                let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some((bound, value.parse().ok()?))
            })
            .collect()
    };
    let (old, new) = (buckets(before), buckets(after));
    let grown: Vec<(f64, f64)> = new
        .iter()
        .map(|(bound, count)| (*bound, count - old.iter().find(|(b, _)| b.to_bits() == bound.to_bits()).map_or(0.0, |(_, c)| *c)))
        .collect();
    let all = grown.last().map_or(0.0, |(_, count)| *count);
    let found = grown.iter().find(|(_, count)| *count >= all * percent / 100.0);
    (found.map_or(f64::INFINITY, |(bound, _)| *bound), all)
}

fn lines_of<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')).flatten()
    })
}

/// Random numbers from a seed (SplitMix64), so that a round can be repeated.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `limit` - 1.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&values, 50.0), percentile(&values, 99.0), percentile(&[], 50.0)), (50.0, 99.0, 0.0));
    }

    #[test]
    fn histograms_count_what_came_between() {
        let text = |a: u32, b: u32| format!("x_bucket{{le=\"0.1\"}} {a}\nx_bucket{{le=\"+Inf\"}} {b}\nx_sum 3\n");
        assert_eq!(histogram_percentile(&text(0, 50), &text(99, 150), "x", 99.0), (0.1, 100.0));
        assert_eq!(histogram_percentile(&text(0, 50), &text(98, 150), "x", 99.0), (f64::INFINITY, 100.0));
    }

    #[test]
    fn our_own_process_has_used_time_and_memory() {
        assert!(cpu_seconds(std::process::id()).expect("read") >= 0.0);
        assert!(rss_anon_mib(std::process::id()).expect("read") > 0.0);
    }
}
