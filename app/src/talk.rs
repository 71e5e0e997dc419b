//! What is said besides incidents: from the configuration, with the ids that the store gave it.
//!
//! Made anew at every (re)load, immutable, shared.

use crate::config::Config;
use crate::deliver;
use crate::report::ReportSpec;
use crate::store::Applied;
use std::sync::Arc;
use watchkeeper_core::{ChannelId, TenantId};

/// What is said besides incidents.
#[derive(Clone, Default)]
pub struct Talk {
    /// Reports of all tenants.
    pub reports: Arc<[ReportSpec]>,
    /// Who is told of the node itself.
    pub announce: Arc<Announce>,
}

/// Who is told of the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// Whose channels they are.
    pub tenant: TenantId,
    /// The channels, each with the lease under which it is delivered to.
    pub channels: Vec<(ChannelId, String)>,
}

/// Joins the configuration with the ids that the store gave it, in the same order.
pub fn of(config: &Config, applied: &Applied) -> Talk {
    let (mut reports, mut announce) = (Vec::new(), Announce::default());
    for (tenant, ids) in config.tenants.iter().zip(&applied.tenants) {
        let channels = || tenant.channels.iter().zip(ids.channels.iter().copied());
        let id_of = |name: &String| channels().find(|(channel, _)| channel.name == *name).map(|(_, id)| id);
        for report in &tenant.reports {
            reports.push(ReportSpec {
                tenant: ids.tenant,
                tenant_slug: tenant.slug.clone(),
                name: report.name.clone(),
                period: report.period.clone(),
                channels: report.notify.iter().filter_map(id_of).collect(),
            });
        }
        for (channel, id) in channels().filter(|(channel, _)| tenant.announce.contains(&channel.name)) {
            announce.tenant = ids.tenant;
            announce.channels.push((id, deliver::scope(&channel.kind.budget_key())));
        }
    }
    Talk { reports: reports.into(), announce: Arc::new(announce) }
}
