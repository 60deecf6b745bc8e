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
/// input's size where that is known, and a vcore's part of an executor where it is not. All others get
/// the least.
pub fn partition_demand(plan: &Arc<dyn ExecutionPlan>, tag: &JobTag, supply: &Supply) -> Resources {
    let memory = tag.task_memory_bytes.unwrap_or_else(|| {
        let least = tag.least_task_memory_bytes.min(supply.memory_for_a_vcore_bytes);
        let mut held = 0u64;
        add_held_bytes(plan, supply, &mut held);
        held.max(least).saturating_mul(tag.memory_factor.max(1))
    });
    Resources::new(CPU_MILLIS, memory.min(supply.largest_memory_bytes))
}

fn add_held_bytes(plan: &Arc<dyn ExecutionPlan>, supply: &Supply, held: &mut u64) {
    let unknown = supply.memory_for_a_vcore_bytes;
    let bytes_of = |input: &Arc<dyn ExecutionPlan>, is_whole: bool| {
        let bytes = known_bytes(input)?;
        let partitions = input.properties().output_partitioning().partition_count().max(1) as u64;
        Some(if is_whole { bytes } else { bytes / partitions })
    };
    let need = if let Some(sort) = plan.downcast_ref::<SortExec>() {
        // The first few rows need no memory to speak of.
        if sort.fetch().is_some() { Some(0) } else { bytes_of(sort.input(), false) }
    } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        bytes_of(join.left(), *join.partition_mode() == PartitionMode::CollectLeft)
    } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        bytes_of(join.left(), true)
    } else if let Some(join) = plan.downcast_ref::<CrossJoinExec>() {
        bytes_of(join.left(), true)
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        if aggregate.group_expr().is_empty() { Some(0) } else { bytes_of(aggregate.input(), false) }
    } else if plan.is::<WindowAggExec>() || plan.is::<SortMergeJoinExec>() {
        plan.children().first().and_then(|input| bytes_of(input, false))
    } else {
        Some(0)
    };
    let need = need.map_or(unknown, |bytes| bytes.saturating_mul(MEMORY_FOR_A_BYTE));
    // A sort or an aggregation can do with less, by writing to disk; only joins get more than a vcore's part.
    let can_spill = plan.is::<SortExec>() || plan.is::<AggregateExec>() || plan.is::<WindowAggExec>();
    *held = held.saturating_add(if can_spill { need.min(unknown) } else { need });
    for child in plan.children() {
        add_held_bytes(child, supply, held);
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
