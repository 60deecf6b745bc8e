//! A job's stages as a person reads them, before and after it ran.

use std::collections::HashSet;
use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::execution_plans::UnresolvedShuffleExec;
use ballista_core::serde::protobuf::{FailedTask, failed_task, task_status};
use ballista_scheduler::planner::{DefaultDistributedPlanner, DistributedPlanner};
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use datafusion::config::ConfigOptions;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};
use serde::Serialize;

use super::allocation::Grant;
use super::service::ClusterError;

/// What tasks were given, by stage and task.
type Grants = std::collections::HashMap<(usize, usize), Grant>;

/// How much slower than the median a task has to be before that is worth a word, in milliseconds.
const NOTEWORTHY_MS: u64 = 10;

/// Characters of a failed task's reason.
const ERROR_SHOWN_CHARS: usize = 500;

/// One stage of a job: a plan without an exchange inside, run as tasks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StageSummary {
    /// Number of the stage within its job, from 1; inputs have smaller numbers.
    pub stage_id: usize,
    /// Numbers of the stages whose output it reads.
    pub inputs: Vec<usize>,
    /// `unresolved`, `resolved`, `running`, `successful`, `failed`, `stopped`, or `planned` before the job runs.
    pub state: &'static str,
    /// Input partitions of the stage.
    pub partition_count: usize,
    /// The stage's plan, one operator a line, indented by two blanks a level; with metrics once it ran.
    pub plan: Vec<String>,
    /// Rows that the stage's finished tasks have written to its exchange or result.
    pub output_rows: u64,
    /// Bytes that the stage's finished tasks have written to its exchange or result.
    pub output_bytes: u64,
    /// Bytes that finished tasks have written to disk because memory was too short. Operators below a step that gathers
    /// partitions report to each partition of a task, so that this may be too much for tasks of several partitions.
    pub spilled_bytes: u64,
    /// The slowest finished task's time over the median; none for fewer than two tasks, or if all took about as long.
    pub time_skew: Option<f64>,
    /// The most rows that a finished task wrote over the median; none for fewer than two tasks.
    pub row_skew: Option<f64>,
    /// Every task that was ever started for the stage.
    pub tasks: Vec<TaskSummary>,
}

/// One attempt to run some partitions of a stage on an executor.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TaskSummary {
    /// Number of the task within its stage, from 0.
    pub task_id: usize,
    /// `running`, `successful` or `failed`.
    pub state: &'static str,
    /// The executor that was given the task.
    pub executor_id: String,
    /// Input partitions of the stage that the task covers.
    pub partitions: Vec<usize>,
    /// `host` if it was placed beside its data, `rack` or `any` if farther away, `none` if it does not matter.
    pub locality: &'static str,
    /// Thousandths of a core that it was granted.
    pub cpu_millis: u64,
    /// Bytes of memory that it was granted.
    pub memory_bytes: u64,
    /// Rows that it wrote to its exchange or result, once it has ended.
    pub rows: u64,
    /// Bytes that it wrote to its exchange or result, once it has ended.
    pub bytes: u64,
    /// Bytes that it wrote to disk because memory was too short, once it has ended.
    pub spilled_bytes: u64,
    /// Milliseconds since the Unix epoch at which it was sent to its executor.
    pub launched_ms: u64,
    /// Milliseconds since the Unix epoch; 0 if not yet started.
    pub started_ms: u64,
    /// Milliseconds since the Unix epoch; 0 if not yet ended.
    pub ended_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl StageSummary {
    /// Milliseconds from the first task's start to the last task's end; `None` before all have ended.
    pub fn elapsed_ms(&self) -> Option<u64> {
        let started = self.tasks.iter().map(|task| task.started_ms).filter(|ms| *ms > 0).min()?;
        let ended = self.tasks.iter().map(|task| task.ended_ms).max()?;
        ended.checked_sub(started)
    }

    /// When the first task started, in milliseconds since the Unix epoch; 0 before.
    pub fn started_ms(&self) -> u64 {
        self.tasks.iter().map(|task| task.started_ms).filter(|ms| *ms > 0).min().unwrap_or(0)
    }

    /// Partitions whose tasks have ended well, and all partitions.
    pub fn progress(&self) -> (usize, usize) {
        // A partition that ran again after its output was lost counts once.
        let ended = self.tasks.iter().filter(|task| task.state == "successful");
        let done: HashSet<usize> = ended.flat_map(|task| task.partitions.iter().copied()).collect();
        (done.len(), self.partition_count.max(done.len()))
    }

    fn measure_skew(&mut self) {
        let ended: Vec<&TaskSummary> = self.tasks.iter().filter(|task| task.state == "successful").collect();
        let times = ended.iter().map(|task| task.ended_ms.saturating_sub(task.started_ms)).collect();
        let rows = ended.iter().map(|task| task.rows).collect();
        self.time_skew = most_over_median(times, NOTEWORTHY_MS);
        self.row_skew = most_over_median(rows, 0);
    }
}

