//! What was made over the API: how a wish becomes a change of documents, and why not.
//!
//! Everything here is decided on the documents of one moment ([`Made`]) and on the configuration of the files; the one who asks for it
//! ([`crate::reload`]) writes the change in the very transaction that puts it into force, and only if the documents are still those. So a
//! change is there as a whole or not at all, and two people who change the same thing never lose what the other did.

use crate::calendar;
use crate::config::documents::{
    Body, Document, DocumentKind, Fault, LeftOut, forbidden, kept_for_another, of_v_insight, patched, place_in_files, with_secrets,
    without_secrets,
};
use crate::config::limits::Limits;
use crate::config::{Config, MonitorConfig, Pos, StatusPageConfig};
use crate::net::Guard;
use crate::seal::Keys;
use crate::sealed;
use crate::store::{DOCUMENTS_MAX, DocumentRow, DocumentWrite, Documents, StoreError};
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use watchkeeper_core::{Micros, TenantId};

/// A document has at most so many bytes as JSON. More is no monitor; it is also what one request may send.
pub const DOCUMENT_MAX: usize = 64 * 1024;

/// Everything that was made over the API, as this node has taken it up.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// They, with their version.
    pub documents: Documents,
    /// Those that are not in force, with what is wrong with each.
    pub left_out: LeftOut,
    /// Which addresses they may reach.
    pub reach: Guard,
    /// What seals their secrets in the store, if anything does.
    pub keys: Option<Keys>,
    /// How many have secrets, where nothing does.
    pub in_clear: usize,
    /// The files beside them.
    pub files: Arc<Vec<(String, Vec<u8>)>>,
    /// What each tenant may have, by its slug.
    pub limits: Arc<HashMap<String, Limits>>,
    /// What they name, by tenant.
    pub in_files: Arc<HashSet<(String, DocumentKind, String)>>,
}

impl Made {
    /// The same once it is written: what had no version yet has this one.
    #[must_use]
    pub fn written(mut self, version: i64) -> Self {
        self.documents.version = version;
        for row in self.documents.rows.iter_mut().filter(|row| row.version == 0) {
            row.version = version;
        }
        self
    }

    /// Says in the log what is left out, if it was not before.
    pub fn tell(&self, before: &Self) {
        for row in &self.documents.rows {
            let (faults, known) = (self.left_out.get(&row.uid), before.left_out.get(&row.uid));
            if let Some(faults) = faults.filter(|faults| known != Some(*faults)) {
                let why: Vec<String> = faults.iter().map(ToString::to_string).collect();
                tracing::warn!(
                    document.id = %row.uid, kind = %row.kind, tenant = %row.tenant_slug,
                    "the {} {} of {}, made over the API, is left out: {}", row.kind, row.name, row.tenant_slug, why.join("; ")
                );
            }
        }
    }

    /// Whether a file has that name.
    pub fn is_in_a_file(&self, slug: &str, kind: DocumentKind, name: &str) -> bool {
        self.in_files.contains(&(slug.to_owned(), kind, name.to_owned()))
    }

    /// What a tenant may have.
    pub fn limits_of(&self, slug: &str) -> Limits {
        self.limits.get(slug).copied().unwrap_or_default()
    }

    /// One of a tenant, by its public id or, failing that, its name.
    pub fn find(&self, tenant: TenantId, kind: DocumentKind, id: &str) -> Option<&DocumentRow> {
        find(&self.documents.rows, tenant, kind, id)
    }
}

fn find<'r>(rows: &'r [DocumentRow], tenant: TenantId, kind: DocumentKind, id: &str) -> Option<&'r DocumentRow> {
    let own = || rows.iter().filter(move |row| row.tenant == tenant && row.kind == kind.as_str());
    own().find(|row| row.uid == id).or_else(|| own().find(|row| row.name == id))
}

/// The object of a row; nothing if it is no JSON of that form, or is sealed.
pub fn body_of(row: &DocumentRow) -> Option<Body> {
    sealed::plain_body(&row.body)
}

