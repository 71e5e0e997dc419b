//! Quantiles of a stream in at most 400 bytes: a DDSketch with 2 % relative error.
//!
//! After Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
//! (VLDB 2019). A value is counted in the bin of its logarithm, so that a bin's middle is within 2 % of everything in
//! it, and sketches of hours add up to the sketch of the day. When the bytes do not suffice, everything below a
//! *floor* is counted at the floor: low quantiles become too high, high ones, which people look at, stay right.
//!
//! The floor is the lowest that fits and is stored, so that the result depends on what was added and never on the
//! order: `merge` of two sketches equals the sketch of all their values, bit for bit. Rollups rely on it: an hour that
//! is computed again is the same again.

/// How far an answer may be from the value it stands for, relative to that value.
pub const RELATIVE_ERROR: f64 = 0.02;

/// A serialised sketch is never longer. Larger makes the rollups of many monitors outgrow their heartbeats; at half of it
/// an hour of times between 1 ms and 10 s loses its median.
pub const SKETCH_MAX: usize = 400;

/// `(1 + e) / (1 - e)`: the ratio of a bin's upper to its lower edge.
const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

/// The bin of `u64::MAX`: no other bin is higher. Bounds what foreign bytes can make us hold.
const BIN_MAX: u16 = 1_110;

/// The first byte; another layout gets another number.
const VERSION: u8 = 1;

/// Times (or other non-negative numbers) as counts per logarithmic bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Values of lower bins are counted here; 0 while nothing had to be given up.
    floor: u16,
    /// (bin, count), ascending, no count of zero.
    bins: Vec<(u16, u64)>,
}

impl Sketch {
    /// Counts one value.
    pub fn add(&mut self, value_us: u64) {
        if self.put(bin_of(value_us), 1) {
            self.fit();
        }
    }

    /// Counts everything that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.raise(self.floor.max(other.floor));
        for (bin, count) in &other.bins {
            self.put(*bin, *count);
        }
        self.fit();
    }

    /// The value below which the fraction `q` (0 to 1) of all values lies: within 2 % of the one at that rank, rounded to
    /// a whole number; too high where the bytes did not suffice. `None` when empty or when `q` is not in 0 to 1.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = (q * self.count().checked_sub(1)? as f64) as u64;
        let mut below = 0_u64;
        for (bin, count) in &self.bins {
            below = below.saturating_add(*count);
            if below > rank {
                return Some(middle_of(*bin));
            }
        }
        self.bins.last().map(|(bin, _)| middle_of(*bin))
    }

    /// How many values were counted; saturates.
    pub fn count(&self) -> u64 {
        self.bins.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// At most [`SKETCH_MAX`] bytes: version, floor, then for every bin its distance from the one before and its count, as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.push(VERSION);
        write_varint(&mut out, u64::from(self.floor));
        let mut before = 0;
        for (bin, count) in &self.bins {
            write_varint(&mut out, u64::from(bin - before));
            write_varint(&mut out, *count);
            before = *bin;
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote. `None` for anything else: too long, another version, bins out of order or out of range.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > SKETCH_MAX {
            return None;
        }
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut read = || {
            let (value, left) = read_varint(rest)?;
            rest = left;
            Some((value, left.is_empty()))
        };
        let (floor, mut done) = read()?;
        let floor = u16::try_from(floor).ok().filter(|f| *f <= BIN_MAX)?;
        let mut bins: Vec<(u16, u64)> = Vec::new();
        while !done {
            let (step, _) = read()?;
            let (count, end) = read()?;
            let before = bins.last().map_or(0, |(bin, _)| u64::from(*bin));
            let bin = u16::try_from(before.checked_add(step)?).ok().filter(|b| (floor..=BIN_MAX).contains(b))?;
            if count == 0 || (step == 0 && !bins.is_empty()) {
                return None;
            }
            bins.push((bin, count));
            done = end;
        }
        Some(Self { floor, bins })
    }

    /// Adds to a bin; whether the encoding may have become longer.
    fn put(&mut self, bin: u16, count: u64) -> bool {
        let bin = bin.max(self.floor);
        match self.bins.binary_search_by_key(&bin, |(b, _)| *b) {
            Ok(at) => {
                let old = self.bins[at].1;
                self.bins[at].1 = old.saturating_add(count);
                varint_len(old) != varint_len(self.bins[at].1)
            }
            Err(at) => {
                self.bins.insert(at, (bin, count));
                true
            }
        }
    }

    /// Raises the floor, bin by bin, until the bytes suffice. Over a sketch's whole life that is at most `BIN_MAX` steps.
    fn fit(&mut self) {
        while self.encoded_len() > SKETCH_MAX {
            self.raise(self.floor + 1);
        }
    }

    fn raise(&mut self, floor: u16) {
        self.floor = floor;
        let under = self.bins.partition_point(|(bin, _)| *bin < floor);
        if under > 0 {
            let sum = self.bins.drain(..under).fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
            self.put(floor, sum);
        }
    }

    fn encoded_len(&self) -> usize {
        let mut before = 0;
        let mut len = 1 + varint_len(u64::from(self.floor));
        for (bin, count) in &self.bins {
            len += varint_len(u64::from(bin - before)) + varint_len(*count);
            before = *bin;
        }
        len
    }
}

