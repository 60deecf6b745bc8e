//! What can be seen of a query's work: the stages on executors or the plan in this process, while it runs and after.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use sluice_scheduler::cluster::{StageSummary, TaskSummary};

/// Tasks of a query that can be looked at after its end.
const TASKS_KEPT: usize = 2_000;
/// Lines of a stage's plan that can be looked at after its end.
const PLAN_LINES_KEPT: usize = 300;
/// Characters of such a line; one that lists many files is longer.
const LINE_CHARS_KEPT: usize = 1_000;
/// What stands for the executor of a task that ran in this process.
const SERVER: &str = "server";

/// What a query does, for whoever looks at it.
#[derive(Default)]
pub(super) struct Watched {
    plan: Mutex<Option<RunningPlan>>,
    /// The stages of a query that has ended; none before.
    kept: Mutex<Vec<StageSummary>>,
}

/// A plan that runs in this process as one task. It holds memory and is let go of when the query ends.
struct RunningPlan {
    plan: Arc<dyn ExecutionPlan>,
    started_ms: u64,
}

impl Watched {
    /// A plan starts to run in this process.
    pub fn started(&self, plan: Arc<dyn ExecutionPlan>) {
        let started = RunningPlan { plan, started_ms: now_ms() };
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }

    /// The plan in this process has ended, after so many rows.
    pub fn ended(&self, rows: u64, state: &'static str) {
        let Some(running) = self.plan.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.keep(vec![running.stage(rows, state, now_ms())]);
    }

    /// The query is about to run on executors, perhaps not for the first time.
    pub fn starts_over(&self) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps the stages of a job that has ended, as far as there is room. What still ran was stopped.
    pub fn keep(&self, mut stages: Vec<StageSummary>) {
        let mut room = TASKS_KEPT;
        for stage in &mut stages {
            stage.tasks.truncate(room);
            room -= stage.tasks.len();
            stage.plan.truncate(PLAN_LINES_KEPT);
            stage.plan.iter_mut().for_each(cut);
            if stage.state == "running" {
                stage.state = "stopped";
            }
            for task in stage.tasks.iter_mut().filter(|task| task.state == "running") {
                task.state = "stopped";
                task.ended_ms = now_ms();
            }
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = stages;
    }

    /// The stages as far as they are known here: of a plan in this process, or of a query that has ended.
    pub fn stages(&self, rows: u64) -> Option<Vec<StageSummary>> {
        if let Some(running) = &*self.plan.lock().unwrap_or_else(PoisonError::into_inner) {
            return Some(vec![running.stage(rows, "running", 0)]);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (!kept.is_empty()).then(|| kept.clone())
    }
}

impl RunningPlan {
    fn stage(&self, rows: u64, state: &'static str, ended_ms: u64) -> StageSummary {
        let plan = self.plan.as_ref();
        let spilled_bytes = spilled_bytes(plan);
        let task = TaskSummary {
            state,
            executor_id: SERVER.to_owned(),
            partitions: vec![0],
            locality: "none",
            rows,
            spilled_bytes,
            launched_ms: self.started_ms,
            started_ms: self.started_ms,
            ended_ms,
            ..TaskSummary::default()
        };
        let text = DisplayableExecutionPlan::with_metrics(plan).indent(false).to_string();
        StageSummary {
            stage_id: 1,
            state,
            partition_count: 1,
            plan: text.lines().map(str::to_owned).collect(),
            output_rows: rows,
            spilled_bytes,
            tasks: vec![task],
            ..StageSummary::default()
        }
    }
}

fn spilled_bytes(plan: &dyn ExecutionPlan) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0) as u64;
    plan.children().into_iter().fold(own, |sum, child| sum + spilled_bytes(child.as_ref()))
}

fn cut(line: &mut String) {
    if let Some((end, _)) = line.char_indices().nth(LINE_CHARS_KEPT) {
        line.truncate(end);
        line.push('…');
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;

    use super::*;

    #[test]
    fn what_ran_when_its_query_was_stopped_is_told_so() {
        let watched = Watched::default();
        let task = TaskSummary { state: "running", started_ms: 1, ..TaskSummary::default() };
        let tasks = vec![task; TASKS_KEPT + 1];
        watched.keep(vec![StageSummary { state: "running", tasks, ..StageSummary::default() }]);
        let stages = watched.stages(0).expect("are kept");
        assert_eq!((stages[0].state, stages[0].tasks.len()), ("stopped", TASKS_KEPT));
        assert!(stages[0].tasks.iter().all(|task| task.state == "stopped" && task.ended_ms > 0));
    }

    #[test]
    fn a_plan_in_this_process_is_one_stage_that_outlives_it() {
        let watched = Watched::default();
        assert!(watched.stages(0).is_none());
        let plan: Arc<dyn ExecutionPlan> = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
        watched.started(plan.clone());
        assert_eq!(watched.stages(7).map(|stages| (stages[0].state, stages[0].output_rows)), Some(("running", 7)));
        watched.ended(8, "successful");
        assert_eq!(Arc::strong_count(&plan), 1);
        let stages = watched.stages(0).expect("are kept");
        assert_eq!((stages[0].output_rows, stages[0].tasks[0].executor_id.as_str()), (8, "server"));
        assert!(stages[0].plan[0].starts_with("PlaceholderRowExec"));
    }
}
