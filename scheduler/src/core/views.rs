//! What a person may wonder about.

use super::allocator::{Allocator, Offer, OfferId, Options};
use super::executor::{ExecutorId, ExecutorSpec, ExecutorView};
use super::queue::{QueueId, QueueSpec, QueueView};
use super::resources::Resources;

impl Allocator {
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

    /// An offer that stands.
    pub fn find_offer(&self, id: OfferId) -> Option<&Offer> {
        self.offers.get(&id)
    }

    /// The offers that stand, by id.
    pub fn offers(&self) -> Vec<Offer> {
        let mut offers: Vec<_> = self.offers.values().cloned().collect();
        offers.sort_unstable_by_key(|offer| offer.id);
        offers
    }
}
