//! Nodes: who holds which right to decide. Nodes belong to the installation, so only its own tenant sees them.

use super::Web;
use super::api::Params;
use super::auth::Caller;
use super::channels::NoQuery;
use super::error::ApiError;
use super::health::owns_installation;
use super::types::{HeldScope, Node, Page};
use crate::store::LeaseRow;
use axum::extract::State;
use axum::{Extension, Json};
use std::collections::BTreeMap;

/// `GET /api/v1/nodes`: by name. No clock is compared here either: who wants to know whether a node lives asks twice and sees whether
/// its beats have moved.
pub(super) async fn nodes(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Page<Node>>, ApiError> {
    if !owns_installation(&web, &caller).await? {
        return Err(ApiError::forbidden("nodes are shown to the tenant `default` only"));
    }
    Ok(Json(Page { items: by_node(web.store.leases().await?), next: None }))
}

fn by_node(mut leases: Vec<LeaseRow>) -> Vec<Node> {
    leases.sort_by(|a, b| a.scope.cmp(&b.scope));
    let mut nodes = BTreeMap::<String, Node>::new();
    for LeaseRow { scope, holder, epoch, beat } in leases {
        // A scope that was given back is nobody's until it is taken.
        let Some(name) = holder.split('#').next().filter(|name| !name.is_empty()) else { continue };
        let node = nodes.entry(name.to_owned()).or_insert_with(|| Node { name: name.to_owned(), beats: 0, scopes: vec![] });
        node.beats += beat;
        node.scopes.push(HeldScope { scope, epoch });
    }
    nodes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_what_it_holds_and_what_was_given_back_is_nobodys() {
        let lease = |scope: &str, holder: &str, epoch, beat| LeaseRow { scope: scope.into(), holder: holder.into(), epoch, beat };
        let nodes = by_node(vec![
            lease("verdict/1", "b#2", 3, 10),
            lease("agent/a", "a#1", 1, 5),
            lease("verdict/0", "a#1", 2, 7),
            lease("verdict/2", "", 4, 9),
        ]);
        let held = |scope: &str, epoch| HeldScope { scope: scope.into(), epoch };
        let want = [
            Node { name: "a".into(), beats: 12, scopes: vec![held("agent/a", 1), held("verdict/0", 2)] },
            Node { name: "b".into(), beats: 10, scopes: vec![held("verdict/1", 3)] },
        ];
        assert_eq!(nodes, want);
    }
}
