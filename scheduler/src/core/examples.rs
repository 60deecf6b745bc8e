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

    fn guaranteed(&mut self, path: &str, guarantee: Resources) -> QueueId {
        self.queue(path, QueueSpec { guarantee, ..QueueSpec::default() })
    }

    fn wants(&mut self, queue: QueueId, unit: Resources, count: u32) {
        self.asks(queue, vec![ask(0, unit, count)]);
    }

    fn asks(&mut self, queue: QueueId, asks: Vec<Ask>) {
        self.allocator.set_asks(queue, asks, self.now);
    }

    fn executor(&self, index: usize) -> ExecutorId {
        self.allocator.find_executor(&format!("executor-{index}")).expect("it is there")
    }

    /// The only offer of a cycle.
    fn one_offer(&mut self) -> Offer {
        let offers = self.allocator.allocate(self.now);
        assert_eq!(offers.len(), 1, "{offers:?}");
        offers[0].clone()
    }

    fn accept(&mut self, offer: &Offer) -> TaskId {
        self.allocator.accept(offer.id, &[offer.resources], self.now).expect("the offer stands")[0]
    }

    /// The tasks of a queue, the oldest first.
    fn tasks_of(&self, queue: QueueId) -> Vec<TaskId> {
        let tasks = self.allocator.tasks.iter().enumerate().filter_map(|(index, task)| Some((index, task.as_ref()?)));
        let mut tasks: Vec<_> = tasks.filter(|(_, task)| task.queue == queue).collect();
        tasks.sort_by_key(|(_, task)| task.started);
        tasks.into_iter().map(|(index, _)| self.allocator.task_id(index as u32)).collect()
    }

    /// What tasks are revoked, and then end; what they held goes to whom it is due.
    fn restore(&mut self) -> Vec<Revocation> {
        let revocations = self.allocator.revoke(self.now);
        for revocation in &revocations {
            self.end(revocation.task);
        }
        self.fill();
        revocations
    }

    /// A task ends, and what it held is accepted by whom it is offered to.
    fn end(&mut self, task: TaskId) {
        let executor = self.allocator.finish_task(task, self.now).expect("the task ran");
        for offer in self.allocator.allocate_on(executor, self.now) {
            self.accept(&offer);
        }
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
            self.end(oldest);
        }
        self.allocator.check().expect("sums agree");
    }

    fn oldest_task(&self) -> Option<TaskId> {
        let tasks = self.allocator.tasks.iter().enumerate().filter_map(|(index, task)| Some((index, task.as_ref()?)));
        let (index, _) = tasks.min_by_key(|(_, task)| task.started)?;
        Some(self.allocator.task_id(index as u32))
    }
}

fn ask(id: u64, unit: Resources, count: u32) -> Ask {
    Ask { id: AskId(id), unit, count, hosts: vec![], reach: Reach::Anywhere, arrived: id }
}

fn near(host: &str, reach: Reach, unit: Resources) -> Ask {
    Ask { hosts: vec![host.to_owned()], reach, ..ask(0, unit, 1) }
}

fn cpus(cpus: u64) -> Resources {
    cpus_and_gib(cpus, 0)
}

fn gib(gib: u64) -> Resources {
    cpus_and_gib(0, gib)
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

#[test]
fn weights_divide_the_cluster() {
    let mut cluster = Cluster::new(&[cpus_and_gib(40, 40)]);
    let (light, heavy) = (cluster.weighted("light", 1.0), cluster.weighted("heavy", 3.0));
    cluster.wants(light, cpus_and_gib(1, 1), 100);
    cluster.wants(heavy, cpus_and_gib(1, 1), 100);
    cluster.fill();
    assert_eq!((cluster.running(light), cluster.running(heavy)), (10, 30));
}

#[test]
fn shares_rise_and_fall_as_a_queue_goes_and_comes() {
    let mut cluster = Cluster::new(&[cpus(10); 3]);
    let queues = ["a", "b", "c"].map(|path| cluster.weighted(path, 1.0));
    let shares = |cluster: &Cluster| queues.map(|queue| cluster.running(queue));
    queues.iter().for_each(|queue| cluster.wants(*queue, cpus(1), 1_000));
    cluster.fill();
    assert_eq!(shares(&cluster), [10, 10, 10]);

    cluster.asks(queues[2], vec![]);
    cluster.turn_over(60);
    assert_eq!(shares(&cluster), [15, 15, 0], "what an idle queue leaves goes to the others");

    cluster.wants(queues[2], cpus(1), 1_000);
    cluster.turn_over(60);
    assert_eq!(shares(&cluster), [10, 10, 10]);
}

#[test]
fn hungry_for_memory_and_hungry_for_cpu_reach_equal_dominant_shares() {
    let mut cluster = Cluster::new(&[cpus_and_gib(100, 1_000); 2]);
    let (cpu, memory) = (cluster.weighted("cpu", 1.0), cluster.weighted("memory", 1.0));
    cluster.wants(cpu, cpus_and_gib(4, 10), 1_000);
    cluster.wants(memory, cpus_and_gib(1, 40), 1_000);
    cluster.fill();
    assert_eq!((cluster.running(cpu), cluster.running(memory)), (40, 40), "0.8 of cpu, 0.8 of memory");
}

#[test]
fn what_one_cannot_use_goes_to_the_others() {
    let mut cluster = Cluster::new(&[cpus(9)]);
    let (small, large) = (cluster.weighted("small", 1.0), cluster.weighted("large", 1.0));
    cluster.wants(small, cpus(1), 2);
    cluster.wants(large, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(small), cluster.running(large)), (2, 7));
}

