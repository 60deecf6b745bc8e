//! The order of queues: guarantees first, then weighted dominant share, down the tree.
//!
//! Among queues that run tasks this is Algorithm 1 of Ghodsi et al., "Dominant Resource Fairness"
//! (NSDI 2011): the queue with the smallest dominant share, divided by its weight, is next.
//!
//! Up the tree, the plain extension (an inner queue's share is the dominant share of all that is
//! held below it) starves queues: if one child holds much of a resource that nobody else wants, its
//! sibling gets nothing of what everybody wants. And if the child that would be next cannot be placed,
//! its small share lets its siblings take more than the tenant's part. Both are shown by Bhattacharya
//! et al., "Hierarchical Scheduling for Diverse Datacenter Workloads" (SoCC 2013), who rescale the
//! children to the smallest share among those that are not blocked. We keep their two ideas and leave
//! the rescaling out, because it makes a tenant's share look small whenever a child of it begins with
//! nothing, so that a tenant with restless children takes from its neighbours:
//!
//! - *Blocked children do not count*: the child that speaks for an inner queue is the first that can
//!   be placed.
//! - *Like is compared with like*: an inner queue is judged by what is held below it of what the child
//!   that speaks for it competes for: in full of the resource that dominates that child, and of the one
//!   of which its task takes the largest part of what is free; of others in proportion to that part.
//!   What a sibling holds of a resource that the child hardly needs, or that there is plenty of, does
//!   not count against it. What siblings hold of a scarce one counts in full, even if another dominates
//!   the child; else a tenant could hold much of it in a queue that wants no more, and get as much again.
//!
//! In the balance of progressive filling these rules and rescaling give the same shares; the paper's
//! examples are among the tests. A child speaks with the share of its tenant, so that a tenant is
//! judged as if it were a queue itself when all of its children run the same tasks.

use super::allocator::Allocator;
use super::executor::ExecutorId;
use super::queue::{Queue, QueueId};
use super::resources::{Kind, Resources};

/// Which queue is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Guarantees, then weighted dominant share.
    #[default]
    Drf,
    /// First come, first served, whoever asks; to compare with.
    Fifo,
}

/// Queues with smaller keys are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    class: Class,
    /// A share of 0.0 or more, as bits, which have the same order.
    share: u64,
    /// Among equals, who waited longest.
    served: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    BelowGuarantee,
    Fair,
}

/// What is to be served next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub key: Key,
    pub leaf: QueueId,
    /// The index of the ask in the leaf's list.
    pub ask: usize,
    /// The resource that dominates the leaf.
    pub kind: Kind,
}

/// What an inner queue is in its parent's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    choice: Choice,
    /// What the task needs that is to be served next below it, and an executor that has room for it.
    unit: Resources,
    place: ExecutorId,
}

impl Key {
    fn new(class: Class, share: f64, served: u64) -> Self {
        debug_assert!(share >= 0.0, "the bits of negative floats have the opposite order");
        Self { class, share: share.to_bits(), served }
    }

    fn first_come(arrived: u64) -> Self {
        Self { class: Class::Fair, share: arrived, served: 0 }
    }
}

/// How much of its guarantee a queue has, by the kind of which it has most.
fn guarantee_ratio(queue: &Queue) -> f64 {
    Kind::all()
        .filter(|kind| queue.spec.guarantee.get(*kind) > 0)
        .map(|kind| queue.used.part(&queue.spec.guarantee, kind))
        .fold(0.0, f64::max)
}

impl Allocator {
    /// The place of a queue that runs tasks in its parent's order, with that ask.
    pub(super) fn leaf_choice(&self, leaf: QueueId, ask: usize) -> Choice {
        let queue = self.queue(leaf);
        let pending = &queue.asks[ask];
        let (kind, _) = queue.used.plus(&pending.ask.unit).dominant_part(&self.total);
        let key = if self.options.policy == Policy::Fifo {
            Key::first_come(pending.ask.arrived)
        } else if queue.is_below_guarantee_with(&pending.ask.unit) {
            Key::new(Class::BelowGuarantee, guarantee_ratio(queue), queue.last_served)
        } else {
            let (_, share) = queue.used.dominant_part(&self.total);
            Key::new(Class::Fair, share / queue.spec.weight, queue.last_served)
        };
        Choice { key, leaf, ask, kind }
    }

