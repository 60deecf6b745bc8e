//! The state machine: executors, queues, offers and tasks, and what happens to them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::Millis;
use super::drf::Policy;
use super::executor::{Executor, ExecutorId};
use super::index::RoomIndex;
use super::queue::{AskId, Queue, QueueId, QueueSpec};
use super::resources::Resources;

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

/// What a filter keeps apart.
type FilterKey = (QueueId, AskId, ExecutorId);

/// Shares executors between queues.
///
/// Calls that take a `now` may come in any order of time; the latest seen counts.
#[derive(Debug, Clone)]
pub struct Allocator {
    pub(super) options: Options,
    pub(super) executors: Vec<Option<Executor>>,
    pub(super) by_name: HashMap<String, ExecutorId>,
    pub(super) by_host: HashMap<String, Vec<ExecutorId>>,
    pub(super) by_rack: HashMap<String, Vec<ExecutorId>>,
    /// All that the executors have.
    pub(super) total: Resources,
    /// What is free for any queue, on all executors together.
    pub(super) free: Resources,
    pub(super) room: RoomIndex,
    pub(super) capacity: RoomIndex,
    pub(super) queues: Vec<Queue>,
    /// What every task needs at least that a queue asks for, by queue; apart, because many are looked at in a row.
    pub(super) least_wanted: Vec<Resources>,
    pub(super) by_path: HashMap<String, QueueId>,
    pub(super) tasks: Vec<Option<Task>>,
    pub(super) vacant_tasks: Vec<(u32, u32)>,
    pub(super) offers: HashMap<OfferId, Offer>,
    pub(super) offer_deadlines: BinaryHeap<Reverse<(Millis, OfferId)>>,
    pub(super) filters: HashMap<FilterKey, Millis>,
    pub(super) filter_deadlines: BinaryHeap<Reverse<(Millis, FilterKey)>>,
    /// How many asks want a task of each shape.
    pub(super) shapes: HashMap<Resources, u32>,
    /// Tasks that were revoked and have not ended yet.
    pub(super) revoking: BTreeSet<u32>,
    /// Executors with reservations.
    pub(super) reserving: Vec<ExecutorId>,
    /// The asks that found no place in this cycle, by their index.
    pub(super) unplaced: Vec<(QueueId, usize)>,
    /// What was free when that was last looked at in this cycle.
    pub(super) scarce: Resources,
    pub(super) cycle: u64,
    pub(super) decision: u64,
    pub(super) now: Millis,
    /// Executors came or went since the order was last computed.
    pub(super) stale: bool,
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
            least_wanted: vec![Resources::UNLIMITED],
            by_path: HashMap::from([("root".to_owned(), QueueId::ROOT)]),
            tasks: Vec::new(),
            vacant_tasks: Vec::new(),
            offers: HashMap::new(),
            offer_deadlines: BinaryHeap::new(),
            filters: HashMap::new(),
            filter_deadlines: BinaryHeap::new(),
            shapes: HashMap::new(),
            revoking: BTreeSet::new(),
            reserving: Vec::new(),
            unplaced: Vec::new(),
            scarce: Resources::ZERO,
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
}
