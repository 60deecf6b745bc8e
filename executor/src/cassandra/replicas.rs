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
    /// A policy for the range of these replicas, by their addresses.
    pub fn new(replicas: &[String]) -> Self {
        Self { replicas: replicas.iter().filter_map(|host| host.parse().ok()).collect(), turn: AtomicUsize::new(0) }
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
