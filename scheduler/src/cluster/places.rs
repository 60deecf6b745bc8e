//! Where the partitions of a stage would like to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use ballista_core::execution_plans::ShuffleReaderExec;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;

/// Where each input partition of a stage's plan would like to run; `None` when it does not matter.
pub type PreferredHosts = Arc<dyn Fn(&Arc<dyn ExecutionPlan>) -> Option<Vec<Vec<String>>> + Send + Sync>;

/// A host that has less of a partition's input than this is as good as any other.
///
/// Spark's `REDUCER_PREF_LOCS_FRACTION`.
const WORTHWHILE_FRACTION: f64 = 0.2;

/// Host names by input partition of a stage; an empty list is no preference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    hosts_by_partition: Vec<Vec<String>>,
    /// Whether it is worth a wait to run there: the bytes of a source, not those of a shuffle, which
    /// come as fast from another host.
    pub is_worth_waiting: bool,
}

impl Places {
    /// From the source that the plan reads, or else from where its shuffle input lies.
    pub fn of(plan: &Arc<dyn ExecutionPlan>, sources: &PreferredHosts) -> Self {
        match sources(plan) {
            Some(hosts_by_partition) => Self { hosts_by_partition, is_worth_waiting: true },
            None => Self { hosts_by_partition: shuffle_hosts(plan), is_worth_waiting: false },
        }
    }

    /// The hosts that the partition prefers.
    pub fn hosts(&self, partition: usize) -> &[String] {
        self.hosts_by_partition.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Whether the partition prefers that host.
    pub fn prefers(&self, partition: usize, host: &str) -> bool {
        self.hosts(partition).iter().any(|preferred| preferred == host)
    }
}

fn shuffle_hosts(plan: &Arc<dyn ExecutionPlan>) -> Vec<Vec<String>> {
    let mut bytes: Vec<BTreeMap<String, u64>> = Vec::new();
    // The closure never fails.
    let _ = plan.apply(|node| {
        if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
            bytes.resize_with(bytes.len().max(reader.partition.len()), BTreeMap::new);
            for (partition, locations) in reader.partition.iter().enumerate() {
                for location in locations {
                    *bytes[partition].entry(location.executor_meta.host.clone()).or_default() +=
                        location.partition_stats.num_bytes().unwrap_or(0);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    bytes.into_iter().map(worthwhile).collect()
}

fn worthwhile(by_host: BTreeMap<String, u64>) -> Vec<String> {
    let all: u64 = by_host.values().sum();
    let mut hosts: Vec<_> =
        by_host.into_iter().filter(|(_, bytes)| *bytes as f64 > all as f64 * WORTHWHILE_FRACTION).collect();
    hosts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    hosts.into_iter().map(|(host, _)| host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_little_of_the_input_is_as_good_as_any() {
        let by_host = [("a", 10), ("b", 60), ("c", 30)].map(|(host, bytes)| (host.to_owned(), bytes));
        assert_eq!(worthwhile(BTreeMap::from(by_host)), ["b", "c"]);
        assert!(worthwhile(BTreeMap::from([("a".to_owned(), 0)])).is_empty());
    }
}
