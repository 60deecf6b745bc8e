//! What a repeated stage wrote counts once.
//!
//! When a running stage has lost some of its input, Ballista takes the stage back and runs all of its
//! tasks again, but leaves what its finished tasks had written in the inputs of the stage above, so
//! that those rows count twice ("rollback_running_stage" and "update_stage_output_links" of
//! `ballista_scheduler::state::execution_graph` 55.0.0). Tasks are bound by us alone, so the stage
//! above is looked at before its first task: what no task of its input stages vouches for is dropped.

use std::collections::{HashMap, HashSet};

use ballista_core::error::Result;
use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::{FailedTask, PartitionLocation as EncodedLocation, TaskKilled, task_status};
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_scheduler::state::execution_graph::{ExecutionGraphBox, create_task_info};
use ballista_scheduler::state::execution_stage::{ExecutionStage, RunningStage};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};

/// One file's part that holds rows of one partition: stage, task, partition, file.
type OutputKey = (usize, usize, usize, Option<u64>);

/// What the stages of a job have written that counts, with the executor that has it.
pub(super) struct ValidOutputs(HashMap<OutputKey, String>);

/// Whether a stage may run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    /// Nothing is there twice.
    Sound,
    /// Something was dropped; the stage has to be planned again over what is left.
    Repaired,
    /// The stage's plan has been folded over wrong row counts; the job has to start again.
    Lost,
}

impl ValidOutputs {
    /// `None` if no stage of the job was ever repeated, so that nothing can be there twice.
    pub(super) fn of(graph: &ExecutionGraphBox) -> Option<Self> {
        let attempt = |stage: &ExecutionStage| match stage {
            ExecutionStage::UnResolved(s) => s.stage_attempt_num,
            ExecutionStage::Resolved(s) => s.stage_attempt_num,
            ExecutionStage::Running(s) => s.stage_attempt_num,
            ExecutionStage::Successful(s) => s.stage_attempt_num,
            ExecutionStage::Failed(s) => s.stage_attempt_num,
        };
        if graph.stages().values().all(|stage| attempt(stage) == 0) {
            return None;
        }
        let mut valid = HashMap::new();
        for (stage_id, stage) in graph.stages() {
            for (task_id, info) in stage.task_infos().unwrap_or_default().iter().enumerate() {
                let task_status::Status::Successful(done) = &info.task_status else { continue };
                for part in &done.partitions {
                    let key = (*stage_id, task_id, part.partition_id as usize, part.file_id);
                    valid.insert(key, done.executor_id.clone());
                }
            }
        }
        Some(Self(valid))
    }

    fn has(&self, location: &PartitionLocation) -> bool {
        let id = &location.partition_id;
        let key = (id.stage_id, location.map_partition_id, id.partition_id, location.file_id);
        self.0.get(&key).is_some_and(|executor| *executor == location.executor_meta.id)
    }

    /// Drops from the inputs of a stage that has not begun what does not count.
    pub(super) fn repair(&self, stage: &mut RunningStage) -> Inputs {
        let mut repaired = HashSet::new();
        for (input, output) in &mut stage.inputs {
            for locations in output.partition_locations.values_mut() {
                let before = locations.len();
                let mut seen = HashSet::new();
                locations.retain(|location| {
                    self.has(location) && seen.insert((location.map_partition_id, location.file_id))
                });
                if locations.len() < before {
                    repaired.insert(*input);
                }
            }
        }
        if repaired.is_empty() {
            return Inputs::Sound;
        }
        let mut read = HashSet::new();
        // The closure never fails.
        let _ = stage.plan.apply(|node| {
            read.extend(node.downcast_ref::<ShuffleReaderExec>().map(|reader| reader.stage_id));
            Ok(TreeNodeRecursion::Continue)
        });
        if repaired.is_subset(&read) { Inputs::Repaired } else { Inputs::Lost }
    }
}

/// Plans a stage whose inputs were repaired anew.
pub(super) fn plan_again(graph: &mut ExecutionGraphBox, stage_id: usize) -> Result<()> {
    graph.rollback_running_stage(stage_id, HashSet::new())?;
    graph.resolve_stage(stage_id)?;
    Ok(())
}

/// Keeps the numbers of a repeated stage's tasks apart from those of its earlier attempts.
///
/// Ballista counts a stage's tasks from 0 again in each attempt, and the number is the name of the file that a
/// task writes. A task of an earlier attempt may still be on its way to its end when another of the same number
/// starts beside it, over other partitions; whichever writes last would leave its rows in place of the other's.
pub(super) fn number_tasks_apart(stage: &mut RunningStage) {
    if stage.stage_attempt_num == 0 || !stage.task_infos.is_empty() {
        return;
    }
    // A partition is tried four times at most within an attempt, and a task has at least one.
    let first = stage.stage_attempt_num * 4 * stage.partitions.max(1);
    for task_id in 0..first {
        let mut info = create_task_info(String::new(), task_id);
        info.task_status = task_status::Status::Failed(FailedTask {
            error: "a number that an earlier attempt may have used".to_owned(),
            retryable: true,
            count_to_failures: false,
            failed_reason: Some(FailedReason::TaskKilled(TaskKilled {})),
        });
        stage.task_infos.push(info);
    }
}

/// Where a job's result is: of a partition that a repeated last stage wrote twice, the later one.
pub(super) fn last_of_each_partition(locations: Vec<EncodedLocation>) -> Vec<EncodedLocation> {
    let mut seen = HashSet::new();
    let mut kept: Vec<EncodedLocation> = locations
        .into_iter()
        .rev()
        .filter(|location| seen.insert(location.partition_id.as_ref().map(|id| (id.stage_id, id.partition_id))))
        .collect();
    kept.reverse();
    kept
}
