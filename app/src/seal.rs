//! Sealing: what must be read again, and must not be readable in the store (ChaCha20-Poly1305, over keys of a file).
//!
//! A key file holds one key or several, a key a line, as `watchkeeper key create` makes it: the first one seals, all of them open, so that
//! a key is changed without a moment in which anything cannot be read. What is sealed names its key by an id that says nothing of the key,
//! and is bound to the place that it was sealed for: put anywhere else (another tenant, another object, another field) it does not open.
//!
//! What does not open is never taken for anything: whoever asks gets the reason, and leaves out what needed it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Keys of one file. More are not forgotten ones but a mistake; fewer would not last for a change that goes from node to node.
pub const KEYS_MAX: usize = 8;

/// A key file has at most so many bytes: room for that many keys with a comment each.
pub const KEY_FILE_MAX: u64 = 16 * 1024;

/// What sealed texts begin with: the form, so that another one can be told from it.
const FORM: &str = "wk1:";

/// What is accepted in a key file.
pub const KEY_FORM: &str = "32 bytes: raw, or in hex or base64, one key a line; `watchkeeper key create FILE` makes one";

/// Characters of a key's id: enough for eight keys never to be confused.
const ID_CHARS: usize = 12;

/// The keys of a file.
#[derive(Clone)]
pub struct Keys(Arc<[Key]>);

struct Key {
    id: String,
    key: LessSafeKey,
}

/// Their ids alone.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.ids().eq(other.ids())
    }
}

/// Why something sealed cannot be read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// This node has no keys.
    #[error("it is sealed with the key {0}, and this node has no `server.secret_key_file`")]
    NoKeys(String),
    /// It has others.
    #[error("it is sealed with the key {0}, which is not in this node's `server.secret_key_file`")]
    OtherKeys(String),
    /// The key is there, and it is not what that key sealed for this place.
    #[error("it is not what the key {0} sealed for this place")]
    Altered(String),
    /// It has another form.
    #[error("it is sealed in a form that this version does not know")]
    OtherForm,
}

impl Keys {
    /// The keys of a file's content; an error says what is wrong with it, and nothing of what it holds.
    pub fn read(content: &[u8]) -> Result<Self, String> {
        if content.len() == KEY_BYTES && !content.iter().all(u8::is_ascii_graphic) {
            return Ok(Self(Arc::new([Key::new(content)?])));
        }
        let text = std::str::from_utf8(content).map_err(|_| "holds neither one raw key nor text".to_owned())?;
        let mut keys: Vec<Key> = Vec::new();
        for (nth, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let line_of = nth + 1;
            let bytes = decoded(line).ok_or_else(|| format!("has something else than a key in line {line_of}"))?;
            let key = Key::new(&bytes)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(format!("has the same key again in line {line_of}"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("holds no key".to_owned()),
            1..=KEYS_MAX => Ok(Self(keys.into())),
            many => Err(format!("holds {many} keys; at most {KEYS_MAX} are accepted")),
        }
    }

    /// By what they are known, the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// Seals for a place: only there it opens.
    pub fn seal(&self, plain: &[u8], place: &[&str]) -> Result<String, getrandom::Error> {
        let Key { id, key } = &self.0[0];
        // Random: the same key may seal on several nodes at once. By chance two are the same after some 2^48 texts, far beyond any store.
        let mut nonce = [0_u8; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut bytes = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(place)), &mut bytes)
            .expect("a text that fits into memory is short enough for the cipher");
        let whole = [&nonce[..], &bytes].concat();
        Ok(format!("{FORM}{id}:{}", URL_SAFE_NO_PAD.encode(whole)))
    }
}

/// The content of a key file that nobody but its owner may read; an error says what is wrong with the file.
pub fn content_of(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("has the mode {mode:04o}, so that others than its owner may use it"));
    }
    let bytes = Zeroizing::new(crate::config::decode::read_regular(path, KEY_FILE_MAX + 1).map_err(failed)?);
    if bytes.len() as u64 > KEY_FILE_MAX { Err(format!("is larger than {KEY_FILE_MAX} bytes")) } else { Ok(bytes) }
}

