//! What came out of a simulation, as tables.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use super::units::words;
use crate::core::{Millis, Policy};

/// Rows of the table over time.
const ROWS: usize = 15;

/// What came out of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// As the scenario has it; may be empty.
    pub title: String,
    /// Which queue was served first.
    pub policy: Policy,
    /// Of all that was left to chance.
    pub seed: u64,
    /// How much time was simulated.
    pub duration_ms: Millis,
    /// Executors and what they have, in words.
    pub cluster: String,
    /// The length of the intervals that shares and utilisation are averages over.
    pub interval_ms: Millis,
    /// Which part of each kind of resource was in use, 0.0 to 1.0, by the name of the kind, by interval.
    pub utilisation: Vec<(String, Vec<f64>)>,
    /// The queues that run tasks, in the order of the scenario.
    pub queues: Vec<QueueOutcome>,
    /// How often an executor failed.
    pub failures: u64,
}

/// What came out for a queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueOutcome {
    /// Its path, without the root.
    pub path: String,
    /// The part of the cluster that it held of its scarcest resource, 0.0 to 1.0, by interval.
    pub shares: Vec<f64>,
    /// The part that it is entitled to when all queues with a workload want as much as they can get.
    pub fair_share: f64,
    /// What it lacked, of what it wanted and was entitled to, at the end of each interval in which it wanted more.
    pub missing_shares: Vec<f64>,
    /// Its jobs in the order in which they came, refused ones included.
    pub jobs: Vec<JobTimes>,
    /// Jobs that found too many waiting.
    pub refused_jobs: u64,
    /// Jobs that waited too long to run.
    pub expired_jobs: u64,
    /// Its tasks.
    pub tasks: TaskCounts,
}

/// When a job came, began and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// When it came.
    pub arrived_ms: Millis,
    /// When its first task started.
    pub first_task_ms: Option<Millis>,
    /// When its last task ended.
    pub end_ms: Option<Millis>,
}

/// How many tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Were started, those that were started again included.
    pub started: u64,
    /// Ran to their end.
    pub finished: u64,
    /// Were started again, because they had been lost or revoked.
    pub again: u64,
    /// Were lost with their executor.
    pub lost: u64,
    /// Were ended to restore a guarantee.
    pub revoked: u64,
    /// Of those that have data somewhere: ran on a host that has it,
    pub on_hosts: u64,
    /// in the rack of one,
    pub in_racks: u64,
    /// or in another.
    pub elsewhere: u64,
}

/// The middle, the 95th of a hundred, and the longest; `None` without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// Half were not longer.
    pub p50_ms: Millis,
    /// 95 of a hundred were not longer.
    pub p95_ms: Millis,
    /// The longest.
    pub max_ms: Millis,
}

impl Percentiles {
    /// Of those times, in any order.
    pub fn of(mut times_ms: Vec<Millis>) -> Option<Self> {
        times_ms.sort_unstable();
        let max_ms = *times_ms.last()?;
        // Nearest rank: the smallest that is not exceeded by so many of a hundred.
        let at = |percent: usize| times_ms[(times_ms.len() * percent).div_ceil(100).saturating_sub(1)];
        Some(Self { p50_ms: at(50), p95_ms: at(95), max_ms })
    }
}

impl QueueOutcome {
    /// How long the jobs waited for their first task, those that got one.
    pub fn waits(&self) -> Option<Percentiles> {
        let times = self.jobs.iter().filter_map(|job| Some(job.first_task_ms? - job.arrived_ms));
        Percentiles::of(times.collect())
    }

    /// How long it took from their coming to their end, for the jobs that ended.
    pub fn times(&self) -> Option<Percentiles> {
        Percentiles::of(self.jobs.iter().filter_map(|job| Some(job.end_ms? - job.arrived_ms)).collect())
    }

    /// Jobs that ended.
    pub fn ended_jobs(&self) -> usize {
        self.jobs.iter().filter(|job| job.end_ms.is_some()).count()
    }

    /// The part of its tasks with data that ran on a host that has it; `None` without such tasks.
    pub fn locality(&self) -> Option<f64> {
        let placed = self.tasks.on_hosts + self.tasks.in_racks + self.tasks.elsewhere;
        (placed > 0).then(|| self.tasks.on_hosts as f64 / placed as f64)
    }

    /// The percentiles and what it lacked, as cells of a table.
    fn waiting(&self) -> Vec<String> {
        let mut cells = Vec::new();
        for percentiles in [self.waits(), self.times()] {
            let texts = percentiles.map(|p| [p.p50_ms, p.p95_ms, p.max_ms].map(words));
            cells.extend(texts.unwrap_or_else(|| ["-", "-", "-"].map(str::to_owned)));
        }
        cells.push(self.missing_share().map_or("-".to_owned(), |missing| format!("{:.1} pts", 100.0 * missing)));
        cells
    }

    /// How much less than its fair share it held on average, while it wanted more.
    pub fn missing_share(&self) -> Option<f64> {
        mean(&self.missing_shares)
    }
}

