//! Offers are made, accepted, declined, rescinded, and expire.

use std::cmp::Reverse;

use super::Millis;
use super::allocator::{Allocator, Filter, Offer, OfferError, OfferId, TaskId};
use super::drf::Choice;
use super::executor::{Executor, ExecutorId, ExecutorState};
use super::queue::{AskId, PendingAsk, Queue, QueueId, Reach};
use super::resources::{Kind, Resources};

impl Allocator {
    /// One full cycle: offers all that is free to the queues that want it, in order.
    pub fn allocate(&mut self, now: Millis) -> Vec<Offer> {
        self.advance(now);
        self.refresh_all();
        self.cycle += 1;
        self.look_at_what_is_free();
        let mut offers = Vec::new();
        while let Some(choice) = self.next_below(QueueId::ROOT) {
            match self.place(&choice) {
                Some(executor) => offers.push(self.offer(&choice, executor)),
                None => self.set_aside(&choice),
            }
            if has_shrunk(&self.scarce, &self.free) {
                self.look_at_what_is_free();
            }
        }
        self.cycle += 1;
        let mut unplaced = std::mem::take(&mut self.unplaced);
        unplaced.sort_unstable();
        for (leaf, _) in &unplaced {
            self.refresh(*leaf);
        }
        self.claim_for(&unplaced);
        offers
    }

    /// Remembers what is free now, by which inner queues are compared, until much less is.
    fn look_at_what_is_free(&mut self) {
        self.scarce = self.free;
        for queue in &mut self.queues {
            (queue.next, queue.place_seen) = (None, None);
        }
    }

    /// The ask has no place in this cycle: room only shrinks within one, so that it need not be tried again.
    /// Neither need those of the queue that want the same in the same places, of which a busy queue has many.
    ///
    /// (Room that was kept for one task, and is let go when that is served, is offered in the next cycle.)
    pub(super) fn set_aside(&mut self, choice: &Choice) {
        let cycle = self.cycle;
        let queue = self.queue(choice.leaf);
        let ask = &queue.asks[choice.ask].ask;
        let is_alike = |pending: &PendingAsk| {
            let other = &pending.ask;
            // A filter or a claim is for one ask alone.
            queue.filter_count == 0
                && queue.claim.is_none_or(|(_, claimed_for)| claimed_for != other.id)
                && (other.unit, other.reach) == (ask.unit, ask.reach)
                && (ask.reach == Reach::Anywhere || other.hosts == ask.hosts)
        };
        let is_open = |pending: &PendingAsk| pending.is_wanted() && pending.unplaced_in_cycle != cycle;
        let asks = queue.asks.iter().enumerate();
        let aside: Vec<usize> = asks
            .filter(|(index, pending)| *index == choice.ask || (is_open(pending) && is_alike(pending)))
            .map(|(index, _)| index)
            .collect();
        for index in aside {
            self.queue_mut(choice.leaf).asks[index].unplaced_in_cycle = cycle;
            self.unplaced.push((choice.leaf, index));
        }
        self.reorder(choice.leaf);
    }

    /// Offers what is free on one executor, after something ended there.
    pub fn allocate_on(&mut self, id: ExecutorId, now: Millis) -> Vec<Offer> {
        self.advance(now);
        self.refresh_all();
        let mut offers = Vec::new();
        let mut scarce = self.free;
        while let Some(executor) = self.executor(id).filter(|executor| executor.state == ExecutorState::Active) {
            let most = executor.free();
            if !self.shapes.keys().any(|shape| shape.fits(&most)) {
                break;
            }
            let free = executor.unreserved_free();
            let Some(choice) = self.next_on(QueueId::ROOT, id, &most, &free, &scarce) else { break };
            offers.push(self.offer(&choice, id));
            if has_shrunk(&scarce, &self.free) {
                scarce = self.free;
            }
        }
        offers
    }

    /// The first ask of the leaf that can be served by that executor now.
    pub(super) fn ask_on(&self, leaf: QueueId, id: ExecutorId, free: &Resources) -> Option<usize> {
        let executor = self.executor(id)?;
        let queue = self.queue(leaf);
        if queue.suppressed {
            return None;
        }
        queue.asks.iter().position(|pending| self.can_serve(queue, leaf, pending, id, executor, free))
    }