    /// The place of an inner queue in its parent's order, given who is next below it, and what is free.
    fn inner_choice(&self, node: QueueId, below: Choice, free: &Resources) -> Choice {
        if self.options.policy == Policy::Fifo {
            return below;
        }
        let queue = self.queue(node);
        let unit = &self.queue(below.leaf).asks[below.ask].ask.unit;
        let key = if queue.is_below_guarantee_with(unit) {
            Key::new(Class::BelowGuarantee, guarantee_ratio(queue), queue.last_served)
        } else if below.key.class == Class::BelowGuarantee {
            Key { served: queue.last_served, ..below.key }
        } else {
            let share = self.share_as_seen_by(queue, unit, below.kind, free);
            Key::new(Class::Fair, share / queue.spec.weight, queue.last_served)
        };
        Choice { key, ..below }
    }

    /// The largest part that the queue holds of any kind, each kind as far as one who needs `unit` must compete
    /// for it: in full that of which `unit` would take the largest part of what is free, the others in proportion.
    fn share_as_seen_by(&self, queue: &Queue, unit: &Resources, dominant: Kind, free: &Resources) -> f64 {
        let need = |kind| unit.get(kind) as f64 / free.get(kind).max(1) as f64;
        let kinds = || Kind::all().filter(|kind| unit.get(*kind) > 0);
        let most = kinds().map(need).fold(0.0, f64::max);
        let seen = kinds().map(|kind| queue.used.part(&self.total, kind) * (need(kind) / most));
        seen.fold(queue.used.part(&self.total, dominant), f64::max)
    }

    /// Who is next below `node`, wherever there is room. O(inner queues whose state changed).
    pub(super) fn next_below(&mut self, node: QueueId) -> Option<Choice> {
        if let Some(known) = self.queue(node).next {
            return known;
        }
        let mut best = self.first_leaf_below(node);
        for index in 0..self.queue(node).inner.len() {
            let inner = self.queue(node).inner[index];
            if let Some(choice) = self.said_by(inner) {
                if best.is_none_or(|best| choice.key < best.key) {
                    best = Some(choice);
                }
                continue;
            }
            while let Some(below) = self.next_below(inner) {
                if !self.can_be_placed(&below) {
                    self.set_aside(&below);
                    continue;
                }
                let choice = self.inner_choice(inner, below, &self.scarce);
                let leaf = self.queue(below.leaf);
                let (unit, place) = (leaf.asks[below.ask].ask.unit, leaf.place_seen);
                self.queue_mut(inner).said = place.map(|(_, place)| Said { choice, unit, place });
                if best.is_none_or(|best| choice.key < best.key) {
                    best = Some(choice);
                }
                break;
            }
        }
        let queue = self.queue_mut(node);
        (queue.next, queue.said) = (Some(best), None);
        best
    }

    /// What was found last about an inner queue, if that is still so: nothing below it has changed, and who speaks
    /// for it can be placed still.
    fn said_by(&self, inner: QueueId) -> Option<Choice> {
        let queue = self.queue(inner);
        let said = queue.said.as_ref().filter(|_| queue.next.is_some())?;
        said.unit.fits(&self.room.get(said.place.0 as usize)).then_some(said.choice)
    }

