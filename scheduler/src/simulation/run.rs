//! The simulation: one event after the other, and what the allocator makes of each.
//!
//! Events of the same millisecond are taken together. If all they did was to free one executor, only that one is
//! offered, as the service does when a task ends; otherwise a full cycle follows. Every second there is a full cycle
//! in any case, in which executors are claimed for large tasks, and guarantees are restored.
//!
//! Queues take every offer. A job's tasks wait for a good place by its delay clock, whose level is the reach of its
//! asks. A revoked task ends at once, and the tasks of a failed executor are lost; both run again from the start.
//!
//! Each workload and each kind of failure draws from a stream of its own of the one seed. So the same jobs come at the
//! same times with the same tasks under every policy, and runs can be compared job by job. Times are rounded to
//! milliseconds, so that the last bits, in which the machines' exponential functions differ, do not show.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

use super::measure::Measure;
use super::report::Outcome;
use super::scenario::{Again, Locality, Scenario, TaskTime, When};
use super::units::Time;
use crate::core::{
    Admission, Allocator, Arrival, Ask, AskId, DelayClock, ExecutorId, Level, Millis, Offer, Options, QueueId, Reach,
    TaskId,
};

/// Between two full cycles, if nothing happens.
const CYCLE_MS: Millis = 1_000;

/// No simulated task takes longer, whatever its distribution says.
const LONGEST_TASK_MS: f64 = 1e14;

/// Streams of the seed: the order of executors in the ring, then the workloads, then the failures.
const RING_STREAM: u64 = 0;
const WORKLOAD_STREAMS: u64 = 1;
const FAILURE_STREAMS: u64 = 1 << 32;

/// Runs a scenario from its beginning to its end.
pub fn simulate(scenario: &Scenario) -> Outcome {
    let mut simulation = Simulation::new(scenario);
    simulation.run();
    simulation.measure.outcome(scenario)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next jobs of a workload come.
    Arrive(usize),
    /// A task has run to its end, unless it was lost before.
    End(TaskId),
    /// A job may accept a worse place now.
    Reach(usize),
    /// Somebody has waited too long to run.
    Expire,
    /// An executor fails, by that rule.
    Fail(usize, usize),
    /// And is back.
    Repair(usize, usize),
    /// Time for a full cycle.
    Cycle,
}

#[derive(Debug, Clone, Copy)]
struct Task {
    /// How long it takes where its data is.
    time_ms: Millis,
    /// Whether it has been started before.
    is_rerun: bool,
}

/// Tasks of a job whose data is on the same executors.
#[derive(Debug, Default)]
struct Group {
    /// In the order of preference; indices of executors.
    places: Vec<usize>,
    pending: VecDeque<Task>,
}

#[derive(Debug)]
struct Job {
    workload: usize,
    queue: QueueId,
    groups: Vec<Group>,
    clock: Option<DelayClock>,
    reach: Reach,
    pending: usize,
    running: usize,
}

#[derive(Debug)]
struct Running {
    job: usize,
    group: usize,
    task: Task,
}

pub(super) struct Simulation<'a> {
    scenario: &'a Scenario,
    allocator: Allocator,
    admission: Admission,
    now: Millis,
    events: BinaryHeap<Reverse<(Millis, u64, Event)>>,
    event_count: u64,
    jobs: Vec<Job>,
    /// Those that may run and have not ended, by queue.
    admitted: BTreeMap<QueueId, BTreeSet<usize>>,
    running: HashMap<TaskId, Running>,
    /// The executors of the scenario, those that are there with their ids.
    up: Vec<Option<ExecutorId>>,
    index_of: HashMap<ExecutorId, usize>,
    /// Indices of executors in the order in which they hold each other's copies.
    ring: Vec<usize>,
    workload_rngs: Vec<ChaCha8Rng>,
    failure_rngs: Vec<ChaCha8Rng>,
    /// Queues whose asks have to be told to the allocator.
    changed: BTreeSet<QueueId>,
    /// Executors where something came free.
    freed: BTreeSet<ExecutorId>,
    /// Whether only a full cycle will do.
    needs_cycle: bool,
    measure: Measure,
}