#[test]
fn a_third_kind_of_resource_counts_like_any_other() {
    let disk = Kinds::default().intern("disk").expect("there is room for a third kind");
    let mut cluster = Cluster::new(&[cpus(12).with(disk, 12)]);
    let (a, b) = (cluster.weighted("a", 1.0), cluster.weighted("b", 1.0));
    cluster.wants(a, cpus(1).with(disk, 2), 100);
    cluster.wants(b, cpus(2).with(disk, 1), 100);
    cluster.fill();
    assert_eq!((cluster.running(a), cluster.running(b)), (4, 4));
}

/// Bhattacharya et al., section 4.1: what a sibling holds of another resource starves nobody.
#[test]
fn a_child_is_not_starved_by_what_its_sibling_holds_of_another_resource() {
    let mut cluster = Cluster::new(&[cpus_and_gib(100, 100)]);
    let n1 = cluster.weighted("n1", 1.0);
    cluster.weighted("n2", 1.0);
    let (n21, n22) = (cluster.weighted("n2.1", 1.0), cluster.weighted("n2.2", 1.0));
    cluster.wants(n1, cpus(1), 10_000);
    cluster.wants(n21, cpus(1), 10_000);
    cluster.wants(n22, gib(1), 10_000);
    cluster.fill();
    for _ in 0..5 {
        assert_eq!([n1, n21, n22].map(|queue| cluster.running(queue)), [50, 50, 100]);
        cluster.turn_over(333);
    }
}

/// Bhattacharya et al., section 4.2: a child that cannot have more does not speak for its tenant.
#[test]
fn a_blocked_child_neither_starves_nor_favours_its_tenant() {
    let mut cluster = Cluster::new(&[cpus_and_gib(90, 90)]);
    let (mut on_cpu, mut on_memory) = (vec![], vec![]);
    for tenant in ["n1", "n2"] {
        cluster.weighted(tenant, 1.0);
        on_cpu.push(cluster.weighted(&format!("{tenant}.cpu"), 1.0));
        on_memory.push(cluster.weighted(&format!("{tenant}.memory"), 1.0));
    }
    on_cpu.push(cluster.weighted("n3", 1.0));
    on_memory.push(cluster.weighted("n4", 1.0));
    on_cpu.iter().for_each(|queue| cluster.wants(*queue, cpus(1), 10_000));
    on_memory.iter().for_each(|queue| cluster.wants(*queue, gib(1), 10_000));
    cluster.fill();
    for _ in 0..5 {
        let running: Vec<_> = on_cpu.iter().chain(&on_memory).map(|queue| cluster.running(*queue)).collect();
        assert_eq!(running, [30; 6], "a third each");
        cluster.turn_over(271);
    }
}

#[test]
fn a_new_child_takes_from_its_siblings_and_not_from_the_neighbours() {
    let mut cluster = Cluster::new(&[cpus_and_gib(100, 100)]);
    cluster.weighted("t", 1.0);
    let (neighbour, old) = (cluster.weighted("neighbour", 1.0), cluster.weighted("t.old", 1.0));
    cluster.wants(neighbour, cpus(1), 10_000);
    cluster.wants(old, cpus(1), 10_000);
    cluster.fill();
    for index in 0..4 {
        let new = cluster.weighted(&format!("t.new-{index}"), 1.0);
        cluster.wants(new, cpus(1), 10_000);
        for _ in 0..200 {
            cluster.turn_over(1);
            assert!(cluster.running(neighbour) >= 49, "it holds its half, up to one task");
        }
    }
    assert_eq!(cluster.running(old), 10);
}