    /// Whether one that was asked for earlier in the cycle can be placed still; mostly O(1).
    fn can_be_placed(&mut self, choice: &Choice) -> bool {
        let queue = self.queue(choice.leaf);
        let unit = &queue.asks[choice.ask].ask.unit;
        if queue.place_seen.is_some_and(|(ask, id)| ask == choice.ask && unit.fits(&self.room.get(id.0 as usize))) {
            return true;
        }
        let place = if self.is_placed_anywhere(choice) {
            // Not where it will be placed, but where others will be last: that stays true for long.
            self.room.find_last(unit).map(|position| ExecutorId(position as u32))
        } else {
            self.place(choice)
        };
        self.queue_mut(choice.leaf).place_seen = place.map(|id| (choice.ask, id));
        place.is_some()
    }

    /// The first child of `node` that runs tasks itself; one that speaks for others only if it can be placed.
    fn first_leaf_below(&mut self, node: QueueId) -> Option<Choice> {
        loop {
            let (_, leaf) = self.queue(node).ready.first()?;
            let choice = self.queue(*leaf).ready_as?;
            if node == QueueId::ROOT || self.can_be_placed(&choice) {
                return Some(choice);
            }
            self.set_aside(&choice);
        }
    }

    /// Who is next below `node` among those that can use `executor` now.
    ///
    /// The first of each inner queue that fits is compared by what that one makes of its parents, so
    /// that a child that does not fit here lends its place to nobody. O(inner queues), and the queues
    /// before the first that fits.
    pub(super) fn next_on(
        &self,
        node: QueueId,
        executor: ExecutorId,
        most: &Resources,
        room: &Resources,
        free: &Resources,
    ) -> Option<Choice> {
        let queue = self.queue(node);
        let mut best = queue.ready.iter().find_map(|(_, leaf)| {
            if !self.least_wanted[leaf.0 as usize].fits(most) {
                return None;
            }
            let ready = self.queue(*leaf).ready_as?;
            let ask = self.ask_on(*leaf, executor, room)?;
            Some(if ask == ready.ask { ready } else { self.leaf_choice(*leaf, ask) })
        });
        for inner in &queue.inner {
            if let Some(below) = self.next_on(*inner, executor, most, room, free) {
                let choice = self.inner_choice(*inner, below, free);
                if best.is_none_or(|best| choice.key < best.key) {
                    best = Some(choice);
                }
            }
        }
        best
    }

    /// The part of the cluster that each queue is entitled to, by index: its guarantee, or, if that is
    /// more, its weight's part of what is left after the guarantees of its siblings.
    ///
    /// Only queues that want or hold anything count. Among siblings with weights `w`, guarantees `g`
    /// and the parent's part `E`, it is `max(g, l * w)` with the `l` for which the sum is `E`.
    pub(super) fn fair_shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.queues.len()];
        shares[QueueId::ROOT.0 as usize] = 1.0;
        let mut to_visit = vec![QueueId::ROOT];
        while let Some(id) = to_visit.pop() {
            let children = self.queue(id).children.iter().copied().filter(|child| self.queue(*child).is_active());
            let mut rest: Vec<_> = children.map(|child| (child, self.guaranteed_part(child))).collect();
            to_visit.extend(rest.iter().map(|(child, _)| *child));
            let mut part: f64 = shares[id.0 as usize];
            loop {
                let weights: f64 = rest.iter().map(|(child, _)| self.queue(*child).spec.weight).sum();
                let level = part.max(0.0) / weights;
                let (guaranteed, fair): (Vec<_>, Vec<_>) =
                    rest.into_iter().partition(|(child, least)| *least > level * self.queue(*child).spec.weight);
                for (child, least) in &guaranteed {
                    shares[child.0 as usize] = *least;
                    part -= least;
                }
                if guaranteed.is_empty() {
                    for (child, _) in &fair {
                        shares[child.0 as usize] = level * self.queue(*child).spec.weight;
                    }
                    break;
                }
                rest = fair;
            }
        }
        shares
    }

    fn guaranteed_part(&self, id: QueueId) -> f64 {
        let queue = self.queue(id);
        queue.spec.guarantee.min(&queue.used.plus(&queue.wanted)).dominant_part(&self.total).1
    }
}