    fn can_serve(
        &self,
        queue: &Queue,
        leaf: QueueId,
        pending: &PendingAsk,
        id: ExecutorId,
        executor: &Executor,
        free: &Resources,
    ) -> bool {
        let unit = &pending.ask.unit;
        if !pending.is_wanted() || executor.claimed_by.is_some_and(|_| queue.claim != Some((id, pending.ask.id))) {
            return false;
        }
        let Some(reserved) = self.reserved_part(leaf, executor, unit, free) else { return false };
        let from_free = match reserved {
            // What is there is kept free for nobody.
            _ if executor.spec.is_apart => Resources::ZERO,
            Some((_, part)) => unit.minus(&part),
            None => *unit,
        };
        if executor.spec.is_apart && pending.ask.reach != Reach::Hosts {
            return false;
        }
        pending.reaches(executor, |host| self.rack_of(host))
            && !self.is_filtered(queue, leaf, pending.ask.id, id)
            && self.is_allowed(leaf, unit, &from_free)
    }

    /// What part of `unit` would come out of which reservation on the executor; the outer `None` if there is no
    /// room for it. The reservations of the queue itself come first, then those further up.
    fn reserved_part(
        &self,
        leaf: QueueId,
        executor: &Executor,
        unit: &Resources,
        free: &Resources,
    ) -> Option<Option<(QueueId, Resources)>> {
        if executor.reservations.is_empty() {
            return unit.fits(free).then_some(None);
        }
        // Others may still use what a reservation is made of.
        if !unit.fits(&executor.free()) {
            return None;
        }
        let mine = self.path_of(leaf).find_map(|id| {
            let reservation = executor.reservations.iter().find(|reservation| reservation.queue == id)?;
            let part = unit.min(&reservation.left());
            (!part.is_zero() && unit.minus(&part).fits(free)).then_some((id, part))
        });
        if mine.is_some() { Some(mine) } else { unit.fits(free).then_some(None) }
    }

    /// Whether the ask can be served wherever there is room, and nowhere else.
    pub(super) fn is_placed_anywhere(&self, choice: &Choice) -> bool {
        let queue = self.queue(choice.leaf);
        let ask = &queue.asks[choice.ask].ask;
        let has_own_place = queue.claim.is_some() || !self.reserving.is_empty();
        ask.reach == Reach::Anywhere
            && queue.filter_count == 0
            && !has_own_place
            && self.is_allowed(choice.leaf, &ask.unit, &ask.unit)
    }

    /// Where the ask is to be served, if anywhere.
    pub(super) fn place(&self, choice: &Choice) -> Option<ExecutorId> {
        let queue = self.queue(choice.leaf);
        let pending = &queue.asks[choice.ask];
        let unit = &pending.ask.unit;
        let fits_on = |id: ExecutorId| {
            self.executor(id).is_some_and(|executor| {
                executor.state == ExecutorState::Active
                    && self.can_serve(queue, choice.leaf, pending, id, executor, &executor.unreserved_free())
            })
        };
        if let Some((claimed, _)) = queue.claim.filter(|(id, _)| fits_on(*id)) {
            return Some(claimed);
        }
        let is_mine = |executor: &Executor| {
            let mut mine = executor.reservations.iter().filter(|r| self.path_of(choice.leaf).any(|id| id == r.queue));
            mine.any(|reservation| !reservation.left().is_zero())
        };
        let mut reserving = self.reserving.iter().copied();
        if let Some(found) = reserving.find(|id| self.executor(*id).is_some_and(is_mine) && fits_on(*id)) {
            return Some(found);
        }
        if pending.ask.reach == Reach::Hosts {
            let mut named = pending.ask.hosts.iter().filter_map(|host| self.by_host.get(host)).flatten().copied();
            let is_apart = |id: &ExecutorId| self.executor(*id).is_some_and(|executor| executor.spec.is_apart);
            if let Some(found) = named.find(|id| is_apart(id) && fits_on(*id)) {
                return Some(found);
            }
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
            let mut in_racks = racks.filter_map(|rack| self.by_rack.get(rack)).flatten().copied();
            if let Some(near) = roomiest(&mut in_racks) {
                return Some(near);
            }
        }
        if pending.ask.reach < Reach::Anywhere {
            return None;
        }
        let found = self.room.find(unit, |position| {
            !self.is_filtered(queue, choice.leaf, pending.ask.id, ExecutorId(position as u32))
        })?;
        Some(ExecutorId(found as u32))
    }

    /// The rack of a host, if an executor is there to say so.
    pub(super) fn rack_of(&self, host: &str) -> Option<&str> {
        let executor = self.executor(*self.by_host.get(host)?.first()?)?;
        Some(executor.spec.rack.as_str()).filter(|rack| !rack.is_empty())
    }

