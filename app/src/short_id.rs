//! Ids as people read and type them: a few characters of a UUID, on a terminal and in a chat alike.
//!
//! The ids of incidents begin with the time at which they opened, so those of one storm begin alike: what is shown is the end. What
//! is taken is any part from the beginning or the end, for whoever has the whole id before their eyes.

/// A shorter part is more likely a slip than a choice.
pub const PART_MIN: usize = 4;

/// So much of an id's end is shown: enough to tell a million apart.
const SHORT: usize = 8;

/// The short form of an id.
pub fn short(uid: &str) -> &str {
    let cut = uid.char_indices().rev().nth(SHORT - 1).map_or(0, |(at, _)| at);
    &uid[cut..]
}

/// Whether a part, long enough, is the beginning or the end of an id; case and hyphens do not matter.
pub fn fits(uid: &str, part: &str) -> bool {
    let (uid, part) = (bare(uid), bare(part));
    part.len() >= PART_MIN && (uid.starts_with(&part) || uid.ends_with(&part))
}

fn bare(id: &str) -> String {
    id.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_beginning_or_an_end() {
        let uid = "019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e";
        for part in [uid, "019A", "6c1b2a3e", "019aa2b47e0c7d3a9c55", short(uid)] {
            assert!(fits(uid, part), "{part}");
        }
        for part in ["", "019", "a3e", "7e0c", "019b", "--------"] {
            assert!(!fits(uid, part), "{part}");
        }
    }
}
