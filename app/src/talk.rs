//! What is said besides incidents, and to whom the node listens: from the configuration, with the ids that the store gave it.
//!
//! Made anew at every (re)load, immutable, shared.

use crate::config::{Config, DEFAULT_TENANT};
use crate::deliver;
use crate::ears::BotSpec;
use crate::report::ReportSpec;
use crate::store::{Applied, TenantScope};
use std::collections::BTreeMap;
use std::sync::Arc;
use watchkeeper_core::{ChannelId, TenantId};

/// What is said besides incidents, and to whom the node listens.
#[derive(Clone, Default)]
pub struct Talk {
    /// Reports of all tenants.
    pub reports: Arc<[ReportSpec]>,
    /// Who is told of the node itself.
    pub announce: Arc<Announce>,
    /// Bots that obey commands.
    pub bots: Arc<[Arc<BotSpec>]>,
}

/// Who is told of the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// Whose channels they are.
    pub tenant: TenantId,
    /// The channels, each with the lease under which it is delivered to.
    pub channels: Vec<(ChannelId, String)>,
    /// Who is told of what must not go unheard: those of `announce`, else the channels of last resort, else all.
    pub urgent: Vec<ChannelId>,
}

/// Joins the configuration with the ids that the store gave it, in the same order.
pub fn of(config: &Config, applied: &Applied) -> Talk {
    let (mut reports, mut announce) = (Vec::new(), Announce::default());
    let mut bots: BTreeMap<String, BotSpec> = BTreeMap::new();
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
        for channel in &tenant.channels {
            if let Some(config) = channel.kind.telegram().filter(|config| config.commands()) {
                let bot = bots.entry(config.budget_key()).or_insert_with(|| BotSpec::new(config));
                bot.listen(config, TenantScope(ids.tenant), channel.common.style.language);
            }
        }
        if tenant.slug == DEFAULT_TENANT {
            announce.tenant = ids.tenant;
            let last = channels().filter(|(channel, _)| channel.common.last_resort);
            let choices = [announce.channels.iter().map(|(id, _)| *id).collect(), last.map(|(_, id)| id).collect(), ids.channels.clone()];
            announce.urgent = choices.into_iter().find(|choice: &Vec<_>| !choice.is_empty()).unwrap_or_default();
        }
    }
    Talk { reports: reports.into(), announce: Arc::new(announce), bots: bots.into_values().map(Arc::new).collect() }
}