/// The object of a row as it may be shown.
pub fn shown_body(row: &DocumentRow) -> Option<Body> {
    let kind = DocumentKind::from_word(&row.kind)?;
    Some(without_secrets(kind, &body_of(row)?))
}

/// The documents of rows; what this program cannot read is left out.
pub fn read(rows: &[DocumentRow]) -> (Vec<Document>, LeftOut) {
    let mut left_out = LeftOut::new();
    let mut documents = Vec::with_capacity(rows.len());
    for row in rows {
        let fault = match (DocumentKind::from_word(&row.kind), body_of(row)) {
            (Some(kind), Some(body)) => {
                documents.push(Document { tenant: row.tenant_slug.clone(), kind, uid: row.uid.clone(), body });
                continue;
            }
            (None, _) => "a kind of object that this version does not know",
            (Some(_), None) => "a text that this version cannot read",
        };
        left_out.insert(row.uid.clone(), vec![Fault::new("", fault, None)]);
    }
    (documents, left_out)
}

/// What somebody wants.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose documents they are.
    pub tenant: TenantId,
    /// The owner's slug.
    pub slug: String,
    /// Who wants it.
    pub by: String,
    /// All of it, or nothing.
    pub wishes: Vec<Wish>,
}

/// One of it.
#[derive(Clone)]
pub enum Wish {
    /// A new one.
    Make(DocumentKind, Body),
    /// One is to be another.
    Replace(Which, Body),
    /// Some of one is to be different.
    Patch(Which, Body),
    /// A status page is to say one thing more.
    Say(Which, Body),
    /// One is to be gone.
    Remove(Which),
}

/// Without bodies, which may hold secrets.
impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Make(kind, _) => write!(f, "Make({kind:?})"),
            Self::Replace(which, _) => write!(f, "Replace({which:?})"),
            Self::Patch(which, _) => write!(f, "Patch({which:?})"),
            Self::Say(which, _) => write!(f, "Say({which:?})"),
            Self::Remove(which) => write!(f, "Remove({which:?})"),
        }
    }
}

/// Which one.
#[derive(Clone, Debug)]
pub struct Which {
    /// What it is about.
    pub kind: DocumentKind,
    /// Its public id, or its name.
    pub id: String,
    /// Only if it still has this version.
    pub seen: Option<i64>,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum NotChanged {
    /// There is no such document.
    NotFound(DocumentKind),
    /// It is in a file, at that place, and changed there.
    FromAFile(DocumentKind, Pos),
    /// Another one has the name.
    NameTaken(String),
    /// Somebody else has changed it: it has this version by now.
    Outdated(i64),
    /// What is wrong with it.
    Bad(Vec<Fault>),
    /// Others need it as it is.
    InUse(Vec<String>),
    /// There are too many, or it is too large.
    TooMuch(String),
    /// This node does not say what is in force.
    StandsBy,
    /// Others change things all the time.
    Busy,
    /// The files themselves cannot be read any more.
    Files(Vec<String>),
    /// The store did not do it.
    Store(StoreError),
}

impl From<StoreError> for NotChanged {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotInForce => Self::StandsBy,
            StoreError::Outdated => Self::Busy,
            error @ (StoreError::Unavailable { .. } | StoreError::Broken { .. } | StoreError::Refused(_) | StoreError::NotYet) => {
                Self::Store(error)
            }
        }
    }
}

/// What a configuration of files names.
pub fn named(files: &Config) -> HashSet<(String, DocumentKind, String)> {
    let mut named = HashSet::new();
    for tenant in &files.tenants {
        let mut add = |kind, name: &str| named.insert((tenant.slug.clone(), kind, name.to_owned()));
        for monitor in &tenant.monitors {
            add(DocumentKind::Monitor, &monitor.name);
        }
        for channel in &tenant.channels {
            add(DocumentKind::Channel, &channel.name);
        }
        for window in &tenant.maintenance {
            add(DocumentKind::Maintenance, &window.name);
        }
        for page in &tenant.status_pages {
            add(DocumentKind::StatusPage, &page.slug);
        }
    }
    named
}

