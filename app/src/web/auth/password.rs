//! Passwords: which are accepted, and what is made of them.
//!
//! argon2id with the parameters that OWASP names (19 MiB, 2 passes, 1 lane), which takes a few hundredths of a second of one core: off the
//! async threads, so that probes are not held up, and only so many at once, so that strangers who try to sign in can take neither all
//! cores nor all memory. Each stored hash says its own parameters; a later version may ask for more.

use super::super::error::ApiError;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Passwords that are hashed at once: 19 MiB and a core each. More would slow the checks down; one would let a single slow one hold up all.
const AT_ONCE: usize = 2;

/// And so many wait for their turn: about a second. More would pile up requests that end too late.
const WAITING: usize = 30;

/// Characters of a password at least. Shorter ones are guessed, even at our pace.
const LENGTH_MIN: usize = 10;

/// Bytes of a password at most. Nobody types more, and hashing begins with reading it all.
const BYTES_MAX: usize = 256;

/// A text that is never shown: a password, a code.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Hidden(pub String);

impl<'de> Deserialize<'de> for Hidden {
    /// A value of another kind is not repeated in the error: it may be the secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|_| de::Error::custom("expected a text"))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Says what is wrong with a password of that user, if anything is.
pub fn fault_of(password: &Hidden, name: &str) -> Option<String> {
    let Hidden(text) = password;
    if text.chars().count() < LENGTH_MIN {
        return Some(format!("a password has {LENGTH_MIN} characters at least; several words are easy to remember"));
    }
    if text.len() > BYTES_MAX {
        return Some(format!("a password has {BYTES_MAX} bytes at most"));
    }
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let one_thing = text.chars().all(|c| text.starts_with(c));
    (one_thing || text == name || text.trim_start_matches(&*name).chars().count() < 4 && !name.is_empty() && text.starts_with(&*name))
        .then(|| "the password is too easy to guess: it is the name, or one character again and again".to_owned())
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// The stored form of a password.
pub fn hash(password: &Hidden) -> Result<String, HashError> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(HashError::Random)?;
    let salt = SaltString::encode_b64(&salt).map_err(HashError::Argon2)?;
    argon2().hash_password(password.0.as_bytes(), &salt).map(|hash| hash.to_string()).map_err(HashError::Argon2)
}

/// Whether the password is the one of which this is the stored form. Without one it takes as long, and is not.
fn matches(stored: Option<&str>, password: &Hidden) -> bool {
    if let Some(Ok(stored)) = stored.map(PasswordHash::new) {
        // The hashes are compared in constant time.
        return argon2().verify_password(password.0.as_bytes(), &stored).is_ok();
    }
    let mut nothing = [0_u8; Params::DEFAULT_OUTPUT_LEN];
    // What comes out is thrown away: this is for the time alone.
    let _ = argon2().hash_password_into(password.0.as_bytes(), b"nobody's salt...", std::hint::black_box(&mut nothing));
    false
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a password's salt: {0}")]
    Random(getrandom::Error),
    /// The library refused.
    #[error("the password could not be hashed: {0}")]
    Argon2(argon2::password_hash::Error),
}

/// Where passwords are hashed.
pub(in super::super) struct Hashing {
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { working: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING)) }
    }
}

impl Hashing {
    /// Makes the stored form of a password.
    pub(in super::super) async fn hash(&self, password: Hidden) -> Result<String, ApiError> {
        self.off_thread(move || hash(&password)).await?.map_err(|error| {
            tracing::error!(error = %crate::chain(&error), "a password could not be hashed");
            ApiError::internal()
        })
    }

    /// Whether that is the password; as slow where none is stored.
    pub(in super::super) async fn matches(&self, stored: Option<String>, password: Hidden) -> Result<bool, ApiError> {
        self.off_thread(move || matches(stored.as_deref(), &password)).await
    }

    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = |_| ApiError::unavailable("busy", "too many sign in at once; try again in a moment");
        let place = self.waiting.clone().try_acquire_owned().map_err(busy)?;
        // Neither is ever closed.
        let Ok(turn) = self.working.clone().acquire_owned().await else { return Err(ApiError::internal()) };
        let work = move || {
            // Held until it is done, also when nobody waits for it any more.
            let _held = (place, turn);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_panic| ApiError::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Hidden {
        Hidden(text.to_owned())
    }

    #[test]
    fn a_password_is_known_by_what_is_stored_of_it_and_nothing_else_is() {
        let stored = hash(&hidden("correct horse battery")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(!stored.contains("horse"));
        assert_ne!(hash(&hidden("correct horse battery")).unwrap(), stored, "each has a salt of its own");
        assert!(matches(Some(&stored), &hidden("correct horse battery")));
        for wrong in ["", "correct horse batterz", "Correct horse battery"] {
            assert!(!matches(Some(&stored), &hidden(wrong)), "{wrong}");
        }
        assert!(!matches(None, &hidden("")) && !matches(Some("nonsense"), &hidden("nonsense")));
        assert_eq!(format!("{:?}", hidden("secret")), "***");
        let refused = serde_json::from_str::<Hidden>("1234567890").unwrap_err().to_string();
        assert!(refused.contains("expected a text") && !refused.contains("1234567890"), "{refused}");
    }

    #[test]
    fn what_is_guessed_at_once_is_not_accepted() {
        for good in ["four plain words here", "пароль из слов", "a1b2c3d4e5", "annabelle-and-others"] {
            assert_eq!(fault_of(&hidden(good), "ann"), None, "{good}");
        }
        for bad in ["", "short", "aaaaaaaaaaaa", "ann.example", &"x1".repeat(200)] {
            assert!(fault_of(&hidden(bad), "ann.example").is_some(), "{bad}");
        }
        assert!(fault_of(&hidden("Ann.Example1"), "ann.example").is_some());
    }

    #[tokio::test]
    async fn more_than_can_wait_are_sent_away() {
        let hashing = Hashing::default();
        let all = hashing.waiting.clone().acquire_many_owned((AT_ONCE + WAITING) as u32).await.unwrap();
        let refused = hashing.matches(None, hidden("x")).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (503, "busy"));
        drop(all);
        assert!(!hashing.matches(None, hidden("x")).await.unwrap());
    }
}
