//! What is counted while a simulation runs.
//!
//! Shares and utilisation are averages over intervals, exact to the millisecond. How fair they are is read at the end
//! of each interval.

use std::collections::HashMap;

use super::report::{JobTimes, Outcome, QueueOutcome};
use super::scenario::Scenario;
use super::units::amounts;
use crate::core::{Allocator, Ask, AskId, Kind, Level, Millis, QueueId, Reach, Resources};

/// Intervals of a whole run: enough for a smooth picture.
const INTERVALS: Millis = 240;

pub(super) struct Measure {
    interval_ms: Millis,
    /// Up to when everything is counted.
    at: Millis,
    queues: Vec<Counted>,
    index_of: HashMap<QueueId, usize>,
    kinds: Vec<(Kind, String)>,
    /// Parts of the cluster in use times milliseconds, by interval and kind.
    used: Vec<Vec<f64>>,
    /// The queue and the times of each job, by its number.
    jobs: Vec<(usize, JobTimes)>,
    failures: u64,
}

struct Counted {
    id: QueueId,
    outcome: QueueOutcome,
    /// What the last of its tasks needed, to see whether its limit lets it have more.
    unit: Resources,
}

impl Measure {
    pub fn new(scenario: &Scenario, allocator: &Allocator) -> Self {
        let fair_shares = fair_shares(scenario, allocator);
        let queues: Vec<_> = scenario
            .queues
            .iter()
            .map(|id| {
                let units = scenario.workloads.iter().filter(|workload| workload.queue == *id);
                let unit = units.map(|workload| workload.unit).next().unwrap_or_default();
                let path = allocator.queue_path(*id).trim_start_matches("root.").to_owned();
                let fair_share = fair_shares.get(id).copied().unwrap_or_default();
                Counted { id: *id, outcome: QueueOutcome { path, fair_share, ..QueueOutcome::default() }, unit }
            })
            .collect();
        let total = allocator.total();
        let present = scenario.kinds.iter().filter(|(kind, _)| total.get(*kind) > 0);
        Self {
            interval_ms: scenario.duration_ms.div_ceil(INTERVALS).max(1),
            at: 0,
            index_of: queues.iter().enumerate().map(|(index, queue)| (queue.id, index)).collect(),
            queues,
            kinds: present.map(|(kind, name)| (kind, name.to_owned())).collect(),
            used: Vec::new(),
            jobs: Vec::new(),
            failures: 0,
        }
    }

    /// Time passes until `until`, with everything as it is.
    pub fn pass(&mut self, until: Millis, allocator: &Allocator) {
        let total = allocator.total();
        let used = allocator.queue_used(QueueId::ROOT);
        while self.at < until {
            let interval = (self.at / self.interval_ms) as usize;
            let interval_end = (interval as Millis + 1) * self.interval_ms;
            let elapsed_ms = (until.min(interval_end) - self.at) as f64;
            if self.used.len() <= interval {
                self.used.push(vec![0.0; self.kinds.len()]);
                self.queues.iter_mut().for_each(|queue| queue.outcome.shares.push(0.0));
            }
            for (sum, (kind, _)) in self.used[interval].iter_mut().zip(&self.kinds) {
                *sum += used.part(&total, *kind) * elapsed_ms;
            }
            for queue in &mut self.queues {
                let (_, share) = allocator.queue_used(queue.id).dominant_part(&total);
                queue.outcome.shares[interval] += share * elapsed_ms;
            }
            self.at = until.min(interval_end);
            if self.at == interval_end {
                self.read_fairness(allocator);
            }
        }
    }

    fn read_fairness(&mut self, allocator: &Allocator) {
        let total = allocator.total();
        for view in allocator.queues() {
            let Some(index) = self.index_of.get(&view.id) else { continue };
            let queue = &mut self.queues[*index];
            let may_have_more = view.used.plus(&queue.unit).fits(&view.spec.limit);
            if !view.wanted.is_zero() && may_have_more {
                // Nobody lacks more than they want.
                let (_, demand) = view.used.plus(&view.wanted).dominant_part(&total);
                let entitled = view.fair_share.min(demand);
                queue.outcome.missing_shares.push((entitled - view.dominant_share).max(0.0));
            }
        }
    }

