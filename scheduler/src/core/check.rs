//! Whether everything that is counted twice agrees.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::allocator::{Allocator, Task};
use super::executor::{ExecutorId, ExecutorState};
use super::queue::{Queue, QueueId};
use super::resources::Resources;

/// A task or an offer: whose, where, how much, and what of it comes out of whose reservation.
type Holding<'a> = (QueueId, ExecutorId, Resources, Option<&'a (QueueId, Resources)>);

impl Allocator {
    /// Whether all sums agree; `Err` says which does not. For tests: O(everything).
    pub fn check(&self) -> Result<(), String> {
        self.check_executors()?;
        self.check_queues()?;
        self.check_order()?;
        self.check_links()?;
        self.check_filters_and_asks()
    }

    fn holdings(&self) -> impl Iterator<Item = Holding<'_>> {
        let of_task = |task: &'_ Task| (task.queue, task.executor, task.resources);
        let tasks = self.tasks.iter().flatten().map(move |task| (of_task(task), task.reserved.as_deref()));
        let offers = self.offers.values().map(|o| ((o.queue, o.executor, o.resources), o.reserved.as_deref()));
        tasks.chain(offers).map(|((queue, executor, amount), reserved)| (queue, executor, amount, reserved))
    }

    fn check_executors(&self) -> Result<(), String> {
        let mut held: HashMap<ExecutorId, Resources> = HashMap::new();
        let mut reserved_held: HashMap<(ExecutorId, QueueId), Resources> = HashMap::new();
        for (queue, executor, amount, reserved) in self.holdings() {
            add_to(held.entry(executor).or_default(), &amount);
            if let Some((of, part)) = reserved {
                add_to(reserved_held.entry((executor, *of)).or_default(), part);
                agree(
                    || format!("{queue:?} uses the reservation of {of:?}"),
                    &true,
                    &self.path_of(queue).any(|id| id == *of),
                )?;
                agree(|| format!("{part:?} of {amount:?} is reserved"), &true, &part.fits(&amount))?;
            }
        }
        let (mut total, mut free) = (Resources::ZERO, Resources::ZERO);
        for (index, executor) in self.executors.iter().enumerate() {
            let id = ExecutorId(index as u32);
            let held = held.get(&id).copied().unwrap_or_default();
            let room = self.room.get(index);
            add_to(&mut free, &room);
            let Some(executor) = executor else {
                agree(|| format!("what is held of {id:?}, which is gone"), &Resources::ZERO, &held)?;
                agree(|| format!("room on {id:?}, which is gone"), &Resources::ZERO, &room)?;
                continue;
            };
            if !executor.spec.is_apart {
                add_to(&mut total, &executor.spec.total);
            }
            agree(|| format!("what is held of {id:?}"), &held, &executor.used)?;
            if !executor.used.fits(&executor.spec.total) {
                return Err(format!("{id:?}: {:?} is used of {:?}", executor.used, executor.spec.total));
            }
            let is_offered = executor.state == ExecutorState::Active;
            let is_open = is_offered && executor.claimed_by.is_none() && !executor.spec.is_apart;
            let expected = if is_open { executor.unreserved_free() } else { Resources::ZERO };
            agree(|| format!("room on {id:?}"), &expected, &room)?;
            let capacity = if is_offered { executor.spec.total } else { Resources::ZERO };
            agree(|| format!("capacity of {id:?}"), &capacity, &self.capacity.get(index))?;
            let offers = self.offers.values().filter(|offer| offer.executor == id).count();
            agree(|| format!("offers of {id:?}"), &offers, &(executor.outstanding_offers as usize))?;
            for reservation in &executor.reservations {
                let held = reserved_held.remove(&(id, reservation.queue)).unwrap_or_default();
                agree(|| format!("use of the reservation {reservation:?} on {id:?}"), &held, &reservation.used)?;
            }
            let is_reserving = !executor.reservations.is_empty();
            agree(|| format!("{id:?} reserves"), &is_reserving, &self.reserving.contains(&id))?;
            if let Some(queue) = executor.claimed_by {
                let claimed = self.queue(queue).claim.map(|(id, _)| id);
                agree(|| format!("the claim of {queue:?}"), &Some(id), &claimed)?;
            }
        }
        agree(|| "reservations that nobody made".to_owned(), &true, &reserved_held.is_empty())?;
        agree(|| "the total".to_owned(), &total, &self.total)?;
        agree(|| "what is free".to_owned(), &free, &self.free)
    }

    fn check_queues(&self) -> Result<(), String> {
        let mut held: HashMap<QueueId, Resources> = HashMap::new();
        for (queue, _, amount, _) in self.holdings() {
            for id in self.path_of(queue) {
                add_to(held.entry(id).or_default(), &amount);
            }
        }
        for (id, queue) in self.present_queues() {
            let what = |what: &str| format!("{what} of queue {}", queue.path);
            agree(|| what("use"), &held.get(&id).copied().unwrap_or_default(), &queue.used)?;
            if let Some((executor, _)) = queue.claim {
                let claimed_by = self.executor(executor).and_then(|executor| executor.claimed_by);
                agree(|| what("claim"), &Some(id), &claimed_by)?;
            }
            let (wanted, cleared, children_pledged) = if queue.is_leaf() {
                (queue.wanted_by_asks(), self.cleared_for(id), Resources::ZERO)
            } else {
                let below = |of: fn(&Queue) -> &Resources| {
                    queue.children.iter().fold(Resources::ZERO, |sum, child| sum.plus(of(self.queue(*child))))
                };
                (below(|q| &q.wanted), below(|q| &q.cleared), below(|q| &q.pledged))
            };
            agree(|| what("what is wanted"), &wanted, &queue.wanted)?;
            agree(|| what("what is cleared"), &cleared, &queue.cleared)?;
            // What an altered queue is pledged is computed with the next decision.
            if !self.stale {
                let pledged = if queue.is_leaf() {
                    queue.claimed_by_tasks().minus(&queue.cleared)
                } else {
                    queue.claimed_below(&queue.used, &queue.wanted, &queue.children_pledged)
                };
                agree(|| what("what is pledged"), &pledged, &queue.pledged)?;
                agree(|| what("what is pledged below"), &children_pledged, &queue.children_pledged)?;
            }
        }
        Ok(())
    }

    /// Whether each leaf is in its parent's order where it would be if all were computed anew.
    fn check_order(&self) -> Result<(), String> {
        for (id, queue) in self.present_queues() {
            let what = |what: &str| format!("{what} of queue {}", queue.path);
            let inner = queue.children.iter().copied().filter(|child| !self.queue(*child).is_leaf());
            let inner: BTreeSet<_> = inner.collect();
            agree(|| what("inner children"), &inner, &queue.inner.iter().copied().collect())?;
            let ready = queue.children.iter().filter_map(|child| Some((self.queue(*child).ready_as?.key, *child)));
            agree(|| what("order"), &ready.collect(), &queue.ready)?;
            if queue.is_leaf() && id != QueueId::ROOT && !self.stale {
                let choice = queue.first_ask(self.cycle).map(|ask| self.leaf_choice(id, ask));
                agree(|| what("place"), &choice, &queue.ready_as)?;
            }
            if let Some(Some(next)) = queue.next {
                let ready = self.queue(next.leaf).ready_as.map(|ready| ready.ask);
                agree(|| what("next"), &Some(next.ask), &ready)?;
            }
        }
        Ok(())
    }

    /// Whether the lists of tasks by queue and by executor hold each task once, the older first.
    fn check_links(&self) -> Result<(), String> {
        let mut by_queue: BTreeMap<QueueId, Vec<(u64, u32)>> = BTreeMap::new();
        let mut by_executor: BTreeMap<ExecutorId, Vec<(u64, u32)>> = BTreeMap::new();
        let mut revoked = BTreeSet::new();
        for (index, task) in self.tasks.iter().enumerate().filter_map(|(i, task)| Some((i as u32, task.as_ref()?))) {
            by_queue.entry(task.queue).or_default().push((task.started, index));
            by_executor.entry(task.executor).or_default().push((task.started, index));
            revoked.extend(task.revoked.then_some(index));
        }
        agree(|| "revoked tasks".to_owned(), &revoked, &self.revoking)?;
        for (id, queue) in self.present_queues() {
            let expected = youngest_first(by_queue.remove(&id));
            let listed = self.listed(queue.youngest, |task| task.in_queue);
            agree(|| format!("tasks of queue {}", queue.path), &expected, &listed)?;
            agree(|| format!("count of tasks of {}", queue.path), &expected.len(), &(queue.task_count as usize))?;
            agree(|| format!("oldest task of {}", queue.path), &expected.last().copied(), &queue.oldest)?;
        }
        for (index, executor) in self.executors.iter().enumerate() {
            let Some(executor) = executor else { continue };
            let expected = youngest_first(by_executor.remove(&ExecutorId(index as u32)));
            let listed = self.listed(executor.youngest, |task| task.on_executor);
            agree(|| format!("tasks on {}", executor.spec.name), &expected, &listed)?;
            let count = executor.task_count as usize;
            agree(|| format!("count of tasks on {}", executor.spec.name), &expected.len(), &count)?;
        }
        agree(|| "tasks of no queue".to_owned(), &true, &by_queue.is_empty())?;
        agree(|| "tasks on no executor".to_owned(), &true, &by_executor.is_empty())
    }

    /// The tasks from the youngest on, as far as each is linked in both directions.
    fn listed(&self, youngest: Option<u32>, links: impl Fn(&Task) -> (Option<u32>, Option<u32>)) -> Vec<u32> {
        let (mut out, mut next, mut younger) = (Vec::new(), youngest, None);
        while let Some(index) = next {
            let Some(task) = self.tasks[index as usize].as_ref().filter(|task| links(task).1 == younger) else { break };
            out.push(index);
            (next, younger) = (links(task).0, Some(index));
        }
        out
    }

    fn check_filters_and_asks(&self) -> Result<(), String> {
        let mut shapes: HashMap<Resources, u32> = HashMap::new();
        for (index, queue) in self.queues.iter().enumerate() {
            let id = QueueId(index as u32);
            let filters = self.filters.keys().filter(|(of, _, _)| *of == id).count();
            agree(|| format!("filters of queue {}", queue.path), &filters, &(queue.filter_count as usize))?;
            for pending in queue.asks.iter().filter(|pending| pending.ask.count > 0) {
                *shapes.entry(pending.ask.unit).or_default() += 1;
            }
        }
        agree(|| "shapes of tasks".to_owned(), &shapes, &self.shapes)
    }

    fn present_queues(&self) -> impl Iterator<Item = (QueueId, &Queue)> {
        let queues = self.queues.iter().enumerate().map(|(index, queue)| (QueueId(index as u32), queue));
        queues.filter(|(_, queue)| !queue.removed)
    }
}

fn youngest_first(tasks: Option<Vec<(u64, u32)>>) -> Vec<u32> {
    let mut tasks = tasks.unwrap_or_default();
    tasks.sort_unstable_by(|a, b| b.cmp(a));
    tasks.into_iter().map(|(_, index)| index).collect()
}

fn add_to(sum: &mut Resources, amount: &Resources) {
    *sum = sum.plus(amount);
}

fn agree<T: PartialEq + std::fmt::Debug>(what: impl Fn() -> String, expected: &T, found: &T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{}: {expected:?} by counting, {found:?} on record", what())) }
}
