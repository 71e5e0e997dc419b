//! The second factor: time-based codes (RFC 6238) of 6 digits for each 30 s, over SHA-1, because that is what every app has; and codes for
//! when the device is lost.
//!
//! A code is taken once: the step it was made for is written down, and neither that one nor an earlier one is taken again, on any node.
//! One step before and after now is taken too, for clocks that are a little off. Guessing is limited with the sign-ins it belongs to.

use super::super::Web;
use super::super::error::ApiError;
use super::super::sign_in::plain_code;
use super::hash_of;
use super::password::Hidden;
use crate::sealed;
use crate::store::{Account, Totp};
use hmac::{Hmac, Mac as _};
use secrecy::zeroize::Zeroizing;
use sha1::Sha1;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use watchkeeper_core::Micros;

/// Seconds of a step, and digits of a code: what every app takes for granted.
const STEP: i64 = 30;
const DIGITS: usize = 6;

/// Steps before and after now. More would give guesses more to hit; none would fail for a clock that is off by seconds.
const AROUND: i64 = 1;

/// The code of a step.
fn code_of(secret: &[u8], step: i64) -> u32 {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 0xf);
    let four = [hash[at] & 0x7f, hash[at + 1], hash[at + 2], hash[at + 3]];
    u32::from_be_bytes(four) % 10_u32.pow(DIGITS as u32)
}

/// The step of which this is the code, near that time; in the same time whether there is one or not.
pub(in super::super) fn step_of(secret: &[u8], code: &Hidden, now: Micros) -> Option<i64> {
    let digits: String = code.0.chars().filter(|c| !c.is_whitespace()).take(DIGITS + 1).collect();
    let typed = digits.parse::<u32>().ok().filter(|_| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))?;
    let present = now.0.div_euclid(1_000_000 * STEP);
    let mut found = i64::MIN;
    for step in present - AROUND..=present + AROUND {
        found.conditional_assign(&step, code_of(secret, step).ct_eq(&typed));
    }
    (found != i64::MIN).then_some(found)
}

/// The secret of an account's second factor. A node without the key that sealed it cannot say whether a code is right, and says that.
pub(in super::super) fn opened(web: &Web, account: &Account, factor: &Totp) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let keys = web.made.borrow().keys.clone();
    sealed::open_factor(account.tenant, account.id, &factor.secret, keys.as_ref()).map_err(|why| {
        tracing::error!(user.name = %account.name, "the second factor of {} cannot be read: {why}", account.name);
        ApiError::unavailable("second_factor_sealed", "this node cannot read the second factor: it lacks the key that sealed it")
    })
}

/// Uses a code up: one of the device, or one for when that is lost. False if it is neither, or was used.
pub(in super::super) async fn spend(web: &Web, account: &Account, factor: &Totp, code: &Hidden) -> Result<bool, ApiError> {
    let accounts = web.store.accounts();
    match step_of(&opened(web, account, factor)?, code, web.clock.now()) {
        Some(step) => Ok(accounts.spend_totp(account.id, step).await?),
        None => Ok(accounts.spend_recovery(account.id, &hash_of(&plain_code(code))).await?),
    }
}

/// A secret as apps take it: base32 of RFC 4648, without padding.
pub(in super::super) fn base32(secret: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |five: &[bool]| {
        let index = five.iter().fold(0, |sum, bit| sum << 1 | usize::from(*bit)) << (5 - five.len());
        char::from(LETTERS[index])
    };
    let bits: Vec<bool> = secret.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    bits.chunks(5).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    fn at(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    fn hidden(text: &str) -> Hidden {
        Hidden(text.to_owned())
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six of its eight digits.
        for (time, want) in [(59, 287_082), (1_111_111_109, 81_804), (1_234_567_890, 5_924), (2_000_000_000, 279_037)] {
            assert_eq!(code_of(SECRET, time / STEP), want, "{time}");
        }
        assert_eq!(base32(b"foobar"), "MZXW6YTBOI", "RFC 4648, section 10");
        assert_eq!(base32(b"f"), "MY");
    }

    #[test]
    fn a_code_is_of_the_step_before_now_or_after_and_of_no_other() {
        let code = hidden("081 804");
        let step = 1_111_111_109 / STEP;
        for near in [-30, 0, 30] {
            assert_eq!(step_of(SECRET, &code, at(1_111_111_109 + near)), Some(step), "{near}");
        }
        for far in [-61, 61] {
            assert_eq!(step_of(SECRET, &code, at(1_111_111_109 + far)), None, "{far}");
        }
        for bad in ["", "81804", "0818040", "08180x", "+81804", "081805"] {
            assert_eq!(step_of(SECRET, &hidden(bad), at(1_111_111_109)), None, "{bad}");
        }
    }
}
