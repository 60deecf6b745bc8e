//! Partitions to executors: the pure decision.

use std::collections::BTreeMap;

/// An executor with vcores to give in this round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeExecutor {
    /// The executor's id.
    pub id: String,
    /// The host name or address that the executor is known by.
    pub host: String,
    /// Vcores that no task holds.
    pub free_vcores: u32,
}

/// The partitions that one executor is given, as one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Index into the executors that were passed in.
    pub executor_index: usize,
    /// Input partitions of the stage, ascending.
    pub partitions: Vec<usize>,
}

/// What came of one stage's pending partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// At most one binding for each executor.
    pub bindings: Vec<Binding>,
    /// Partitions for which no vcore was free, in the order they came.
    pub left_over: Vec<usize>,
}

/// Binds `pending` partitions one vcore each.
///
/// A partition goes to a host it prefers when one has a vcore free, otherwise to the executor with
/// the most vcores free, so that the work of a stage is spread evenly. `preferred_hosts[p]` are the
/// hosts of partition `p`; a partition without an entry has no preference. Partitions with a
/// preference choose first, because the others can run anywhere.
pub fn bind_partitions(
    pending: &[usize],
    preferred_hosts: Option<&[Vec<String>]>,
    executors: &mut [FreeExecutor],
) -> Round {
    let preferences = |partition: usize| preferred_hosts.and_then(|all| all.get(partition)).map_or(&[][..], |p| p);
    let mut bound: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut without_host = Vec::new();
    for &partition in pending {
        let hosts = preferences(partition);
        match most_free(executors, |executor| hosts.contains(&executor.host)) {
            Some(index) => take(&mut bound, executors, index, partition),
            None => without_host.push(partition),
        }
    }
    let mut left_over = Vec::new();
    for partition in without_host {
        match most_free(executors, |_| true) {
            Some(index) => take(&mut bound, executors, index, partition),
            None => left_over.push(partition),
        }
    }
    let bindings = bound
        .into_iter()
        .map(|(executor_index, mut partitions)| {
            partitions.sort_unstable();
            Binding { executor_index, partitions }
        })
        .collect();
    Round { bindings, left_over }
}

/// Binds all of `pending` to one executor, for one vcore.
///
/// A stage that collapses its input to one partition must see all of it in one task. It goes to
/// the executor whose host the most partitions prefer, among those with a vcore free.
pub fn bind_whole(pending: &[usize], preferred_hosts: Option<&[Vec<String>]>, executors: &mut [FreeExecutor]) -> Round {
    let wishes = |host: &String| {
        preferred_hosts
            .map_or(0, |all| pending.iter().filter(|&&p| all.get(p).is_some_and(|hosts| hosts.contains(host))).count())
    };
    let best = executors
        .iter()
        .enumerate()
        .filter(|(_, executor)| executor.free_vcores > 0)
        .max_by_key(|(index, executor)| (wishes(&executor.host), executor.free_vcores, std::cmp::Reverse(*index)))
        .map(|(index, _)| index);
    match best {
        Some(executor_index) if !pending.is_empty() => {
            executors[executor_index].free_vcores -= 1;
            let mut partitions = pending.to_vec();
            partitions.sort_unstable();
            Round { bindings: vec![Binding { executor_index, partitions }], left_over: vec![] }
        }
        _ => Round { bindings: vec![], left_over: pending.to_vec() },
    }
}

fn most_free(executors: &[FreeExecutor], wanted: impl Fn(&FreeExecutor) -> bool) -> Option<usize> {
    executors
        .iter()
        .enumerate()
        .filter(|(_, executor)| executor.free_vcores > 0 && wanted(executor))
        .max_by_key(|(index, executor)| (executor.free_vcores, std::cmp::Reverse(*index)))
        .map(|(index, _)| index)
}

fn take(bound: &mut BTreeMap<usize, Vec<usize>>, executors: &mut [FreeExecutor], index: usize, partition: usize) {
    executors[index].free_vcores -= 1;
    bound.entry(index).or_default().push(partition);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executors(free: &[(&str, u32)]) -> Vec<FreeExecutor> {
        free.iter()
            .enumerate()
            .map(|(i, (host, free_vcores))| FreeExecutor {
                id: format!("executor-{i}"),
                host: (*host).to_owned(),
                free_vcores: *free_vcores,
            })
            .collect()
    }

    fn hosts(of: &[&[&str]]) -> Vec<Vec<String>> {
        of.iter().map(|hosts| hosts.iter().map(|h| (*h).to_owned()).collect()).collect()
    }

    #[test]
    fn a_partition_runs_where_its_replica_is() {
        let mut cluster = executors(&[("a", 2), ("b", 2)]);
        let preferred = hosts(&[&["b"], &["a"], &["b"]]);
        let round = bind_partitions(&[0, 1, 2], Some(&preferred), &mut cluster);
        assert_eq!(
            round.bindings,
            [Binding { executor_index: 0, partitions: vec![1] }, Binding { executor_index: 1, partitions: vec![0, 2] }]
        );
        assert!(round.left_over.is_empty());
    }

    #[test]
    fn a_busy_replica_does_not_hold_a_partition_back() {
        let mut cluster = executors(&[("a", 2), ("b", 1)]);
        let preferred = hosts(&[&["b"], &["b"]]);
        let round = bind_partitions(&[0, 1], Some(&preferred), &mut cluster);
        assert_eq!(
            round.bindings,
            [Binding { executor_index: 0, partitions: vec![1] }, Binding { executor_index: 1, partitions: vec![0] }]
        );
    }

    #[test]
    fn partitions_without_preference_are_spread_evenly() {
        let mut cluster = executors(&[("a", 4), ("b", 4)]);
        let round = bind_partitions(&[0, 1, 2, 3], None, &mut cluster);
        assert_eq!(round.bindings.iter().map(|b| b.partitions.len()).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn no_more_is_bound_than_is_free() {
        let mut cluster = executors(&[("a", 1), ("b", 1)]);
        let round = bind_partitions(&[0, 1, 2, 3], None, &mut cluster);
        assert_eq!(round.left_over, [2, 3]);
        assert!(cluster.iter().all(|executor| executor.free_vcores == 0));
    }

    #[test]
    fn a_collapsing_stage_is_bound_whole_for_one_vcore() {
        let mut cluster = executors(&[("a", 1), ("b", 3)]);
        let preferred = hosts(&[&["a"], &["a"], &["b"]]);
        let round = bind_whole(&[0, 1, 2], Some(&preferred), &mut cluster);
        assert_eq!(round.bindings, [Binding { executor_index: 0, partitions: vec![0, 1, 2] }]);
        assert_eq!(cluster[0].free_vcores, 0);
    }

    #[test]
    fn nothing_free_binds_nothing() {
        let mut cluster = executors(&[("a", 0)]);
        assert_eq!(bind_whole(&[0], None, &mut cluster).left_over, [0]);
        assert_eq!(bind_partitions(&[0], None, &mut cluster).left_over, [0]);
    }
}
