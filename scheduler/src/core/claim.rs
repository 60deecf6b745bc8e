//! Large tasks get an executor cleared for them.
//!
//! A queue whose next task fits on no executor, because what is free is in small pieces, would wait
//! for ever while others take each piece as it comes free. After a while one executor is claimed for
//! it: nothing else is placed there until the task fits. One claim to a queue.

use super::allocator::Allocator;
use super::executor::{Executor, ExecutorId, ExecutorState};
use super::queue::QueueId;
use super::resources::{Kind, Resources};

impl Allocator {
    /// Claims an executor for each of the leaves that has waited long enough, if one would do.
    pub(super) fn claim_for(&mut self, unplaced: &[QueueId]) {
        let mut fair_shares = None;
        for leaf in unplaced {
            let queue = self.queue(*leaf);
            let waited = queue.waiting_since.map_or(0, |since| self.now.saturating_sub(since));
            if queue.claim.is_some() || waited < self.options.claim_after_ms {
                continue;
            }
            let Some(pending) = queue.asks.iter().find(|pending| pending.is_wanted()) else { continue };
            let unit = pending.ask.unit;
            // A queue at its limit or above its share waits for its own tasks to end, not for room.
            let (_, share) = queue.used.dominant_part(&self.total);
            let is_limited = !self.path_of(*leaf).all(|id| self.queue(id).is_within_limit_with(&unit));
            if is_limited || share >= fair_shares.get_or_insert_with(|| self.fair_shares())[leaf.0 as usize] {
                continue;
            }
            let candidates = self.executors.iter().enumerate().filter_map(|(index, executor)| {
                let executor = executor.as_ref()?;
                let could = executor.state == ExecutorState::Active
                    && executor.claimed_by.is_none()
                    && executor.reservations.is_empty()
                    && unit.fits(&executor.spec.total)
                    && pending.reaches(executor, |_| None);
                could.then(|| (missing_part(executor, &unit), index))
            });
            let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            if let Some((missing, index)) = best
                && missing > 0.0
            {
                let id = ExecutorId(index as u32);
                if let Some(executor) = self.executors[index].as_mut() {
                    executor.claimed_by = Some(*leaf);
                }
                self.queue_mut(*leaf).claim = Some(id);
                self.update_room(id);
                self.refresh(*leaf);
            }
        }
    }

    pub(super) fn release_claim_of(&mut self, leaf: QueueId) {
        if let Some(id) = self.queue_mut(leaf).claim.take() {
            if let Some(executor) = self.executors[id.0 as usize].as_mut() {
                executor.claimed_by = None;
            }
            self.update_room(id);
        }
    }

    pub(super) fn release_claim_on(&mut self, id: ExecutorId) {
        if let Some(leaf) = self.executor(id).and_then(|executor| executor.claimed_by) {
            self.release_claim_of(leaf);
            self.refresh(leaf);
        }
    }
}

/// The largest part of `unit` that is not free yet, 0.0 if it fits.
fn missing_part(executor: &Executor, unit: &Resources) -> f64 {
    let missing = unit.minus(&executor.unreserved_free());
    Kind::all().map(|kind| missing.part(unit, kind)).fold(0.0, f64::max)
}
