//! The state machine: executors, queues, offers and tasks, and what happens to them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Millis;
use super::drf::{Choice, Policy};
use super::executor::{Executor, ExecutorId, ExecutorSpec, ExecutorState, ExecutorView, Reservation};
use super::index::RoomIndex;
use super::queue::{Ask, AskId, PendingAsk, Queue, QueueId, QueueSpec, QueueView, Reach};
use super::resources::{Kind, Resources};

/// How an allocator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which queue is served first.
    pub policy: Policy,
    /// How long an offer stands; unanswered, it is taken back.
    pub offer_ttl_ms: Millis,
    /// How long a queue whose next task fits nowhere waits until an executor is cleared for it.
    pub claim_after_ms: Millis,
    /// How long a queue below its guarantee waits until tasks of others are revoked.
    pub restore_after_ms: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self { policy: Policy::Drf, offer_ttl_ms: 10_000, claim_after_ms: 2_000, restore_after_ms: 10_000 }
    }
}

/// An offer; never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferId(pub u64);

/// A running task; never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A piece of an executor, held for one queue until it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// For whom.
    pub queue: QueueId,
    /// For which of the queue's asks.
    pub ask: AskId,
    /// Where.
    pub executor: ExecutorId,
    /// How much.
    pub resources: Resources,
    /// When it is taken back.
    pub expires_at: Millis,
    /// The part that comes out of a reservation, and whose.
    pub(super) reserved: Option<Box<(QueueId, Resources)>>,
}

/// What a queue does not want to be offered again, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// This ask is not offered this executor before that moment.
    pub until: Millis,
}

/// What goes when an executor goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departure {
    /// Tasks that were running there.
    pub lost: Vec<TaskId>,
    /// Offers of it that no longer stand.
    pub rescinded: Vec<OfferId>,
}

/// Why an answer to an offer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It was answered, rescinded, or has expired.
    #[error("the offer {0:?} no longer stands")]
    Gone(OfferId),
    /// The tasks together need more than was offered.
    #[error("the tasks need {needed:?} and {offered:?} was offered")]
    TooLarge {
        /// What they need.
        needed: Resources,
        /// What there is.
        offered: Resources,
    },
    /// No executor of that name, or it has not that much left to reserve.
    #[error("{0}")]
    Reservation(String),
}

/// Why a queue cannot be as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// There is none of that path.
    #[error("queue \"{0}\" does not exist")]
    NotFound(String),
    /// There is one of that path.
    #[error("queue \"{0}\" already exists")]
    Exists(String),
    /// The name is empty or has characters that a path cannot have.
    #[error("\"{0}\" cannot be the name of a queue: use letters, digits, '_' and '-', with '.' between levels")]
    Name(String),
    /// The weight is no number above zero.
    #[error("the weight of a queue must be a number above zero, not {0}")]
    Weight(String),
    /// The guarantee is above the limit.
    #[error("queue \"{0}\" would be guaranteed more than its limit")]
    GuaranteeAboveLimit(String),
    /// The guarantees of the children are more than the parent's.
    #[error("the queues below \"{0}\" would be guaranteed more than it is")]
    GuaranteesAboveParent(String),
    /// It has queues below it.
    #[error("queue \"{0}\" has queues below it")]
    HasChildren(String),
    /// It has tasks that run, offers that stand, or work that waits.
    #[error("queue \"{0}\" is in use")]
    InUse(String),
    /// The root and the default queue always are.
    #[error("queue \"{0}\" cannot be dropped")]
    Permanent(String),
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub queue: QueueId,
    pub executor: ExecutorId,
    pub resources: Resources,
    pub reserved: Option<Box<(QueueId, Resources)>>,
    /// The number of the decision that started it: larger is younger.
    pub started: u64,
    pub generation: u32,
    pub revoked: bool,
    /// Links to the tasks of the same queue and of the same executor: (older, younger).
    pub in_queue: (Option<u32>, Option<u32>),
    pub on_executor: (Option<u32>, Option<u32>),
}

/// Shares executors between queues.
///
/// Calls that take a `now` may come in any order of time; the latest seen counts.
#[derive(Debug, Clone)]
pub struct Allocator {
    pub(super) options: Options,
    pub(super) executors: Vec<Option<Executor>>,
    by_name: HashMap<String, ExecutorId>,
    by_host: HashMap<String, Vec<ExecutorId>>,
    by_rack: HashMap<String, Vec<ExecutorId>>,
    /// All that the executors have.
    pub(super) total: Resources,
    /// What is free for any queue, on all executors together.
    free: Resources,
    room: RoomIndex,
    capacity: RoomIndex,
    pub(super) queues: Vec<Queue>,
    by_path: HashMap<String, QueueId>,
    pub(super) tasks: Vec<Option<Task>>,
    vacant_tasks: Vec<(u32, u32)>,
    offers: HashMap<OfferId, Offer>,
    offer_deadlines: BinaryHeap<Reverse<(Millis, OfferId)>>,
    filters: HashMap<(QueueId, AskId, ExecutorId), Millis>,
    filter_deadlines: BinaryHeap<Reverse<(Millis, (QueueId, AskId, ExecutorId))>>,
    /// How many asks want a task of each shape.
    shapes: HashMap<Resources, u32>,
    /// Executors with reservations.
    reserving: Vec<ExecutorId>,
    pub(super) cycle: u64,
    decision: u64,
    pub(super) now: Millis,
    /// Executors came or went since the order was last computed.
    stale: bool,
}