impl Outcome {
    /// Tables of shares over time, jobs, and tasks. The same scenario gives the same text.
    pub fn report(&self) -> String {
        let title = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        let failures = match self.failures {
            0 => String::new(),
            count => format!(", {count} failure{}", if count == 1 { "" } else { "s" }),
        };
        let mut out = format!(
            "{title}{}, {}, policy {}, seed {}{failures}\n",
            self.cluster,
            words(self.duration_ms),
            self.policy_name(),
            self.seed
        );
        out += &format!("\nDominant shares and utilisation over time\n{}\n", self.over_time());
        out += &format!("\nJobs\n{}\n", self.jobs());
        out += &format!("\nTasks\n{}\n", self.tasks());
        if let Some(missing) = self.unfairness() {
            out += &format!(
                "\nWhile a queue wanted more it held {:.1} points less than its fair share on average.\n",
                100.0 * missing
            );
        }
        out
    }

    /// How much less than their fair shares the queues held on average, while they wanted more.
    pub fn unfairness(&self) -> Option<f64> {
        let all: Vec<_> = self.queues.iter().flat_map(|queue| &queue.missing_shares).copied().collect();
        mean(&all)
    }

    /// `drf` or `fifo`.
    pub fn policy_name(&self) -> &'static str {
        match self.policy {
            Policy::Drf => "drf",
            Policy::Fifo => "fifo",
        }
    }

    fn over_time(&self) -> Table {
        let mut header = vec!["until".to_owned()];
        header.extend(self.queues.iter().map(|queue| queue.path.clone()));
        header.extend(self.utilisation.iter().map(|(kind, _)| format!("({kind})")));
        let mut table = table(header);
        let count = self.utilisation.first().map_or(0, |(_, parts)| parts.len());
        let step = count.div_ceil(ROWS).max(1);
        for start in (0..count).step_by(step) {
            let end = (start + step).min(count);
            let until_ms = (end as Millis * self.interval_ms).min(self.duration_ms);
            let average = |parts: &Vec<f64>| percent(mean(&parts[start..end]));
            let mut row = vec![words(until_ms)];
            row.extend(self.queues.iter().map(|queue| average(&queue.shares)));
            row.extend(self.utilisation.iter().map(|(_, parts)| average(parts)));
            table.add_row(row);
        }
        let mut row = vec!["all".to_owned()];
        row.extend(self.queues.iter().map(|queue| percent(mean(&queue.shares))));
        row.extend(self.utilisation.iter().map(|(_, parts)| percent(mean(parts))));
        table.add_row(row);
        right(table)
    }

    fn jobs(&self) -> Table {
        let header = [
            "queue",
            "came",
            "ended",
            "refused",
            "gave up",
            "wait p50",
            "p95",
            "max",
            "time p50",
            "p95",
            "max",
            "below fair share",
        ];
        let mut table = table(header.map(str::to_owned).to_vec());
        for queue in &self.queues {
            let mut row = vec![
                queue.path.clone(),
                queue.jobs.len().to_string(),
                queue.ended_jobs().to_string(),
                queue.refused_jobs.to_string(),
                queue.expired_jobs.to_string(),
            ];
            row.extend(queue.waiting());
            table.add_row(row);
        }
        right(table)
    }

    fn tasks(&self) -> Table {
        let header = ["queue", "started", "finished", "again", "lost", "revoked", "on hosts", "in racks", "elsewhere"];
        let mut table = table(header.map(str::to_owned).to_vec());
        for queue in &self.queues {
            let tasks = &queue.tasks;
            let placed = tasks.on_hosts + tasks.in_racks + tasks.elsewhere;
            let part = |count: u64| percent((placed > 0).then(|| count as f64 / placed as f64));
            let counts = [tasks.started, tasks.finished, tasks.again, tasks.lost, tasks.revoked];
            let mut row = vec![queue.path.clone()];
            row.extend(counts.map(|count| count.to_string()));
            row.extend([tasks.on_hosts, tasks.in_racks, tasks.elsewhere].map(part));
            table.add_row(row);
        }
        right(table)
    }
}

/// How the jobs fared under each policy, queue by queue: runs of one scenario and seed, so of the same jobs.
pub fn comparison(outcomes: &[Outcome]) -> String {
    let header = ["queue", "policy", "ended", "wait p50", "p95", "max", "time p50", "p95", "max", "below fair share"];
    let mut table = table(header.map(str::to_owned).to_vec());
    let count = outcomes.iter().map(|outcome| outcome.queues.len()).max().unwrap_or(0);
    for index in 0..count {
        for outcome in outcomes {
            let Some(queue) = outcome.queues.get(index) else { continue };
            let ended = queue.ended_jobs().to_string();
            let mut row = vec![queue.path.clone(), outcome.policy_name().to_owned(), ended];
            row.extend(queue.waiting());
            table.add_row(row);
        }
    }
    right(table).to_string()
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

/// Numbers are read from the right.
fn right(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(part: Option<f64>) -> String {
    part.map_or("-".to_owned(), |part| format!("{:.1}%", 100.0 * part))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_happened() {
        let of = |times: &[Millis]| Percentiles::of(times.to_vec()).map(|p| (p.p50_ms, p.p95_ms, p.max_ms));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((7, 7, 7)));
        assert_eq!(of(&(1..=100).rev().collect::<Vec<_>>()), Some((50, 95, 100)));
    }
}