/// A request to whoever says what is in force.
#[derive(Debug)]
pub enum Asked {
    /// To make a change. The answer has the documents that it left, in the order of the wishes.
    Change(Change, oneshot::Sender<Result<Vec<DocumentRow>, NotChanged>>),
    /// To say whether a change could be made, without making it.
    Judge(Change, oneshot::Sender<Result<(), NotChanged>>),
    /// To say what a monitor would be, without making it: the tenant's slug is in the wish's change.
    Describe(Change, oneshot::Sender<Result<Box<MonitorConfig>, NotChanged>>),
    /// To say what a status page would be, without making it.
    Preview(Change, oneshot::Sender<Result<Box<StatusPageConfig>, NotChanged>>),
}

/// A change that was worked out.
pub struct Planned {
    /// All documents as they would be.
    pub rows: Vec<DocumentRow>,
    /// How to write that.
    pub writes: Vec<DocumentWrite>,
    /// Those that are to be there as wished, by uid, in the order of the wishes.
    pub touched: Vec<String>,
}

/// Works a change out on what there is.
pub fn plan(change: &Change, made: &Made, files: &Config, now: Micros) -> Result<Planned, NotChanged> {
    let mut planned = Planned { rows: made.documents.rows.clone(), writes: Vec::new(), touched: Vec::new() };
    for wish in &change.wishes {
        planned.take(change, wish, made, files, now)?;
    }
    // As the store lists them: the same documents make the same configuration everywhere.
    planned.rows.sort_by(|a, b| (a.tenant.0, &a.kind, &a.name).cmp(&(b.tenant.0, &b.kind, &b.name)));
    Ok(planned)
}

