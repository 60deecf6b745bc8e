//! Why a query waits, in a line for people.

use sluice_scheduler::cluster::{QueueSummary, StageSummary};

/// Queues that a line names.
const QUEUES_NAMED: usize = 3;

/// What a query waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Its turn among the queries of its queue; so many came before it.
    Turn { ahead: usize },
    /// A core of this process.
    ServerCore,
    /// Offers for so many partitions of its stages.
    Offers { partitions: usize },
}

/// What stages that run wait for, if none of their tasks runs.
pub(super) fn of_stages(stages: &[StageSummary]) -> Option<Wait> {
    if stages.iter().flat_map(|stage| &stage.tasks).any(|task| task.state == "running") {
        return None;
    }
    let lacking = |stage: &StageSummary| {
        let (done, all) = stage.progress();
        all - done
    };
    let partitions = stages.iter().filter(|stage| stage.state == "running").map(lacking).sum();
    (partitions > 0).then_some(Wait::Offers { partitions })
}

/// The line: what it waits for, what its queue holds, and who is served first.
pub(super) fn describe(wait: Wait, queue: &str, queues: &[QueueSummary]) -> String {
    let own = queues.iter().find(|other| other.view.path == queue);
    let mut parts = vec![match wait {
        Wait::Turn { ahead } => turn(queue, ahead, queues),
        Wait::ServerCore => "waits for a core of the server, which queues take in turns".to_owned(),
        Wait::Offers { partitions: 1 } => "1 partition waits for an offer".to_owned(),
        Wait::Offers { partitions } => format!("{partitions} partitions wait for offers"),
    }];
    let Some(own) = own else { return parts.concat() };
    let of_what = match own.view.dominant_share > 0.0 {
        true => format!(" ({})", own.dominant_resource),
        false => String::new(),
    };
    parts.push(format!(
        "queue {queue} holds {}{of_what}, its fair share is {}",
        percent(own.view.dominant_share),
        percent(own.view.fair_share)
    ));
    if !matches!(wait, Wait::Turn { .. }) {
        parts.extend(limited(queue, queues).or_else(|| served_first(own, queues)));
    }
    parts.join("; ")
}

fn turn(queue: &str, ahead: usize, queues: &[QueueSummary]) -> String {
    let mut text = format!("waits for its turn in queue {queue}");
    let full = on_path(queue, queues).find(|q| q.definition.max_running.is_some_and(|max| q.running_queries >= max));
    if let Some(full) = full {
        text += &match full.running_queries {
            1 => format!(": 1 query runs in {}, which is its max_running", full.view.path),
            running => format!(": {running} queries run in {}, which is its max_running", full.view.path),
        };
    }
    if ahead > 0 {
        text += &format!(", {ahead} came before it");
    }
    text
}

/// The queue and those above it.
fn on_path<'a>(queue: &'a str, queues: &'a [QueueSummary]) -> impl Iterator<Item = &'a QueueSummary> {
    let is_above = move |path: &str| queue.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    queues.iter().filter(move |other| other.view.path == queue || is_above(&other.view.path))
}

fn limited(queue: &str, queues: &[QueueSummary]) -> Option<String> {
    let at_limit = |q: &&QueueSummary| {
        let (used, limit) = (&q.view.used, &q.view.spec.limit);
        used.cpu_millis() >= limit.cpu_millis() || used.memory_bytes() >= limit.memory_bytes()
    };
    on_path(queue, queues).find(at_limit).map(|q| format!("{} is at its limit", q.view.path))
}

fn served_first(own: &QueueSummary, queues: &[QueueSummary]) -> Option<String> {
    let weighted = |q: &QueueSummary| q.view.dominant_share / q.view.spec.weight;
    let mut before: Vec<&QueueSummary> = queues
        .iter()
        .filter(|q| q.view.is_leaf && q.view.path != own.view.path && q.view.pending_tasks > 0)
        .filter(|q| weighted(q) < weighted(own))
        .collect();
    before.sort_by(|a, b| weighted(a).total_cmp(&weighted(b)));
    let named: Vec<String> = before
        .iter()
        .take(QUEUES_NAMED)
        .map(|q| format!("{} ({})", q.view.path, percent(q.view.dominant_share)))
        .collect();
    match named.is_empty() {
        true => Some("nothing that is free is large enough".to_owned()),
        false => Some(format!("served first: {}", named.join(", "))),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use sluice_scheduler::cluster::{Allocation, QueueDefinition, TaskSummary};

    use super::*;

    fn queues() -> Vec<QueueSummary> {
        let allocation = Allocation::new(Default::default());
        let narrow = QueueDefinition { max_running: Some(1), ..QueueDefinition::default() };
        allocation.create_queue("bi", narrow).expect("is new");
        allocation.create_queue("bi.reports", QueueDefinition::default()).expect("is new");
        allocation.create_queue("etl", QueueDefinition::default()).expect("is new");
        allocation.queues()
    }

    #[test]
    fn a_turn_is_told_with_the_queue_that_is_full() {
        let mut queues = queues();
        for queue in queues.iter_mut().filter(|queue| queue.view.path.starts_with("root.bi")) {
            queue.running_queries = 1;
        }
        assert_eq!(
            describe(Wait::Turn { ahead: 2 }, "root.bi.reports", &queues),
            "waits for its turn in queue root.bi.reports: 1 query runs in root.bi, which is its max_running, 2 came \
             before it; queue root.bi.reports holds 0%, its fair share is 0%"
        );
    }

    #[test]
    fn offers_go_to_smaller_shares_first() {
        let mut queues = queues();
        for queue in &mut queues {
            queue.view.pending_tasks = 1;
            queue.view.fair_share = 0.5;
            let holds_much = queue.view.path == "root.bi.reports";
            queue.view.dominant_share = if holds_much { 0.6 } else { 0.1 };
            queue.dominant_resource = "cpu".to_owned();
        }
        let told = describe(Wait::Offers { partitions: 3 }, "root.bi.reports", &queues);
        assert_eq!(
            told,
            "3 partitions wait for offers; queue root.bi.reports holds 60% (cpu), its fair share is 50%; served first: \
             root.default (10%), root.etl (10%)"
        );
    }

    #[test]
    fn stages_of_which_a_task_runs_do_not_wait() {
        let mut stage = StageSummary { state: "running", partition_count: 2, ..StageSummary::default() };
        assert_eq!(of_stages(&[stage.clone()]), Some(Wait::Offers { partitions: 2 }));
        stage.tasks.push(TaskSummary { state: "running", partitions: vec![0], ..TaskSummary::default() });
        assert_eq!(of_stages(&[stage]), None);
    }
}
