//! A full cluster under load, of any size, for measurements.
//!
//! Every executor has 20 cores and 100 GiB. The queues form a tree of two levels: tenants of equal weight, with
//! queues of weights 1 to 3 below each. Every queue always wants more tasks. In a [`Mix::Fitting`] cluster all tasks
//! need one core and 2, 3 or 4 GiB, so that whatever ends makes room for any queue. In a [`Mix::Crowded`] one nine
//! queues of ten wait for tasks of 8 to 16 cores, which the little that comes free has no room for, and stand before
//! all others in the order, because they have nothing: the worst case of a decision on one executor.
//!
//! Time is that of the processor for this thread, so that other work on the machine counts as little as may be.

use std::collections::HashMap;
use std::time::Duration;

use cpu_time::ThreadTime;
use sluice_scheduler::core::{
    Allocator, Ask, AskId, ExecutorId, ExecutorSpec, Offer, Options, QueueId, QueueSpec, Reach, Resources, TaskId,
};

/// Tasks of one core that fill an executor.
pub const SLOTS: usize = 20;

/// Decisions on one executor that are made in a millisecond.
const DECISIONS_PER_MS: u64 = 100;

/// Between two full cycles: answered offers are forgotten when they would have expired.
const CYCLE_MS: u64 = 1_000;

const GIB: u64 = 1 << 30;

/// What the queues' tasks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Every task fits where any task ended.
    Fitting,
    /// The tasks of nine queues of ten fit nowhere.
    Crowded,
}

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Executors, each with [`SLOTS`] running tasks.
    pub executors: usize,
    /// Queues without children.
    pub tenants: usize,
    /// Queues below each tenant.
    pub queues_per_tenant: usize,
}

/// A cluster with a task in every slot.
pub struct Cluster {
    allocator: Allocator,
    executors: Vec<ExecutorId>,
    /// The place of each executor in `executors` and `tasks`.
    places: HashMap<ExecutorId, usize>,
    /// What runs, by executor.
    tasks: Vec<Vec<TaskId>>,
    now: u64,
    decisions: u64,
    /// State of a small generator of numbers without pattern.
    state: u64,
}

impl Cluster {
    /// Fills a cluster of that size.
    pub fn new(size: Size, mix: Mix) -> Self {
        let mut allocator = Allocator::new(Options::default());
        let mut executors = Vec::with_capacity(size.executors);
        for index in 0..size.executors {
            let spec = ExecutorSpec {
                name: format!("executor-{index}"),
                host: format!("host-{index}"),
                rack: format!("rack-{}", index / 40),
                total: Resources::new(SLOTS as u64 * 1_000, 100 * GIB),
                ..ExecutorSpec::default()
            };
            executors.push(allocator.add_executor(spec).0);
        }
        let mut leaves = Vec::new();
        for tenant in 0..size.tenants {
            create(&mut allocator, &format!("tenant-{tenant}"), 1.0);
            for queue in 0..size.queues_per_tenant {
                let weight = (1 + queue % 3) as f64;
                leaves.push(create(&mut allocator, &format!("tenant-{tenant}.queue-{queue}"), weight));
            }
        }
        for (index, leaf) in leaves.iter().enumerate() {
            let is_large = mix == Mix::Crowded && index % 10 != 0;
            if !is_large {
                want(&mut allocator, *leaf, Resources::new(1_000, (2 + index as u64 % 3) * GIB));
            }
        }
        let places = executors.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let tasks = vec![Vec::with_capacity(SLOTS); size.executors];
        let mut cluster = Self { allocator, executors, places, tasks, now: 0, decisions: 0, state: 7 };
        for place in 0..size.executors {
            cluster.offer_on(place);
        }
        for (index, leaf) in leaves.iter().enumerate() {
            if mix == Mix::Crowded && index % 10 != 0 {
                want(&mut cluster.allocator, *leaf, Resources::new((8 + index as u64 % 9) * 1_000, 8 * GIB));
            }
        }
        assert!(cluster.is_full(), "every slot is taken");
        cluster
    }

    /// Whether every slot is taken.
    pub fn is_full(&self) -> bool {
        self.tasks.iter().all(|tasks| tasks.len() == SLOTS)
    }

    /// A task ends on every executor, and a full cycle gives the slots to whom they are due.
    ///
    /// Returns the processor time of the cycle, without the ends of the tasks and the answers to the offers.
    pub fn cycle(&mut self) -> Duration {
        for place in 0..self.tasks.len() {
            let number = self.next_number() as usize;
            self.end_a_task(place, number);
        }
        let start = ThreadTime::now();
        let offers = self.allocator.allocate(self.now);
        let elapsed = start.elapsed();
        self.accept(&offers);
        self.now += CYCLE_MS;
        elapsed
    }

    /// So often a task ends somewhere, its slot goes to whom it is due, and a task is launched on it.
    ///
    /// Returns the processor time.
    pub fn turn_over(&mut self, times: u64) -> Duration {
        let start = ThreadTime::now();
        (0..times).for_each(|_| self.turn_over_one());
        start.elapsed()
    }

    fn turn_over_one(&mut self) {
        let number = self.next_number() as usize;
        let place = number % self.tasks.len();
        self.end_a_task(place, number / self.tasks.len());
        self.offer_on(place);
        self.decisions += 1;
        self.now += self.decisions % DECISIONS_PER_MS / (DECISIONS_PER_MS - 1);
    }

    fn end_a_task(&mut self, place: usize, number: usize) {
        let tasks = &mut self.tasks[place];
        if !tasks.is_empty() {
            let task = tasks.swap_remove(number % tasks.len());
            self.allocator.finish_task(task, self.now);
        }
    }

    fn offer_on(&mut self, place: usize) {
        let offers = self.allocator.allocate_on(self.executors[place], self.now);
        self.accept(&offers);
    }

    fn accept(&mut self, offers: &[Offer]) {
        for offer in offers {
            let started = self.allocator.accept(offer.id, &[offer.resources], self.now).expect("the offer stands");
            self.tasks[self.places[&offer.executor]].extend(started);
        }
    }

    /// Xorshift: the next of a sequence that repeats from run to run.
    fn next_number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 1
    }
}

fn create(allocator: &mut Allocator, path: &str, weight: f64) -> QueueId {
    allocator.create_queue(path, QueueSpec { weight, ..QueueSpec::default() }).expect("the path is new")
}

fn want(allocator: &mut Allocator, queue: QueueId, unit: Resources) {
    let ask = Ask { id: AskId(0), unit, count: 1 << 30, hosts: Vec::new(), reach: Reach::Anywhere, arrived: 0 };
    allocator.set_asks(queue, vec![ask], 0);
}