impl Planned {
    fn take(&mut self, change: &Change, wish: &Wish, made: &Made, files: &Config, now: Micros) -> Result<(), NotChanged> {
        match wish {
            Wish::Make(kind, body) => {
                let body = with_secrets(*kind, &native(*kind, body)?, None).map_err(NotChanged::Bad)?;
                permitted(*kind, &body, None, made)?;
                let there = self.rows.iter().filter(|row| row.tenant == change.tenant && row.kind == kind.as_str()).count();
                if there >= DOCUMENTS_MAX {
                    return Err(NotChanged::TooMuch(format!("{there} {}s are there already", kind.what())));
                }
                if let Some((most, key)) = made.limits_of(&change.slug).of(*kind) {
                    let in_files = made.in_files.iter().filter(|(slug, of, _)| *slug == change.slug && of == kind).count();
                    let all = there + in_files;
                    if all as i64 >= most {
                        let what = kind.what();
                        let why =
                            format!("the tenant {} has {all} {what}s; its limit is {most} (`{key}` in the configuration)", change.slug);
                        return Err(NotChanged::TooMuch(why));
                    }
                }
                self.put(change, *kind, crate::store::new_uid(now), body, None, files, now)
            }
            Wish::Replace(which, body) => {
                let (row, stored) = self.seen(change, which, files)?;
                let mut body = with_secrets(which.kind, &native(which.kind, body)?, stored.as_ref()).map_err(NotChanged::Bad)?;
                // The path says which one it is.
                body.entry("name").or_insert_with(|| Json::from(row.name.as_str()));
                permitted(which.kind, &body, stored.as_ref(), made)?;
                self.swap(change, which.kind, row, body, made, files, now)
            }
            Wish::Patch(which, patch) => {
                let (row, stored) = self.seen(change, which, files)?;
                let stored = stored.ok_or_else(unreadable)?;
                let body = with_secrets(which.kind, &patched(&stored, patch), Some(&stored)).map_err(NotChanged::Bad)?;
                // A patch keeps what it does not name.
                refuse(kept_for_another(which.kind, patch, &stored, &body))?;
                permitted(which.kind, &body, Some(&stored), made)?;
                self.swap(change, which.kind, row, body, made, files, now)
            }
            Wish::Say(which, message) => {
                let (row, stored) = self.seen(change, which, files)?;
                let mut body = stored.ok_or_else(unreadable)?;
                let mut messages = match body.remove("messages") {
                    Some(Json::Array(messages)) => messages,
                    None | Some(Json::Null) => Vec::new(),
                    // A list of one may be written without its brackets.
                    Some(one @ (Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_))) => vec![one],
                };
                messages.insert(0, Json::Object(dated(message, now)));
                body.insert("messages".to_owned(), messages.into());
                self.swap(change, which.kind, row, body, made, files, now)
            }
            Wish::Remove(which) => {
                let (row, _) = self.seen(change, which, files)?;
                self.rows.retain(|other| other.uid != row.uid);
                self.writes.push(DocumentWrite::Remove { tenant: change.tenant, uid: row.uid });
                Ok(())
            }
        }
    }

    /// The one that is meant, with its stored object.
    fn seen(&self, change: &Change, which: &Which, files: &Config) -> Result<(DocumentRow, Option<Body>), NotChanged> {
        let Some(row) = find(&self.rows, change.tenant, which.kind, &which.id) else {
            return Err(match place_in_files(files, &change.slug, which.kind, &which.id) {
                Some(at) => NotChanged::FromAFile(which.kind, at),
                None => NotChanged::NotFound(which.kind),
            });
        };
        if which.seen.is_some_and(|seen| seen != row.version) {
            return Err(NotChanged::Outdated(row.version));
        }
        Ok((row.clone(), body_of(row)))
    }

    /// Puts another object in the place of one.
    fn swap(
        &mut self,
        change: &Change,
        kind: DocumentKind,
        row: DocumentRow,
        body: Body,
        made: &Made,
        files: &Config,
        now: Micros,
    ) -> Result<(), NotChanged> {
        self.rows.retain(|other| other.uid != row.uid);
        // One that is left out may have lost its monitor to a file, with the id that it had: it gets one of its own.
        let uid = if made.left_out.contains_key(&row.uid) {
            self.writes.push(DocumentWrite::Remove { tenant: change.tenant, uid: row.uid.clone() });
            crate::store::new_uid(now)
        } else {
            row.uid.clone()
        };
        self.put(change, kind, uid, body, Some(row), files, now)
    }

    fn put(
        &mut self,
        change: &Change,
        kind: DocumentKind,
        uid: String,
        body: Body,
        before: Option<DocumentRow>,
        files: &Config,
        now: Micros,
    ) -> Result<(), NotChanged> {
        let name = body.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if let Some(at) = place_in_files(files, &change.slug, kind, &name) {
            return Err(NotChanged::NameTaken(format!("the {} `{name}` is in the configuration file, at {at}", kind.what())));
        }
        if self.rows.iter().any(|row| row.tenant == change.tenant && row.kind == kind.as_str() && row.name == name) {
            return Err(NotChanged::NameTaken(format!("there is another {} `{name}`", kind.what())));
        }
        if kind == DocumentKind::StatusPage {
            self.alone(&name, &body, files)?;
        }
        let text = Json::Object(body).to_string();
        if text.len() > DOCUMENT_MAX {
            return Err(NotChanged::TooMuch(format!("it has {} bytes; accepted are {DOCUMENT_MAX}", text.len())));
        }
        let (made_by, made_at) = before.map_or_else(|| (change.by.clone(), now), |row| (row.made_by, row.made_at));
        self.rows.push(DocumentRow {
            uid: uid.clone(),
            tenant: change.tenant,
            tenant_slug: change.slug.clone(),
            kind: kind.as_str().to_owned(),
            name: name.clone(),
            body: text.clone(),
            // Known when it is written.
            version: 0,
            made_by,
            made_at,
            changed_by: change.by.clone(),
            changed_at: now,
        });
        let (kind, by) = (kind.as_str().to_owned(), change.by.clone());
        self.writes.push(DocumentWrite::Put { tenant: change.tenant, uid: uid.clone(), kind, name, body: text, by, at: now });
        self.touched.push(uid);
        Ok(())
    }

    /// Makes sure that no other status page has this one's place or domain. It may be another tenant's: nothing else is said of it.
    fn alone(&self, name: &str, body: &Body, files: &Config) -> Result<(), NotChanged> {
        let wanted = domain_of(body);
        let made = self.rows.iter().filter(|row| row.kind == DocumentKind::StatusPage.as_str());
        let made = made.map(|row| (row.name.clone(), body_of(row).as_ref().and_then(domain_of)));
        let in_files = files.tenants.iter().flat_map(|tenant| &tenant.status_pages).map(|page| (page.slug.clone(), page.domain.clone()));
        for (slug, domain) in made.chain(in_files) {
            let taken = |what: &str, which: &str| {
                Err(NotChanged::NameTaken(format!("the {what} `{which}` is taken by another status page of this installation")))
            };
            if slug == name {
                return taken("name", name);
            }
            if let Some(wanted) = wanted.as_ref().filter(|wanted| domain.as_ref() == Some(wanted)) {
                return taken("domain", wanted);
            }
        }
        Ok(())
    }

    /// Whether it can come into force, by what would be left out then and what is already.
    pub fn judge(&self, then: &LeftOut, now: &LeftOut) -> Result<(), NotChanged> {
        let touched: HashSet<&str> = self.touched.iter().map(String::as_str).collect();
        let mut faults = Vec::new();
        let several = self.touched.len() > 1;
        for uid in &self.touched {
            let Some(row) = self.rows.iter().find(|row| row.uid == *uid) else { continue };
            faults.extend(then.get(uid).into_iter().flatten().map(|fault| {
                let path = if several { format!("{} {}: {}", row.kind, row.name, fault.path) } else { fault.path.clone() };
                Fault { path, ..fault.clone() }
            }));
        }
        if !faults.is_empty() {
            return Err(NotChanged::Bad(faults));
        }
        let broken = then.iter().filter(|(uid, _)| !touched.contains(uid.as_str()) && !now.contains_key(*uid));
        let broken: Vec<String> = broken
            .filter_map(|(uid, faults)| {
                let row = self.rows.iter().find(|row| row.uid == *uid)?;
                Some(format!("{} {}: {}", row.kind, row.name, faults.first().map(ToString::to_string).unwrap_or_default()))
            })
            .collect();
        if broken.is_empty() { Ok(()) } else { Err(NotChanged::InUse(broken)) }
    }
}

