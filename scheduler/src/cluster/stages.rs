//! A job's stages as a person reads them, before and after it ran.

use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::serde::protobuf::task_status;
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

/// One stage of a job: a plan without an exchange inside, run as tasks.
#[derive(Debug, Clone, Serialize)]
pub struct StageSummary {
    /// Number of the stage within its job, from 1; inputs have smaller numbers.
    pub stage_id: usize,
    /// `unresolved`, `resolved`, `running`, `successful`, `failed`, or `planned` before the job runs.
    pub state: &'static str,
    /// Input partitions of the stage.
    pub partition_count: usize,
    /// The stage's plan, one operator a line, indented by two blanks a level; with metrics once it ran.
    pub plan: Vec<String>,
    /// Rows that the stage's finished tasks have written to its exchange or result.
    pub output_rows: u64,
    /// Bytes that the stage's finished tasks have written to its exchange or result.
    pub output_bytes: u64,
    /// Every task that was ever started for the stage.
    pub tasks: Vec<TaskSummary>,
}

/// One attempt to run some partitions of a stage on an executor.
#[derive(Debug, Clone, Serialize)]
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
    /// Milliseconds since the Unix epoch; 0 if not yet started.
    pub started_ms: u64,
    /// Milliseconds since the Unix epoch; 0 if not yet ended.
    pub ended_ms: u64,
}

impl StageSummary {
    /// Milliseconds from the first task's start to the last task's end; `None` before all have ended.
    pub fn elapsed_ms(&self) -> Option<u64> {
        let started = self.tasks.iter().map(|task| task.started_ms).filter(|ms| *ms > 0).min()?;
        let ended = self.tasks.iter().map(|task| task.ended_ms).max()?;
        ended.checked_sub(started)
    }
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
            StageSummary {
                stage_id: writer.stage_id(),
                state: "planned",
                partition_count: input.map_or(1, |i| i.properties().output_partitioning().partition_count()),
                plan: lines,
                output_rows: 0,
                output_bytes: 0,
                tasks: Vec::new(),
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
    stages.sort_by_key(|stage| stage.stage_id);
    stages
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
    // The root is the shuffle writer, whose rows and bytes are told above; the plan is what is below it.
    let mut metrics = metrics.iter().skip(1);
    let mut lines = Vec::new();
    match plan.children().first() {
        Some(input) => render(input.as_ref(), 0, &mut metrics, &mut lines),
        None => render(plan.as_ref(), 0, &mut metrics, &mut lines),
    }
    StageSummary {
        stage_id,
        state,
        partition_count,
        plan: lines,
        output_rows,
        output_bytes,
        // Numbers that no task of this attempt has are not shown.
        tasks: infos
            .iter()
            .filter(|info| !info.global_input_partition_ids.is_empty())
            .map(|info| summarize_task(info, grants.get(&(stage_id, info.task_id))))
            .collect(),
    }
}

fn summarize_task(info: &TaskInfo, grant: Option<&Grant>) -> TaskSummary {
    let (state, executor_id) = match &info.task_status {
        task_status::Status::Running(running) => ("running", running.executor_id.clone()),
        task_status::Status::Successful(done) => ("successful", done.executor_id.clone()),
        task_status::Status::Failed(_) => ("failed", String::new()),
    };
    TaskSummary {
        task_id: info.task_id,
        state,
        executor_id,
        partitions: info.global_input_partition_ids.clone(),
        locality: grant.map_or("", |grant| grant.locality),
        cpu_millis: grant.map_or(0, |grant| grant.resources.cpu_millis()),
        memory_bytes: grant.map_or(0, |grant| grant.resources.memory_bytes()),
        started_ms: info.start_exec_time as u64,
        ended_ms: info.end_exec_time as u64,
    }
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
