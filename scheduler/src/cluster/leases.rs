//! Queries that run in the server itself take offers of the server, for the same queues as everything else.
//!
//! The server is an executor apart: only these queries are offered a piece of it. One that reads little
//! waits for its piece. One that reads much takes it only if one is there at once, and else runs in stages
//! on the executors, whose tasks end sooner, so that nobody waits for a long query of somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::allocation::{Allocation, Inner};
use super::demand::CPU_MILLIS;
use crate::core::{Ask, AskId, ExecutorId, ExecutorSpec, Offer, QueueId, Reach, Resources, TaskId};

/// The name and the host of the server among the executors; no host has it.
const SERVER: &str = "(server)";
/// What a query that reads little holds in hash tables and buffers.
const SMALL_MEMORY_BYTES: u64 = 16 << 20;

/// How much a query in the server needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseSize {
    /// It reads little.
    Small,
    /// It may need much memory and time.
    Large,
}

/// A piece of the server, given back when it is dropped.
pub struct Lease {
    allocation: Arc<Allocation>,
    task: TaskId,
    is_large: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let now = self.allocation.now();
        let mut inner = self.allocation.lock();
        inner.allocator.finish_task(self.task, now);
        inner.server.large_running -= u32::from(self.is_large);
        inner.offer_server(now);
    }
}

/// A query that waits for a piece of the server. When it does not any more, its ask is taken back.
struct Waiting {
    allocation: Arc<Allocation>,
    queue: QueueId,
    ask: AskId,
    granted: oneshot::Receiver<TaskId>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = self.allocation.now();
        let mut inner = self.allocation.lock();
        if inner.server.waiting.remove(&self.ask).is_some() {
            inner.allocator.remove_ask(self.queue, self.ask);
        } else if let Ok(task) = self.granted.try_recv() {
            // It was granted in the moment in which the query gave up.
            inner.allocator.finish_task(task, now);
        } else {
            return;
        }
        inner.offer_server(now);
    }
}

/// The server among the executors.
#[derive(Default)]
pub(super) struct Server {
    id: Option<ExecutorId>,
    large_memory_bytes: u64,
    most_large: u32,
    large_running: u32,
    waiting: BTreeMap<AskId, (Ask, QueueId, oneshot::Sender<TaskId>)>,
}

impl Server {
    /// Counts one more large query, if there may be one more.
    fn take_large(&mut self) -> bool {
        let is_free = self.large_running < self.most_large;
        self.large_running += u32::from(is_free);
        is_free
    }
}

impl Inner {
    /// What the queries of a queue that wait for the server ask for.
    pub(super) fn lease_asks(&self, queue: QueueId) -> impl Iterator<Item = Ask> + '_ {
        self.server.waiting.values().filter(move |(_, of, _)| *of == queue).map(|(ask, _, _)| ask.clone())
    }

    pub(super) fn lease_queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.server.waiting.values().map(|(_, queue, _)| *queue)
    }

    /// Offers what is free of the server.
    fn offer_server(&mut self, now: u64) {
        let Some(server) = self.server.id else { return };
        for offer in self.allocator.allocate_on(server, now) {
            self.take_lease(&offer, now);
        }
    }

    /// Gives an offer of the server to the query it is for. Tells whether there is one.
    pub(super) fn take_lease(&mut self, offer: &Offer, now: u64) -> bool {
        let Some((_, _, waiter)) = self.server.waiting.remove(&offer.ask) else { return false };
        self.allocator.remove_ask(offer.queue, offer.ask);
        let started = self.allocator.accept(offer.id, &[offer.resources], now).unwrap_or_default();
        self.remember(offer, "accepted", now);
        if let Some(task) = started.first() {
            // Whoever waits takes its waiter out of the list, under this lock, before it goes.
            let _ = waiter.send(*task);
        }
        true
    }

    fn lease_ask(&mut self, size: LeaseSize) -> Ask {
        let memory_bytes = match size {
            LeaseSize::Small => SMALL_MEMORY_BYTES,
            LeaseSize::Large => self.server.large_memory_bytes,
        };
        let id = self.new_ask();
        Ask {
            id,
            unit: Resources::new(CPU_MILLIS, memory_bytes),
            count: 1,
            hosts: vec![SERVER.to_owned()],
            reach: Reach::Hosts,
            arrived: id.0,
        }
    }
}