/// The tenant's cpus are held by a child that wants no more. Its new child is dominated by memory, of
/// which the tenant holds nothing; cpus are what it must compete for all the same.
#[test]
fn another_dominant_resource_does_not_make_a_tenant_look_poor() {
    let mut cluster = Cluster::new(&[cpus_and_gib(100, 1_000)]);
    cluster.weighted("t", 1.0);
    let (neighbour, old) = (cluster.weighted("neighbour", 1.0), cluster.weighted("t.old", 1.0));
    cluster.wants(neighbour, cpus(1), 10_000);
    cluster.wants(old, cpus(1), 10_000);
    cluster.fill();
    cluster.asks(old, vec![]);
    let new = cluster.weighted("t.new", 1.0);
    cluster.wants(new, cpus_and_gib(1, 11), 10_000);
    for task in cluster.tasks_of(neighbour) {
        cluster.end(task);
        assert!(cluster.running(neighbour) >= 48, "{} and {}", cluster.running(neighbour), cluster.running(new));
    }
}

#[test]
fn a_sibling_that_holds_much_memory_does_not_cost_a_child_its_cpus() {
    let mut cluster = Cluster::new(&[cpus_and_gib(100, 1_000)]);
    cluster.weighted("t", 1.0);
    let (neighbour, other) = (cluster.weighted("neighbour", 1.0), cluster.weighted("t.memory", 1.0));
    cluster.wants(other, gib(10), 70);
    cluster.fill();
    let child = cluster.weighted("t.cpu", 1.0);
    cluster.wants(neighbour, cpus_and_gib(1, 1), 10_000);
    cluster.wants(child, cpus_and_gib(1, 1), 10_000);
    cluster.fill();
    let (mine, theirs) = (cluster.running(child), cluster.running(neighbour));
    assert!(mine.abs_diff(theirs) <= 2, "{mine} and {theirs}: each needs a tenth as much memory as cpu");
}

#[test]
fn guarantees_come_first() {
    let mut cluster = Cluster::new(&[cpus(10)]);
    let (other, guaranteed) = (cluster.weighted("other", 9.0), cluster.guaranteed("guaranteed", cpus(6)));
    cluster.wants(other, cpus(1), 100);
    cluster.wants(guaranteed, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(other), cluster.running(guaranteed)), (4, 6));
}

#[test]
fn limits_bind_the_queue_and_all_above_it() {
    let mut cluster = Cluster::new(&[cpus(10)]);
    let limited = |limit| QueueSpec { limit: cpus(limit), ..QueueSpec::default() };
    cluster.queue("t", limited(5));
    let (a, b) = (cluster.queue("t.a", limited(2)), cluster.weighted("t.b", 1.0));
    cluster.wants(a, cpus(1), 100);
    cluster.wants(b, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(a), cluster.running(b)), (2, 3), "the rest is idle");
}

#[test]
fn others_do_not_take_what_a_guarantee_still_needs() {
    let mut cluster = Cluster::new(&[cpus(4), cpus(4)]);
    let (other, guaranteed) = (cluster.weighted("other", 1.0), cluster.guaranteed("guaranteed", cpus(4)));
    cluster.wants(other, cpus(1), 4);
    cluster.fill();
    cluster.wants(other, cpus(1), 100);
    cluster.wants(guaranteed, cpus(4), 1);
    assert_eq!(cluster.fill(), [], "two cpus are left on each, which is not enough, and kept");
    cluster.asks(guaranteed, vec![]);
    assert_eq!(cluster.fill().len(), 4, "nobody needs them any longer");
}

/// Neither the child without a guarantee nor another tenant takes what is promised to the other child.
#[test]
fn a_guarantee_within_a_guarantee_is_kept_from_siblings() {
    let mut cluster = Cluster::new(&[cpus(5), cpus(5)]);
    cluster.guaranteed("t", cpus(10));
    let (plain, guaranteed) = (cluster.weighted("t.plain", 1.0), cluster.guaranteed("t.guaranteed", cpus(6)));
    cluster.wants(guaranteed, cpus(3), 2);
    cluster.wants(plain, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(guaranteed), cluster.running(plain)), (2, 4));
}

