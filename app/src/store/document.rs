//! Types of the store's contract around documents: what was made over the API, in the form of the configuration file.
//!
//! The store keeps them as texts and never looks into them; what they mean is said by `config`. All of them together have one version,
//! which grows with every change of any, so that a node sees at a glance that there is something new, and so that objects which were made
//! of older documents are never put into force over newer ones.

use std::fmt;
use watchkeeper_core::{Micros, TenantId};

/// All documents of one tenant and kind; one more is refused. A tenant with more has them made by a program, which writes a file as easily.
pub const DOCUMENTS_MAX: usize = 5_000;

/// One document as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Public id; a monitor has the same.
    pub uid: String,
    /// Owner.
    pub tenant: TenantId,
    /// The owner's slug.
    pub tenant_slug: String,
    /// `monitor`, `channel`, `maintenance`, `status_page`; or a word of a newer program.
    pub kind: String,
    /// Unique in the tenant among its kind.
    pub name: String,
    /// The object as JSON, with its secrets, which may be sealed.
    pub body: String,
    /// The version of all documents after it was written.
    pub version: i64,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: Micros,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: Micros,
}

/// Without the body, which may hold secrets.
impl fmt::Debug for DocumentRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, tenant, kind, name, version, .. } = self;
        f.debug_struct("DocumentRow")
            .field("uid", uid)
            .field("tenant", tenant)
            .field("kind", kind)
            .field("name", name)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

/// All documents of all tenants at one moment, by tenant, kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The version of all of them; 0 if there was never one.
    pub version: i64,
    /// They.
    pub rows: Vec<DocumentRow>,
}

/// A change of one document.
#[derive(Clone, PartialEq, Eq)]
pub enum DocumentWrite {
    /// It is there as this from now on; a new uid makes a new one.
    Put {
        /// Owner.
        tenant: TenantId,
        /// Which.
        uid: String,
        /// `monitor`, …
        kind: String,
        /// Its name from now on.
        name: String,
        /// The object as JSON.
        body: String,
        /// Who wants it.
        by: String,
        /// When.
        at: Micros,
    },
    /// It lies there in another form, and means the same: its own version stays.
    Reseal {
        /// Owner.
        tenant: TenantId,
        /// Which.
        uid: String,
        /// The object in that form.
        body: String,
    },
    /// It is gone.
    Remove {
        /// Owner.
        tenant: TenantId,
        /// Which.
        uid: String,
    },
}

/// The documents that objects were made of, and what is to be changed of them in the same transaction.
#[derive(Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Their version when they were read; if it is another by now, nothing is done.
    pub seen: i64,
    /// The changes, which the objects contain already.
    pub writes: &'a [DocumentWrite],
}
