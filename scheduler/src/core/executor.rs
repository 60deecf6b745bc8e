//! Executors: where they are, what they have, and what of it is free.

use std::collections::BTreeMap;

use super::queue::QueueId;
use super::resources::Resources;

/// An executor in one [`super::Allocator`]; not given out again while that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutorId(pub(super) u32);

/// What an executor says of itself when it joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorSpec {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The host name or address of the machine; data that is near says so by this name.
    pub host: String,
    /// The rack; empty when unknown.
    pub rack: String,
    /// The data centre; empty when unknown.
    pub data_centre: String,
    /// Whatever else is known of it, for a framework to choose by.
    pub attributes: BTreeMap<String, String>,
    /// All it has to give.
    pub total: Resources,
    /// Whether it serves only asks that name its host and reach no farther: a process for work of one
    /// kind that happens to count for the same queues. Nothing is kept free or revoked there for guarantees.
    pub is_apart: bool,
}

/// Whether an executor is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// Offered as long as something is free.
    Active,
    /// Its tasks go on to their end; nothing new is offered.
    Draining,
}

/// A part of an executor that only one queue, or a queue below it, may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reservation {
    pub queue: QueueId,
    pub amount: Resources,
    pub used: Resources,
}

#[derive(Debug, Clone)]
pub(super) struct Executor {
    pub spec: ExecutorSpec,
    pub state: ExecutorState,
    /// Held by tasks and by offers.
    pub used: Resources,
    pub reservations: Vec<Reservation>,
    /// The queue that this executor is being cleared for.
    pub claimed_by: Option<QueueId>,
    /// The youngest task here; the others follow by their links.
    pub youngest: Option<u32>,
    pub task_count: u32,
    pub outstanding_offers: u32,
}

impl Executor {
    pub fn new(spec: ExecutorSpec) -> Self {
        Self {
            spec,
            state: ExecutorState::Active,
            used: Resources::ZERO,
            reservations: Vec::new(),
            claimed_by: None,
            youngest: None,
            task_count: 0,
            outstanding_offers: 0,
        }
    }

    /// What is neither used nor kept by a reservation.
    pub fn unreserved_free(&self) -> Resources {
        let free = self.free();
        // A reservation may be cut below what is in use of it, or made of what others still use.
        self.reservations.iter().fold(free, |free, reservation| free.minus(&reservation.left()))
    }

    /// What nobody holds, reserved or not.
    pub fn free(&self) -> Resources {
        self.spec.total.minus(&self.used)
    }
}

impl Reservation {
    /// What of it is not in use.
    pub fn left(&self) -> Resources {
        self.amount.minus(&self.used)
    }
}

/// An executor as a person reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorView {
    /// Its id.
    pub id: ExecutorId,
    /// What it said of itself.
    pub spec: ExecutorSpec,
    /// Whether it is offered.
    pub state: ExecutorState,
    /// Held by tasks and by offers.
    pub used: Resources,
    /// Kept for queues, by the queue's path.
    pub reserved: Vec<(String, Resources)>,
    /// Tasks that run here.
    pub task_count: u32,
    /// Offers of it that nobody has answered yet.
    pub outstanding_offers: u32,
    /// The queue that it is being cleared for, by path.
    pub claimed_by: Option<String>,
}
