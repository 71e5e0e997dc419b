//! A tenant's whole configuration out, as one file, and in again.
//!
//! What comes in becomes documents, as if each were made by itself, but all of it or nothing. What the files have already stays theirs, and
//! sections that only files can have are named as left, so that nobody takes them for taken. Nothing is ever removed by an import.

use super::Web;
use super::api::{Params, without_nul};
use super::audit::Detail;
use super::auth::Caller;
use super::channels::NoQuery;
use super::documents::{Whole, ask, bad, judged, slug_of};
use super::error::ApiError;
use super::types::{Difference, Imported, ImportedItem};
use crate::config::documents::{Body, DocumentKind, Fault, with_given, without_secrets};
use crate::config::export::export;
use crate::documents::{Which, Wish, body_of, read};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An import may be so large, in bytes: some ten thousand monitors. More would let one request fill the memory.
pub(super) const IMPORT_MAX: u64 = 4 * 1024 * 1024;

/// Sections of a file that no document is about.
const LEFT: [&str; 10] = ["agent", "announce", "datacenters", "defaults", "discover", "reports", "routes", "server", "store", "tenants"];

/// `GET /api/v1/export`: the tenant's whole configuration as a file; secrets are variables in it.
pub(super) async fn give(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Response, ApiError> {
    let slug = slug_of(&web, &caller).await?;
    let made = web.made.borrow().clone();
    let (mut documents, _) = read(&made.documents.rows);
    documents.retain(|document| !made.left_out.contains_key(&document.uid));
    let text = export(&made.files, &documents, &slug);
    let named = HeaderValue::from_static("attachment; filename=\"watchkeeper.yaml\"");
    let kind = HeaderValue::from_static("application/yaml");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, named)], text).into_response())
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/import`: makes and changes what a file says; all of it or nothing.
pub(super) async fn take(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<ImportQuery>,
    Whole(body): Whole,
) -> Result<(Extension<Detail>, Json<Imported>), ApiError> {
    let slug = slug_of(&web, &caller).await?;
    let import = Import::of(&web, &caller, &slug, &body).map_err(bad)?;
    let applied = !query.dry_run && !import.wishes.is_empty();
    let changes = import.wishes.len();
    if applied {
        ask(&web, &caller, import.wishes).await?;
    } else {
        judged(&web, &caller, import.wishes).await?;
    }
    let detail = Detail(if applied { format!("{changes} objects") } else { "nothing was changed".to_owned() });
    Ok((Extension(detail), Json(Imported { applied, items: import.items, left: import.left })))
}

/// What a file asks for.
struct Import {
    wishes: Vec<Wish>,
    items: Vec<ImportedItem>,
    left: Vec<String>,
}

impl Import {
    fn of(web: &Web, caller: &Caller, slug: &str, body: &Body) -> Result<Self, Vec<Fault>> {
        let made = web.made.borrow().clone();
        let mut faults = Vec::new();
        let given = given(body, &mut faults);
        let known = |key: &str| key == "secrets" || LEFT.contains(&key) || DocumentKind::ALL.iter().any(|kind| kind.section() == key);
        for key in body.keys().filter(|key| !known(key)) {
            let accepted = "channels, monitors, maintenance, status_pages, secrets; beside them what else stands in a file".to_owned();
            faults.push(Fault::new(key.clone(), format!("unknown key `{}`", crate::config::decode::shown(key)), accepted));
        }
        let mut import = Self { wishes: Vec::new(), items: Vec::new(), left: Vec::new() };
        import.left.extend(LEFT.iter().filter(|key| body.contains_key(**key)).map(|key| (*key).to_owned()));
        for kind in DocumentKind::ALL {
            let items = match body.get(kind.section()) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(items)) => items,
                Some(_) => {
                    faults.push(Fault::new(kind.section(), "what is not a list", format!("a list of {}", kind.section())));
                    continue;
                }
            };
            for (nth, item) in items.iter().enumerate() {
                let path = format!("{}[{nth}]", kind.section());
                let Some((name, item)) = item.as_object().and_then(|item| Some((item.get("name")?.as_str()?, item))) else {
                    faults.push(Fault::new(path, "what has no name", format!("a {} with its `name`", kind.what())));
                    continue;
                };
                let row = made.find(caller.scope.0, kind, name).filter(|row| row.name == name);
                let stored = row.and_then(body_of);
                let mut differences = Vec::new();
                let change = match (with_given(kind, item, stored.as_ref(), &given), row) {
                    _ if row.is_none() && made.is_in_a_file(slug, kind, name) => "from_a_file",
                    (Err(found), _) => {
                        faults.extend(found.into_iter().map(|fault| Fault { path: format!("{path}.{}", fault.path), ..fault }));
                        continue;
                    }
                    (Ok(body), Some(_)) if stored.as_ref() == Some(&body) => "unchanged",
                    (Ok(body), Some(row)) => {
                        let which = Which { kind, id: row.uid.clone(), seen: Some(row.version) };
                        differences = between(kind, stored.as_ref(), &body);
                        import.wishes.push(Wish::Replace(which, body));
                        "changed"
                    }
                    (Ok(body), None) => {
                        import.wishes.push(Wish::Make(kind, body));
                        "made"
                    }
                };
                let (kind, name, change) = (kind.as_str().to_owned(), name.to_owned(), change.to_owned());
                import.items.push(ImportedItem { kind, name, change, differences });
            }
        }
        if faults.is_empty() { Ok(import) } else { Err(faults) }
    }
}

/// Which fields of an object become others, as they may be shown. A list is one field: its items have no names.
fn between(kind: DocumentKind, before: Option<&Body>, after: &Body) -> Vec<Difference> {
    let mut found = Vec::new();
    let empty = Body::new();
    let before = before.unwrap_or(&empty);
    compare("", before, after, &without_secrets(kind, before), &without_secrets(kind, after), &mut found);
    found
}

/// `before` and `after` decide, the two others are shown.
fn compare(path: &str, before: &Body, after: &Body, shown_before: &Body, shown_after: &Body, found: &mut Vec<Difference>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let maps = [before, after, shown_before, shown_after].map(|body| body.get(key).and_then(Value::as_object));
        if let [Some(before), Some(after), Some(shown_before), Some(shown_after)] = maps {
            compare(&path, before, after, shown_before, shown_after, found);
        } else {
            let shown = |body: &Body| body.get(key).cloned().unwrap_or_default();
            found.push(Difference { path, before: shown(shown_before), after: shown(shown_after) });
        }
    }
}

/// What is given for variables: `secrets: { NAME: value }`.
fn given(body: &Body, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    match body.get("secrets") {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                match value.as_str().filter(|text| without_nul(text).is_ok()) {
                    Some(text) => _ = given.insert(name.clone(), text.to_owned()),
                    None => faults.push(Fault::new(format!("secrets.{name}"), "what is not a text", "a text".to_owned())),
                }
            }
        }
        Some(_) => faults.push(Fault::new("secrets", "what is not a mapping", "a mapping of names to texts".to_owned())),
    }
    given
}
