//! What one partition of a stage needs, read from the stage's plan.

use std::sync::Arc;

use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use datafusion::common::stats::Precision;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::windows::WindowAggExec;

use super::tag::JobTag;
use crate::core::Resources;

/// Thousandths of a core that a partition keeps busy.
pub const CPU_MILLIS: u64 = 1_000;

/// Bytes in memory for a byte that statistics or a shuffle file tell of: compressed there, and with a
/// hash table or a copy that is being sorted here.
const MEMORY_FOR_A_BYTE: u64 = 4;

/// What executors can give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supply {
    /// Memory of the poorest executor divided by its vcores: what any vcore can have at any time.
    pub memory_for_a_vcore_bytes: u64,
    /// Memory of the richest executor.
    pub largest_memory_bytes: u64,
    /// Vcores of all executors together.
    pub total_vcores: u32,
}

/// What each partition of a stage needs to run.
///
/// Memory is that of the operators that hold what they read: a sort or the build side of a join by its
/// input's size where that is known, and a vcore's part of an executor where it is not. Only build sides that are
/// known to be larger get more than that part, because the others can write to disk. All others get the least.
pub fn partition_demand(plan: &Arc<dyn ExecutionPlan>, tag: &JobTag, supply: &Supply) -> Resources {
    let memory = tag.task_memory_bytes.unwrap_or_else(|| {
        let least = tag.least_task_memory_bytes.min(supply.memory_for_a_vcore_bytes);
        let mut held = Held::default();
        held.add(plan);
        held.demand_bytes(supply.memory_for_a_vcore_bytes).max(least).saturating_mul(tag.memory_factor.max(1))
    });
    Resources::new(CPU_MILLIS, memory.min(supply.largest_memory_bytes))
}

/// What the operators of a stage hold of what they read, for each partition.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    /// Build sides, which have to be in memory.
    build_bytes: u64,
    /// What can be written to disk instead.
    spillable_bytes: u64,
    /// Whether something is held whose size is not known.
    has_unknown: bool,
}

impl Held {
    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        let bytes_of = |input: &Arc<dyn ExecutionPlan>, is_whole: bool| {
            let bytes = known_bytes(input)?;
            let partitions = input.properties().output_partitioning().partition_count().max(1) as u64;
            Some(if is_whole { bytes } else { bytes / partitions })
        };
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            self.add_build(bytes_of(join.left(), *join.partition_mode() == PartitionMode::CollectLeft));
        } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            self.add_build(bytes_of(join.left(), true));
        } else if let Some(join) = plan.downcast_ref::<CrossJoinExec>() {
            self.add_build(bytes_of(join.left(), true));
        } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
            // The first few rows need no memory to speak of.
            if sort.fetch().is_none() {
                self.add_spillable(bytes_of(sort.input(), false));
            }
        } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            if !aggregate.group_expr().is_empty() {
                self.add_spillable(bytes_of(aggregate.input(), false));
            }
        } else if plan.is::<WindowAggExec>() || plan.is::<SortMergeJoinExec>() {
            self.add_spillable(plan.children().first().and_then(|input| bytes_of(input, false)));
        }
        for child in plan.children() {
            self.add(child);
        }
    }

    fn add_build(&mut self, bytes: Option<u64>) {
        self.has_unknown |= bytes.is_none();
        // It has to be in memory whole, and so the estimate is generous.
        let bytes = bytes.unwrap_or(0).saturating_mul(2 * MEMORY_FOR_A_BYTE);
        self.build_bytes = self.build_bytes.saturating_add(bytes);
    }

    fn add_spillable(&mut self, bytes: Option<u64>) {
        self.has_unknown |= bytes.is_none();
        self.spillable_bytes =
            self.spillable_bytes.saturating_add(bytes.unwrap_or(0).saturating_mul(MEMORY_FOR_A_BYTE));
    }

    /// What to ask for, if `part_bytes` is what a vcore can have at any time.
    fn demand_bytes(&self, part_bytes: u64) -> u64 {
        let held = self.build_bytes.saturating_add(self.spillable_bytes);
        let within_part = if self.has_unknown { part_bytes } else { held.min(part_bytes) };
        within_part.max(self.build_bytes)
    }
}

fn known_bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok()?;
    match statistics.total_byte_size {
        Precision::Exact(bytes) | Precision::Inexact(bytes) => Some(bytes as u64),
        Precision::Absent => None,
    }
}

/// Whether the stage folds its input to one partition somewhere, so that one task must see all of it.
///
/// The same rule as the private `stage_has_input_collapse` of `ballista_scheduler::cluster` 55.0.0.
pub fn collapses_input(root: &Arc<dyn ExecutionPlan>) -> bool {
    fn walk(node: &Arc<dyn ExecutionPlan>) -> bool {
        if node.is::<ShuffleReaderExec>() || node.is::<RangeShuffleReaderExec>() {
            return false;
        }
        if node.properties().output_partitioning().partition_count() == 1 {
            return true;
        }
        match node.children().as_slice() {
            [child] => walk(child),
            _ => false,
        }
    }
    match root.children().as_slice() {
        [child] => walk(child),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: u64 = 1_000;

    fn held(build_bytes: u64, spillable_bytes: u64, has_unknown: bool) -> u64 {
        Held { build_bytes, spillable_bytes, has_unknown }.demand_bytes(PART)
    }

    #[test]
    fn what_is_known_to_be_little_leaves_memory_to_others() {
        assert_eq!(held(0, 0, false), 0);
        assert_eq!(held(100, 200, false), 300);
    }

    #[test]
    fn what_can_be_written_to_disk_or_is_not_known_gets_a_vcores_part() {
        assert_eq!(held(0, 50_000, false), PART);
        assert_eq!(held(10, 20, true), PART);
    }

    #[test]
    fn a_build_side_has_to_fit() {
        assert_eq!(held(5_000, 50_000, true), 5_000);
    }
}