    fn of(&mut self, queue: QueueId) -> &mut QueueOutcome {
        // Every queue that runs tasks is counted.
        let index = self.index_of.get(&queue).copied().unwrap_or_default();
        &mut self.queues[index].outcome
    }

    pub fn arrived(&mut self, queue: QueueId, number: usize, now: Millis) {
        debug_assert_eq!(number, self.jobs.len(), "jobs are numbered in the order in which they come");
        let index = self.index_of.get(&queue).copied().unwrap_or_default();
        self.jobs.push((index, JobTimes { arrived_ms: now, ..JobTimes::default() }));
    }

    pub fn refused(&mut self, queue: QueueId) {
        self.of(queue).refused_jobs += 1;
    }

    pub fn expired(&mut self, queue: QueueId) {
        self.of(queue).expired_jobs += 1;
    }

    pub fn started(&mut self, job: usize, is_rerun: bool, level: Option<Level>, now: Millis) {
        let (queue, times) = &mut self.jobs[job];
        times.first_task_ms.get_or_insert(now);
        let tasks = &mut self.queues[*queue].outcome.tasks;
        tasks.started += 1;
        tasks.again += u64::from(is_rerun);
        match level {
            Some(Level::Process | Level::Host) => tasks.on_hosts += 1,
            Some(Level::Rack) => tasks.in_racks += 1,
            Some(Level::Any) => tasks.elsewhere += 1,
            None => {}
        }
    }

    pub fn finished(&mut self, queue: QueueId) {
        self.of(queue).tasks.finished += 1;
    }

    pub fn lost(&mut self, queue: QueueId) {
        self.of(queue).tasks.lost += 1;
    }

    pub fn revoked(&mut self, queue: QueueId) {
        self.of(queue).tasks.revoked += 1;
    }

    pub fn ended(&mut self, job: usize, now: Millis) {
        self.jobs[job].1.end_ms = Some(now);
    }

    pub fn failed(&mut self) {
        self.failures += 1;
    }

    pub fn outcome(self, scenario: &Scenario) -> Outcome {
        let length_ms = |interval: usize| {
            let start = interval as Millis * self.interval_ms;
            (scenario.duration_ms - start).min(self.interval_ms) as f64
        };
        let mut queues: Vec<_> = self.queues.into_iter().map(|queue| queue.outcome).collect();
        for queue in &mut queues {
            queue.shares.iter_mut().enumerate().for_each(|(interval, sum)| *sum /= length_ms(interval));
        }
        for (queue, times) in self.jobs {
            queues[queue].jobs.push(times);
        }
        let utilisation = self.kinds.into_iter().enumerate().map(|(index, (_, name))| {
            let parts = self.used.iter().enumerate().map(|(interval, used)| used[index] / length_ms(interval));
            (name, parts.collect())
        });
        let count = scenario.executors.len();
        let total = amounts(&scenario.allocator.total(), &scenario.kinds);
        Outcome {
            title: scenario.title.clone(),
            policy: scenario.policy,
            seed: scenario.seed,
            duration_ms: scenario.duration_ms,
            cluster: format!("{count} executor{} with {total} in all", if count == 1 { "" } else { "s" }),
            interval_ms: self.interval_ms,
            utilisation: utilisation.collect(),
            queues,
            failures: self.failures,
        }
    }
}

/// What each queue would be entitled to if all wanted as much as they can get.
fn fair_shares(scenario: &Scenario, allocator: &Allocator) -> HashMap<QueueId, f64> {
    let mut allocator = allocator.clone();
    for (index, id) in scenario.queues.iter().enumerate() {
        let units = scenario.workloads.iter().filter(|workload| workload.queue == *id).map(|workload| workload.unit);
        let asks = units.take(1).map(|unit| Ask {
            id: AskId(index as u64),
            unit,
            count: u32::MAX,
            hosts: Vec::new(),
            reach: Reach::Anywhere,
            arrived: 0,
        });
        allocator.set_asks(*id, asks.collect(), 0);
    }
    allocator.queues().into_iter().map(|view| (view.id, view.fair_share)).collect()
}