/// The keys of a file.
pub fn read_file(path: &Path) -> Result<Keys, String> {
    Keys::read(&content_of(path)?)
}

/// Whether a text was sealed with the key that seals now.
pub fn is_newest(sealed: &str, keys: &Keys) -> bool {
    sealed.strip_prefix(FORM).and_then(|rest| rest.split_once(':')).is_some_and(|(id, _)| Some(id) == keys.ids().next())
}

/// What was sealed for that place.
pub fn open(sealed: &str, place: &[&str], keys: Option<&Keys>) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    let (id, text) = sealed.strip_prefix(FORM).and_then(|rest| rest.split_once(':')).ok_or(NotOpened::OtherForm)?;
    // It comes from the store and goes into messages.
    let id_shown: String = id.chars().filter(char::is_ascii_alphanumeric).take(ID_CHARS).collect();
    let keys = keys.ok_or_else(|| NotOpened::NoKeys(id_shown.clone()))?;
    let Some(Key { key, .. }) = keys.0.iter().find(|key| key.id == id) else { return Err(NotOpened::OtherKeys(id_shown)) };
    let altered = || NotOpened::Altered(id_shown.clone());
    let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| altered())?;
    let (nonce, rest) = whole.split_at_checked(NONCE_LEN).ok_or_else(altered)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| altered())?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(bound(place)), &mut bytes).map_err(|_| altered())?.len();
    bytes.truncate(plain);
    Ok(bytes)
}

impl Key {
    fn new(bytes: &[u8]) -> Result<Self, String> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).map_err(|_| format!("holds {} bytes", bytes.len()))?;
        let mut hash = Sha256::new();
        hash.update(b"the id of a key of watchkeeper\0");
        hash.update(bytes);
        let id = crate::hex(&hash.finalize())[..ID_CHARS].to_owned();
        Ok(Self { id, key: LessSafeKey::new(key) })
    }
}

