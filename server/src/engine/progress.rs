//! Notices of how far a long query is, for sessions with `SET progress = on`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sluice_scheduler::cluster::StageSummary;

use super::query::QueryRecord;
use super::session::Session;

/// Time between two looks at a query.
const INTERVAL: Duration = Duration::from_secs(2);

/// Tells the session's client about a query until it has ended.
pub(super) fn follow(session: &Arc<Session>, record: &Arc<QueryRecord>) {
    let (session, record) = (Arc::downgrade(session), Arc::downgrade(record));
    tokio::spawn(async move {
        let mut told = String::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(text) = look(&session, &record).await else { return };
            if text != told
                && let Some(session) = session.upgrade()
            {
                session.notice(text.clone());
                told = text;
            }
        }
    });
}

/// Where the query is now; `None` when it has ended.
async fn look(session: &Weak<Session>, record: &Weak<QueryRecord>) -> Option<String> {
    let record = record.upgrade().filter(|record| record.is_running())?;
    if record.is_queued() {
        return Some(format!("progress: waits for its turn in queue {}", record.queue_name()));
    }
    let stages = match record.job_id() {
        Some(job_id) => session.upgrade()?.engine().stages(&job_id).await,
        None => Vec::new(),
    };
    Some(match describe(&stages) {
        Some(stages) => format!("progress: {stages}"),
        None => format!("progress: runs for {} s", record.elapsed().as_secs()),
    })
}

/// The stages that run, and how many there are.
fn describe(stages: &[StageSummary]) -> Option<String> {
    let running = stages.iter().filter(|stage| stage.state == "running");
    let told: Vec<String> = running
        .map(|stage| {
            let ended = stage.tasks.iter().filter(|task| task.state == "successful");
            let partitions: usize = ended.map(|task| task.partitions.len()).sum();
            format!(
                "stage {} of {}: {partitions} of {} partitions, {} rows",
                stage.stage_id,
                stages.len(),
                stage.partition_count,
                stage.output_rows
            )
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use sluice_scheduler::cluster::TaskSummary;

    use super::*;

    fn stage(stage_id: usize, state: &'static str, ended: &[usize]) -> StageSummary {
        let task = |(task_id, count): (usize, &usize)| TaskSummary {
            task_id,
            state: "successful",
            executor_id: String::new(),
            partitions: (0..*count).collect(),
            locality: "any",
            cpu_millis: 0,
            memory_bytes: 0,
            started_ms: 1,
            ended_ms: 2,
        };
        StageSummary {
            stage_id,
            state,
            partition_count: 8,
            plan: Vec::new(),
            output_rows: 30,
            output_bytes: 0,
            tasks: ended.iter().enumerate().map(task).collect(),
        }
    }

    #[test]
    fn running_stages_are_told_with_their_partitions() {
        let stages = [stage(1, "successful", &[8]), stage(2, "running", &[2, 1]), stage(3, "unresolved", &[])];
        assert_eq!(describe(&stages).as_deref(), Some("stage 2 of 3: 3 of 8 partitions, 30 rows"));
        assert_eq!(describe(&stages[..1]), None);
    }
}