impl<'a> Simulation<'a> {
    pub fn new(scenario: &'a Scenario) -> Self {
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
            rng.set_stream(number);
            rng
        };
        let mut allocator = scenario.allocator.clone();
        allocator.set_options(Options { policy: scenario.policy, ..allocator.options().clone() });
        let mut ring: Vec<_> = (0..scenario.executors.len()).collect();
        ring.shuffle(&mut stream(RING_STREAM));
        let measure = Measure::new(scenario, &allocator);
        Self {
            scenario,
            allocator,
            admission: Admission::default(),
            now: 0,
            events: BinaryHeap::new(),
            event_count: 0,
            jobs: Vec::new(),
            admitted: BTreeMap::new(),
            running: HashMap::new(),
            up: scenario.executors.iter().map(|(id, _)| Some(*id)).collect(),
            index_of: scenario.executors.iter().enumerate().map(|(index, (id, _))| (*id, index)).collect(),
            ring,
            workload_rngs: (0..scenario.workloads.len() as u64).map(|i| stream(WORKLOAD_STREAMS + i)).collect(),
            failure_rngs: (0..scenario.failures.len() as u64).map(|i| stream(FAILURE_STREAMS + i)).collect(),
            changed: BTreeSet::new(),
            freed: BTreeSet::new(),
            needs_cycle: false,
            measure,
        }
    }

    pub fn run(&mut self) {
        self.begin();
        while self.step() {}
    }

    pub fn begin(&mut self) {
        for (index, workload) in self.scenario.workloads.iter().enumerate() {
            let first = match workload.again {
                Again::Poisson(gap_ms) => {
                    workload.from.saturating_add(random_gap(gap_ms, &mut self.workload_rngs[index]))
                }
                Again::Never | Again::Every(_) => workload.from,
            };
            if first <= workload.until {
                self.push(first, Event::Arrive(index));
            }
        }
        for (rule, failures) in self.scenario.failures.iter().enumerate() {
            for executor in &failures.executors {
                self.push_failure(rule, *executor);
            }
        }
        self.push(CYCLE_MS, Event::Cycle);
    }

    /// Takes all events of the next moment; `false` at the end.
    pub fn step(&mut self) -> bool {
        let next = self.events.peek().map(|Reverse((at, _, _))| *at);
        let Some(at) = next.filter(|at| *at < self.scenario.duration_ms) else {
            self.measure.pass(self.scenario.duration_ms, &self.allocator);
            return false;
        };
        self.measure.pass(at, &self.allocator);
        self.now = at;
        while let Some(Reverse((_, _, event))) = self.events.peek().copied().filter(|next| next.0.0 == at) {
            self.events.pop();
            self.happen(event);
        }
        self.tell_asks();
        if self.needs_cycle || self.freed.len() > 1 {
            self.freed.clear();
            self.needs_cycle = false;
            let offers = self.allocator.allocate(at);
            self.launch(&offers);
        } else if let Some(executor) = self.freed.pop_first() {
            let offers = self.allocator.allocate_on(executor, at);
            self.launch(&offers);
        }
        // A launch near the data makes a job wait for such a place again.
        self.tell_asks();
        true
    }

    #[cfg(test)]
    pub fn check(&self) -> Result<(), String> {
        self.allocator.check()
    }

    fn push(&mut self, at: Millis, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((at, self.event_count, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(workload) => self.arrive(workload),
            Event::End(task) => self.end(task),
            Event::Reach(job) => self.reach_farther(job),
            Event::Expire => {
                for job in self.admission.expire(&self.allocator, self.now) {
                    self.measure.expired(self.jobs[job as usize].queue);
                }
            }
            Event::Fail(rule, executor) => self.fail(rule, executor),
            Event::Repair(rule, executor) => self.repair(rule, executor),
            Event::Cycle => {
                self.restore();
                self.needs_cycle = true;
                self.push(self.now + CYCLE_MS, Event::Cycle);
            }
        }
    }

    fn arrive(&mut self, index: usize) {
        let workload = &self.scenario.workloads[index];
        for _ in 0..workload.jobs {
            let number = self.jobs.len();
            let job = self.new_job(index);
            self.jobs.push(job);
            self.measure.arrived(workload.queue, number, self.now);
            match self.admission.arrive(&self.allocator, number as u64, workload.queue, self.now) {
                Arrival::Run => self.admit(number),
                Arrival::Wait { until, .. } => {
                    if let Some(until) = until {
                        self.push(until, Event::Expire);
                    }
                }
                Arrival::Refuse { .. } => self.measure.refused(workload.queue),
            }
        }
        let gap_ms = match workload.again {
            Again::Never => return,
            Again::Every(gap_ms) => gap_ms,
            Again::Poisson(gap_ms) => random_gap(gap_ms, &mut self.workload_rngs[index]),
        };
        let next = self.now.saturating_add(gap_ms);
        if next <= workload.until {
            self.push(next, Event::Arrive(index));
        }
    }

    /// Draws a job: how long its tasks take and where their data is.
    fn new_job(&mut self, index: usize) -> Job {
        let workload = &self.scenario.workloads[index];
        let rng = &mut self.workload_rngs[index];
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for _ in 0..workload.tasks {
            let time_ms = task_time(&workload.time, rng);
            let first = match workload.locality {
                Some(_) => rng.random_range(0..self.ring.len() as u32),
                None => 0,
            };
            groups.entry(first).or_default().pending.push_back(Task { time_ms, is_rerun: false });
        }
        if let Some(locality) = &workload.locality {
            let len = self.ring.len();
            for (first, group) in &mut groups {
                let copies = 0..locality.replicas.min(len);
                group.places = copies.map(|copy| self.ring[(*first as usize + copy) % len]).collect();
            }
        }
        Job {
            workload: index,
            queue: workload.queue,
            groups: groups.into_values().collect(),
            clock: None,
            reach: Reach::Anywhere,
            pending: workload.tasks as usize,
            running: 0,
        }
    }

    fn admit(&mut self, number: usize) {
        let queue = self.jobs[number].queue;
        self.admitted.entry(queue).or_default().insert(number);
        self.wait_for_places(number);
        self.changed.insert(queue);
        self.needs_cycle = true;
    }

    /// Starts the delay clock of a job that has tasks to place.
    fn wait_for_places(&mut self, number: usize) {
        if let Some(locality) = &self.scenario.workloads[self.jobs[number].workload].locality {
            self.jobs[number].clock = Some(DelayClock::new(locality.waits, Level::Host, self.now));
            self.update_reach(number);
        }
    }

    /// Sets how far the job goes now, and comes back when that changes.
    fn update_reach(&mut self, number: usize) {
        let now = self.now;
        let job = &mut self.jobs[number];
        let Some(clock) = &mut job.clock else { return };
        let reach = clock.level(now).reach();
        let next = clock.next_change();
        if reach != job.reach {
            job.reach = reach;
            self.changed.insert(job.queue);
        }
        if let Some(at) = next {
            self.push(at, Event::Reach(number));
        }
    }

    fn reach_farther(&mut self, number: usize) {
        let job = &mut self.jobs[number];
        let is_due = job.clock.as_ref().and_then(DelayClock::next_change).is_some_and(|at| at <= self.now);
        // A launch in the meantime has set the clock back, and a later event will come.
        if job.pending > 0 && is_due {
            self.update_reach(number);
            self.needs_cycle = true;
        }
    }

    /// Tells the allocator what the queues want whose wishes changed.
    fn tell_asks(&mut self) {
        for queue in std::mem::take(&mut self.changed) {
            let mut asks = Vec::new();
            for number in self.admitted.get(&queue).into_iter().flatten() {
                let job = &self.jobs[*number];
                for (index, group) in job.groups.iter().enumerate().filter(|(_, group)| !group.pending.is_empty()) {
                    let host_of = |place: &usize| self.scenario.executors[*place].1.host.clone();
                    asks.push(Ask {
                        id: AskId((*number as u64) << 32 | index as u64),
                        unit: self.scenario.workloads[job.workload].unit,
                        count: group.pending.len() as u32,
                        hosts: group.places.iter().map(host_of).collect(),
                        reach: if group.places.is_empty() { Reach::Anywhere } else { job.reach },
                        arrived: *number as u64,
                    });
                }
            }
            self.allocator.set_asks(queue, asks, self.now);
        }
    }

    fn launch(&mut self, offers: &[Offer]) {
        for offer in offers {
            let (number, group) = ((offer.ask.0 >> 32) as usize, offer.ask.0 as u32 as usize);
            let job = &mut self.jobs[number];
            let Some(task) = job.groups[group].pending.pop_front() else {
                // Never so: the allocator counts as the job does.
                let _ = self.allocator.decline(offer.id, None, self.now);
                continue;
            };
            let Ok(started) = self.allocator.accept(offer.id, &[offer.resources], self.now) else {
                // Never so, either: the offer is of this moment.
                job.groups[group].pending.push_front(task);
                continue;
            };
            job.pending -= 1;
            job.running += 1;
            let locality = self.scenario.workloads[job.workload].locality.as_ref();
            let level = locality.map(|_| level_of(self.scenario, &job.groups[group], self.index_of[&offer.executor]));
            self.measure.started(number, task.is_rerun, level, self.now);
            let end = self.now.saturating_add(time_at(task.time_ms, level, locality));
            for id in started {
                self.running.insert(id, Running { job: number, group, task });
                self.push(end, Event::End(id));
            }
            if let (Some(level), Some(clock)) = (level, &mut self.jobs[number].clock) {
                clock.launched(level, self.now);
                self.update_reach(number);
            }
        }
    }

    fn end(&mut self, id: TaskId) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(executor) = self.allocator.finish_task(id, self.now) {
            self.freed.insert(executor);
        }
        let job = &mut self.jobs[running.job];
        job.running -= 1;
        self.measure.finished(job.queue);
        if job.running == 0 && job.pending == 0 {
            self.end_job(running.job);
        }
    }

    fn end_job(&mut self, number: usize) {
        let queue = self.jobs[number].queue;
        self.measure.ended(number, self.now);
        self.jobs[number].groups = Vec::new();
        if let Some(jobs) = self.admitted.get_mut(&queue) {
            jobs.remove(&number);
        }
        for next in self.admission.leave(&self.allocator, number as u64) {
            self.admit(next as usize);
        }
    }

    /// Tasks that have to run again.
    fn run_again(&mut self, ids: &[TaskId]) {
        for id in ids {
            let Some(running) = self.running.remove(id) else { continue };
            let job = &mut self.jobs[running.job];
            job.running -= 1;
            job.pending += 1;
            let is_first = job.pending == 1;
            job.groups[running.group].pending.push_front(Task { is_rerun: true, ..running.task });
            self.changed.insert(job.queue);
            self.needs_cycle = true;
            if is_first {
                self.wait_for_places(running.job);
            }
        }
    }

    /// Ends the tasks that are in the way of guarantees.
    fn restore(&mut self) {
        for revocation in self.allocator.revoke(self.now) {
            self.measure.revoked(revocation.queue);
            self.allocator.finish_task(revocation.task, self.now);
            self.run_again(&[revocation.task]);
        }
    }

    fn push_failure(&mut self, rule: usize, executor: usize) {
        let at = match self.scenario.failures[rule].when {
            // One failure at a moment; once that has passed there is none.
            When::At(at) if at < self.now || (at == self.now && self.now > 0) => return,
            When::At(at) => at,
            When::MeanBetween(mean_ms) => {
                self.now.saturating_add(random_gap(mean_ms, &mut self.failure_rngs[rule]).max(1))
            }
        };
        self.push(at, Event::Fail(rule, executor));
    }

    fn fail(&mut self, rule: usize, executor: usize) {
        let Some(id) = self.up[executor].take() else {
            // It is down already, by another rule.
            self.push_failure(rule, executor);
            return;
        };
        let departure = self.allocator.remove_executor(id);
        self.index_of.remove(&id);
        self.freed.remove(&id);
        self.measure.failed();
        for task in &departure.lost {
            if let Some(running) = self.running.get(task) {
                self.measure.lost(self.jobs[running.job].queue);
            }
        }
        self.run_again(&departure.lost);
        if let Some(repair_ms) = self.scenario.failures[rule].repair_ms {
            self.push(self.now.saturating_add(repair_ms), Event::Repair(rule, executor));
        }
    }

    fn repair(&mut self, rule: usize, executor: usize) {
        let (id, _) = self.allocator.add_executor(self.scenario.executors[executor].1.clone());
        self.up[executor] = Some(id);
        self.index_of.insert(id, executor);
        self.needs_cycle = true;
        self.push_failure(rule, executor);
    }
}

