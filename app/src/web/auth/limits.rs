//! How often somebody may try to sign in: by where it comes from, and by whose account it is about.
//!
//! Both limits count in a fixed number of buckets that addresses and names fall into by a keyed hash, so that strangers cannot make
//! the tables grow; two that share a bucket share its limit. They are this node's own: with many nodes behind one address the limit is
//! as many times as large. A limit by account lets a stranger keep its owner from signing in by trying without end; what the owner
//! has signed in with already goes on, as do tokens, and the log names the address.

use super::super::error::ApiError;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Attempts from one address at once, and one more after each [`ADDRESS_PAUSE`]. Offices share an address; fewer would keep them out on
/// Monday morning, more would help guessing.
const ADDRESS_BURST: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
const ADDRESS_PAUSE: Duration = Duration::from_secs(6);

/// Attempts on one account at once, and one more after each [`ACCOUNT_PAUSE`]: about 2 900 guesses a day, of 10 characters at least.
const ACCOUNT_BURST: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");
const ACCOUNT_PAUSE: Duration = Duration::from_secs(30);

/// So many addresses, and names, are told apart. Fewer would have strangers use up others' attempts; more is memory.
const BUCKETS: u64 = 16_384;

/// Attempts of one kind, counted apart for each bucket.
pub(in super::super) struct Buckets {
    keys: RandomState,
    limiter: DefaultKeyedRateLimiter<u16>,
}

impl Buckets {
    /// So many at once, and one more after each pause.
    pub(in super::super) fn new(burst: NonZeroU32, pause: Duration) -> Self {
        let quota = Quota::with_period(pause).expect("the pause is not zero").allow_burst(burst);
        Self { keys: RandomState::new(), limiter: RateLimiter::keyed(quota) }
    }

    /// Whether one more is within the limit; it is counted then.
    pub(in super::super) fn admit(&self, key: impl Hash) -> bool {
        self.limiter.check_key(&((self.keys.hash_one(key) % BUCKETS) as u16)).is_ok()
    }

    /// The same for whoever is at that address.
    pub(in super::super) fn admit_address(&self, address: IpAddr) -> bool {
        self.admit(network_of(address))
    }
}

pub(in super::super) struct SignInLimits {
    addresses: Buckets,
    accounts: Buckets,
}

impl Default for SignInLimits {
    fn default() -> Self {
        Self { addresses: Buckets::new(ADDRESS_BURST, ADDRESS_PAUSE), accounts: Buckets::new(ACCOUNT_BURST, ACCOUNT_PAUSE) }
    }
}

impl SignInLimits {
    /// Before anything is looked up for whoever is at that address.
    pub(in super::super) fn admit_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let admitted = self.addresses.admit_address(address);
        admitted.then_some(()).ok_or_else(|| too_many("from this address", ADDRESS_PAUSE))
    }

    /// Before a password of that account is looked at, whether there is such an account or not.
    pub(in super::super) fn admit_account(&self, login: &str) -> Result<(), ApiError> {
        self.accounts.admit(login).then_some(()).ok_or_else(|| too_many("on this account", ACCOUNT_PAUSE))
    }
}

fn too_many(what: &str, pause: Duration) -> ApiError {
    let seconds = pause.as_secs();
    ApiError { retry_after: Some(seconds), ..ApiError::too_many(format!("too many attempts {what}; one more is taken every {seconds} s")) }
}

/// One household has a whole /64 of IPv6.
fn network_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(mut attempt: impl FnMut() -> Result<(), ApiError>) -> usize {
        (0..1_000).filter(|_| attempt().is_ok()).count()
    }

    #[test]
    fn an_address_and_an_account_have_a_limit_each_and_others_are_not_meant() {
        let limits = SignInLimits::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(admitted(|| limits.admit_address(ip("192.0.2.1"))), ADDRESS_BURST.get() as usize);
        assert!(limits.admit_address(ip("::ffff:192.0.2.1")).is_err(), "the same, as IPv6 writes it");
        assert_eq!(admitted(|| limits.admit_account("ann")), ACCOUNT_BURST.get() as usize);
        assert_eq!(admitted(|| limits.admit_address(ip("2001:db8::1"))), ADDRESS_BURST.get() as usize);
        let refused = limits.admit_address(ip("2001:db8::ffff:2")).expect_err("the same /64");
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(6)));
        // Among a hundred others, hardly one shares a bucket with the three that are used up.
        let others = (0..100).filter(|nth| limits.admit_account(&format!("user {nth}")).is_ok()).count();
        assert!(others >= 97, "{others}");
    }

    #[test]
    fn strangers_cannot_make_the_tables_grow() {
        let limits = SignInLimits::default();
        for nth in 0..100_000_u32 {
            let _ = limits.admit_account(&format!("guess {nth}"));
            let _ = limits.admit_address(IpAddr::from(nth.to_be_bytes()));
        }
        assert!(limits.accounts.limiter.len() as u64 <= BUCKETS && limits.addresses.limiter.len() as u64 <= BUCKETS);
    }
}