impl Allocator {
    /// No executors, and the queue `root`.
    pub fn new(options: Options) -> Self {
        let root = Queue::new("root".to_owned(), None, QueueSpec::default());
        Self {
            options,
            executors: Vec::new(),
            by_name: HashMap::new(),
            by_host: HashMap::new(),
            by_rack: HashMap::new(),
            total: Resources::ZERO,
            free: Resources::ZERO,
            room: RoomIndex::default(),
            capacity: RoomIndex::default(),
            queues: vec![root],
            by_path: HashMap::from([("root".to_owned(), QueueId::ROOT)]),
            tasks: Vec::new(),
            vacant_tasks: Vec::new(),
            offers: HashMap::new(),
            offer_deadlines: BinaryHeap::new(),
            filters: HashMap::new(),
            filter_deadlines: BinaryHeap::new(),
            shapes: HashMap::new(),
            reserving: Vec::new(),
            cycle: 1,
            decision: 0,
            now: 0,
            stale: false,
        }
    }

    pub(super) fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.0 as usize]
    }

    pub(super) fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        &mut self.queues[id.0 as usize]
    }

    pub(super) fn executor(&self, id: ExecutorId) -> Option<&Executor> {
        self.executors.get(id.0 as usize)?.as_ref()
    }

    /// The queue and those above it, up to the root.
    pub(super) fn path_of(&self, queue: QueueId) -> impl Iterator<Item = QueueId> + '_ {
        std::iter::successors(Some(queue), |id| self.queue(*id).parent)
    }

    // ---- executors

    /// An executor joins. One of the same name is replaced, as if it had been lost.
    pub fn add_executor(&mut self, spec: ExecutorSpec) -> (ExecutorId, Departure) {
        let departure =
            self.by_name.get(&spec.name).copied().map(|known| self.remove_executor(known)).unwrap_or_default();
        let id = ExecutorId(self.executors.len() as u32);
        self.by_name.insert(spec.name.clone(), id);
        self.by_host.entry(spec.host.clone()).or_default().push(id);
        self.by_rack.entry(spec.rack.clone()).or_default().push(id);
        self.total = self.total.plus(&spec.total);
        self.capacity.set(id.0 as usize, spec.total);
        self.executors.push(Some(Executor::new(spec)));
        self.update_room(id);
        self.stale = true;
        (id, departure)
    }

    /// An executor leaves or is lost, with all that runs there.
    pub fn remove_executor(&mut self, id: ExecutorId) -> Departure {
        let Some(executor) = self.executor(id) else { return Departure::default() };
        let mut departure = Departure::default();
        let mut next = executor.youngest;
        while let Some(index) = next {
            next = self.tasks[index as usize].as_ref().and_then(|task| task.on_executor.0);
            departure.lost.push(self.task_id(index));
        }
        departure.rescinded = self.offers.values().filter(|offer| offer.executor == id).map(|offer| offer.id).collect();
        departure.rescinded.sort_unstable();
        for task in &departure.lost {
            self.finish_task(*task, self.now);
        }
        for offer in &departure.rescinded {
            self.rescind(*offer);
        }
        self.release_claim_on(id);
        if let Some(executor) = self.executors[id.0 as usize].take() {
            self.total = self.total.minus(&executor.spec.total);
            self.free = self.free.minus(&self.room.get(id.0 as usize));
            self.by_name.remove(&executor.spec.name);
            for (map, key) in [(&mut self.by_host, &executor.spec.host), (&mut self.by_rack, &executor.spec.rack)] {
                if let Some(ids) = map.get_mut(key) {
                    ids.retain(|known| *known != id);
                    if ids.is_empty() {
                        map.remove(key);
                    }
                }
            }
        }
        self.reserving.retain(|known| *known != id);
        self.room.set(id.0 as usize, Resources::ZERO);
        self.capacity.set(id.0 as usize, Resources::ZERO);
        self.stale = true;
        departure
    }

    /// Offers an executor no more, or again. Its tasks go on.
    pub fn set_executor_state(&mut self, id: ExecutorId, state: ExecutorState) {
        if let Some(executor) = self.executors.get_mut(id.0 as usize).and_then(Option::as_mut) {
            executor.state = state;
            if state == ExecutorState::Draining {
                self.release_claim_on(id);
            }
            self.update_room(id);
        }
    }

    /// The executor of that name.
    pub fn find_executor(&self, name: &str) -> Option<ExecutorId> {
        self.by_name.get(name).copied()
    }

    /// Keeps `amount` of an executor for a queue and those below it; zero gives it back.
    ///
    /// It replaces what was reserved there for the same queue. What is in use stays with whoever uses
    /// it until it ends.
    pub fn reserve(&mut self, id: ExecutorId, queue: QueueId, amount: Resources) -> Result<(), OfferError> {
        let Some(executor) = self.executors.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return Err(OfferError::Reservation("there is no such executor".to_owned()));
        };
        let others = executor
            .reservations
            .iter()
            .filter(|reservation| reservation.queue != queue)
            .fold(amount, |sum, reservation| sum.plus(&reservation.amount));
        if !others.fits(&executor.spec.total) {
            let message = format!("executor \"{}\" does not have that much left to reserve", executor.spec.name);
            return Err(OfferError::Reservation(message));
        }
        let known = executor.reservations.iter_mut().find(|reservation| reservation.queue == queue);
        match known {
            Some(reservation) => reservation.amount = amount,
            None => executor.reservations.push(Reservation { queue, amount, used: Resources::ZERO }),
        }
        // One that is still in use is kept, with amount zero, until its tasks have ended.
        executor.reservations.retain(|reservation| !reservation.amount.is_zero() || !reservation.used.is_zero());
        if executor.reservations.is_empty() {
            self.reserving.retain(|known| *known != id);
        } else if !self.reserving.contains(&id) {
            self.reserving.push(id);
        }
        self.update_room(id);
        Ok(())
    }

    /// Sets what others may find on the executor.
    pub(super) fn update_room(&mut self, id: ExecutorId) {
        let position = id.0 as usize;
        let room = match &self.executors[position] {
            Some(executor) if executor.state == ExecutorState::Active && executor.claimed_by.is_none() => {
                executor.unreserved_free()
            }
            _ => Resources::ZERO,
        };
        self.free = self.free.minus(&self.room.get(position)).plus(&room);
        self.room.set(position, room);
    }

    // ---- queues

    /// A new queue; `path` is its names from the top, joined by dots, with or without `root.` before.
    pub fn create_queue(&mut self, path: &str, spec: QueueSpec) -> Result<QueueId, QueueError> {
        let path = full_path(path);
        if self.by_path.contains_key(&path) {
            return Err(QueueError::Exists(path));
        }
        let (parent_path, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let is_allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_allowed) {
            return Err(QueueError::Name(name.to_owned()));
        }
        let parent = self.find_queue(parent_path).ok_or_else(|| QueueError::NotFound(parent_path.to_owned()))?;
        if parent != QueueId::ROOT && self.queue(parent).is_leaf() && self.queue(parent).is_active() {
            return Err(QueueError::InUse(parent_path.to_owned()));
        }
        self.check_spec(&path, parent, None, &spec)?;
        let id = QueueId(self.queues.len() as u32);
        if self.queue(parent).is_leaf() {
            self.leave_order(parent);
            if let Some(grandparent) = self.queue(parent).parent {
                self.queue_mut(grandparent).inner.push(parent);
            }
        }
        self.queue_mut(parent).children.push(id);
        self.by_path.insert(path.clone(), id);
        self.queues.push(Queue::new(path.clone(), Some(parent), spec));
        self.stale = true;
        Ok(id)
    }

    /// Gives a queue other properties. They count from the next decision on.
    pub fn alter_queue(&mut self, id: QueueId, spec: QueueSpec) -> Result<(), QueueError> {
        let path = self.queue(id).path.clone();
        if let Some(parent) = self.queue(id).parent {
            self.check_spec(&path, parent, Some(id), &spec)?;
        }
        let below = self.queue(id).children.iter();
        let guaranteed = below.fold(Resources::ZERO, |sum, child| sum.plus(&self.queue(*child).spec.guarantee));
        if exceeds_where_given(&guaranteed, &spec.guarantee) {
            return Err(QueueError::GuaranteesAboveParent(path));
        }
        self.queue_mut(id).spec = spec;
        self.stale = true;
        Ok(())
    }

    /// Removes a queue that nothing runs in and nothing waits in. Its reservations end.
    pub fn drop_queue(&mut self, id: QueueId) -> Result<(), QueueError> {
        let queue = self.queue(id);
        let path = queue.path.clone();
        let Some(parent) = queue.parent else { return Err(QueueError::Permanent(path)) };
        if !queue.is_leaf() {
            return Err(QueueError::HasChildren(path));
        }
        if queue.is_active() {
            return Err(QueueError::InUse(path));
        }
        for executor in self.reserving.clone() {
            // A reservation can always be given back.
            let _ = self.reserve(executor, id, Resources::ZERO);
        }
        self.leave_order(id);
        self.by_path.remove(&path);
        self.queue_mut(id).removed = true;
        self.queue_mut(parent).children.retain(|child| *child != id);
        if self.queue(parent).is_leaf() {
            if let Some(grandparent) = self.queue(parent).parent {
                self.queue_mut(grandparent).inner.retain(|inner| *inner != parent);
            }
        }
        self.stale = true;
        Ok(())
    }

    fn check_spec(
        &self,
        path: &str,
        parent: QueueId,
        itself: Option<QueueId>,
        spec: &QueueSpec,
    ) -> Result<(), QueueError> {
        if !(spec.weight.is_finite() && spec.weight > 0.0) {
            return Err(QueueError::Weight(spec.weight.to_string()));
        }
        if !spec.guarantee.fits(&spec.limit) {
            return Err(QueueError::GuaranteeAboveLimit(path.to_owned()));
        }
        let siblings = self.queue(parent).children.iter().filter(|child| Some(**child) != itself);
        let guaranteed = siblings.fold(spec.guarantee, |sum, child| sum.plus(&self.queue(*child).spec.guarantee));
        if exceeds_where_given(&guaranteed, &self.queue(parent).spec.guarantee) {
            return Err(QueueError::GuaranteesAboveParent(self.queue(parent).path.clone()));
        }
        Ok(())
    }

    /// The queue of that path, with or without `root.` before.
    pub fn find_queue(&self, path: &str) -> Option<QueueId> {
        self.by_path.get(&full_path(path)).copied()
    }

    /// Whether tasks can run in the queue itself; only queues without children run tasks.
    pub fn runs_tasks(&self, id: QueueId) -> bool {
        id != QueueId::ROOT && self.queue(id).is_leaf() && !self.queue(id).removed
    }

    // ---- what queues want

    /// Replaces all that a queue asks for, not counting offers that stand.
    pub fn set_asks(&mut self, queue: QueueId, asks: Vec<Ask>, now: Millis) {
        self.advance(now);
        if !self.runs_tasks(queue) {
            return;
        }
        let old = std::mem::take(&mut self.queue_mut(queue).asks);
        for pending in old.iter().filter(|pending| pending.ask.count > 0) {
            self.forget_shape(&pending.ask.unit);
        }
        let mut pending_asks = Vec::with_capacity(asks.len());
        for ask in asks {
            if ask.count > 0 {
                *self.shapes.entry(ask.unit).or_default() += 1;
            }
            let is_possible = self.capacity.find(&ask.unit, |_| true).is_some();
            pending_asks.push(PendingAsk { ask, is_possible, unplaced_in_cycle: 0 });
        }
        self.queue_mut(queue).asks = pending_asks;
        self.refresh(queue);
        if !self.queue(queue).wants_any() {
            self.release_claim_of(queue);
        }
    }

    /// No offers until [`Self::revive`].
    pub fn suppress(&mut self, queue: QueueId) {
        self.queue_mut(queue).suppressed = true;
        self.release_claim_of(queue);
        self.refresh(queue);
    }

    /// Offers again, and forgets all filters of the queue.
    pub fn revive(&mut self, queue: QueueId) {
        self.queue_mut(queue).suppressed = false;
        self.filters.retain(|(of, _, _), _| *of != queue);
        self.queue_mut(queue).filter_count = 0;
        self.refresh(queue);
    }

    /// Whether any executor that is here could run a task of that shape if it were empty.
    pub fn is_possible(&self, unit: &Resources) -> bool {
        self.capacity.find(unit, |_| true).is_some()
    }

    fn forget_shape(&mut self, unit: &Resources) {
        if let Some(count) = self.shapes.get_mut(unit) {
            *count -= 1;
            if *count == 0 {
                self.shapes.remove(unit);
            }
        }
    }

    /// Computes a leaf's place in the order, and what it and those above it want and are pledged.
    pub(super) fn refresh(&mut self, leaf: QueueId) {
        self.leave_order(leaf);
        let cycle = self.cycle;
        let queue = self.queue(leaf);
        if !queue.is_leaf() || queue.removed {
            return;
        }
        let choice = queue.first_ask(cycle).map(|ask| self.leaf_choice(leaf, ask));
        let wanted = queue.wanted_by_asks();
        let now = self.now;
        let queue = self.queue_mut(leaf);
        match (wanted.is_zero(), queue.waiting_since) {
            (true, Some(_)) => queue.waiting_since = None,
            (false, None) => queue.waiting_since = Some(now),
            _ => {}
        }
        queue.ready_as = choice;
        let parent = queue.parent;
        if let (Some(choice), Some(parent)) = (choice, parent) {
            self.queue_mut(parent).ready.insert((choice.key, leaf));
        }
        self.update_path(leaf, wanted);
    }

    /// Passes a change of a leaf's wishes up to the root.
    fn update_path(&mut self, leaf: QueueId, wanted: Resources) {
        let old_wanted = std::mem::replace(&mut self.queue_mut(leaf).wanted, wanted);
        let mut old_pledged = self.queue(leaf).pledged;
        let claim_unit = match self.queue(leaf).claim {
            // What an executor is being cleared for need not be kept free elsewhere, too.
            Some(_) => self.queue(leaf).asks.iter().find(|a| a.is_wanted()).map(|a| a.ask.unit).unwrap_or_default(),
            None => Resources::ZERO,
        };
        let mut pledged = self.queue(leaf).claimed_guarantee().minus(&claim_unit);
        self.queue_mut(leaf).pledged = pledged;
        let mut node = self.queue(leaf).parent;
        while let Some(id) = node {
            let queue = self.queue_mut(id);
            queue.next = None;
            queue.wanted = queue.wanted.minus(&old_wanted).plus(&wanted);
            queue.children_pledged = queue.children_pledged.minus(&old_pledged).plus(&pledged);
            old_pledged = queue.pledged;
            pledged = queue.claimed_guarantee().minus(&claim_unit).max(&queue.children_pledged);
            queue.pledged = pledged;
            node = queue.parent;
        }
    }

    fn leave_order(&mut self, leaf: QueueId) {
        let queue = self.queue_mut(leaf);
        if let (Some(choice), Some(parent)) = (queue.ready_as.take(), queue.parent) {
            self.queue_mut(parent).ready.remove(&(choice.key, leaf));
            for id in self.path_of(parent).collect::<Vec<_>>() {
                self.queue_mut(id).next = None;
            }
        }
    }

    /// Computes everything anew that depends on which executors and queues there are.
    fn refresh_all(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            (queue.next, queue.pledged, queue.children_pledged) = (None, Resources::ZERO, Resources::ZERO);
            queue.wanted = Resources::ZERO;
            if !queue.is_leaf() {
                queue.asks.clear();
            }
        }
        let mut possible: HashMap<Resources, bool> = HashMap::new();
        for index in 0..self.queues.len() {
            let id = QueueId(index as u32);
            let mut asks = std::mem::take(&mut self.queue_mut(id).asks);
            for pending in &mut asks {
                let unit = pending.ask.unit;
                pending.is_possible = *possible.entry(unit).or_insert_with(|| self.is_possible(&unit));
            }
            self.queue_mut(id).asks = asks;
            if id != QueueId::ROOT {
                self.refresh(id);
            }
        }
    }

    // ---- offers

    /// One full cycle: offers all that is free to the queues that want it, in order.
    pub fn allocate(&mut self, now: Millis) -> Vec<Offer> {
        self.advance(now);
        self.refresh_all();
        self.cycle += 1;
        let mut unplaced = Vec::new();
        let mut offers = Vec::new();
        while let Some(choice) = self.next_below(QueueId::ROOT) {
            match self.place(&choice) {
                Some(executor) => offers.push(self.offer(&choice, executor)),
                None => {
                    // Room only shrinks within a cycle, so that it need not be tried again.
                    let cycle = self.cycle;
                    self.queue_mut(choice.leaf).asks[choice.ask].unplaced_in_cycle = cycle;
                    unplaced.push(choice.leaf);
                    self.refresh(choice.leaf);
                }
            }
        }
        self.cycle += 1;
        unplaced.sort_unstable();
        unplaced.dedup();
        for leaf in &unplaced {
            self.refresh(*leaf);
        }
        self.claim_for(&unplaced);
        offers
    }

    /// Offers what is free on one executor, after something ended there.
    pub fn allocate_on(&mut self, id: ExecutorId, now: Millis) -> Vec<Offer> {
        self.advance(now);
        self.refresh_all();
        let mut offers = Vec::new();
        while let Some(executor) = self.executor(id).filter(|executor| executor.state == ExecutorState::Active) {
            let free = executor.unreserved_free();
            let most = executor.spec.total.minus(&executor.used);
            if !self.shapes.keys().any(|shape| shape.fits(&most)) {
                break;
            }
            let Some(choice) = self.next_on(QueueId::ROOT, id, &free) else { break };
            offers.push(self.offer(&choice, id));
        }
        offers
    }

    /// The first ask of the leaf that can be served by that executor now.
    pub(super) fn ask_on(&self, leaf: QueueId, id: ExecutorId, free: &Resources) -> Option<usize> {
        let executor = self.executor(id)?;
        if executor.claimed_by.is_some_and(|claimant| claimant != leaf) {
            return None;
        }
        let queue = self.queue(leaf);
        let kept = if executor.reservations.is_empty() { Resources::ZERO } else { self.kept_for(leaf, executor) };
        let room = free.plus(&kept);
        queue.asks.iter().position(|pending| {
            let unit = &pending.ask.unit;
            pending.is_wanted()
                && unit.fits(&room)
                && pending.reaches(executor, |host| self.rack_of(host))
                && !self.is_filtered(queue, leaf, pending.ask.id, id)
                && self.is_allowed(leaf, unit, &unit.minus(&kept))
        })
    }

    /// Where the ask is to be served, if anywhere.
    fn place(&self, choice: &Choice) -> Option<ExecutorId> {
        let queue = self.queue(choice.leaf);
        let pending = &queue.asks[choice.ask];
        let unit = &pending.ask.unit;
        let fits_on = |id: ExecutorId| {
            self.executor(id).is_some_and(|executor| {
                executor.state == ExecutorState::Active
                    && self.ask_on(choice.leaf, id, &executor.unreserved_free()) == Some(choice.ask)
            })
        };
        if let Some(claimed) = queue.claim.filter(|id| fits_on(*id)) {
            return Some(claimed);
        }
        if let Some(reserving) = self.reserving.iter().copied().find(|id| {
            self.executor(*id).is_some_and(|executor| !self.kept_for(choice.leaf, executor).is_zero()) && fits_on(*id)
        }) {
            return Some(reserving);
        }
        if !self.is_allowed(choice.leaf, unit, unit) {
            return None;
        }
        let accepts = |id: ExecutorId| {
            unit.fits(&self.room.get(id.0 as usize)) && !self.is_filtered(queue, choice.leaf, pending.ask.id, id)
        };
        let roomiest = |ids: &mut dyn Iterator<Item = ExecutorId>| {
            ids.filter(|id| accepts(*id)).max_by_key(|id| (self.room.get(id.0 as usize).cpu_millis(), Reverse(*id)))
        };
        let mut on_hosts = pending.ask.hosts.iter().filter_map(|host| self.by_host.get(host)).flatten().copied();
        if let Some(near) = roomiest(&mut on_hosts) {
            return Some(near);
        }
        if pending.ask.reach >= Reach::Racks {
            let racks = pending.ask.hosts.iter().filter_map(|host| self.rack_of(host));
            let mut in_racks = racks.filter_map(|rack| self.by_rack.get(&rack)).flatten().copied();
            if let Some(near) = roomiest(&mut in_racks) {
                return Some(near);
            }
        }
        if pending.ask.reach < Reach::Anywhere {
            return None;
        }
        let found = self.room.find(unit, |position| {
            queue.filter_count == 0 || !self.is_filtered(queue, choice.leaf, pending.ask.id, ExecutorId(position as u32))
        })?;
        Some(ExecutorId(found as u32))
    }

    /// The rack of a host, if an executor is there to say so.
    fn rack_of(&self, host: &str) -> Option<String> {
        let executor = self.executor(*self.by_host.get(host)?.first()?)?;
        (!executor.spec.rack.is_empty()).then(|| executor.spec.rack.clone())
    }

    /// Whether limits, and what others are guaranteed, let the leaf have one more `unit`.
    ///
    /// `from_free` is the part of it that no reservation covers.
    fn is_allowed(&self, leaf: QueueId, unit: &Resources, from_free: &Resources) -> bool {
        if !self.path_of(leaf).all(|id| self.queue(id).is_within_limit_with(unit)) {
            return false;
        }
        let pledged = &self.queue(QueueId::ROOT).pledged;
        if pledged.is_zero() || self.path_of(leaf).any(|id| self.queue(id).is_below_guarantee_with(unit)) {
            return true;
        }
        Kind::all().all(|kind| {
            let (need, kept) = (from_free.get(kind), pledged.get(kind));
            need == 0 || kept == 0 || need.saturating_add(kept) <= self.free.get(kind)
        })
    }

    /// What of the executor's reservations the leaf may still use.
    fn kept_for(&self, leaf: QueueId, executor: &Executor) -> Resources {
        let mine = executor.reservations.iter().find(|r| self.path_of(leaf).any(|id| id == r.queue));
        mine.map(|reservation| reservation.amount.minus(&reservation.used)).unwrap_or_default()
    }

    fn is_filtered(&self, queue: &Queue, leaf: QueueId, ask: AskId, executor: ExecutorId) -> bool {
        queue.filter_count > 0 && self.filters.contains_key(&(leaf, ask, executor))
    }

    fn offer(&mut self, choice: &Choice, executor_id: ExecutorId) -> Offer {
        self.decision += 1;
        let decision = self.decision;
        let (leaf, now) = (choice.leaf, self.now);
        let queue = self.queue_mut(leaf);
        let ask = &mut queue.asks[choice.ask].ask;
        ask.count -= 1;
        let (unit, ask_id, is_last) = (ask.unit, ask.id, ask.count == 0);
        queue.waiting_since = Some(now);
        if is_last {
            self.forget_shape(&unit);
        }
        let reserved = self.executor(executor_id).and_then(|executor| {
            let mine = executor.reservations.iter().find(|r| self.path_of(leaf).any(|id| id == r.queue))?;
            let part = unit.min(&mine.amount.minus(&mine.used));
            (!part.is_zero()).then(|| Box::new((mine.queue, part)))
        });
        if let Some(executor) = self.executors[executor_id.0 as usize].as_mut() {
            executor.outstanding_offers += 1;
        }
        self.hold(leaf, executor_id, &unit, reserved.as_deref());
        if self.queue(leaf).claim.is_some() {
            // Served, here or elsewhere: the executor need not be kept clear any longer.
            self.release_claim_of(leaf);
        }
        for id in self.path_of(leaf).collect::<Vec<_>>() {
            self.queue_mut(id).last_served = decision;
        }
        self.refresh(leaf);
        let offer = Offer {
            id: OfferId(decision),
            queue: leaf,
            ask: ask_id,
            executor: executor_id,
            resources: unit,
            expires_at: self.now + self.options.offer_ttl_ms,
            reserved,
        };
        self.offer_deadlines.push(Reverse((offer.expires_at, offer.id)));
        self.offers.insert(offer.id, offer.clone());
        offer
    }

    /// Charges resources of an executor to a queue and all above it. The caller refreshes the leaf.
    fn hold(&mut self, leaf: QueueId, id: ExecutorId, amount: &Resources, reserved: Option<&(QueueId, Resources)>) {
        let mut node = Some(leaf);
        while let Some(queue) = node {
            let queue = self.queue_mut(queue);
            queue.used = queue.used.plus(amount);
            node = queue.parent;
        }
        if let Some(executor) = self.executors[id.0 as usize].as_mut() {
            executor.used = executor.used.plus(amount);
            if let Some((of, part)) = reserved
                && let Some(reservation) = executor.reservations.iter_mut().find(|r| r.queue == *of)
            {
                reservation.used = reservation.used.plus(part);
            }
        }
        self.update_room(id);
    }

    /// The opposite of [`Self::hold`].
    fn give_back(
        &mut self,
        leaf: QueueId,
        id: ExecutorId,
        amount: &Resources,
        reserved: Option<&(QueueId, Resources)>,
    ) {
        let mut node = Some(leaf);
        while let Some(queue) = node {
            let queue = self.queue_mut(queue);
            queue.used = queue.used.minus(amount);
            node = queue.parent;
        }
        if let Some(executor) = self.executors[id.0 as usize].as_mut() {
            executor.used = executor.used.minus(amount);
            if let Some((of, part)) = reserved {
                if let Some(reservation) = executor.reservations.iter_mut().find(|r| r.queue == *of) {
                    reservation.used = reservation.used.minus(part);
                }
                executor.reservations.retain(|r| !r.amount.is_zero() || !r.used.is_zero());
            }
        }
        self.update_room(id);
    }

    /// Launches tasks on an offer. What they leave of it is free again at once.
    pub fn accept(&mut self, id: OfferId, tasks: &[Resources], now: Millis) -> Result<Vec<TaskId>, OfferError> {
        self.advance(now);
        let offer = self.offers.get(&id).ok_or(OfferError::Gone(id))?;
        let needed = tasks.iter().fold(Resources::ZERO, |sum, task| sum.plus(task));
        if !needed.fits(&offer.resources) {
            return Err(OfferError::TooLarge { needed, offered: offer.resources });
        }
        let Some(offer) = self.close_offer(id) else { return Err(OfferError::Gone(id)) };
        let mut reserved_left = offer.reserved.as_deref().copied();
        let mut started = Vec::with_capacity(tasks.len());
        for resources in tasks {
            let reserved = reserved_left.as_mut().and_then(|(of, left)| {
                let part = resources.min(left);
                *left = left.minus(&part);
                (!part.is_zero()).then(|| Box::new((*of, part)))
            });
            started.push(self.start_task(offer.queue, offer.executor, *resources, reserved));
        }
        let rest = offer.resources.minus(&needed);
        if !rest.is_zero() {
            self.give_back(offer.queue, offer.executor, &rest, reserved_left.as_ref());
            self.refresh(offer.queue);
        }
        Ok(started)
    }

    /// Refuses an offer; with a filter, the same ask is not offered that executor before it ends.
    pub fn decline(&mut self, id: OfferId, filter: Option<Filter>, now: Millis) -> Result<(), OfferError> {
        self.advance(now);
        let offer = self.rescind(id).ok_or(OfferError::Gone(id))?;
        if let Some(filter) = filter.filter(|filter| filter.until > self.now) {
            let key = (offer.queue, offer.ask, offer.executor);
            if self.filters.insert(key, filter.until).is_none() {
                self.queue_mut(offer.queue).filter_count += 1;
            }
            self.filter_deadlines.push(Reverse((filter.until, key)));
        }
        Ok(())
    }

    /// Takes an offer back before it is answered.
    pub fn rescind(&mut self, id: OfferId) -> Option<Offer> {
        let offer = self.close_offer(id)?;
        let asks = &mut self.queue_mut(offer.queue).asks;
        if let Some(pending) = asks.iter_mut().find(|pending| pending.ask.id == offer.ask) {
            pending.ask.count += 1;
            if pending.ask.count == 1 {
                let unit = pending.ask.unit;
                *self.shapes.entry(unit).or_default() += 1;
            }
        }
        self.give_back(offer.queue, offer.executor, &offer.resources, offer.reserved.as_deref());
        self.refresh(offer.queue);
        Some(offer)
    }

    fn close_offer(&mut self, id: OfferId) -> Option<Offer> {
        let offer = self.offers.remove(&id)?;
        if let Some(executor) = self.executors[offer.executor.0 as usize].as_mut() {
            executor.outstanding_offers -= 1;
        }
        Some(offer)
    }

    /// Lets time pass: offers that were not answered in time are taken back, filters end.
    ///
    /// Every call with a `now` does so. Returns the offers taken back.
    pub fn advance(&mut self, now: Millis) -> Vec<OfferId> {
        self.now = self.now.max(now);
        let mut expired = Vec::new();
        while let Some(Reverse((at, id))) = self.offer_deadlines.peek().copied().filter(|next| next.0.0 <= self.now) {
            debug_assert!(at <= self.now);
            self.offer_deadlines.pop();
            if self.rescind(id).is_some() {
                expired.push(id);
            }
        }
        while let Some(Reverse((_, key))) = self.filter_deadlines.peek().copied().filter(|next| next.0.0 <= self.now) {
            self.filter_deadlines.pop();
            if self.filters.get(&key).is_some_and(|until| *until <= self.now) {
                self.filters.remove(&key);
                self.queue_mut(key.0).filter_count -= 1;
            }
        }
        expired
    }

    /// When [`Self::advance`] has something to do next, at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        let offer = self.offer_deadlines.peek().map(|Reverse((at, _))| *at);
        let filter = self.filter_deadlines.peek().map(|Reverse((at, _))| *at);
        offer.into_iter().chain(filter).min()
    }

    // ---- tasks

    fn task_id(&self, index: u32) -> TaskId {
        let generation = self.tasks[index as usize].as_ref().map_or(0, |task| task.generation);
        TaskId(u64::from(generation) << 32 | u64::from(index))
    }

    fn start_task(
        &mut self,
        queue: QueueId,
        executor: ExecutorId,
        resources: Resources,
        reserved: Option<Box<(QueueId, Resources)>>,
    ) -> TaskId {
        self.decision += 1;
        let (index, generation) = self.vacant_tasks.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            ((self.tasks.len() - 1) as u32, 0)
        });
        let older_in_queue = self.queue_mut(queue).youngest.replace(index);
        if self.queue(queue).oldest.is_none() {
            self.queue_mut(queue).oldest = Some(index);
        }
        self.queue_mut(queue).task_count += 1;
        let mut older_on_executor = None;
        if let Some(executor) = self.executors[executor.0 as usize].as_mut() {
            older_on_executor = executor.youngest.replace(index);
            executor.task_count += 1;
        }
        if let Some(older) = older_in_queue.and_then(|older| self.tasks[older as usize].as_mut()) {
            older.in_queue.1 = Some(index);
        }
        if let Some(older) = older_on_executor.and_then(|older| self.tasks[older as usize].as_mut()) {
            older.on_executor.1 = Some(index);
        }
        self.tasks[index as usize] = Some(Task {
            queue,
            executor,
            resources,
            reserved,
            started: self.decision,
            generation,
            revoked: false,
            in_queue: (older_in_queue, None),
            on_executor: (older_on_executor, None),
        });
        self.task_id(index)
    }

    /// A task ended, however it did: what it held is free. Unknown tasks are ignored.
    pub fn finish_task(&mut self, id: TaskId, now: Millis) -> Option<ExecutorId> {
        self.now = self.now.max(now);
        let (index, generation) = (id.0 as u32, (id.0 >> 32) as u32);
        let slot = self.tasks.get_mut(index as usize)?;
        if slot.as_ref()?.generation != generation {
            return None;
        }
        let task = slot.take()?;
        self.vacant_tasks.push((index, generation.wrapping_add(1)));
        let (older, younger) = task.in_queue;
        match younger.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(younger) => younger.in_queue.0 = older,
            None => self.queue_mut(task.queue).youngest = older,
        }
        match older.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(older) => older.in_queue.1 = younger,
            None => self.queue_mut(task.queue).oldest = younger,
        }
        self.queue_mut(task.queue).task_count -= 1;
        let (older, younger) = task.on_executor;
        if let Some(older) = older.and_then(|index| self.tasks[index as usize].as_mut()) {
            older.on_executor.1 = younger;
        }
        match younger.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(younger) => younger.on_executor.0 = older,
            None => {
                if let Some(executor) = self.executors[task.executor.0 as usize].as_mut() {
                    executor.youngest = older;
                }
            }
        }
        if let Some(executor) = self.executors[task.executor.0 as usize].as_mut() {
            executor.task_count -= 1;
        }
        self.give_back(task.queue, task.executor, &task.resources, task.reserved.as_deref());
        self.refresh(task.queue);
        Some(task.executor)
    }

    // ---- what a person may wonder about

    /// All that the executors have.
    pub fn total(&self) -> Resources {
        self.total
    }

    /// How this allocator decides.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes how it decides, from the next decision on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
        self.stale = true;
    }

    /// The queue's path.
    pub fn queue_path(&self, id: QueueId) -> &str {
        &self.queue(id).path
    }

    /// What an administrator said about the queue.
    pub fn queue_spec(&self, id: QueueId) -> &QueueSpec {
        &self.queue(id).spec
    }

    /// What the queue and those below hold in tasks and offers.
    pub fn queue_used(&self, id: QueueId) -> Resources {
        self.queue(id).used
    }

    /// The queues in the order of a walk down the tree.
    pub fn queues(&self) -> Vec<QueueView> {
        let mut out = Vec::new();
        let fair_shares = self.fair_shares();
        let mut to_visit = vec![QueueId::ROOT];
        while let Some(id) = to_visit.pop() {
            out.push(self.view(id, fair_shares[id.0 as usize]));
            to_visit.extend(self.queue(id).children.iter().rev());
        }
        out
    }

    fn view(&self, id: QueueId, fair_share: f64) -> QueueView {
        let queue = self.queue(id);
        let (dominant_kind, dominant_share) = queue.used.dominant_part(&self.total);
        let leaves = self.leaves_below(id);
        QueueView {
            id,
            path: queue.path.clone(),
            parent: queue.parent.map(|parent| self.queue(parent).path.clone()),
            is_leaf: queue.is_leaf(),
            spec: queue.spec.clone(),
            used: queue.used,
            wanted: queue.wanted,
            dominant_share,
            dominant_kind,
            fair_share,
            running_tasks: leaves.iter().map(|leaf| u64::from(self.queue(*leaf).task_count)).sum(),
            pending_tasks: leaves
                .iter()
                .flat_map(|leaf| &self.queue(*leaf).asks)
                .map(|pending| u64::from(pending.ask.count))
                .sum(),
            waiting_ms: queue.waiting_since.map(|since| self.now.saturating_sub(since)),
        }
    }

    pub(super) fn leaves_below(&self, id: QueueId) -> Vec<QueueId> {
        let (mut leaves, mut to_visit) = (Vec::new(), vec![id]);
        while let Some(id) = to_visit.pop() {
            if self.queue(id).is_leaf() {
                leaves.push(id);
            }
            to_visit.extend(&self.queue(id).children);
        }
        leaves
    }

    /// The executors, by id.
    pub fn executors(&self) -> Vec<ExecutorView> {
        let present = self.executors.iter().enumerate().filter_map(|(i, executor)| Some((i, executor.as_ref()?)));
        present
            .map(|(index, executor)| ExecutorView {
                id: ExecutorId(index as u32),
                spec: executor.spec.clone(),
                state: executor.state,
                used: executor.used,
                reserved: executor
                    .reservations
                    .iter()
                    .map(|reservation| (self.queue(reservation.queue).path.clone(), reservation.amount))
                    .collect(),
                task_count: executor.task_count,
                outstanding_offers: executor.outstanding_offers,
                claimed_by: executor.claimed_by.map(|queue| self.queue(queue).path.clone()),
            })
            .collect()
    }

    /// What an executor said of itself.
    pub fn executor_spec(&self, id: ExecutorId) -> Option<&ExecutorSpec> {
        Some(&self.executor(id)?.spec)
    }

    /// What is on an executor that nobody holds, reserved or not.
    pub fn executor_free(&self, id: ExecutorId) -> Resources {
        self.executor(id).map(|executor| executor.spec.total.minus(&executor.used)).unwrap_or_default()
    }

    /// The offers that stand, by id.
    pub fn offers(&self) -> Vec<Offer> {
        let mut offers: Vec<_> = self.offers.values().cloned().collect();
        offers.sort_unstable_by_key(|offer| offer.id);
        offers
    }

    /// Whether all sums agree; `Err` says which does not. For tests: O(everything).
    pub fn check(&self) -> Result<(), String> {
        let mut by_executor: HashMap<ExecutorId, Resources> = HashMap::new();
        let mut by_queue: HashMap<QueueId, Resources> = HashMap::new();
        let mut add = |queue: QueueId, executor: ExecutorId, amount: &Resources| {
            let held = by_executor.entry(executor).or_default();
            *held = held.plus(amount);
            for id in self.path_of(queue) {
                let held = by_queue.entry(id).or_default();
                *held = held.plus(amount);
            }
        };
        for task in self.tasks.iter().flatten() {
            add(task.queue, task.executor, &task.resources);
        }
        for offer in self.offers.values() {
            add(offer.queue, offer.executor, &offer.resources);
        }
        let (mut total, mut free) = (Resources::ZERO, Resources::ZERO);
        for (index, executor) in self.executors.iter().enumerate() {
            let id = ExecutorId(index as u32);
            let held = by_executor.get(&id).copied().unwrap_or_default();
            let Some(executor) = executor else {
                if !held.is_zero() {
                    return Err(format!("{id:?} is gone and {held:?} of it is held"));
                }
                continue;
            };
            total = total.plus(&executor.spec.total);
            free = free.plus(&self.room.get(index));
            if held != executor.used {
                return Err(format!("{id:?}: {held:?} is held, {:?} is charged", executor.used));
            }
            if !executor.used.fits(&executor.spec.total) {
                return Err(format!("{id:?}: {:?} is used of {:?}", executor.used, executor.spec.total));
            }
        }
        if total != self.total || free != self.free {
            return Err(format!("total {total:?} and {:?}, free {free:?} and {:?}", self.total, self.free));
        }
        for (index, queue) in self.queues.iter().enumerate() {
            let held = by_queue.get(&QueueId(index as u32)).copied().unwrap_or_default();
            if held != queue.used {
                return Err(format!("queue {}: {held:?} is held, {:?} is charged", queue.path, queue.used));
            }
        }
        Ok(())
    }
}

fn full_path(path: &str) -> String {
    if path == "root" || path.starts_with("root.") { path.to_owned() } else { format!("root.{path}") }
}

/// Whether the children's guarantees are above the parent's, in a kind that the parent guarantees.
fn exceeds_where_given(children: &Resources, parent: &Resources) -> bool {
    Kind::all().any(|kind| parent.get(kind) > 0 && children.get(kind) > parent.get(kind))
}