#[test]
fn a_guarantee_that_no_whole_task_fits_into_keeps_nothing_idle() {
    let mut cluster = Cluster::new(&[cpus(5)]);
    let (other, guaranteed) = (cluster.weighted("other", 1.0), cluster.guaranteed("guaranteed", cpus(3)));
    cluster.wants(guaranteed, cpus(2), 100);
    cluster.wants(other, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(guaranteed), cluster.running(other)), (1, 3));
}

/// What is left of a limit cannot be claimed by a guarantee below.
#[test]
fn a_guarantee_above_the_limit_of_a_parent_keeps_nothing_idle() {
    let mut cluster = Cluster::new(&[cpus(10)]);
    cluster.queue("t", QueueSpec { limit: cpus(2), ..QueueSpec::default() });
    let (guaranteed, other) = (cluster.guaranteed("t.guaranteed", cpus(6)), cluster.weighted("other", 1.0));
    cluster.wants(guaranteed, cpus(1), 100);
    cluster.wants(other, cpus(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(guaranteed), cluster.running(other)), (2, 8));
}

#[test]
fn a_guarantee_of_cpus_says_nothing_about_tasks_that_need_none() {
    let mut cluster = Cluster::new(&[cpus_and_gib(10, 10)]);
    let (other, guaranteed) = (cluster.weighted("other", 1.0), cluster.guaranteed("guaranteed", cpus(6)));
    cluster.wants(guaranteed, gib(1), 100);
    cluster.wants(other, gib(1), 100);
    cluster.fill();
    assert_eq!((cluster.running(other), cluster.running(guaranteed)), (5, 5));
}

#[test]
fn guarantees_are_restored_by_revoking_the_youngest_after_patience() {
    let mut cluster = Cluster::new(&[cpus(4), cpus(4)]);
    let greedy = cluster.weighted("greedy", 1.0);
    let modest = cluster.guaranteed("modest", cpus(2));
    let late = cluster.guaranteed("late", cpus(3));
    cluster.wants(modest, cpus(1), 2);
    cluster.wants(greedy, cpus(1), 100);
    cluster.fill();
    let youngest: Vec<_> = cluster.tasks_of(greedy).into_iter().rev().take(3).collect();

    cluster.wants(late, cpus(1), 100);
    cluster.now = 9_999;
    assert_eq!(cluster.allocator.revoke(cluster.now), [], "it is patient");
    cluster.now = 10_000;
    let revoked = cluster.restore();
    assert_eq!(revoked.iter().map(|revocation| revocation.task).collect::<Vec<_>>(), youngest);
    assert!(revoked.iter().all(|revocation| (revocation.queue, revocation.beneficiary) == (greedy, late)));
    assert_eq!([modest, greedy, late].map(|queue| cluster.running(queue)), [2, 3, 3]);
    assert_eq!(cluster.restore(), [], "there is nothing more to restore");
}

/// Two tasks have to go for one that is larger. What the first leaves is not taken by others before the
/// second has ended, though as much is free elsewhere.
#[test]
fn what_is_revoked_piece_by_piece_goes_to_the_beneficiary() {
    let mut cluster = Cluster::new(&[cpus(5), cpus(5), cpus(5)]);
    let (greedy, late) = (cluster.weighted("greedy", 1.0), cluster.guaranteed("late", cpus(4)));
    cluster.wants(greedy, cpus(2), 6);
    cluster.fill();
    cluster.asks(greedy, vec![ask(1, cpus(1), 100)]);
    cluster.wants(late, cpus(4), 1);
    assert_eq!(cluster.allocator.allocate(0), [], "a cpu on each is kept, though it does not help yet");
    cluster.now = 10_000;
    let revoked = cluster.restore();
    assert_eq!(revoked.len(), 2);
    assert_eq!(cluster.running(late), 1);
}

/// A third cpu would cost the other a task of two, and leave it with less than it is promised.
#[test]
fn a_guarantee_is_not_restored_at_the_cost_of_another() {
    let mut cluster = Cluster::new(&[cpus(6)]);
    let (early, late) = (cluster.guaranteed("early", cpus(3)), cluster.guaranteed("late", cpus(3)));
    cluster.wants(early, cpus(2), 3);
    cluster.fill();
    cluster.wants(late, cpus(1), 3);
    cluster.now = 10_000;
    assert_eq!(cluster.restore().len(), 1);
    assert_eq!((cluster.running(early), cluster.running(late)), (2, 2));
}

