//! Which nodes are asked for a token range.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use scylla::cluster::{ClusterState, NodeRef};
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::Shard;

/// Asks a range's replicas first, in turns, then everybody else.
///
/// A statement over a token range has no partition key by which the driver could route it.
#[derive(Debug)]
pub struct ReplicasFirst {
    replicas: Vec<IpAddr>,
    turn: AtomicUsize,
}

impl ReplicasFirst {
    /// A policy for the range of these replicas, by their addresses. Ranges of different `start` begin with different
    /// ones, so that many small ranges do not all ask the same node.
    pub fn new(replicas: &[String], start: i64) -> Self {
        let replicas: Vec<IpAddr> = replicas.iter().filter_map(|host| host.parse().ok()).collect();
        let turn = start.unsigned_abs() % (replicas.len() as u64).max(1);
        Self { replicas, turn: AtomicUsize::new(usize::try_from(turn).unwrap_or(0)) }
    }

    /// The range's replicas.
    pub fn replicas(&self) -> &[IpAddr] {
        &self.replicas
    }

    fn ordered<'a>(&self, cluster: &'a ClusterState) -> Vec<NodeRef<'a>> {
        let mut nodes: Vec<NodeRef<'a>> = cluster.get_nodes_info().iter().filter(|node| node.is_enabled()).collect();
        nodes.sort_by_key(|node| (!node.is_connected(), !self.replicas.contains(&node.address.ip())));
        let near = nodes.iter().take_while(|n| n.is_connected() && self.replicas.contains(&n.address.ip())).count();
        if near > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % near;
            nodes[..near].rotate_left(turn);
        }
        nodes
    }
}

impl LoadBalancingPolicy for ReplicasFirst {
    fn pick<'a>(&'a self, _: &'a RoutingInfo, cluster: &'a ClusterState) -> Option<(NodeRef<'a>, Option<Shard>)> {
        self.ordered(cluster).into_iter().next().map(|node| (node, None))
    }

    fn fallback<'a>(&'a self, _: &'a RoutingInfo, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        Box::new(self.ordered(cluster).into_iter().map(|node| (node, None)))
    }

    fn name(&self) -> String {
        "ReplicasFirst".to_owned()
    }
}
