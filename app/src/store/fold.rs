//! How sights and verdicts are stored: whole, as JSON with a version.
//!
//! Every released version keeps its decoder here. A version that this program does not know reads as absent: the next attempts
//! rebuild the fold, and the open incidents beside it are the truth meanwhile. It is never an error.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::Verdict;

/// The version that is written.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    fold: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Read<T> {
    fold: T,
}

/// A sight with its vote as text.
pub(super) fn of_sight(sight: &Sight, vote: &Vote) -> String {
    write(&(sight, vote))
}

/// A verdict as text.
pub(super) fn of_verdict(verdict: &Verdict) -> String {
    write(verdict)
}

/// The sight and vote of a stored text, if its version is known.
pub(super) fn sight(text: &str) -> Option<(Sight, Vote)> {
    read(text)
}

/// The verdict of a stored text, if its version is known.
pub(super) fn verdict(text: &str) -> Option<Verdict> {
    read(text)
}

fn write<T: Serialize>(fold: &T) -> String {
    serde_json::to_string(&Written { v: VERSION, fold }).expect("folds have string keys only, so they are JSON")
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    let version: Version = serde_json::from_str(text).ok()?;
    match version.v {
        1 => serde_json::from_str::<Read<T>>(text).ok().map(|read| read.fold),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_takes_an_unknown_version_as_absent() {
        let text = of_verdict(&Verdict::default());
        assert_eq!(verdict(&text), Some(Verdict::default()));
        assert_eq!(verdict(&text.replace("\"v\":1", "\"v\":999")), None);
        assert_eq!(verdict("{}"), None);
        assert_eq!(sight("not JSON"), None);
    }
}