impl Allocation {
    /// Has queries that run in this process take their pieces of so many cores and so much memory.
    pub fn add_server(&self, cores: u32, memory_bytes: u64) {
        let mut inner = self.lock();
        let most_large = (cores / 2).max(1);
        let spec = ExecutorSpec {
            name: SERVER.to_owned(),
            host: SERVER.to_owned(),
            // A small query is charged little memory, because it needs little; cores are what binds.
            total: Resources::new(u64::from(cores) * CPU_MILLIS, memory_bytes),
            is_apart: true,
            ..ExecutorSpec::default()
        };
        let (id, _) = inner.allocator.add_executor(spec);
        inner.server.id = Some(id);
        inner.server.most_large = most_large;
        inner.server.large_memory_bytes = memory_bytes / u64::from(most_large + 1);
    }

    /// A piece of the server at once, if the queue can have one now.
    pub fn try_lease(self: &Arc<Self>, queue: &str, size: LeaseSize) -> Option<Lease> {
        let is_large = size == LeaseSize::Large;
        if is_large && !self.lock().server.take_large() {
            return None;
        }
        let task = self.ask_for_lease(queue, size).and_then(|mut waiting| waiting.granted.try_recv().ok());
        if is_large && task.is_none() {
            self.lock().server.large_running -= 1;
        }
        Some(Lease { allocation: self.clone(), task: task?, is_large })
    }

    /// A piece of the server for a query that reads little, as soon as it is the queue's turn.
    ///
    /// Dropping the future gives up.
    pub async fn lease(self: &Arc<Self>, queue: &str) -> Option<Lease> {
        let mut waiting = self.ask_for_lease(queue, LeaseSize::Small)?;
        let task = (&mut waiting.granted).await.ok()?;
        Some(Lease { allocation: self.clone(), task, is_large: false })
    }

    fn ask_for_lease(self: &Arc<Self>, queue: &str, size: LeaseSize) -> Option<Waiting> {
        let now = self.now();
        let mut inner = self.lock();
        let queue = inner.queue_or_default(queue)?;
        inner.server.id?;
        let ask = inner.lease_ask(size);
        let (sender, granted) = oneshot::channel();
        let waiting = Waiting { allocation: self.clone(), queue, ask: ask.id, granted };
        inner.server.waiting.insert(ask.id, (ask.clone(), queue, sender));
        inner.allocator.add_ask(queue, ask, now);
        inner.offer_server(now);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queues::QueueDefinition;
    use super::*;
    use crate::core::Options;

    fn server(cores: u32) -> Arc<Allocation> {
        let allocation = Arc::new(Allocation::new(Options::default()));
        for queue in ["a", "b"] {
            allocation.create_queue(queue, QueueDefinition::default()).expect("the name is free");
        }
        allocation.add_server(cores, 1 << 30);
        allocation
    }

    #[tokio::test]
    async fn who_has_less_is_next_and_what_is_given_back_goes_to_who_waits() {
        let allocation = server(2);
        let first = allocation.lease("a").await.expect("there is room");
        let second = allocation.lease("a").await.expect("there is room");
        let (also_a, b) = (allocation.clone(), allocation.clone());
        let third = tokio::spawn(async move { also_a.lease("a").await });
        tokio::task::yield_now().await;
        let other = tokio::spawn(async move { b.lease("b").await });
        tokio::task::yield_now().await;
        drop(first);
        let other = other.await.expect("does not panic").expect("b had nothing, and so it is next");
        assert!(!third.is_finished());
        drop((second, other));
        assert!(third.await.expect("does not panic").is_some());
        assert!(allocation.queues().iter().all(|queue| queue.view.used.is_zero()));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let allocation = server(1);
        let held = allocation.lease("a").await.expect("there is room");
        let waited = tokio::time::timeout(std::time::Duration::from_millis(10), allocation.lease("b")).await;
        assert!(waited.is_err());
        assert_eq!(allocation.lock().server.waiting.len(), 0);
        drop(held);
        assert!(allocation.try_lease("b", LeaseSize::Small).is_some());
    }

    #[tokio::test]
    async fn who_gives_up_in_the_moment_of_its_turn_leaves_nothing_behind() {
        let allocation = server(1);
        let held = allocation.lease("a").await.expect("there is room");
        let mut waiting = Box::pin(allocation.lease("b"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(held);
        // It is b's turn, but b is not asked any more.
        drop(waiting);
        assert!(allocation.queues().iter().all(|queue| queue.view.used.is_zero()));
    }

    #[test]
    fn large_queries_leave_room_for_small_ones() {
        let allocation = server(2);
        let large = allocation.try_lease("a", LeaseSize::Large).expect("there is room");
        assert!(allocation.try_lease("a", LeaseSize::Large).is_none());
        assert!(allocation.try_lease("b", LeaseSize::Small).is_some());
        drop(large);
        assert!(allocation.try_lease("a", LeaseSize::Large).is_some());
    }
}
