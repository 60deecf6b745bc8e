//! Executors come, drain, are lost, and keep parts of themselves for queues.

use super::allocator::{Allocator, Departure, OfferError};
use super::executor::{Executor, ExecutorId, ExecutorSpec, ExecutorState, Reservation};
use super::queue::QueueId;
use super::resources::Resources;

impl Allocator {
    /// An executor joins. One of the same name is replaced, as if it had been lost.
    pub fn add_executor(&mut self, spec: ExecutorSpec) -> (ExecutorId, Departure) {
        let departure =
            self.by_name.get(&spec.name).copied().map(|known| self.remove_executor(known)).unwrap_or_default();
        let id = ExecutorId(self.executors.len() as u32);
        self.by_name.insert(spec.name.clone(), id);
        self.by_host.entry(spec.host.clone()).or_default().push(id);
        self.by_rack.entry(spec.rack.clone()).or_default().push(id);
        if !spec.is_apart {
            self.total = self.total.plus(&spec.total);
        }
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
            if !executor.spec.is_apart {
                self.total = self.total.minus(&executor.spec.total);
            }
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
            // What only fits where nothing new is offered is not possible, and nothing is kept free for it.
            let capacity = if state == ExecutorState::Active { executor.spec.total } else { Resources::ZERO };
            self.capacity.set(id.0 as usize, capacity);
            if state == ExecutorState::Draining {
                self.release_claim_on(id);
            }
            self.update_room(id);
            self.stale = true;
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
        if self.queues[queue.0 as usize].removed {
            return Err(OfferError::Reservation("there is no such queue".to_owned()));
        }
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
        // An executor that keeps something for others may never be clear.
        self.release_claim_on(id);
        Ok(())
    }

    /// Sets what others may find on the executor.
    pub(super) fn update_room(&mut self, id: ExecutorId) {
        let position = id.0 as usize;
        let room = match &self.executors[position] {
            Some(executor)
                if executor.state == ExecutorState::Active
                    && executor.claimed_by.is_none()
                    && !executor.spec.is_apart =>
            {
                executor.unreserved_free()
            }
            _ => Resources::ZERO,
        };
        self.free = self.free.minus(&self.room.get(position)).plus(&room);
        self.room.set(position, room);
    }
}