#[test]
fn a_task_on_its_way_out_is_not_revoked_twice() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let (greedy, late) = (cluster.weighted("greedy", 1.0), cluster.guaranteed("late", cpus(2)));
    cluster.wants(greedy, cpus(1), 100);
    cluster.fill();
    cluster.wants(late, cpus(1), 100);
    cluster.now = 10_000;
    assert_eq!(cluster.allocator.revoke(cluster.now).len(), 2);
    assert_eq!(cluster.allocator.revoke(cluster.now + 1), []);
}

#[test]
fn being_served_now_and_then_is_not_having_ones_guarantee() {
    let mut cluster = Cluster::new(&[cpus(10)]);
    let (greedy, late) = (cluster.weighted("greedy", 1.0), cluster.guaranteed("late", cpus(5)));
    cluster.wants(greedy, cpus(1), 100);
    cluster.fill();
    cluster.wants(late, cpus(1), 100);
    cluster.now = 9_000;
    let oldest = cluster.tasks_of(greedy)[0];
    cluster.end(oldest);
    assert_eq!(cluster.running(late), 1);
    cluster.now = 10_000;
    assert_eq!(cluster.restore().len(), 4);
}

#[test]
fn a_reservation_is_for_a_queue_and_those_below_it() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    cluster.weighted("t", 1.0);
    let (child, other) = (cluster.weighted("t.child", 1.0), cluster.weighted("other", 1.0));
    let (executor, tenant) = (cluster.executor(0), cluster.allocator.find_queue("t").expect("it exists"));
    cluster.allocator.reserve(executor, tenant, cpus(3)).expect("it is free");
    cluster.wants(other, cpus(1), 100);
    cluster.fill();
    assert_eq!(cluster.running(other), 1, "the rest is reserved");

    cluster.wants(child, cpus(1), 2);
    cluster.fill();
    assert_eq!(cluster.running(child), 2);

    cluster.allocator.reserve(executor, tenant, Resources::ZERO).expect("it can be given back");
    cluster.fill();
    assert_eq!(cluster.running(other), 2, "what is in use stays with whoever uses it");
}

#[test]
fn a_reservation_of_what_others_still_use_gives_nothing_twice() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let (owner, other) = (cluster.weighted("owner", 1.0), cluster.weighted("other", 1.0));
    cluster.wants(other, cpus(1), 100);
    cluster.fill();
    cluster.allocator.reserve(cluster.executor(0), owner, cpus(3)).expect("the executor has that much");
    cluster.wants(owner, cpus(1), 100);
    assert_eq!(cluster.fill(), []);
    cluster.turn_over(8);
    assert_eq!((cluster.running(owner), cluster.running(other)), (3, 1));
}

#[test]
fn more_than_there_is_cannot_be_reserved() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let (a, b) = (cluster.weighted("a", 1.0), cluster.weighted("b", 1.0));
    let executor = cluster.executor(0);
    cluster.allocator.reserve(executor, a, cpus(3)).expect("the executor has that much");
    let error = cluster.allocator.reserve(executor, b, cpus(2)).expect_err("the executor has not");
    assert_eq!(error.to_string(), "executor \"executor-0\" does not have that much left to reserve");
    cluster.allocator.drop_queue(a).expect("it is not in use");
    cluster.allocator.reserve(executor, b, cpus(2)).expect("the reservation went with the queue");
}

#[test]
fn what_an_accepted_offer_leaves_is_free_again() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(4), 1);
    let offer = cluster.one_offer();
    cluster.allocator.accept(offer.id, &[cpus(1), cpus(2)], 0).expect("it is within the offer");
    assert_eq!(cluster.allocator.executor_free(cluster.executor(0)), cpus(1));
    assert_eq!(cluster.running(queue), 2);
    assert_eq!(cluster.allocator.allocate(0), [], "the task that was asked for has been given");
}

#[test]
fn an_offer_accepted_without_tasks_is_declined() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(4), 1);
    let offer = cluster.one_offer();
    assert_eq!(cluster.allocator.accept(offer.id, &[], 0), Ok(vec![]));
    assert_ne!(cluster.one_offer().id, offer.id);
}

#[test]
fn a_declined_executor_is_not_offered_before_the_filter_ends() {
    let mut cluster = Cluster::new(&[cpus(4), cpus(3)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 1);
    let first = cluster.one_offer();
    assert_eq!(first.executor, cluster.executor(0), "the roomiest");
    cluster.allocator.decline(first.id, Some(Filter { until: 500 }), 0).expect("the offer stands");

    let second = cluster.one_offer();
    assert_eq!(second.executor, cluster.executor(1));
    cluster.allocator.decline(second.id, Some(Filter { until: 900 }), 0).expect("the offer stands");
    assert_eq!(cluster.allocator.allocate(499), []);
    assert_eq!(cluster.allocator.next_deadline(), Some(500));
    assert_eq!(cluster.allocator.allocate(500)[0].executor, cluster.executor(0));
}

#[test]
fn declined_without_a_filter_it_may_be_offered_again_at_once() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 1);
    let offer = cluster.one_offer();
    cluster.allocator.decline(offer.id, None, 0).expect("the offer stands");
    assert_eq!(cluster.one_offer().executor, offer.executor);
}

