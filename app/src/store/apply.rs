//! Which stored monitor an object of a source means; the same for both stores.
//!
//! In this order: the one with its `id:`, the live one with its name, the live one with the name it had (`was:`), the one of
//! that name that was retired last, else a new one.

use super::error::refused;
use super::rows::{Columns, Sql};
use super::{AppliedMonitor, MaintenanceObject, MonitorObject};
use std::collections::{BTreeSet, HashMap, HashSet};
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::{Micros, MonitorId, TenantId};

/// A stored monitor that an object may mean.
pub(super) struct Known {
    id: i64,
    tenant: i64,
    uid: String,
    name: String,
    kind: String,
    paused: bool,
    retired_at: Option<i64>,
    hash: Vec<u8>,
    push_token: Option<String>,
    created_at: i64,
}

impl Known {
    /// From: id, tenant, uid, name, kind, paused, retired_at, hash, push_token, created_at.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        Ok(Self {
            id: row.int(0)?,
            tenant: row.int(1)?,
            uid: row.text(2)?,
            name: row.text(3)?,
            kind: row.text(4)?,
            paused: row.int(5)? != 0,
            retired_at: row.maybe_int(6)?,
            hash: row.bytes(7)?,
            push_token: row.maybe_text(8)?,
            created_at: row.int(9)?,
        })
    }
}

/// What an object means.
pub(super) enum Found<'a> {
    /// A monitor that is not stored yet.
    New,
    /// A stored one; its revision grows if it changed.
    Known { monitor: &'a Known, changed: bool },
}

/// What all objects of one tenant mean, in their order, and which monitors get another name.
pub(super) struct Plan<'a> {
    pub found: Vec<Found<'a>>,
    pub renamed: Vec<i64>,
}

/// Finds them all.
pub(super) fn plan<'a>(tenant: TenantId, objects: &[MonitorObject], known: &'a [Known]) -> Sql<Plan<'a>> {
    let mut plan = Plan { found: Vec::with_capacity(objects.len()), renamed: Vec::new() };
    let stored = Stored::new(tenant, known);
    // Names that another object claims as its own are not free to be taken by `was:`.
    let named: HashSet<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    let mut taken = HashSet::new();
    for object in objects {
        let found = stored.find(tenant, object, &named)?;
        if let Some(monitor) = found {
            if !taken.insert(monitor.id) {
                return Err(refused(format!(
                    "{}: two monitors of the configuration mean the same stored one ({:?}, id {})",
                    object.origin, monitor.name, monitor.uid
                )));
            }
            if monitor.name != object.name && monitor.retired_at.is_none() {
                plan.renamed.push(monitor.id);
            }
        }
        plan.found.push(match found {
            None => Found::New,
            Some(monitor) => Found::Known { monitor, changed: differs(monitor, object) },
        });
    }
    Ok(plan)
}

/// The stored monitors by what they are found by.
struct Stored<'a> {
    uids: HashMap<&'a str, &'a Known>,
    live: HashMap<&'a str, &'a Known>,
    retired: HashMap<&'a str, &'a Known>,
}

impl<'a> Stored<'a> {
    fn new(tenant: TenantId, known: &'a [Known]) -> Self {
        let mut stored = Self { uids: HashMap::new(), live: HashMap::new(), retired: HashMap::new() };
        for monitor in known {
            stored.uids.insert(&monitor.uid, monitor);
            if monitor.tenant != tenant.0 {
                continue;
            }
            if monitor.retired_at.is_none() {
                stored.live.insert(&monitor.name, monitor);
            } else if stored.retired.get(monitor.name.as_str()).is_none_or(|other| other.retired_at <= monitor.retired_at) {
                stored.retired.insert(&monitor.name, monitor);
            }
        }
        stored
    }

    fn find(&self, tenant: TenantId, object: &MonitorObject, named: &HashSet<&str>) -> Sql<Option<&'a Known>> {
        if let Some(uid) = &object.uid
            && let Some(monitor) = self.uids.get(uid.as_str())
        {
            if monitor.tenant != tenant.0 {
                return Err(refused(format!("{}: the id {uid} belongs to a monitor of another tenant", object.origin)));
            }
            return Ok(Some(monitor));
        }
        let was = object.was.as_deref().filter(|was| !named.contains(was));
        let live = |name: &str| self.live.get(name).copied();
        Ok(live(&object.name).or_else(|| was.and_then(live)).or_else(|| self.retired.get(object.name.as_str()).copied()))
    }
}