/// 0 has the bin 0; a value of bin b > 0 lies in (γ^(b-2), γ^(b-1)].
fn bin_of(value: u64) -> u16 {
    if value == 0 {
        return 0;
    }
    let bin = 1.0 + ((value as f64).ln() / GAMMA.ln()).ceil();
    (bin as u16).min(BIN_MAX)
}

/// The value whose relative distance to both edges of the bin is the same.
fn middle_of(bin: u16) -> u64 {
    match bin {
        0 => 0,
        bin => (2.0 * GAMMA.powi(i32::from(bin) - 1) / (GAMMA + 1.0)).round() as u64,
    }
}

const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number and what follows it; `None` when it is cut off, longer than needed, or larger than a `u64`.
fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        value |= part.checked_mul(1_u64.checked_shl(shift)?)?;
        if byte & 0x80 == 0 {
            return (at == 0 || part != 0).then_some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.add(*value);
        }
        sketch
    }

    /// Spread over all magnitudes, as plain `any` is not.
    fn times() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)]
    }

    /// What web times look like: within a factor of fifty.
    fn usual() -> impl Strategy<Value = u64> {
        20_000_u64..1_000_000
    }

    proptest! {
        #[test]
        fn answers_are_within_two_percent(mut values in proptest::collection::vec(usual(), 1..500), q in 0.0..=1.0_f64) {
            let got = of(&values).quantile(q).unwrap() as f64;
            values.sort_unstable();
            let want = values[(q * (values.len() - 1) as f64) as usize] as f64;
            prop_assert!((got - want).abs() <= want * RELATIVE_ERROR + 0.5, "q {q}: {got} instead of {want}");
        }

        #[test]
        fn one_value_of_any_size_is_within_two_percent(value in times()) {
            let got = of(&[value]).quantile(0.5).unwrap() as f64;
            prop_assert!((got - value as f64).abs() <= value as f64 * RELATIVE_ERROR + 0.5, "{got} instead of {value}");
        }

        #[test]
        fn merging_is_adding_all(left in proptest::collection::vec(times(), 0..400), right in proptest::collection::vec(times(), 0..400)) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            let mut all = [left, right].concat();
            prop_assert_eq!(&merged, &of(&all));
            all.reverse();
            prop_assert_eq!(&merged, &of(&all));
            prop_assert_eq!(merged.count(), all.len() as u64);
        }

        #[test]
        fn bytes_read_back_and_are_short(values in proptest::collection::vec(times(), 0..600)) {
            let sketch = of(&values);
            let bytes = sketch.to_bytes();
            prop_assert!(bytes.len() <= SKETCH_MAX);
            prop_assert_eq!(Sketch::from_bytes(&bytes), Some(sketch));
        }

        #[test]
        fn foreign_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..500), ours in any::<bool>()) {
            if let (Some(first), true) = (bytes.first_mut(), ours) {
                *first = VERSION;
            }
            if let Some(sketch) = Sketch::from_bytes(&bytes) {
                // What is read is what we would have written: the sketch has one form only.
                prop_assert_eq!(&sketch.to_bytes(), &bytes);
                let mut twice = sketch.clone();
                twice.merge(&sketch);
                prop_assert!(twice.to_bytes().len() <= SKETCH_MAX);
                let _ = twice.quantile(0.99);
            }
        }
    }

    #[test]
    fn too_many_bins_give_up_the_low_quantiles_only() {
        let values: Vec<u64> = (0..40_000_u64).map(|i| 2_u64.pow((i % 40) as u32) + i).collect();
        let spread: Vec<u64> = (0..2_000).map(|i| 1.02_f64.powi(i % 1_000) as u64 + 1).collect();
        for mut values in [values, spread] {
            let sketch = of(&values);
            assert!(sketch.to_bytes().len() <= SKETCH_MAX);
            values.sort_unstable();
            let (got, want) = (sketch.quantile(0.99).unwrap() as f64, values[(0.99 * (values.len() - 1) as f64) as usize] as f64);
            assert!((got - want).abs() <= want * RELATIVE_ERROR + 0.5, "{got} instead of {want}");
        }
    }

    #[test]
    fn a_month_of_seconds_fits_and_keeps_its_median() {
        let day = of(&(0..86_400).map(|i| 10_000 + i).collect::<Vec<u64>>());
        let mut sketch = Sketch::default();
        for _ in 0..30 {
            sketch.merge(&day);
        }
        assert!(sketch.to_bytes().len() <= SKETCH_MAX);
        let median = sketch.quantile(0.5).unwrap() as f64;
        assert!((median - 53_200.0).abs() <= 53_200.0 * RELATIVE_ERROR, "{median}");
        assert_eq!(sketch.count(), 2_592_000);
    }

    #[test]
    fn empty_and_nonsense_have_no_quantile() {
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(of(&[1]).quantile(1.5), None);
        assert_eq!(of(&[1]).quantile(f64::NAN), None);
        assert_eq!(Sketch::from_bytes(&[]), None);
        assert_eq!(Sketch::from_bytes(&[VERSION, 0, 1]), None);
        assert_eq!(bin_of(u64::MAX), BIN_MAX);
    }
}