#[test]
fn an_offer_that_is_not_answered_is_taken_back() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(4), 1);
    let offer = cluster.one_offer();
    assert_eq!(cluster.allocator.advance(offer.expires_at - 1), []);
    assert_eq!(cluster.allocator.advance(offer.expires_at), [offer.id]);
    let late = cluster.allocator.accept(offer.id, &[cpus(1)], offer.expires_at);
    assert_eq!(late, Err(OfferError::Gone(offer.id)));
    assert_eq!(cluster.one_offer().resources, cpus(4), "the task is still asked for");
}

#[test]
fn answers_to_offers_that_are_gone_or_too_small_change_nothing() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(2), 1);
    let offer = cluster.one_offer();
    let error = OfferError::TooLarge { needed: cpus(3), offered: cpus(2) };
    assert_eq!(cluster.allocator.accept(offer.id, &[cpus(2), cpus(1)], 0), Err(error), "the offer still stands");

    assert_eq!(cluster.allocator.rescind(offer.id).map(|offer| offer.id), Some(offer.id));
    assert_eq!(cluster.allocator.accept(offer.id, &[cpus(2)], 0), Err(OfferError::Gone(offer.id)));
    assert_eq!(cluster.allocator.decline(offer.id, None, 0), Err(OfferError::Gone(offer.id)));
    assert_eq!(cluster.allocator.rescind(offer.id), None);
    assert_eq!(cluster.running(queue), 0);
}

#[test]
fn a_suppressed_queue_is_offered_nothing_and_a_revived_one_everything() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 1);
    let offer = cluster.one_offer();
    cluster.allocator.decline(offer.id, Some(Filter { until: 1_000 }), 0).expect("the offer stands");
    cluster.allocator.suppress(queue);
    assert_eq!(cluster.allocator.allocate(2_000), []);
    assert_eq!(cluster.allocator.allocate_on(offer.executor, 2_000), []);
    cluster.allocator.revive(queue);
    assert_eq!(cluster.allocator.allocate(0).len(), 1, "filters are forgotten, too");
}

#[test]
fn a_draining_executor_keeps_its_tasks_and_gets_no_others() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 2);
    cluster.fill();
    let executor = cluster.executor(0);
    cluster.allocator.set_executor_state(executor, ExecutorState::Draining);
    cluster.wants(queue, cpus(1), 2);
    assert_eq!(cluster.fill(), []);
    assert_eq!(cluster.running(queue), 2);
    cluster.allocator.set_executor_state(executor, ExecutorState::Active);
    assert_eq!(cluster.fill().len(), 2);
}

