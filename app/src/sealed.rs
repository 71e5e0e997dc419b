//! Which secrets are sealed in the store, and how they lie there: those of documents that were made over the API, and those of second
//! factors.
//!
//! In memory a document is what it says. Where it goes into the store, each value that would be shown as `***` leaves its body and lies
//! beside it, sealed for the tenant, the document and the path that it has there; everything else stays readable. Where it comes from the
//! store, all of them go back, or it stays as it lies: then it is no document that anybody can use, it is left out with the reason, and
//! nothing writes it.

use crate::config::BadConfig;
use crate::config::documents::{Body, DocumentKind, Fault, LeftOut, secrets_of};
use crate::seal::{self, Keys, NotOpened};
use crate::store::{DocumentRow, DocumentWrite, Result, Store, StoreError, TOTP_BYTES, UserId};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use watchkeeper_core::TenantId;

/// Second factors that are looked at together. More would hold the store for longer; fewer would ask it more often.
const FACTORS_PER_LOOK: i64 = 500;

/// A document as it lies in the store when it has secrets and there is a key. No object of ours has these keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lying {
    /// Its body, with nothing in the places of its secrets.
    clear: Body,
    /// Those, by the place where they belong (a JSON pointer).
    sealed: BTreeMap<String, String>,
}

/// The body of a row, if nothing of it is sealed.
pub fn plain_body(text: &str) -> Option<Body> {
    let body: Body = serde_json::from_str(text).ok()?;
    (!body.contains_key("sealed")).then_some(body)
}

fn lying(text: &str) -> Option<Lying> {
    serde_json::from_str(text).ok()
}

/// Opens what is sealed among them. What cannot be opened stays as it lies, and is named with why.
pub fn open_all(rows: &mut [DocumentRow], keys: Option<&Keys>) -> LeftOut {
    let mut left_out = LeftOut::new();
    for row in rows {
        let Some(lying) = lying(&row.body) else { continue };
        match opened(row.tenant, &row.uid, lying, keys) {
            Ok(body) => row.body = Json::Object(body).to_string(),
            Err((pointer, why)) => {
                let path = pointer.trim_start_matches('/').replace('/', ".");
                let accepted = "the key that sealed it, or a PUT with its secrets";
                left_out.insert(row.uid.clone(), vec![Fault::new(path, why.to_string(), accepted.to_owned())]);
            }
        }
    }
    left_out
}

/// Whether nothing stayed locked; else how much did, and why the first of it.
pub fn all_opened(locked: &LeftOut) -> std::result::Result<(), BadConfig> {
    let Some(first) = locked.values().flatten().next() else { return Ok(()) };
    let objects = if locked.len() == 1 { "1 object that was" } else { &format!("{} objects that were", locked.len()) };
    let found = format!("{objects} made over the API cannot be opened: {}", first.found);
    let accepted = "the key that sealed it; `server.leave_out_sealed: true` goes on without, if it is lost for good";
    Err(BadConfig::about("server.secret_key_file", found, accepted.to_owned()))
}

fn opened(tenant: TenantId, uid: &str, lying: Lying, keys: Option<&Keys>) -> std::result::Result<Body, (String, NotOpened)> {
    let mut body = Json::Object(lying.clear);
    for (pointer, sealed) in lying.sealed {
        let secret = seal::open(&sealed, &place(tenant, uid, &pointer).each(), keys).map_err(|why| (pointer.clone(), why))?;
        match (body.pointer_mut(&pointer), serde_json::from_slice(&secret)) {
            (Some(at), Ok(value)) => *at = value,
            (None, _) | (_, Err(_)) => return Err((pointer, NotOpened::OtherForm)),
        }
    }
    match body {
        Json::Object(body) => Ok(body),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Err((String::new(), NotOpened::OtherForm)),
    }
}

/// Where something is sealed for.
struct Place([String; 4]);

impl Place {
    fn each(&self) -> [&str; 4] {
        self.0.each_ref().map(String::as_str)
    }
}

