//! What a driver's error means to the caller: try again, give up, or refuse.

use super::StoreError;
use sqlx::Error;

/// Names what was being done and classifies; for `map_err`.
pub(super) fn failed(doing: &'static str) -> impl Fn(Error) -> StoreError {
    move |source| classify(doing, source)
}

/// An argument that the store cannot accept; becomes [`StoreError::Refused`].
pub(super) fn refused(text: impl Into<String>) -> Error {
    Error::InvalidArgument(text.into())
}

/// What a late batch decided is another node's by now, and that one has not looked yet; becomes [`StoreError::NotYet`].
pub(super) fn not_yet() -> Error {
    Error::InvalidArgument(NOT_YET.into())
}

/// Documents are no longer what was seen of them; becomes [`StoreError::Outdated`].
pub(super) fn outdated() -> Error {
    Error::InvalidArgument(OUTDATED.into())
}

/// No argument of a caller reads so.
const NOT_YET: &str = "\0not yet";
/// Nor so.
const OUTDATED: &str = "\0outdated";

/// Something stored that this program cannot read; becomes [`StoreError::Broken`].
pub(super) fn unreadable(what: &'static str) -> Error {
    Error::Decode(what.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's list is open: what is not known to pass is not tried again")]
fn classify(doing: &'static str, source: Error) -> StoreError {
    let again = match &source {
        // A connection that ends in the middle of a handshake is words that the driver does not understand.
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => true,
        Error::Database(error) => error.code().is_some_and(|code| passes(&code)),
        Error::InvalidArgument(text) if text == NOT_YET => return StoreError::NotYet,
        Error::InvalidArgument(text) if text == OUTDATED => return StoreError::Outdated,
        Error::InvalidArgument(text) => return StoreError::Refused(text.clone()),
        _ => false,
    };
    if again { StoreError::Unavailable { doing, source } } else { StoreError::Broken { doing, detail: source.to_string() } }
}

/// Whether an error with this code can be gone at the next attempt. SQLite's codes are decimal numbers, PostgreSQL's have five characters.
fn passes(code: &str) -> bool {
    if code.len() == 5 {
        // Connection, rollback (serialization, deadlock), resources, operator intervention and time-outs, system; a lock not
        // had in time; a server that is (still) a standby; a transaction ended for being idle.
        return ["08", "40", "53", "57", "58"].contains(&&code[..2]) || ["55P03", "25006", "25P03"].contains(&code);
    }
    // The low byte is the primary code: BUSY 5, LOCKED 6, NOMEM 7, IOERR 10, FULL 13, CANTOPEN 14, PROTOCOL 15.
    code.parse::<i32>().is_ok_and(|code| [5, 6, 7, 10, 13, 14, 15].contains(&(code & 0xff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_passes_from_what_stays() {
        for code in ["5", "517", "10", "778", "13", "08006", "40001", "40P01", "53300", "57014", "57P01", "55P03"] {
            assert!(passes(code), "{code}");
        }
        for code in ["11", "26", "19", "2067", "1", "23505", "42P01", "22003"] {
            assert!(!passes(code), "{code}");
        }
        assert!(matches!(failed("x")(Error::PoolTimedOut), StoreError::Unavailable { doing: "x", .. }));
        let cut_off = Error::Protocol("unexpected response from SSLRequest: 0x00".into());
        assert!(matches!(failed("x")(cut_off), StoreError::Unavailable { .. }));
        assert!(matches!(failed("x")(not_yet()), StoreError::NotYet));
        assert!(matches!(failed("x")(outdated()), StoreError::Outdated));
        assert!(matches!(failed("x")(refused("no")), StoreError::Refused(text) if text == "no"));
        assert!(matches!(failed("x")(Error::RowNotFound), StoreError::Broken { .. }));
    }
}
