//! The laws, as properties of random clusters and queues.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::executor::ExecutorState;
use super::*;

fn cases(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(2011);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

/// Something that happens to an allocator. Numbers choose among what is there, whatever that is.
#[derive(Debug, Clone)]
enum Event {
    AddExecutor { name: u8, host: u8, total: Resources },
    RemoveExecutor(u8),
    DrainExecutor(u8, bool),
    CreateQueue(u8, QueueSpec),
    AlterQueue(u8, QueueSpec),
    DropQueue(u8),
    Ask(u8, Vec<Ask>),
    Suppress(u8, bool),
    Reserve { executor: u8, queue: u8, amount: Resources },
    Allocate,
    AllocateOn(u8),
    Accept { offer: u8, parts: u8, of: u8 },
    Decline { offer: u8, filter_ms: Option<u8> },
    Rescind(u8),
    Pass(u16),
    Finish(u8),
    FinishAndAllocate(u8),
    Combine(u8, u8),
    Revoke,
}

const PATHS: [&str; 9] = ["a", "a.x", "a.y", "a.y.deep", "b", "c", "c.z", "c.w", "d"];

fn amount(most: u64) -> impl Strategy<Value = Resources> {
    (0..=most, 0..=most).prop_map(|(cpu, memory)| Resources::new(cpu, memory))
}

fn spec() -> impl Strategy<Value = QueueSpec> {
    let guarantee = prop_oneof![2 => Just(Resources::ZERO), 1 => amount(6)];
    let limit = prop_oneof![2 => Just(Resources::UNLIMITED), 1 => amount(16)];
    (1..4_u32, guarantee, limit).prop_map(|(weight, guarantee, limit)| QueueSpec {
        weight: f64::from(weight),
        guarantee,
        limit: limit.max(&guarantee),
        ..QueueSpec::default()
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let reach = prop_oneof![1 => Just(Reach::Hosts), 1 => Just(Reach::Racks), 3 => Just(Reach::Anywhere)];
    (0..3_u64, amount(6), 0..6_u32, vec(0..4_u8, 0..2), reach).prop_map(|(id, unit, count, hosts, reach)| Ask {
        id: AskId(id),
        unit,
        count,
        hosts: hosts.into_iter().map(|host| format!("host-{host}")).collect(),
        reach,
        arrived: id,
    })
}

fn number() -> impl Strategy<Value = u8> {
    any::<u8>()
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..5_u8, 0..4_u8, amount(10))
            .prop_map(|(name, host, total)| Event::AddExecutor { name, host, total }),
        1 => number().prop_map(Event::RemoveExecutor),
        1 => (number(), any::<bool>()).prop_map(|(executor, drain)| Event::DrainExecutor(executor, drain)),
        3 => (number(), spec()).prop_map(|(path, spec)| Event::CreateQueue(path, spec)),
        2 => (number(), spec()).prop_map(|(path, spec)| Event::AlterQueue(path, spec)),
        1 => number().prop_map(Event::DropQueue),
        8 => (number(), vec(ask(), 0..4)).prop_map(|(path, asks)| Event::Ask(path, asks)),
        1 => (number(), any::<bool>()).prop_map(|(path, suppress)| Event::Suppress(path, suppress)),
        2 => (number(), number(), amount(6))
            .prop_map(|(executor, queue, amount)| Event::Reserve { executor, queue, amount }),
        6 => Just(Event::Allocate),
        3 => number().prop_map(Event::AllocateOn),
        8 => (number(), 0..4_u8, 1..4_u8).prop_map(|(offer, parts, of)| Event::Accept { offer, parts, of }),
        3 => (number(), proptest::option::of(number()))
            .prop_map(|(offer, filter_ms)| Event::Decline { offer, filter_ms }),
        1 => number().prop_map(Event::Rescind),
        3 => (0..5_000_u16).prop_map(Event::Pass),
        3 => number().prop_map(Event::Finish),
        3 => number().prop_map(Event::FinishAndAllocate),
        1 => (number(), number()).prop_map(|(a, b)| Event::Combine(a, b)),
        2 => Just(Event::Revoke),
    ]
}

struct World {
    allocator: Allocator,
    now: Millis,
}

fn pick<T: Clone>(all: &[T], number: u8) -> Option<T> {
    all.get(number as usize % all.len().max(1)).cloned()
}

impl World {
    fn new() -> Self {
        let options = Options { claim_after_ms: 1_000, restore_after_ms: 3_000, ..Options::default() };
        Self { allocator: Allocator::new(options), now: 0 }
    }

    fn executor(&self, number: u8) -> Option<ExecutorId> {
        pick(&self.allocator.executors(), number).map(|view| view.id)
    }

    fn queue(&self, number: u8) -> Option<QueueId> {
        self.allocator.find_queue(pick(&PATHS, number)?)
    }

    fn offer(&self, number: u8) -> Option<Offer> {
        pick(&self.allocator.offers(), number)
    }

    fn task(&self, number: u8) -> Option<TaskId> {
        pick(&running(&self.allocator), number)
    }

    /// Lets it happen. Returns the offers made, and the tasks to revoke.
    fn happen(&mut self, event: &Event) -> Option<(Vec<Offer>, Vec<Revocation>)> {
        let (mut offers, mut revocations) = (Vec::new(), Vec::new());
        let now = self.now;
        match event {
            Event::AddExecutor { name, host, total } => {
                let spec = ExecutorSpec {
                    name: format!("executor-{name}"),
                    host: format!("host-{host}"),
                    rack: ["", "rack"][usize::from(host % 2)].to_owned(),
                    total: *total,
                    ..ExecutorSpec::default()
                };
                self.allocator.add_executor(spec);
            }
            Event::RemoveExecutor(executor) => {
                let executor = self.executor(*executor)?;
                let on_it = |task: &TaskId| self.allocator.executor_of(*task) == Some(executor);
                let mut lost: Vec<_> = running(&self.allocator).into_iter().filter(on_it).collect();
                let mut departure = self.allocator.remove_executor(executor);
                lost.sort();
                departure.lost.sort();
                assert_eq!(departure.lost, lost, "all tasks that were there, and no others");
            }
            Event::DrainExecutor(executor, drain) => {
                let state = if *drain { ExecutorState::Draining } else { ExecutorState::Active };
                let executor = self.executor(*executor)?;
                self.allocator.set_executor_state(executor, state);
            }
            Event::CreateQueue(path, spec) => {
                let _ = self.allocator.create_queue(pick(&PATHS, *path)?, spec.clone());
            }
            Event::AlterQueue(path, spec) => {
                let queue = self.queue(*path)?;
                let _ = self.allocator.alter_queue(queue, spec.clone());
            }
            Event::DropQueue(path) => {
                let queue = self.queue(*path)?;
                let _ = self.allocator.drop_queue(queue);
            }
            Event::Ask(path, asks) => {
                let queue = self.queue(*path)?;
                self.allocator.set_asks(queue, asks.clone(), now);
            }
            Event::Suppress(path, true) => {
                let queue = self.queue(*path)?;
                self.allocator.suppress(queue);
            }
            Event::Suppress(path, false) => {
                let queue = self.queue(*path)?;
                self.allocator.revive(queue);
            }
            Event::Reserve { executor, queue, amount } => {
                let (executor, queue) = (self.executor(*executor)?, self.queue(*queue)?);
                let _ = self.allocator.reserve(executor, queue, *amount);
            }
            Event::Allocate => offers = self.allocator.allocate(now),
            Event::AllocateOn(executor) => {
                let executor = self.executor(*executor)?;
                offers = self.allocator.allocate_on(executor, now);
            }
            Event::Accept { offer, parts, of } => {
                let offer = self.offer(*offer)?;
                let part = |amount: u64| amount / u64::from(*of);
                let part = Resources::new(part(offer.resources.cpu_millis()), part(offer.resources.memory_bytes()));
                let started = self.allocator.accept(offer.id, &vec![part; usize::from(*parts)], now);
                assert!(started.is_ok() || parts > of, "what is within the offer is taken");
            }
            Event::Decline { offer, filter_ms } => {
                let filter = filter_ms.map(|ms| Filter { until: now + 100 * u64::from(ms) });
                let offer = self.offer(*offer)?;
                self.allocator.decline(offer.id, filter, now).unwrap();
            }
            Event::Rescind(offer) => {
                let offer = self.offer(*offer)?;
                self.allocator.rescind(offer.id);
            }
            Event::Pass(ms) => {
                self.now += u64::from(*ms);
                self.allocator.advance(self.now);
            }
            Event::Finish(task) => {
                let task = self.task(*task)?;
                self.allocator.finish_task(task, now);
            }
            Event::FinishAndAllocate(task) => {
                let task = self.task(*task)?;
                let executor = self.allocator.finish_task(task, now)?;
                offers = self.allocator.allocate_on(executor, now);
            }
            Event::Combine(first, second) => {
                let (first, second) = (self.task(*first)?, self.task(*second)?);
                self.allocator.combine_tasks(&[first, second, first]);
            }
            Event::Revoke => revocations = self.allocator.revoke(now),
        }
        Some((offers, revocations))
    }
}

fn running(allocator: &Allocator) -> Vec<TaskId> {
    let tasks = allocator.tasks.iter().enumerate().filter(|(_, task)| task.is_some());
    tasks.map(|(index, _)| allocator.task_id(index as u32)).collect()
}

/// What was offered keeps within all limits on the way up.
fn offers_are_within_limits(allocator: &Allocator, offers: &[Offer]) -> Result<(), TestCaseError> {
    for id in offers.iter().flat_map(|offer| allocator.path_of(offer.queue)) {
        let (used, limit) = (allocator.queue_used(id), allocator.queue_spec(id).limit);
        prop_assert!(used.fits(&limit), "{} holds {used:?} of {limit:?}", allocator.queue_path(id));
    }
    Ok(())
}

/// Once all revoked tasks have ended, no queue is below its guarantee because of it, beneficiaries aside.
fn guarantees_are_kept(allocator: &Allocator, revocations: &[Revocation]) -> Result<(), TestCaseError> {
    let mut after = allocator.clone();
    for revocation in revocations {
        prop_assert_ne!(revocation.queue, revocation.beneficiary);
        after.finish_task(revocation.task, 0);
    }
    for revocation in revocations {
        let to_beneficiary: Vec<_> = allocator.path_of(revocation.beneficiary).collect();
        for id in allocator.path_of(revocation.queue).filter(|id| !to_beneficiary.contains(id)) {
            let (before, after) = (allocator.queue_used(id), after.queue_used(id));
            let guarantee = allocator.queue_spec(id).guarantee;
            let is_kept = |kind| after.get(kind) >= guarantee.get(kind) || after.get(kind) == before.get(kind);
            prop_assert!(Kind::all().all(is_kept), "{} is left {after:?}", allocator.queue_path(id));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(5_000))]

    /// *Conservation*: whatever happens, what is free, offered, used and reserved on an executor is its total, all
    /// sums agree, and when all tasks have ended and offers have expired everything is free.
    #[test]
    fn nothing_is_lost_or_given_twice(events in vec(event(), 1..150)) {
        let mut world = World::new();
        for event in &events {
            if let Some((offers, revocations)) = world.happen(event) {
                offers_are_within_limits(&world.allocator, &offers)?;
                guarantees_are_kept(&world.allocator, &revocations)?;
            }
            prop_assert_eq!(world.allocator.check(), Ok(()), "after {:?}", event);
        }
        let mut allocator = world.allocator;
        allocator.advance(world.now + 1_000_000);
        for task in running(&allocator) {
            allocator.finish_task(task, 0);
        }
        prop_assert_eq!(allocator.check(), Ok(()));
        prop_assert!(allocator.offers().is_empty() && allocator.queue_used(QueueId::ROOT).is_zero());
        for executor in allocator.executors() {
            prop_assert_eq!(allocator.executor_free(executor.id), executor.spec.total);
        }
    }
}

/// A queue that wants as many tasks of one shape as it can get.
#[derive(Debug, Clone)]
struct Hungry {
    path: String,
    weight: f64,
    unit: Resources,
}

/// Tasks small enough that a bound of one task says something: at most a twentieth of [`LARGE`].
fn small_task() -> impl Strategy<Value = Resources> {
    (1..=20_u64, 1..=20_u64).prop_map(|(cpu, memory)| Resources::new(cpu, memory))
}

fn hungry_queues(most: usize) -> impl Strategy<Value = Vec<Hungry>> {
    vec((1..5_u32, small_task()), 2..=most).prop_map(|queues| {
        let queues = queues.into_iter().enumerate();
        let queue = |(index, (weight, unit))| Hungry { path: format!("q{index}"), weight: f64::from(weight), unit };
        queues.map(queue).collect()
    })
}

fn large() -> Resources {
    Resources::new(400, 400)
}

fn cluster_of(executors: &[Resources]) -> Allocator {
    let mut allocator = Allocator::new(Options { restore_after_ms: 0, ..Options::default() });
    for (index, total) in executors.iter().enumerate() {
        let name = format!("executor-{index}");
        allocator.add_executor(ExecutorSpec { host: name.clone(), name, total: *total, ..ExecutorSpec::default() });
    }
    allocator
}

fn add_queues(allocator: &mut Allocator, queues: &[Hungry]) -> Vec<QueueId> {
    let spec = |queue: &Hungry| QueueSpec { weight: queue.weight, ..QueueSpec::default() };
    let ids: Vec<_> = queues.iter().map(|q| allocator.create_queue(&q.path, spec(q)).unwrap()).collect();
    for (id, queue) in ids.iter().zip(queues) {
        want(allocator, *id, queue.unit, 10_000);
    }
    ids
}

fn want(allocator: &mut Allocator, queue: QueueId, unit: Resources, count: u32) {
    let ask = Ask { id: AskId(0), unit, count, hosts: vec![], reach: Reach::Anywhere, arrived: 0 };
    allocator.set_asks(queue, vec![ask], 0);
}

fn accept_all(allocator: &mut Allocator, offers: Vec<Offer>) {
    for offer in offers {
        allocator.accept(offer.id, &[offer.resources], 0).unwrap();
    }
}

fn fill(allocator: &mut Allocator) {
    loop {
        let offers = allocator.allocate(0);
        if offers.is_empty() {
            return;
        }
        accept_all(allocator, offers);
    }
}

/// The cluster after everybody has what they get.
fn filled(executors: &[Resources], queues: &[Hungry]) -> (Allocator, Vec<QueueId>) {
    let mut allocator = cluster_of(executors);
    let ids = add_queues(&mut allocator, queues);
    fill(&mut allocator);
    (allocator, ids)
}

/// Ends the oldest tasks one by one; what each held goes to whom it is due.
fn turn_over(allocator: &mut Allocator, times: usize) {
    for _ in 0..times {
        let started = |task: &TaskId| allocator.tasks[task.0 as u32 as usize].as_ref().map(|task| task.started);
        let Some(oldest) = running(allocator).into_iter().min_by_key(started) else { return };
        let executor = allocator.finish_task(oldest, 0).unwrap();
        let offers = allocator.allocate_on(executor, 0);
        accept_all(allocator, offers);
    }
}

fn tasks_of(allocator: &Allocator, queue: QueueId) -> u64 {
    allocator.leaves_below(queue).iter().map(|leaf| u64::from(allocator.queue(*leaf).task_count)).sum()
}

fn dominant(amount: &Resources, total: &Resources) -> f64 {
    amount.dominant_part(total).1
}

/// How many tasks of that shape could be run with so much.
fn tasks_in(room: &Resources, unit: &Resources) -> u64 {
    let kinds = Kind::all().filter(|kind| unit.get(*kind) > 0);
    kinds.map(|kind| room.get(kind) / unit.get(kind)).min().unwrap_or(0)
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// *Sharing incentive*: "Each user should be better off sharing the cluster, than exclusively using her own
    /// partition of the cluster" of the size of her weight.
    ///
    /// Bound: each may have one task more than its part before the others are served, so that a queue's part is
    /// that of the cluster without one task of each.
    #[test]
    fn sharing_incentive(queues in hungry_queues(8)) {
        let (allocator, ids) = filled(&[large()], &queues);
        let weights: f64 = queues.iter().map(|queue| queue.weight).sum();
        let one_of_each: f64 = queues.iter().map(|queue| dominant(&queue.unit, &large())).sum();
        for (id, queue) in ids.iter().zip(&queues) {
            let share = dominant(&allocator.queue_used(*id), &large());
            prop_assert!(share >= queue.weight / weights * (1.0 - one_of_each), "{} has {share}", queue.path);
        }
    }

    /// The same on many executors. Bound: where one is full of cpu and the next of memory, only half of the
    /// cluster is full of either; and on each less than a task is left over.
    #[test]
    fn sharing_incentive_on_many_executors(queues in hungry_queues(5), executors in 2..6_usize) {
        let totals = vec![Resources::new(100, 100); executors];
        let (allocator, ids) = filled(&totals, &queues);
        let total = allocator.total();
        let weights: f64 = queues.iter().map(|queue| queue.weight).sum();
        let one_of_each: f64 = queues.iter().map(|queue| dominant(&queue.unit, &total)).sum();
        for (id, queue) in ids.iter().zip(&queues) {
            let share = dominant(&allocator.queue_used(*id), &total);
            let usable = (1.0 - dominant(&queue.unit, &totals[0])) / 2.0;
            prop_assert!(share >= queue.weight / weights * (usable - one_of_each), "{} has {share}", queue.path);
        }
    }

    /// *Strategy-proofness*: "A user should not be able to benefit by lying about her resource demands."
    ///
    /// Bound: a lie may save a queue what it loses by rounding, which is one task of its own and one of the
    /// largest of the others.
    #[test]
    fn strategy_proofness(queues in hungry_queues(6), lie in small_task()) {
        let (honest, ids) = filled(&[large()], &queues);
        let truth = queues[0].unit;
        let mut lying = queues.clone();
        lying[0].unit = lie;
        let (lied, _) = filled(&[large()], &lying);
        let useful = tasks_in(&lied.queue_used(ids[0]), &truth);
        let largest = queues.iter().map(|queue| dominant(&queue.unit, &large())).fold(0.0, f64::max);
        let rounding = 1 + (largest / dominant(&truth, &large())).ceil() as u64;
        let honest = tasks_of(&honest, ids[0]);
        prop_assert!(useful <= honest + rounding, "{useful} by {lie:?}, {honest} by {truth:?}");
    }

    /// *Envy-freeness*: "A user should not prefer the allocation of another user", scaled by their weights.
    ///
    /// Bound: the other may have one task more than its part, and what is too small for a task of this one.
    #[test]
    fn envy_freeness(queues in hungry_queues(8)) {
        let (allocator, ids) = filled(&[large()], &queues);
        for (id, queue) in ids.iter().zip(&queues) {
            for (other, theirs) in ids.iter().zip(&queues) {
                let scale = |amount: u64| (amount as f64 * queue.weight / theirs.weight) as u64;
                let held = allocator.queue_used(*other);
                let held = Resources::new(scale(held.cpu_millis()), scale(held.memory_bytes()));
                let one_more = dominant(&theirs.unit, &large()) / dominant(&queue.unit, &large());
                let bound = (1.0 + one_more) * (queue.weight / theirs.weight).max(1.0);
                let bound = tasks_of(&allocator, *id) as f64 + bound;
                prop_assert!(tasks_in(&held, &queue.unit) as f64 <= bound, "{} envies {}", queue.path, theirs.path);
            }
        }
    }

    /// *Pareto efficiency*: "It should not be possible to increase the allocation of a user without decreasing the
    /// allocation of at least another user." Exact, on any number of executors.
    #[test]
    fn pareto_efficiency(queues in hungry_queues(8), executors in vec((20..200_u64, 20..200_u64), 1..6)) {
        let totals: Vec<_> = executors.into_iter().map(|(cpu, memory)| Resources::new(cpu, memory)).collect();
        let (allocator, _) = filled(&totals, &queues);
        for executor in allocator.executors() {
            let free = allocator.executor_free(executor.id);
            prop_assert!(queues.iter().all(|queue| !queue.unit.fits(&free)), "{free:?} is left");
        }
    }

    /// *Hierarchy*: what a tenant gets does not depend on the queues inside of another, when all of these run the
    /// same tasks; neither at once nor after all tasks have turned over.
    ///
    /// Bound: one task of either.
    #[test]
    fn a_tenant_does_not_gain_by_more_queues(
        units in (small_task(), small_task()),
        inner in vec((1..5_u32, vec(1..5_u32, 0..4)), 1..5),
    ) {
        let (mine, theirs) = units;
        let queue = |path: String, weight: u32, unit| Hungry { path, weight: f64::from(weight), unit };
        let flat = [queue("mine".to_owned(), 1, mine), queue("theirs".to_owned(), 1, theirs)];
        let (mut flat, flat_ids) = filled(&[large()], &flat);

        let mut nested = cluster_of(&[large()]);
        let id = add_queues(&mut nested, &[queue("mine".to_owned(), 1, mine)])[0];
        nested.create_queue("theirs", QueueSpec::default()).unwrap();
        for (index, (weight, leaves)) in inner.iter().enumerate() {
            let path = format!("theirs.{index}");
            if leaves.is_empty() {
                add_queues(&mut nested, &[queue(path, *weight, theirs)]);
                continue;
            }
            let spec = QueueSpec { weight: f64::from(*weight), ..QueueSpec::default() };
            nested.create_queue(&path, spec).unwrap();
            for (leaf, weight) in leaves.iter().enumerate() {
                add_queues(&mut nested, &[queue(format!("{path}.{leaf}"), *weight, theirs)]);
            }
        }
        fill(&mut nested);
        let bound = 1 + (dominant(&theirs, &large()) / dominant(&mine, &large())).ceil() as u64;
        for _ in 0..2 {
            let (flat_tasks, nested_tasks) = (tasks_of(&flat, flat_ids[0]), tasks_of(&nested, id));
            prop_assert!(flat_tasks.abs_diff(nested_tasks) <= bound, "{flat_tasks} tasks, {nested_tasks} when nested");
            turn_over(&mut flat, 500);
            turn_over(&mut nested, 500);
        }
    }

    /// *Guarantees first*: with enough for all guarantees, each queue that asks for it has at least its own, and
    /// who comes late has it restored; nobody is brought below theirs for it.
    #[test]
    fn guarantees_are_met(queues in vec((small_task(), 0..6_u64, any::<bool>()), 2..6), executors in 1..4_usize) {
        let mut allocator = cluster_of(&vec![large(); executors]);
        let mut ids = Vec::new();
        for (index, (unit, guaranteed, _)) in queues.iter().enumerate() {
            let spec = QueueSpec { guarantee: unit.times(*guaranteed), ..QueueSpec::default() };
            ids.push(allocator.create_queue(&format!("q{index}"), spec).unwrap());
        }
        for arrives_late in [false, true] {
            for (id, (unit, _, is_late)) in ids.iter().zip(&queues) {
                if *is_late == arrives_late {
                    want(&mut allocator, *id, *unit, 10_000);
                }
            }
            fill(&mut allocator);
            loop {
                let revocations = allocator.revoke(0);
                guarantees_are_kept(&allocator, &revocations)?;
                if revocations.is_empty() {
                    break;
                }
                for revocation in revocations {
                    let executor = allocator.finish_task(revocation.task, 0).unwrap();
                    let offers = allocator.allocate_on(executor, 0);
                    accept_all(&mut allocator, offers);
                }
                fill(&mut allocator);
            }
        }
        prop_assert_eq!(allocator.check(), Ok(()));
        for (id, (unit, guaranteed, _)) in ids.iter().zip(&queues) {
            prop_assert!(tasks_of(&allocator, *id) >= *guaranteed, "{id:?} with {unit:?} has less than {guaranteed}");
        }
    }

    /// *No starvation*: a queue that can use some of the executors and declines the others, with filters, has its
    /// part of those that it can use after all tasks have turned over.
    ///
    /// Bound: one task less. The offers to decline are as many as there are pairs of queue and executor.
    #[test]
    fn filters_starve_nobody(uses in vec(vec(any::<bool>(), 4), 2..6)) {
        const SLOTS: u64 = 20;
        let slot = Resources::new(1, 1);
        let mut allocator = cluster_of(&[slot.times(SLOTS); 4]);
        let executors: Vec<_> = allocator.executors().iter().map(|executor| executor.id).collect();
        let queues = (0..uses.len()).map(|index| Hungry { path: format!("q{index}"), weight: 1.0, unit: slot });
        let ids = add_queues(&mut allocator, &queues.collect::<Vec<_>>());
        let can_use = |offer: &Offer| {
            let queue = ids.iter().position(|id| *id == offer.queue).unwrap();
            let executor = executors.iter().position(|id| *id == offer.executor).unwrap();
            uses[queue][executor]
        };
        let mut rounds = 0;
        let answer = |allocator: &mut Allocator, offers: Vec<Offer>| {
            for offer in offers {
                if can_use(&offer) {
                    allocator.accept(offer.id, &[offer.resources], 0).unwrap();
                } else {
                    allocator.decline(offer.id, Some(Filter { until: 1_000 }), 0).unwrap();
                }
            }
        };
        loop {
            let offers = allocator.allocate(0);
            if offers.is_empty() {
                break;
            }
            answer(&mut allocator, offers);
            rounds += 1;
            prop_assert!(rounds <= uses.len() * executors.len() + 1);
        }
        for _ in 0..4 * SLOTS * 4 {
            let started = |task: &TaskId| allocator.tasks[task.0 as u32 as usize].as_ref().map(|task| task.started);
            let Some(oldest) = running(&allocator).into_iter().min_by_key(started) else { break };
            let executor = allocator.finish_task(oldest, 0).unwrap();
            let offers = allocator.allocate_on(executor, 0);
            answer(&mut allocator, offers);
        }
        for (id, uses) in ids.iter().zip(&uses) {
            let usable = SLOTS * uses.iter().filter(|uses| **uses).count() as u64;
            let tasks = tasks_of(&allocator, *id);
            prop_assert!(tasks + 1 >= usable / ids.len() as u64, "{id:?} has {tasks} of {usable}");
        }
    }

    /// What comes free on one executor goes to the same queues by an event there as by a full cycle.
    #[test]
    fn events_and_cycles_decide_alike(
        queues in hungry_queues(7),
        guaranteed in proptest::option::of(1..5_u64),
        executors in 1..4_usize,
        ends in vec(number(), 1..10),
    ) {
        let mut allocator = cluster_of(&vec![Resources::new(100, 100); executors]);
        for tenant in ["t0", "t1", "t1.t2"] {
            allocator.create_queue(tenant, QueueSpec::default()).unwrap();
        }
        let place = |(index, queue): (usize, Hungry)| {
            let tenant = ["", "t0.", "t1.", "t1.t2."][index % 4];
            Hungry { path: format!("{tenant}{}", queue.path), ..queue }
        };
        let queues: Vec<_> = queues.into_iter().enumerate().map(place).collect();
        let ids = add_queues(&mut allocator, &queues);
        if let Some(guaranteed) = guaranteed {
            let guarantee = queues[1].unit.times(guaranteed);
            allocator.alter_queue(ids[1], QueueSpec { guarantee, ..QueueSpec::default() }).unwrap();
        }
        fill(&mut allocator);
        for end in ends {
            let Some(task) = pick(&running(&allocator), end) else { break };
            let executor = allocator.finish_task(task, 0).unwrap();
            let by_cycle = allocator.clone().allocate(0);
            let by_event = allocator.allocate_on(executor, 0);
            prop_assert_eq!(&by_event, &by_cycle);
            accept_all(&mut allocator, by_event);
            fill(&mut allocator);
        }
    }
}