fn place(tenant: TenantId, uid: &str, pointer: &str) -> Place {
    Place(["document".to_owned(), tenant.0.to_string(), uid.to_owned(), pointer.to_owned()])
}

fn factor_place(tenant: TenantId, user: UserId) -> Place {
    Place(["second factor".to_owned(), tenant.0.to_string(), user.0.to_string(), String::new()])
}

fn no_randomness(error: getrandom::Error) -> StoreError {
    StoreError::Broken { doing: "drawing a nonce", detail: error.to_string() }
}

/// A body as it goes into the store.
fn text_of(tenant: TenantId, uid: &str, kind: &str, text: &str, keys: &Keys) -> Result<String> {
    let kind = DocumentKind::from_word(kind);
    let (Some(kind), Some(mut body)) = (kind, plain_body(text)) else { return Ok(text.to_owned()) };
    let mut sealed = BTreeMap::new();
    for (pointer, secret) in secrets_of(kind, &mut body) {
        let secret = Zeroizing::new(secret.to_string());
        let text = keys.seal(secret.as_bytes(), &place(tenant, uid, &pointer).each()).map_err(no_randomness)?;
        sealed.insert(pointer, text);
    }
    if sealed.is_empty() {
        return Ok(text.to_owned());
    }
    Ok(serde_json::to_string(&Lying { clear: body, sealed }).expect("maps of texts are JSON"))
}

/// Changes as they go into the store.
pub fn writes(writes: &[DocumentWrite], keys: Option<&Keys>) -> Result<Vec<DocumentWrite>> {
    let one = |write: &DocumentWrite| match (write, keys) {
        (DocumentWrite::Put { tenant, uid, kind, name, body, by, at }, Some(keys)) => Ok(DocumentWrite::Put {
            tenant: *tenant,
            uid: uid.clone(),
            kind: kind.clone(),
            name: name.clone(),
            body: text_of(*tenant, uid, kind, body, keys)?,
            by: by.clone(),
            at: *at,
        }),
        (DocumentWrite::Put { .. }, None) | (DocumentWrite::Reseal { .. } | DocumentWrite::Remove { .. }, _) => Ok(write.clone()),
    };
    writes.iter().map(one).collect()
}

/// What makes documents, as they were read from the store, lie there sealed with the key that seals now.
pub fn anew(rows: &[DocumentRow], keys: Option<&Keys>) -> Result<Vec<DocumentWrite>> {
    let Some(keys) = keys else { return Ok(Vec::new()) };
    let mut writes = Vec::new();
    for row in rows {
        let open = match lying(&row.body) {
            Some(lying) if lying.sealed.values().all(|sealed| seal::is_newest(sealed, keys)) => continue,
            Some(lying) => opened(row.tenant, &row.uid, lying, Some(keys)).ok().map(|body| Json::Object(body).to_string()),
            None => Some(row.body.clone()),
        };
        // What this node cannot open it does not touch.
        let Some(open) = open else { continue };
        let body = text_of(row.tenant, &row.uid, &row.kind, &open, keys)?;
        if body != row.body {
            writes.push(DocumentWrite::Reseal { tenant: row.tenant, uid: row.uid.clone(), body });
        }
    }
    Ok(writes)
}

/// After documents were sealed anew: does the same for second factors, and says what was done.
pub async fn told(store: &dyn Store, keys: Option<&Keys>, documents: usize) -> Result<()> {
    let Some(keys) = keys else { return Ok(()) };
    let factors = factors_anew(store, keys).await?;
    if documents + factors > 0 {
        let (documents, factors) = (crate::counted(documents, "document"), crate::counted(factors, "second factor"));
        let id = keys.ids().next().unwrap_or_default();
        tracing::info!("{documents} and {factors} were sealed anew in the store, with the key {id}");
    }
    Ok(())
}

/// How many have secrets that lie in the store as they are.
pub fn in_clear(rows: &[DocumentRow]) -> usize {
    let has_some = |row: &&DocumentRow| {
        let kind = DocumentKind::from_word(&row.kind);
        kind.zip(plain_body(&row.body)).is_some_and(|(kind, mut body)| !secrets_of(kind, &mut body).is_empty())
    };
    rows.iter().filter(has_some).count()
}

