//! The password of a page, and how often one may be tried.
//!
//! HTTP Basic, because it works without scripts, forms and cookies, for feed readers and programs too. A first password from an address costs one
//! of its attempts, right or wrong; one that was right there is not counted again, so that a page may be loaded as often as one likes.

use super::super::auth::limits::SignInLimits;
use super::{Refusal, Visitor, lock};
use crate::config::StatusPageConfig;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use subtle::ConstantTimeEq as _;

/// So many addresses with a right password are remembered. When there are more, all are forgotten, and each costs an attempt again.
const KNOWN_MAX: usize = 10_000;

/// Bytes of what is sent at most; nobody's password is longer.
const CREDENTIALS_MAX: usize = 1_024;

/// What was tried.
#[derive(Default)]
pub(super) struct Guesses {
    keys: RandomState,
    limits: SignInLimits,
    known: Mutex<HashSet<u64>>,
}

impl Guesses {
    /// Lets in whoever knows the page's password, if it has one.
    pub(super) fn admit(&self, page: &StatusPageConfig, visitor: &Visitor) -> Result<(), Refusal> {
        let Some(wanted) = &page.password else { return Ok(()) };
        let given = password(visitor).ok_or(Refusal::Closed(page.language))?;
        let key = self.key(&page.slug, visitor.address, &given);
        if !lock(&self.known).contains(&key) {
            let limited = self.limits.admit_address(visitor.address);
            limited.map_err(|error| Refusal::Guessing(page.language, error.retry_after.unwrap_or(1)))?;
        }
        let digest = |text: &[u8]| Sha256::digest(text);
        if !bool::from(digest(&given).ct_eq(&digest(wanted.expose_secret().as_bytes()))) {
            tracing::info!(page = %page.slug, address = %visitor.address, "a wrong password for the status page {} from {}", page.slug, visitor.address);
            return Err(Refusal::Closed(page.language));
        }
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key);
        Ok(())
    }

    /// What stands for an address with a password; nobody can guess which others fall together.
    fn key(&self, slug: &str, address: IpAddr, given: &[u8]) -> u64 {
        self.keys.hash_one((slug, address, given))
    }
}

/// The password of a request.
fn password(visitor: &Visitor) -> Option<Vec<u8>> {
    let value = visitor.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > CREDENTIALS_MAX {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}