/// A key that is written in hex or base64.
fn decoded(line: &str) -> Option<Zeroizing<Vec<u8>>> {
    let hex = || {
        let digits = line.as_bytes().chunks_exact(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        digits.collect::<Option<Vec<u8>>>().filter(|_| line.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let base64 = || {
        let forms = [STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD];
        forms.iter().find_map(|form| form.decode(line).ok())
    };
    let bytes = if line.len() == 2 * KEY_BYTES { hex() } else { base64() };
    bytes.filter(|bytes| bytes.len() == KEY_BYTES).map(Zeroizing::new)
}

/// A place as bytes; no two places have the same.
fn bound(place: &[&str]) -> Vec<u8> {
    let mut bytes = FORM.as_bytes().to_vec();
    for part in place {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// A new key as a line of a key file.
pub fn new_line() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(&mut *bytes)?;
    Ok(Zeroizing::new(STANDARD.encode(*bytes)))
}

/// The lines of a key file, for one that is to have more; a raw key becomes a line.
pub fn lines(content: &[u8]) -> Result<Zeroizing<String>, String> {
    Keys::read(content)?;
    let raw = || Zeroizing::new(format!("{}\n", STANDARD.encode(content)));
    Ok(std::str::from_utf8(content).ok().filter(|_| content.len() > KEY_BYTES).map_or_else(raw, |text| Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::read(text.as_bytes()).unwrap()
    }

    const A: &str = "0001020304050607080910111213141516171819202122232425262728293031";
    const B: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn what_is_sealed_opens_where_it_was_sealed_for_and_nowhere_else() {
        let both = keys(&format!("# of this year\n{A}\n\n{B}\n"));
        let sealed = both.seal(b"s3cret", &["acme", "u1", "/a"]).unwrap();
        assert!(!sealed.contains("s3cret"));
        assert_eq!(open(&sealed, &["acme", "u1", "/a"], Some(&both)).unwrap().as_slice(), b"s3cret");
        assert_ne!(sealed, both.seal(b"s3cret", &["acme", "u1", "/a"]).unwrap(), "no two look alike");
        let id = both.ids().next().unwrap().to_owned();
        for elsewhere in
            [&["other", "u1", "/a"][..], &["acme", "u2", "/a"], &["acme", "u1", "/b"], &["acmeu1", "", "/a"], &["acme", "u1/a"]]
        {
            assert_eq!(open(&sealed, elsewhere, Some(&both)), Err(NotOpened::Altered(id.clone())), "{elsewhere:?}");
        }
        let mut altered = sealed.clone();
        let last = if altered.pop() == Some('A') { 'B' } else { 'A' };
        altered.push(last);
        for bad in [altered, format!("{FORM}{id}:"), format!("{FORM}{id}:AAAA"), format!("{FORM}{id}:!")] {
            assert_eq!(open(&bad, &["acme", "u1", "/a"], Some(&both)), Err(NotOpened::Altered(id.clone())), "{bad}");
        }
        for other in ["", "s3cret", "wk2:x:y", "wk1:x"] {
            assert_eq!(open(other, &[], Some(&both)), Err(NotOpened::OtherForm), "{other}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = (keys(A), keys(&format!("{B}\n{A}")));
        let place = ["acme", "u1", "/a"];
        let (by_old, by_new) = (old.seal(b"x", &place).unwrap(), new.seal(b"x", &place).unwrap());
        assert_eq!((is_newest(&by_old, &new), is_newest(&by_new, &new), is_newest(&by_old, &old)), (false, true, true));
        assert_eq!(open(&by_old, &place, Some(&new)).unwrap().as_slice(), b"x");
        let id = new.ids().next().unwrap().to_owned();
        assert_eq!(open(&by_new, &place, Some(&old)), Err(NotOpened::OtherKeys(id.clone())));
        assert_eq!(open(&by_new, &place, None), Err(NotOpened::NoKeys(id)));
        assert_ne!(old, new);
        assert_eq!(format!("{new:?}").matches('"').count(), 4, "ids alone: {new:?}");
    }

    #[test]
    fn a_key_is_raw_or_hex_or_base64_and_anything_else_is_named_without_what_it_holds() {
        let raw: Vec<u8> = (0..32).map(|n: u8| 0xf0 ^ n).collect();
        let hex = crate::hex(&raw);
        let base64 = STANDARD.encode(&raw);
        let want = Keys::read(&raw).unwrap();
        for text in [&hex, &hex.to_ascii_uppercase(), &base64, &format!("\n# a comment\n{base64}\r\n"), &URL_SAFE_NO_PAD.encode(&raw)] {
            assert_eq!(keys(text), want, "{text}");
        }
        assert_eq!(keys(&lines(&raw).unwrap()), want);
        assert_eq!(keys(&lines(hex.as_bytes()).unwrap()), want);
        assert_eq!(keys(&new_line().unwrap()).ids().count(), 1);
        let many = (0..9).map(|_| new_line().unwrap().to_string()).collect::<Vec<_>>().join("\n");
        for (bad, said) in [
            ("", "holds no key"),
            ("# nothing\n", "holds no key"),
            ("correct horse battery staple", "has something else than a key in line 1"),
            (&format!("{A}\n{}", &A[2..]), "has something else than a key in line 2"),
            (&format!("{A}\n{A}"), "has the same key again in line 2"),
            (&"a".repeat(32), "has something else than a key in line 1"),
            (&many, "holds 9 keys; at most 8 are accepted"),
        ] {
            assert_eq!(Keys::read(bad.as_bytes()).unwrap_err(), said);
        }
        assert_eq!(Keys::read(&[0xff; 31]).unwrap_err(), "holds neither one raw key nor text");
    }
}