/// The secret of a second factor as it goes into the store.
pub fn factor(tenant: TenantId, user: UserId, secret: &[u8], keys: Option<&Keys>) -> Result<Vec<u8>> {
    let Some(keys) = keys else { return Ok(secret.to_vec()) };
    keys.seal(secret, &factor_place(tenant, user).each()).map(String::into_bytes).map_err(no_randomness)
}

/// The secret of a second factor from what lies in the store.
pub fn open_factor(
    tenant: TenantId,
    user: UserId,
    lying: &[u8],
    keys: Option<&Keys>,
) -> std::result::Result<Zeroizing<Vec<u8>>, NotOpened> {
    // Whatever is sealed is longer.
    if lying.len() == TOTP_BYTES {
        return Ok(Zeroizing::new(lying.to_vec()));
    }
    let sealed = std::str::from_utf8(lying).map_err(|_| NotOpened::OtherForm)?;
    seal::open(sealed, &factor_place(tenant, user).each(), keys)
}

/// Seals the secrets of second factors that are not sealed with the key that seals now; how many those were. What this node cannot open it
/// does not touch.
async fn factors_anew(store: &dyn Store, keys: &Keys) -> Result<usize> {
    let (mut done, mut after) = (0, UserId(i64::MIN));
    loop {
        let page = store.accounts().second_factors(after, FACTORS_PER_LOOK).await?;
        let Some((last, ..)) = page.last() else { return Ok(done) };
        after = *last;
        for (user, tenant, lying) in page {
            let newest = std::str::from_utf8(&lying).is_ok_and(|sealed| seal::is_newest(sealed, keys));
            if newest {
                continue;
            }
            let Ok(secret) = open_factor(tenant, user, &lying, Some(keys)) else { continue };
            let sealed = factor(tenant, user, &secret, Some(keys))?;
            done += usize::from(store.accounts().reseal_second_factor(user, &lying, &sealed).await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watchkeeper_core::Micros;

    fn keys(seed: u8) -> Keys {
        Keys::read(&[seed; seal::KEY_BYTES]).unwrap()
    }

    fn row(kind: DocumentKind, uid: &str, body: &Json) -> DocumentRow {
        DocumentRow {
            uid: uid.to_owned(),
            tenant: TenantId(7),
            tenant_slug: "acme".to_owned(),
            kind: kind.as_str().to_owned(),
            name: "x".to_owned(),
            body: body.to_string(),
            version: 1,
            made_by: String::new(),
            made_at: Micros(0),
            changed_by: String::new(),
            changed_at: Micros(0),
        }
    }

    fn stored(row: &DocumentRow, keys: &Keys) -> DocumentRow {
        let [DocumentWrite::Reseal { body, .. }] = &anew(std::slice::from_ref(row), Some(keys)).unwrap()[..] else {
            panic!("there is nothing to seal in {row:?}")
        };
        DocumentRow { body: body.clone(), ..row.clone() }
    }

    #[test]
    fn every_value_that_is_shown_covered_is_sealed_and_nothing_else() {
        let body = json!({
            "name": "x", "labels": { "team": "web" }, "probe": { "http": {
                "url": "https://u:s3cret@x/?token=s3cret", "bearer_token": "s3cret", "method": "GET", "body": "{s3cret}",
                "headers": { "X-Key/a~b": "s3cret", "X-Team": "web" }, "basic_auth": { "username": "u", "password": "s3cret" },
            } },
        });
        let before = row(DocumentKind::Monitor, "u1", &body);
        let lies = stored(&before, &keys(200));
        assert!(!lies.body.contains("s3cret"), "{}", lies.body);
        for clear in ["\"team\":\"web\"", "\"X-Team\":\"web\"", "\"username\":\"u\"", "\"GET\""] {
            assert!(lies.body.contains(clear), "{clear}: {}", lies.body);
        }
        assert_eq!(lies.body.matches("wk1:").count(), 5);
        assert!(plain_body(&lies.body).is_none(), "nobody takes it for a body");
        let mut rows = [lies.clone()];
        assert_eq!(open_all(&mut rows, Some(&keys(200))), LeftOut::new());
        assert_eq!(serde_json::from_str::<Json>(&rows[0].body).unwrap(), body);
        assert_eq!(anew(&[lies], Some(&keys(200))).unwrap().len(), 0, "it lies there as it should");
        let hook = row(DocumentKind::Channel, "u2", &json!({ "name": "x", "webhook": { "url": "https://hooks.example.org/T0/s3cret" } }));
        assert!(!stored(&hook, &keys(200)).body.contains("s3cret"));
        assert_eq!(in_clear(&[hook, row(DocumentKind::Maintenance, "u3", &json!({ "name": "x" }))]), 1);
    }

    #[test]
    fn what_does_not_open_stays_as_it_lies_and_says_why() {
        let body = json!({ "name": "x", "webhook": { "url": "https://x/s3cret", "secret": "s3cret" } });
        let lies = stored(&row(DocumentKind::Channel, "u1", &body), &keys(200));
        let mut other: Json = serde_json::from_str(&lies.body).unwrap();
        let taken = other["sealed"]["/webhook/url"].clone();
        other["sealed"]["/webhook/secret"] = taken;
        let moved = DocumentRow { body: other.to_string(), ..lies.clone() };
        let cases = [
            (lies.clone(), None, "this node has no `server.secret_key_file`"),
            (lies.clone(), Some(keys(201)), "which is not in this node's `server.secret_key_file`"),
            (DocumentRow { tenant: TenantId(8), ..lies.clone() }, Some(keys(200)), "it is not what the key"),
            (DocumentRow { uid: "u2".to_owned(), ..lies }, Some(keys(200)), "it is not what the key"),
            (moved, Some(keys(200)), "it is not what the key"),
        ];
        for (row, keys, why) in cases {
            let mut rows = [row.clone()];
            let left_out = open_all(&mut rows, keys.as_ref());
            let faults = &left_out[&row.uid];
            assert!(faults[0].path.starts_with("webhook.") && faults[0].found.contains(why), "{faults:?}");
            assert_eq!(rows[0], row, "it is not touched");
            assert_eq!(anew(&rows, keys.as_ref()).unwrap().len(), 0, "nor written");
        }
    }

    #[test]
    fn another_key_in_front_seals_everything_anew() {
        let two = Keys::read(format!("{}\n{}", "c9".repeat(32), "c8".repeat(32)).as_bytes()).unwrap();
        let body = json!({ "name": "x", "webhook": { "url": "https://x/s3cret" } });
        let old = stored(&row(DocumentKind::Channel, "u1", &body), &keys(200));
        let mut new = [stored(&old, &two)];
        assert_eq!(open_all(&mut new, Some(&keys(201))), LeftOut::new(), "the old key is not needed any more");
        assert_eq!(serde_json::from_str::<Json>(&new[0].body).unwrap(), body);
    }

    #[test]
    fn a_second_factor_is_sealed_for_its_user() {
        let secret = [7_u8; TOTP_BYTES];
        let (tenant, user) = (TenantId(1), UserId(5));
        assert_eq!(factor(tenant, user, &secret, None).unwrap(), secret);
        let lies = factor(tenant, user, &secret, Some(&keys(200))).unwrap();
        assert_eq!(open_factor(tenant, user, &lies, Some(&keys(200))).unwrap().as_slice(), secret);
        assert_eq!(open_factor(tenant, user, &secret, Some(&keys(200))).unwrap().as_slice(), secret, "one of before");
        for (tenant, user, keys) in [(tenant, UserId(6), keys(200)), (TenantId(2), user, keys(200)), (tenant, user, keys(201))] {
            open_factor(tenant, user, &lies, Some(&keys)).unwrap_err();
        }
        open_factor(tenant, user, &lies, None).unwrap_err();
    }
}