/// The stored monitors among them that were retired, and are watched again.
pub(super) fn returning(found: &[Found<'_>]) -> Vec<i64> {
    let stored = found.iter().filter_map(|found| match found {
        Found::New => None,
        Found::Known { monitor, .. } => monitor.retired_at.map(|_| monitor.id),
    });
    stored.collect()
}

fn differs(monitor: &Known, object: &MonitorObject) -> bool {
    monitor.retired_at.is_some()
        || monitor.name != object.name
        || monitor.kind != object.kind
        || monitor.paused != object.paused
        || monitor.hash != object.hash
        || object.uid.as_ref().is_some_and(|uid| *uid != monitor.uid)
}

impl Found<'_> {
    /// Who it is from now on. A stored monitor keeps its push token; a new one gets an id from the block.
    pub(super) fn identity(&self, object: &MonitorObject, ids: &mut IdBlock, now: Micros) -> AppliedMonitor {
        match self {
            Self::New => AppliedMonitor {
                id: MonitorId(ids.draw().expect("the block has an id for every object")),
                uid: object.uid.clone().unwrap_or_else(|| new_uid(now)),
                created_at: now,
                push_token: object.push_token.clone(),
            },
            Self::Known { monitor, .. } => AppliedMonitor {
                id: MonitorId(monitor.id),
                uid: object.uid.clone().unwrap_or_else(|| monitor.uid.clone()),
                created_at: Micros(monitor.created_at),
                push_token: monitor.push_token.clone().or_else(|| object.push_token.clone()),
            },
        }
    }
}

/// A public id: UUIDv7, so that ids sort by age.
pub fn new_uid(now: Micros) -> String {
    let (seconds, rest) = (now.0.div_euclid(1_000_000), now.0.rem_euclid(1_000_000));
    let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds as u64, rest as u32 * 1_000);
    uuid::Uuid::new_v7(at).to_string()
}

/// A stored maintenance window and its tenant from: tenant, name, matcher, window, origin.
pub(super) fn stored_window(row: &impl Columns) -> Sql<(TenantId, MaintenanceObject)> {
    let window = MaintenanceObject { name: row.text(1)?, matcher: row.text(2)?, window: row.text(3)?, origin: row.text(4)? };
    Ok((TenantId(row.int(0)?), window))
}

/// What makes a source's stored maintenance windows be the wanted ones.
pub(super) struct WindowChanges<'a> {
    pub gone: Vec<(TenantId, &'a str)>,
    pub written: Vec<(TenantId, &'a MaintenanceObject)>,
    /// Whose notices may be muted otherwise now; that a window moved to another line of its file mutes nothing.
    pub tenants: BTreeSet<TenantId>,
}

/// Compares them.
pub(super) fn window_changes<'a>(
    stored: &'a [(TenantId, MaintenanceObject)],
    wanted: &[(TenantId, &'a [MaintenanceObject])],
) -> WindowChanges<'a> {
    let wanted: Vec<(TenantId, &MaintenanceObject)> =
        wanted.iter().flat_map(|(tenant, windows)| windows.iter().map(|window| (*tenant, window))).collect();
    let find = |tenant, name: &str| stored.iter().find(|(of, window)| *of == tenant && window.name == name).map(|(_, window)| window);
    let mut changes = WindowChanges { gone: Vec::new(), written: Vec::new(), tenants: BTreeSet::new() };
    for (tenant, window) in stored {
        if !wanted.iter().any(|(of, other)| of == tenant && other.name == window.name) {
            changes.gone.push((*tenant, &window.name));
            changes.tenants.insert(*tenant);
        }
    }
    for (tenant, window) in wanted {
        let known = find(tenant, &window.name);
        if known != Some(window) {
            changes.written.push((tenant, window));
        }
        if known.is_none_or(|known| known.matcher != window.matcher || known.window != window.window) {
            changes.tenants.insert(tenant);
        }
    }
    changes
}
