//! What queues want, and what follows for them and those above them.

use std::collections::HashMap;

use super::Millis;
use super::allocator::Allocator;
use super::queue::{Ask, AskId, PendingAsk, QueueId};
use super::resources::Resources;

impl Allocator {
    /// Replaces all that a queue asks for, not counting offers that stand.
    pub fn set_asks(&mut self, queue: QueueId, asks: Vec<Ask>, now: Millis) {
        self.advance(now);
        if !self.runs_tasks(queue) {
            return;
        }
        let old = std::mem::take(&mut self.queue_mut(queue).asks);
        let mut since: HashMap<AskId, Millis> = HashMap::new();
        for pending in old.iter().filter(|pending| pending.ask.count > 0) {
            self.forget_shape(&pending.ask.unit);
            since.insert(pending.ask.id, pending.since);
        }
        let mut pending_asks = Vec::with_capacity(asks.len());
        for ask in asks {
            if ask.count > 0 {
                *self.shapes.entry(ask.unit).or_default() += 1;
            }
            let is_possible = self.is_possible(&ask.unit);
            let since = since.get(&ask.id).copied().unwrap_or(self.now);
            pending_asks.push(PendingAsk { ask, is_possible, unplaced_in_cycle: 0, since });
        }
        self.queue_mut(queue).asks = pending_asks;
        self.refresh(queue);
    }

    /// Adds one ask to those of the queue.
    pub fn add_ask(&mut self, queue: QueueId, ask: Ask, now: Millis) {
        self.advance(now);
        if !self.runs_tasks(queue) || ask.count == 0 {
            return;
        }
        *self.shapes.entry(ask.unit).or_default() += 1;
        let is_possible = self.is_possible(&ask.unit);
        let since = self.now;
        self.queue_mut(queue).asks.push(PendingAsk { ask, is_possible, unplaced_in_cycle: 0, since });
        self.refresh(queue);
    }

    /// Takes one ask back. Offers that were made for it stand.
    pub fn remove_ask(&mut self, queue: QueueId, id: AskId) {
        let asks = &mut self.queue_mut(queue).asks;
        let Some(index) = asks.iter().position(|pending| pending.ask.id == id) else { return };
        let removed = asks.remove(index);
        if removed.ask.count > 0 {
            self.forget_shape(&removed.ask.unit);
        }
        self.refresh(queue);
    }

    /// No offers to the queue and those below it until [`Self::revive`].
    pub fn suppress(&mut self, queue: QueueId) {
        self.set_suppressed(queue, true);
    }

    /// Offers again, and forgets all filters of the queue and those below it.
    pub fn revive(&mut self, queue: QueueId) {
        self.set_suppressed(queue, false);
    }

    fn set_suppressed(&mut self, queue: QueueId, suppressed: bool) {
        for leaf in self.leaves_below(queue) {
            self.queue_mut(leaf).suppressed = suppressed;
            if !suppressed && self.queue(leaf).filter_count > 0 {
                self.queue_mut(leaf).filter_count = 0;
                self.filters.retain(|(of, _, _), _| *of != leaf);
            }
            self.refresh(leaf);
        }
    }

    /// Whether any executor that is offered could run a task of that shape if it were empty.
    pub fn is_possible(&self, unit: &Resources) -> bool {
        // A task that needs nothing could be placed without end.
        !unit.is_zero() && self.capacity.find(unit, |_| true).is_some()
    }

    pub(super) fn forget_shape(&mut self, unit: &Resources) {
        if let Some(count) = self.shapes.get_mut(unit) {
            *count -= 1;
            if *count == 0 {
                self.shapes.remove(unit);
            }
        }
    }

    /// Computes a leaf's place in the order, and what it and those above it want and are pledged.
    pub(super) fn refresh(&mut self, leaf: QueueId) {
        if !self.queue(leaf).is_leaf() || self.queue(leaf).removed {
            self.leave_order(leaf);
            return;
        }
        if !self.claim_is_of_use(leaf) {
            self.end_claim(leaf);
        }
        self.reorder(leaf);
        let queue = self.queue(leaf);
        let (wanted, claimed, cleared) = (queue.wanted_by_asks(), queue.claimed_by_tasks(), self.cleared_for(leaf));
        let least = queue.least_wanted();
        self.least_wanted[leaf.0 as usize] = least;
        let now = self.now;
        let queue = self.queue_mut(leaf);
        queue.waiting_since = (!wanted.is_zero()).then(|| queue.waiting_since.unwrap_or(now));
        queue.short_since = (!claimed.is_zero()).then(|| queue.short_since.unwrap_or(now));
        self.update_path(leaf, wanted, claimed.minus(&cleared), cleared);
    }

    /// Computes a leaf's place in the order alone.
    pub(super) fn reorder(&mut self, leaf: QueueId) {
        self.leave_order(leaf);
        let cycle = self.cycle;
        let choice = self.queue(leaf).first_ask(cycle).map(|ask| self.leaf_choice(leaf, ask));
        self.queue_mut(leaf).ready_as = choice;
        if let (Some(choice), Some(parent)) = (choice, self.queue(leaf).parent) {
            self.queue_mut(parent).ready.insert((choice.key, leaf));
            for id in self.path_of(parent).collect::<Vec<_>>() {
                self.queue_mut(id).next = None;
            }
        }
    }

    /// Passes a change of a leaf's wishes, or of what it holds, up to the root.
    fn update_path(&mut self, leaf: QueueId, wanted: Resources, pledged: Resources, cleared: Resources) {
        let now = self.now;
        let queue = self.queue_mut(leaf);
        let old_wanted = std::mem::replace(&mut queue.wanted, wanted);
        let old_cleared = std::mem::replace(&mut queue.cleared, cleared);
        let mut old_pledged = std::mem::replace(&mut queue.pledged, pledged);
        let mut pledged = pledged;
        let mut node = queue.parent;
        while let Some(id) = node {
            let queue = self.queue_mut(id);
            queue.next = None;
            queue.wanted = queue.wanted.minus(&old_wanted).plus(&wanted);
            queue.cleared = queue.cleared.minus(&old_cleared).plus(&cleared);
            queue.children_pledged = queue.children_pledged.minus(&old_pledged).plus(&pledged);
            pledged = queue.claimed_below(&queue.used, &queue.wanted, &queue.children_pledged);
            old_pledged = std::mem::replace(&mut queue.pledged, pledged);
            queue.short_since = (!pledged.is_zero()).then(|| queue.short_since.unwrap_or(now));
            node = queue.parent;
        }
    }

    pub(super) fn leave_order(&mut self, leaf: QueueId) {
        let queue = self.queue_mut(leaf);
        if let (Some(choice), Some(parent)) = (queue.ready_as.take(), queue.parent) {
            self.queue_mut(parent).ready.remove(&(choice.key, leaf));
            for id in self.path_of(parent).collect::<Vec<_>>() {
                self.queue_mut(id).next = None;
            }
        }
    }

    /// Computes everything anew that depends on which executors and queues there are.
    pub(super) fn refresh_all(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        let short_since: Vec<_> = self.queues.iter().map(|queue| queue.short_since).collect();
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            (queue.next, queue.pledged, queue.children_pledged) = (None, Resources::ZERO, Resources::ZERO);
            (queue.wanted, queue.cleared) = (Resources::ZERO, Resources::ZERO);
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
        // The sums above a leaf were incomplete on the way; who was short before has been so since then.
        for (queue, since) in self.queues.iter_mut().zip(short_since) {
            queue.short_since = queue.short_since.map(|now| since.unwrap_or(now));
        }
    }
}