#[test]
fn a_lost_executor_takes_its_tasks_and_offers_with_it() {
    let mut cluster = Cluster::new(&[cpus(2)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 2);
    let offers = cluster.allocator.allocate(0);
    let task = cluster.accept(&offers[0]);

    let spec = cluster.allocator.executor_spec(cluster.executor(0)).expect("it is there").clone();
    let (again, departure) = cluster.allocator.add_executor(spec);
    assert_eq!(departure, Departure { lost: vec![task], rescinded: vec![offers[1].id] });
    assert_eq!(cluster.allocator.queue_used(queue), Resources::ZERO);
    assert_eq!(cluster.allocator.total(), cpus(2), "it replaces the one of the same name");

    assert_eq!(cluster.one_offer().executor, again, "what was offered is still asked for; what ran is not");
    assert_eq!(cluster.allocator.remove_executor(again).lost, []);
    assert_eq!(cluster.allocator.total(), Resources::ZERO);
    cluster.allocator.check().expect("sums agree");
}

#[test]
fn a_large_task_is_not_starved_by_small_ones() {
    let mut cluster = Cluster::new(&[cpus(4), cpus(4)]);
    let (small, large) = (cluster.weighted("small", 1.0), cluster.weighted("large", 1.0));
    cluster.wants(small, cpus(1), 10_000);
    cluster.fill();
    cluster.wants(large, cpus(4), 1);
    for second in 1..=10 {
        cluster.now = 1_000 * second;
        cluster.fill();
        if cluster.running(large) > 0 {
            return;
        }
        cluster.turn_over(1);
    }
    panic!("the large task waits for ever");
}

#[test]
fn nor_by_small_ones_of_the_same_queue() {
    let mut cluster = Cluster::new(&[cpus(4), cpus(4)]);
    let (other, queue) = (cluster.weighted("other", 1.0), cluster.weighted("q", 1.0));
    cluster.wants(other, cpus(1), 10_000);
    cluster.fill();
    for second in 1..=20 {
        cluster.now = 1_000 * second;
        cluster.asks(queue, vec![ask(0, cpus(4), 1), ask(1, cpus(1), 1)]);
        cluster.turn_over(1);
        cluster.fill();
        if cluster.allocator.queue(queue).asks[0].ask.count == 0 {
            return;
        }
    }
    panic!("the large task waits for ever");
}

#[test]
fn a_claim_ends_when_the_task_is_no_longer_wanted() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let (small, large) = (cluster.weighted("small", 1.0), cluster.weighted("large", 1.0));
    cluster.wants(small, cpus(1), 3);
    cluster.fill();
    cluster.wants(large, cpus(4), 1);
    cluster.now = 2_000;
    cluster.fill();
    assert_eq!(cluster.allocator.executors()[0].claimed_by.as_deref(), Some("root.large"));
    cluster.wants(large, cpus(5), 1);
    assert_eq!(cluster.allocator.executors()[0].claimed_by, None, "it would not do for the new task");
}

#[test]
fn tasks_run_near_their_data_as_far_as_the_queue_insists() {
    let mut cluster = Cluster::new(&[cpus(2), cpus(2), cpus(8)]);
    let queue = cluster.weighted("q", 1.0);
    let place = |cluster: &mut Cluster, reach| {
        cluster.asks(queue, vec![near("host-1", reach, cpus(2))]);
        let offers = cluster.allocator.allocate(0);
        offers.first().map(|offer| cluster.accept(offer));
        offers.first().map(|offer| offer.executor)
    };
    assert_eq!(place(&mut cluster, Reach::Anywhere), Some(cluster.executor(1)), "its host comes first");
    assert_eq!(place(&mut cluster, Reach::Hosts), None, "its host is full");
    assert_eq!(place(&mut cluster, Reach::Racks), Some(cluster.executor(0)), "the other one in the rack");
    assert_eq!(place(&mut cluster, Reach::Racks), None, "the rack is full");
    assert_eq!(place(&mut cluster, Reach::Anywhere), Some(cluster.executor(2)));
}

#[test]
fn first_come_first_served_is_for_comparison() {
    let options = Options { policy: Policy::Fifo, ..Options::default() };
    let mut cluster = Cluster::with_options(&[cpus(4)], options);
    let (late, early) = (cluster.weighted("late", 1.0), cluster.weighted("early", 1.0));
    cluster.asks(late, vec![Ask { arrived: 2, ..ask(0, cpus(1), 100) }]);
    cluster.asks(early, vec![Ask { arrived: 1, ..ask(0, cpus(1), 3) }]);
    cluster.fill();
    assert_eq!((cluster.running(early), cluster.running(late)), (3, 1));
}

#[test]
fn a_task_that_needs_nothing_is_never_placed() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, Resources::ZERO, u32::MAX);
    assert_eq!(cluster.fill(), []);
    assert!(!cluster.allocator.is_possible(&Resources::ZERO));
}

#[test]
fn tasks_that_start_together_are_one_task() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let queue = cluster.weighted("q", 1.0);
    cluster.wants(queue, cpus(1), 3);
    let tasks = cluster.fill();
    assert_eq!(cluster.allocator.combine_tasks(&tasks), Some(tasks[0]));
    assert_eq!((cluster.running(queue), cluster.allocator.queue_used(queue)), (1, cpus(3)));
    cluster.end(tasks[0]);
    assert_eq!(cluster.allocator.queue_used(queue), Resources::ZERO);
}

#[test]
fn tasks_of_two_reservations_can_be_one_task() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let tenant = cluster.weighted("t", 1.0);
    let child = cluster.weighted("t.child", 1.0);
    for queue in [tenant, child] {
        cluster.allocator.reserve(cluster.executor(0), queue, cpus(1)).expect("it is free");
    }
    cluster.wants(child, cpus(1), 2);
    let tasks = cluster.fill();
    cluster.allocator.combine_tasks(&tasks);
    cluster.allocator.check().expect("sums agree");
    cluster.end(tasks[0]);
    assert_eq!(cluster.allocator.executor_free(cluster.executor(0)), cpus(4));
    cluster.allocator.check().expect("sums agree");
}