fn refuse(faults: Vec<Fault>) -> Result<(), NotChanged> {
    if faults.is_empty() { Ok(()) } else { Err(NotChanged::Bad(faults)) }
}

/// Whether it may lead where it says.
fn permitted(kind: DocumentKind, body: &Body, before: Option<&Body>, made: &Made) -> Result<(), NotChanged> {
    refuse(forbidden(kind, body, before, made.reach))
}

fn unreadable() -> NotChanged {
    let accepted = "PUT, which replaces it".to_owned();
    NotChanged::Bad(vec![Fault::new("", "a stored object that this version cannot read", accepted)])
}

/// The domain of a status page, as the configuration reads it.
fn domain_of(body: &Body) -> Option<String> {
    body.get("domain")?.as_str().map(str::to_ascii_lowercase)
}

/// A message of a status page in which what has no time is of now. A zone that there is not has its problem when it is read.
pub fn dated(message: &Body, now: Micros) -> Body {
    let zone = message.get("zone").and_then(Json::as_str).and_then(calendar::zone).unwrap_or(TimeZone::UTC);
    let time = || Json::from(calendar::written(&zone, now));
    let mut message = message.clone();
    message.entry("at").or_insert_with(time);
    for update in message.get_mut("updates").and_then(Json::as_array_mut).into_iter().flatten() {
        if let Some(update) = update.as_object_mut() {
            update.entry("at").or_insert_with(time);
        }
    }
    message
}

/// A monitor may come in V-Insight's form.
fn native(kind: DocumentKind, body: &Body) -> Result<Body, NotChanged> {
    match kind {
        DocumentKind::Monitor => of_v_insight(body).unwrap_or_else(|| Ok(body.clone())).map_err(NotChanged::Bad),
        DocumentKind::Channel | DocumentKind::Maintenance | DocumentKind::StatusPage => Ok(body.clone()),
    }
}