/// The largest of at least two values over their median, if it is more than `least` above it.
fn most_over_median(mut values: Vec<u64>, least: u64) -> Option<f64> {
    values.sort_unstable();
    let largest = *values.last().filter(|_| values.len() > 1)?;
    // The lower of two in the middle, so that one of two tasks that does all the work is seen.
    let median = *values.get((values.len() - 1) / 2)?;
    (largest > median.saturating_add(least)).then(|| largest as f64 / median.max(1) as f64)
}

/// Cuts a physical plan at its exchanges, as the scheduler will when it is submitted.
pub fn plan_stages(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Vec<StageSummary>, ClusterError> {
    let mut planner = DefaultDistributedPlanner::new();
    let job_id = JobId::from("explain".to_owned());
    let writers = planner.plan_query_stages(&job_id, plan, config)?;
    Ok(writers
        .into_iter()
        .map(|writer| {
            let input = writer.children().first().map(|child| Arc::clone(child));
            let mut lines = Vec::new();
            if let Some(input) = &input {
                render(input.as_ref(), 0, &mut std::iter::empty(), &mut lines);
            }
            let mut inputs = Vec::new();
            find_inputs(writer.as_ref(), &mut inputs);
            StageSummary {
                stage_id: writer.stage_id(),
                inputs,
                state: "planned",
                partition_count: input.map_or(1, |i| i.properties().output_partitioning().partition_count()),
                plan: lines,
                ..StageSummary::default()
            }
        })
        .collect())
}

/// The stages of a job that runs or ran, by ascending stage number.
///
/// `grants` tells what tasks were given, by stage and task.
pub(super) fn summarize(graph: &ExecutionGraphBox, grants: &Grants) -> Vec<StageSummary> {
    let mut stages: Vec<StageSummary> =
        graph.stages().iter().map(|(id, stage)| summarize_stage(*id, stage, grants)).collect();
    for stage in &mut stages {
        let reads = graph.stages().iter().filter(|(_, other)| other.output_links().contains(&stage.stage_id));
        stage.inputs = reads.map(|(id, _)| *id).collect();
        stage.inputs.sort_unstable();
    }
    stages.sort_by_key(|stage| stage.stage_id);
    stages
}

/// The stages that a plan reads from, before it is known where their output is.
fn find_inputs(plan: &dyn ExecutionPlan, inputs: &mut Vec<usize>) {
    for child in plan.children() {
        if let Some(exchange) = child.downcast_ref::<UnresolvedShuffleExec>() {
            inputs.push(exchange.stage_id);
        }
        find_inputs(child.as_ref(), inputs);
    }
    inputs.sort_unstable();
    inputs.dedup();
}

fn summarize_stage(stage_id: usize, stage: &ExecutionStage, grants: &Grants) -> StageSummary {
    let (state, plan, partition_count, infos, metrics): (_, _, _, &[TaskInfo], &[MetricsSet]) = match stage {
        ExecutionStage::UnResolved(s) => ("unresolved", &s.plan, 0, &[], &[]),
        ExecutionStage::Resolved(s) => ("resolved", &s.plan, s.partitions, &[], &[]),
        ExecutionStage::Running(s) => {
            ("running", &s.plan, s.partitions, &s.task_infos, s.stage_metrics.as_deref().unwrap_or_default())
        }
        ExecutionStage::Successful(s) => ("successful", &s.plan, s.partitions, &s.task_infos, &s.stage_metrics),
        ExecutionStage::Failed(s) => {
            ("failed", &s.plan, s.partitions, &s.task_infos, s.stage_metrics.as_deref().unwrap_or_default())
        }
    };
    let (mut output_rows, mut output_bytes) = (0, 0);
    for info in infos {
        if let task_status::Status::Successful(done) = &info.task_status {
            output_rows += done.partitions.iter().map(|p| p.num_rows).sum::<u64>();
            output_bytes += done.partitions.iter().map(|p| p.num_bytes).sum::<u64>();
        }
    }
    let spills = Spills::of(metrics);
    // The root is the shuffle writer, whose rows and bytes are told above; the plan is what is below it.
    let mut metrics = metrics.iter().skip(1);
    let mut lines = Vec::new();
    match plan.children().first() {
        Some(input) => render(input.as_ref(), 0, &mut metrics, &mut lines),
        None => render(plan.as_ref(), 0, &mut metrics, &mut lines),
    }
    let mut stage = StageSummary {
        stage_id,
        state,
        partition_count,
        plan: lines,
        output_rows,
        output_bytes,
        spilled_bytes: spills.0.iter().map(|(_, bytes)| bytes).sum(),
        // Numbers that no task of this attempt has are not shown.
        tasks: infos
            .iter()
            .filter(|info| !info.global_input_partition_ids.is_empty())
            .map(|info| summarize_task(info, grants.get(&(stage_id, info.task_id)), &spills))
            .collect(),
        ..StageSummary::default()
    };
    stage.measure_skew();
    stage
}

/// Bytes that were spilled, by partition where that is known.
struct Spills(Vec<(Option<usize>, u64)>);

impl Spills {
    fn of(metrics: &[MetricsSet]) -> Self {
        let all = metrics.iter().flat_map(|set| set.iter());
        // DataFusion's operators say the one, Ballista's writer of sorted exchanges the other.
        let spills = all.filter(|metric| ["spilled_bytes", "spill_bytes"].contains(&metric.value().name()));
        let spills = spills.map(|metric| (metric.partition(), metric.value().as_usize() as u64));
        Self(spills.filter(|(_, bytes)| *bytes > 0).collect())
    }

    fn of_partitions(&self, partitions: &[usize]) -> u64 {
        let here = self.0.iter().filter(|(partition, _)| partition.is_some_and(|p| partitions.contains(&p)));
        here.map(|(_, bytes)| bytes).sum()
    }
}

fn summarize_task(info: &TaskInfo, grant: Option<&Grant>, spills: &Spills) -> TaskSummary {
    let (state, executor_id, error) = match &info.task_status {
        task_status::Status::Running(running) => ("running", running.executor_id.clone(), None),
        task_status::Status::Successful(done) => ("successful", done.executor_id.clone(), None),
        task_status::Status::Failed(failed) => ("failed", String::new(), Some(why_it_failed(failed))),
    };
    let (mut rows, mut bytes, mut spilled_bytes) = (0, 0, 0);
    if let task_status::Status::Successful(done) = &info.task_status {
        rows = done.partitions.iter().map(|p| p.num_rows).sum();
        bytes = done.partitions.iter().map(|p| p.num_bytes).sum();
        spilled_bytes = spills.of_partitions(&info.global_input_partition_ids);
    }
    TaskSummary {
        task_id: info.task_id,
        state,
        executor_id,
        partitions: info.global_input_partition_ids.clone(),
        locality: grant.map_or("", |grant| grant.locality),
        cpu_millis: grant.map_or(0, |grant| grant.resources.cpu_millis()),
        memory_bytes: grant.map_or(0, |grant| grant.resources.memory_bytes()),
        rows,
        bytes,
        spilled_bytes,
        launched_ms: info.launch_time as u64,
        started_ms: info.start_exec_time as u64,
        ended_ms: info.end_exec_time as u64,
        error,
    }
}

/// A failed task's reason, cut to a length that a list has room for.
fn why_it_failed(failed: &FailedTask) -> String {
    let kind = match &failed.failed_reason {
        Some(failed_task::FailedReason::TaskKilled(_)) => "stopped",
        Some(failed_task::FailedReason::FetchPartitionError(_)) => "its input was lost",
        Some(failed_task::FailedReason::ExecutorLost(_)) => "its executor was lost",
        Some(failed_task::FailedReason::ResultLost(_)) => "its output was lost",
        _ => "",
    };
    let words: String = failed.error.chars().take(ERROR_SHOWN_CHARS).collect();
    [kind, words.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

struct OneLine<'a>(&'a dyn ExecutionPlan);

impl std::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt_as(DisplayFormatType::Default, f)
    }
}