/// How near to the data of its tasks an executor is.
fn level_of(scenario: &Scenario, group: &Group, executor: usize) -> Level {
    let rack = |index: &usize| &scenario.executors[*index].1.rack;
    if group.places.contains(&executor) {
        Level::Host
    } else if group.places.iter().any(|place| rack(place) == rack(&executor)) {
        Level::Rack
    } else {
        Level::Any
    }
}

fn time_at(time_ms: Millis, level: Option<Level>, locality: Option<&Locality>) -> Millis {
    let factor = match (level, locality) {
        (Some(Level::Rack), Some(locality)) => locality.rack_slowdown,
        (Some(Level::Any), Some(locality)) => locality.slowdown,
        _ => 1.0,
    };
    (time_ms as f64 * factor).round() as Millis
}

fn task_time(time: &TaskTime, rng: &mut ChaCha8Rng) -> Millis {
    let ms = match *time {
        TaskTime::Fixed(Time(ms)) => ms as f64,
        TaskTime::Exponential { mean } => mean.0 as f64 * exponential(rng),
        TaskTime::Lognormal { median, sigma } => {
            let normal: f64 = StandardNormal.sample(rng);
            median.0 as f64 * (sigma * normal).exp()
        }
        // The logarithm of a Pareto variable is exponential.
        TaskTime::Pareto { least, alpha } => least.0 as f64 * (exponential(rng) / alpha).exp(),
    };
    ms.round().clamp(1.0, LONGEST_TASK_MS) as Millis
}

fn random_gap(mean_ms: Millis, rng: &mut ChaCha8Rng) -> Millis {
    (mean_ms as f64 * exponential(rng)).round() as Millis
}

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    Exp1.sample(rng)
}