    /// Whether limits, and what others are guaranteed, let the leaf have one more `unit`.
    ///
    /// `from_free` is the part of it that no reservation covers.
    fn is_allowed(&self, leaf: QueueId, unit: &Resources, from_free: &Resources) -> bool {
        if !self.path_of(leaf).all(|id| self.queue(id).is_within_limit_with(unit)) {
            return false;
        }
        let root = self.queue(QueueId::ROOT);
        if root.pledged.is_zero() && root.children_pledged.is_zero() {
            return true;
        }
        let Some((before, after)) = self.pledges_with(leaf, unit) else { return true };
        Kind::all().all(|kind| {
            let need = from_free.get(kind);
            // Who takes of what is pledged to themselves takes it from nobody else.
            let most = self.free.get(kind).max(before.get(kind));
            need == 0 || after.get(kind) == 0 || need.saturating_add(after.get(kind)) <= most
        })
    }

    /// What is pledged before and after the leaf gets one more `unit`, to those from whom it must not take.
    ///
    /// Below a queue that is itself below its guarantee these are the queues below that one; it may take from all
    /// others. `None` if there is nobody.
    fn pledges_with(&self, leaf: QueueId, unit: &Resources) -> Option<(Resources, Resources)> {
        let guarantor = self.path_of(leaf).filter(|id| self.queue(*id).is_below_guarantee_with(unit)).last();
        if guarantor == Some(leaf) {
            return None;
        }
        let top = guarantor.unwrap_or(QueueId::ROOT);
        let mut before = self.queue(leaf).pledged;
        let mut after = before.minus(unit);
        for id in self.path_of(leaf).skip(1) {
            let queue = self.queue(id);
            let children = queue.children_pledged.minus(&before).plus(&after);
            if id == top && guarantor.is_some() {
                return Some((queue.children_pledged, children));
            }
            before = queue.pledged;
            after = queue.claimed_below(&queue.used.plus(unit), &queue.wanted.minus(unit), &children);
        }
        Some((before, after))
    }

    pub(super) fn is_filtered(&self, queue: &Queue, leaf: QueueId, ask: AskId, executor: ExecutorId) -> bool {
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
        queue.asks[choice.ask].since = now;
        queue.waiting_since = Some(now);
        if queue.claim.is_some_and(|(_, claimed_for)| claimed_for == ask_id) {
            // Served, here or elsewhere: the executor need not be kept clear any longer.
            self.end_claim(leaf);
        }
        if is_last {
            self.forget_shape(&unit);
        }
        let reserved = self
            .executor(executor_id)
            .and_then(|executor| self.reserved_part(leaf, executor, &unit, &executor.unreserved_free()).flatten())
            .map(Box::new);
        if let Some(executor) = self.executors[executor_id.0 as usize].as_mut() {
            executor.outstanding_offers += 1;
        }
        self.hold(leaf, executor_id, &unit, reserved.as_deref());
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
            expires_at: self.now.saturating_add(self.options.offer_ttl_ms),
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
    pub(super) fn give_back(
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
        }
        match reserved {
            Some(reserved) => self.give_back_reserved(id, reserved),
            None => self.update_room(id),
        }
    }

    /// That part of a reservation is no longer in use by it.
    pub(super) fn give_back_reserved(&mut self, id: ExecutorId, (of, part): &(QueueId, Resources)) {
        if let Some(executor) = self.executors[id.0 as usize].as_mut() {
            if let Some(reservation) = executor.reservations.iter_mut().find(|r| r.queue == *of) {
                reservation.used = reservation.used.minus(part);
            }
            executor.reservations.retain(|r| !r.amount.is_zero() || !r.used.is_zero());
            if executor.reservations.is_empty() {
                self.reserving.retain(|known| *known != id);
            }
        }
        self.update_room(id);
    }

    /// Launches tasks on an offer. What they leave of it is free again at once.
    ///
    /// An offer stands for one task of the ask, which is no longer asked for then; without any task it is declined.
    pub fn accept(&mut self, id: OfferId, tasks: &[Resources], now: Millis) -> Result<Vec<TaskId>, OfferError> {
        self.advance(now);
        if tasks.is_empty() {
            return self.decline(id, None, now).map(|()| Vec::new());
        }
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
        while let Some(Reverse((_, id))) = self.offer_deadlines.peek().copied().filter(|next| next.0.0 <= self.now) {
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
}

/// Whether of some kind less than half is left.
fn has_shrunk(before: &Resources, now: &Resources) -> bool {
    Kind::all().any(|kind| now.get(kind) < before.get(kind).div_ceil(2))
}
