//! The examples of the papers, and what a person expects of queues, as tests.

use super::executor::ExecutorState;
use super::*;

const GIB: u64 = 1 << 30;

/// A cluster under test, with queues that want as many tasks as they can get.
struct Cluster {
    allocator: Allocator,
    now: Millis,
}

impl Cluster {
    fn new(executors: &[Resources]) -> Self {
        Self::with_options(executors, Options::default())
    }

    fn with_options(executors: &[Resources], options: Options) -> Self {
        let mut allocator = Allocator::new(options);
        for (index, total) in executors.iter().enumerate() {
            let spec = ExecutorSpec {
                name: format!("executor-{index}"),
                host: format!("host-{index}"),
                rack: format!("rack-{}", index / 2),
                total: *total,
                ..ExecutorSpec::default()
            };
            allocator.add_executor(spec);
        }
        Self { allocator, now: 0 }
    }

    fn queue(&mut self, path: &str, spec: QueueSpec) -> QueueId {
        self.allocator.create_queue(path, spec).expect("the queue can be created")
    }

    fn weighted(&mut self, path: &str, weight: f64) -> QueueId {
        self.queue(path, QueueSpec { weight, ..QueueSpec::default() })
    }

    fn wants(&mut self, queue: QueueId, unit: Resources, count: u32) {
        let ask = Ask { id: AskId(0), unit, count, hosts: vec![], reach: Reach::Anywhere, arrived: u64::from(queue.0) };
        self.allocator.set_asks(queue, vec![ask], self.now);
    }

    /// Accepts every offer until there are no more; the tasks that started.
    fn fill(&mut self) -> Vec<TaskId> {
        let mut started = Vec::new();
        loop {
            let offers = self.allocator.allocate(self.now);
            if offers.is_empty() {
                self.allocator.check().expect("sums agree");
                return started;
            }
            for offer in offers {
                started
                    .extend(self.allocator.accept(offer.id, &[offer.resources], self.now).expect("the offer stands"));
            }
        }
    }

    fn running(&self, queue: QueueId) -> u64 {
        self.allocator.queues().iter().find(|view| view.id == queue).map_or(0, |view| view.running_tasks)
    }

    /// Every task ends, the oldest first, and what it held goes to whom it is due.
    fn turn_over(&mut self, times: u32) {
        for _ in 0..times {
            let oldest = self.oldest_task().expect("a task runs");
            let executor = self.allocator.finish_task(oldest, self.now).expect("the task ran");
            for offer in self.allocator.allocate_on(executor, self.now) {
                self.allocator.accept(offer.id, &[offer.resources], self.now).expect("the offer stands");
            }
        }
        self.allocator.check().expect("sums agree");
    }

    fn oldest_task(&self) -> Option<TaskId> {
        let tasks = self.allocator.tasks.iter().enumerate().filter_map(|(index, task)| Some((index, task.as_ref()?)));
        let (index, task) = tasks.min_by_key(|(_, task)| task.started)?;
        Some(TaskId(u64::from(task.generation) << 32 | index as u64))
    }
}

fn cpus_and_gib(cpus: u64, gib: u64) -> Resources {
    Resources::new(cpus * 1_000, gib * GIB)
}

/// Ghodsi et al., section 4.1: 9 CPUs, 18 GB; A's tasks need <1 CPU, 4 GB>, B's <3 CPUs, 1 GB>.
#[test]
fn the_example_of_the_drf_paper() {
    let mut cluster = Cluster::new(&[cpus_and_gib(9, 18)]);
    let (a, b) = (cluster.weighted("a", 1.0), cluster.weighted("b", 1.0));
    cluster.wants(a, cpus_and_gib(1, 4), 100);
    cluster.wants(b, cpus_and_gib(3, 1), 100);
    cluster.fill();
    assert_eq!((cluster.running(a), cluster.running(b)), (3, 2));
}

#[test]
fn its_mirror() {
    let mut cluster = Cluster::new(&[cpus_and_gib(9, 18)]);
    let (a, b) = (cluster.weighted("a", 1.0), cluster.weighted("b", 1.0));
    cluster.wants(a, cpus_and_gib(3, 1), 100);
    cluster.wants(b, cpus_and_gib(1, 4), 100);
    cluster.fill();
    assert_eq!((cluster.running(a), cluster.running(b)), (2, 3));
}
