//! Large tasks get an executor cleared for them.
//!
//! An ask whose next task fits on no executor, because what is free is in small pieces, would wait
//! for ever while others take each piece as it comes free; be they other queues or other asks of the
//! same queue. After a while one executor is claimed for it: nothing else is placed there until the
//! task fits. One claim to a queue.

use super::allocator::Allocator;
use super::drf::Policy;
use super::executor::{Executor, ExecutorId, ExecutorState};
use super::queue::{PendingAsk, QueueId};
use super::resources::{Kind, Resources};

/// How often one cycle looks through all executors, so that no cycle takes long; the rest has its turn in the next.
const SEARCHES: usize = 32;

impl Allocator {
    /// Claims an executor for each of the asks that has waited long enough, if one would do.
    pub(super) fn claim_for(&mut self, unplaced: &[(QueueId, usize)]) {
        let mut fair_shares = None;
        let mut searches = 0;
        // Where who came first is served first, no executor is cleared for anybody else.
        let arrivals = unplaced.iter().filter_map(|(leaf, ask)| Some(self.queue(*leaf).asks.get(*ask)?.ask.arrived));
        let first = if self.options.policy == Policy::Fifo { arrivals.min() } else { None };
        // Each is first at some time, so that nobody is kept from a search by others who find nothing.
        let turn = if unplaced.len() > SEARCHES { self.cycle as usize % unplaced.len() } else { 0 };
        for (leaf, ask) in unplaced[turn..].iter().chain(&unplaced[..turn]) {
            let queue = self.queue(*leaf);
            let Some(pending) = queue.asks.get(*ask).filter(|pending| pending.is_wanted()) else { continue };
            let unit = pending.ask.unit;
            if let Some((id, claimed_for)) = queue.claim {
                // Cleared and still not served: it is not for want of room that the task waits.
                let is_clear = self.executor(id).is_some_and(|executor| unit.fits(&executor.unreserved_free()));
                if claimed_for == pending.ask.id && (is_clear || self.is_limited(*leaf, &unit)) {
                    self.release_claim_of(*leaf);
                }
                continue;
            }
            let is_early = self.now.saturating_sub(pending.since) < self.options.claim_after_ms;
            if is_early || first.is_some_and(|first| pending.ask.arrived > first) {
                continue;
            }
            // A queue at its limit or above its share waits for its own tasks to end, not for room.
            let (_, share) = queue.used.dominant_part(&self.total);
            let is_limited = self.is_limited(*leaf, &unit);
            if is_limited || share >= fair_shares.get_or_insert_with(|| self.fair_shares())[leaf.0 as usize] {
                continue;
            }
            searches += 1;
            if searches > SEARCHES {
                continue;
            }
            let candidates = self.executors.iter().enumerate().filter_map(|(index, executor)| {
                let id = ExecutorId(index as u32);
                let executor = executor.as_ref()?;
                let could = executor.claimed_by.is_none()
                    && !executor.spec.is_apart
                    && self.could_be_claimed(*leaf, pending, executor)
                    && !self.is_filtered(queue, *leaf, pending.ask.id, id);
                could.then(|| (missing_part(executor, &unit), id))
            });
            let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            if let Some((missing, id)) = best
                && missing > 0.0
            {
                self.claim(*leaf, *ask, id);
            }
        }
    }

    /// Keeps an executor clear for that ask.
    pub(super) fn claim(&mut self, leaf: QueueId, ask: usize, id: ExecutorId) {
        let Some(executor) = self.executors.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        executor.claimed_by = Some(leaf);
        let queue = self.queue_mut(leaf);
        queue.claim = queue.asks.get(ask).map(|pending| (id, pending.ask.id));
        self.update_room(id);
        self.refresh(leaf);
    }

    /// Whether the executor, once clear, would do for the ask.
    pub(super) fn could_be_claimed(&self, leaf: QueueId, pending: &PendingAsk, executor: &Executor) -> bool {
        executor.claimed_by.is_none_or(|claimant| claimant == leaf)
            && executor.state == ExecutorState::Active
            && executor.reservations.is_empty()
            && pending.ask.unit.fits(&executor.spec.total)
            && pending.reaches(executor, |host| self.rack_of(host))
    }

    fn is_limited(&self, leaf: QueueId, unit: &Resources) -> bool {
        !self.path_of(leaf).all(|id| self.queue(id).is_within_limit_with(unit))
    }

    /// Whether the leaf still wants what its claim is for and can have it there; true without a claim.
    pub(super) fn claim_is_of_use(&self, leaf: QueueId) -> bool {
        let queue = self.queue(leaf);
        let Some((id, ask)) = queue.claim else { return true };
        let pending = queue.asks.iter().find(|pending| pending.ask.id == ask);
        !queue.suppressed
            && pending.zip(self.executor(id)).is_some_and(|(pending, executor)| {
                pending.is_wanted()
                    && queue.is_within_limit_with(&pending.ask.unit)
                    && self.could_be_claimed(leaf, pending, executor)
            })
    }

    /// What an executor is being cleared for.
    pub(super) fn cleared_for(&self, leaf: QueueId) -> Resources {
        let queue = self.queue(leaf);
        let asked = queue.claim.and_then(|(_, ask)| queue.asks.iter().find(|pending| pending.ask.id == ask));
        asked.map(|pending| pending.ask.unit).unwrap_or_default()
    }

    /// Ends the claim; the caller refreshes the leaf.
    pub(super) fn end_claim(&mut self, leaf: QueueId) {
        if let Some((id, _)) = self.queue_mut(leaf).claim.take() {
            if let Some(executor) = self.executors[id.0 as usize].as_mut() {
                executor.claimed_by = None;
            }
            self.update_room(id);
        }
    }

    pub(super) fn release_claim_of(&mut self, leaf: QueueId) {
        if self.queue(leaf).claim.is_some() {
            self.end_claim(leaf);
            self.refresh(leaf);
        }
    }

    pub(super) fn release_claim_on(&mut self, id: ExecutorId) {
        if let Some(leaf) = self.executor(id).and_then(|executor| executor.claimed_by) {
            self.release_claim_of(leaf);
        }
    }
}

/// The largest part of `unit` that is not free yet, 0.0 if it fits.
fn missing_part(executor: &Executor, unit: &Resources) -> f64 {
    let missing = unit.minus(&executor.unreserved_free());
    Kind::all().map(|kind| missing.part(unit, kind)).fold(0.0, f64::max)
}