#[test]
fn queues_cannot_be_created_as_they_must_not_be() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let limited = QueueSpec { guarantee: cpus(2), limit: cpus(3), ..QueueSpec::default() };
    cluster.queue("t", limited.clone());
    let mut create = |path: &str, spec: QueueSpec| cluster.allocator.create_queue(path, spec).map(|_| ());
    let plain = QueueSpec::default;
    assert_eq!(create("root.t", plain()), Err(QueueError::Exists("root.t".to_owned())));
    assert_eq!(create("u.v", plain()), Err(QueueError::NotFound("root.u".to_owned())));
    assert_eq!(create("a b", plain()), Err(QueueError::Name("a b".to_owned())));
    assert_eq!(create("", plain()), Err(QueueError::Name(String::new())));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Err(QueueError::Weight(weight.to_string()));
        assert_eq!(create("w", QueueSpec { weight, ..plain() }), error);
    }
    let error = Err(QueueError::GuaranteeAboveLimit("root.g".to_owned()));
    assert_eq!(create("g", QueueSpec { guarantee: cpus(4), ..limited }), error);
    create("t.a", QueueSpec { guarantee: cpus(1), ..plain() }).expect("it is within the tenant's");
    let error = Err(QueueError::GuaranteesAboveParent("root.t".to_owned()));
    assert_eq!(create("t.b", QueueSpec { guarantee: cpus(2), ..plain() }), error);
}

#[test]
fn queues_cannot_be_altered_or_dropped_while_it_would_hurt() {
    let mut cluster = Cluster::new(&[cpus(4)]);
    let tenant = cluster.guaranteed("t", cpus(2));
    let child = cluster.guaranteed("t.child", cpus(2));
    let less = QueueSpec { guarantee: cpus(1), ..QueueSpec::default() };
    let error = Err(QueueError::GuaranteesAboveParent("root.t".to_owned()));
    assert_eq!(cluster.allocator.alter_queue(tenant, less), error);
    assert_eq!(cluster.allocator.drop_queue(tenant), Err(QueueError::HasChildren("root.t".to_owned())));
    assert_eq!(cluster.allocator.drop_queue(QueueId::ROOT), Err(QueueError::Permanent("root".to_owned())));

    let in_use = Err(QueueError::InUse("root.t.child".to_owned()));
    cluster.wants(child, cpus(100), 1);
    assert_eq!(cluster.allocator.drop_queue(child), in_use, "work waits, though nothing here could run it");
    cluster.wants(child, cpus(1), 1);
    let task = cluster.fill()[0];
    assert_eq!(cluster.allocator.drop_queue(child), in_use);
    let below = cluster.allocator.create_queue("t.child.below", QueueSpec::default()).map(|_| ());
    assert_eq!(below, in_use, "a queue that runs tasks has no queues below it");
    cluster.end(task);
    cluster.allocator.drop_queue(child).expect("nothing runs or waits there");
    cluster.allocator.drop_queue(tenant).expect("nothing is below it");
    assert_eq!(cluster.allocator.find_queue("t"), None);
}

/// A process for work of another kind counts for the same queues, and is given only to who names it.
#[test]
fn an_executor_apart_serves_who_names_its_host() {
    let mut cluster = Cluster::new(&[cpus_and_gib(2, 2)]);
    let (a, b) = (cluster.weighted("a", 1.0), cluster.weighted("b", 1.0));
    let server = ExecutorSpec {
        name: "server".to_owned(),
        host: "server".to_owned(),
        total: cpus_and_gib(2, 2),
        is_apart: true,
        ..ExecutorSpec::default()
    };
    let (server, _) = cluster.allocator.add_executor(server);
    cluster.wants(a, cpus_and_gib(1, 1), 4);
    cluster.fill();
    assert_eq!(cluster.running(a), 2, "two on the executor and none on the server");
    let there = Ask { hosts: vec!["server".to_owned()], reach: Reach::Hosts, ..ask(1, cpus_and_gib(1, 1), 1) };
    cluster.allocator.add_ask(b, there.clone(), cluster.now);
    let offers = cluster.allocator.allocate_on(server, cluster.now);
    assert_eq!(offers.len(), 1);
    cluster.accept(&offers[0]);
    cluster.allocator.remove_ask(b, there.id);
    cluster.allocator.check().expect("sums agree");
}