/// Operators top down, in the order in which executors report their metrics.
fn render(
    plan: &dyn ExecutionPlan,
    depth: usize,
    metrics: &mut dyn Iterator<Item = &MetricsSet>,
    lines: &mut Vec<String>,
) {
    let mut line = format!("{}{}", "  ".repeat(depth), OneLine(plan));
    if let Some(set) = metrics.next() {
        let set = set.aggregate_by_name().sorted_for_display().timestamps_removed();
        if set.iter().next().is_some() {
            line.push_str(&format!(", metrics=[{set}]"));
        }
    }
    lines.push(line);
    for child in plan.children() {
        render(child.as_ref(), depth + 1, metrics, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(partitions: &[usize], elapsed_ms: u64, rows: u64) -> TaskSummary {
        TaskSummary {
            state: "successful",
            partitions: partitions.to_vec(),
            rows,
            started_ms: 1_000,
            ended_ms: 1_000 + elapsed_ms,
            ..TaskSummary::default()
        }
    }

    fn stage(tasks: Vec<TaskSummary>) -> StageSummary {
        let mut stage = StageSummary { partition_count: 4, tasks, ..StageSummary::default() };
        stage.measure_skew();
        stage
    }

    #[test]
    fn the_slowest_task_is_measured_by_the_median() {
        let skewed = stage(vec![ended(&[0], 100, 10), ended(&[1], 110, 10), ended(&[2], 500, 60)]);
        assert_eq!((skewed.time_skew, skewed.row_skew), (Some(500.0 / 110.0), Some(6.0)));
        let even = stage(vec![ended(&[0], 1, 10), ended(&[1], 4, 10)]);
        assert_eq!((even.time_skew, even.row_skew), (None, None));
        assert_eq!(stage(vec![ended(&[0], 900, 10)]).time_skew, None);
    }

    #[test]
    fn a_partition_that_ran_twice_counts_once() {
        let repeated = stage(vec![ended(&[0, 1], 10, 1), ended(&[1], 10, 1)]);
        assert_eq!(repeated.progress(), (2, 4));
    }
}
