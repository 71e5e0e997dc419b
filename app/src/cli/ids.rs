//! Picks one thing out of a list by a part of its id.

use crate::short_id::{PART_MIN, fits};
use anyhow::bail;
use std::fmt::Write as _;

/// So many of those that fit are named.
const NAMED_MAX: usize = 5;

/// The one item that a part of an id means. `what` names the kind of thing, `all` gives id and a few words for a person.
pub fn pick<'i, T>(items: &'i [T], part: &str, what: &str, all: impl Fn(&T) -> (&str, String)) -> anyhow::Result<&'i T> {
    let part = part.trim().to_ascii_lowercase();
    if part.chars().count() < PART_MIN {
        bail!("`{part}` is too short for the id of one {what}; give {PART_MIN} characters or more, from its beginning or its end");
    }
    let found: Vec<&T> = items.iter().filter(|item| fits(all(item).0, &part)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => bail!("there is no {what} whose id begins or ends with `{part}`"),
        [..] => {
            let mut text = format!("`{part}` fits {} ids; give more of one:", found.len());
            for item in found.iter().take(NAMED_MAX) {
                let (uid, words) = all(item);
                // Writing to a String cannot fail.
                let _ = write!(text, "\n  {uid}  {words}");
            }
            if found.len() > NAMED_MAX {
                let _ = write!(text, "\n  and {} more", found.len() - NAMED_MAX);
            }
            bail!(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::short_id::short;

    const IDS: [&str; 3] =
        ["019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e", "019aa2b4-7e0c-7d3a-8888-000000000001", "019bffff-0000-7000-8000-00000b1b2a3e"];

    fn picked(part: &str) -> Result<&'static str, String> {
        pick(&IDS, part, "incident", |id| (id, "shop".to_owned())).copied().map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_means_the_one_that_it_fits() {
        assert_eq!(picked(IDS[0]), Ok(IDS[0]));
        assert_eq!(picked("019B"), Ok(IDS[2]));
        assert_eq!(picked("6c1b2a3e"), Ok(IDS[0]));
        assert_eq!(picked("019aa2b47e0c7d3a9c55"), Ok(IDS[0]), "with or without hyphens");
        assert_eq!(picked(" 019aa2b4-7e0c-7d3a-8 "), Ok(IDS[1]));
        assert_eq!(picked(short(IDS[1])), Ok(IDS[1]));
    }

    #[test]
    fn what_fits_none_or_several_is_said() {
        assert!(picked("019").unwrap_err().contains("too short"));
        assert!(picked("ffff").unwrap_err().contains("there is no incident"), "not from the middle");
        let several = picked("019aa2b4").unwrap_err();
        assert!(several.contains("fits 2 ids") && several.contains(IDS[0]) && several.contains(IDS[1]), "{several}");
        assert!(!several.contains(IDS[2]), "{several}");
    }
}
