//! How many queries of a queue run, wait, and for how long.

use std::collections::{BTreeMap, HashMap};

use super::Millis;
use super::allocator::Allocator;
use super::queue::QueueId;

/// Bounds on the queries of a queue and those below it. `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdmissionLimits {
    /// Queries that run at a time.
    pub max_running: Option<u32>,
    /// Queries that wait at a time.
    pub max_queued: Option<u32>,
    /// How long one waits before it is refused.
    pub queue_timeout_ms: Option<Millis>,
}

/// What becomes of a query that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It may run.
    Run,
    /// It waits, behind so many of its queue.
    Wait {
        /// How many of the same queue came before.
        ahead: u32,
        /// When it is refused, if it still waits.
        until: Option<Millis>,
    },
    /// The queue of that path has as many waiting as it may.
    Refuse {
        /// Whose limit it is; the query's own queue or one above.
        queue: String,
        /// The limit.
        max_queued: u32,
    },
}

#[derive(Debug, Clone)]
struct Waiting {
    queue: QueueId,
    until: Option<Millis>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    running: u32,
    queued: u32,
}

/// Which queries run and which wait. Query numbers are the caller's, larger for later ones.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    running: HashMap<u64, QueueId>,
    waiting: BTreeMap<u64, Waiting>,
    counts: HashMap<QueueId, Counts>,
}

impl Admission {
    /// A query arrives at a queue.
    pub fn arrive(&mut self, allocator: &Allocator, query: u64, queue: QueueId, now: Millis) -> Arrival {
        let path: Vec<_> = allocator.path_of(queue).collect();
        let ahead = self.waiting.values().filter(|waiting| waiting.queue == queue).count() as u32;
        if ahead == 0 && self.has_place(allocator, queue) {
            self.start(allocator, query, queue);
            return Arrival::Run;
        }
        for id in &path {
            let queued = self.counts.get(id).map_or(0, |counts| counts.queued);
            let limits = allocator.queue_spec(*id).admission;
            if let Some(max_queued) = limits.max_queued.filter(|max| queued >= *max) {
                return Arrival::Refuse { queue: allocator.queue_path(*id).to_owned(), max_queued };
            }
        }
        // The shortest patience on the path is the one that the user has to know.
        let patience = path.iter().filter_map(|id| allocator.queue_spec(*id).admission.queue_timeout_ms).min();
        let until = patience.map(|patience| now + patience);
        for id in path {
            self.counts.entry(id).or_default().queued += 1;
        }
        self.waiting.insert(query, Waiting { queue, until });
        Arrival::Wait { ahead, until }
    }

    /// A query ended, or gives up waiting. Returns the queries that may run now.
    pub fn leave(&mut self, allocator: &Allocator, query: u64) -> Vec<u64> {
        if let Some(queue) = self.running.remove(&query) {
            for id in allocator.path_of(queue) {
                self.counts.entry(id).or_default().running -= 1;
            }
        }
        self.stop_waiting(allocator, query);
        self.admit(allocator)
    }

    /// The queries whose wait is over without a place; they have left.
    pub fn expire(&mut self, allocator: &Allocator, now: Millis) -> Vec<u64> {
        let is_over = |waiting: &Waiting| waiting.until.is_some_and(|until| until <= now);
        let expired: Vec<_> = self.waiting.iter().filter(|(_, w)| is_over(w)).map(|(query, _)| *query).collect();
        for query in &expired {
            self.stop_waiting(allocator, *query);
        }
        expired
    }

    /// The queries that may run now, because limits were raised or places came free; first come first.
    pub fn admit(&mut self, allocator: &Allocator) -> Vec<u64> {
        let mut admitted = Vec::new();
        for (query, queue) in self.waiting.iter().map(|(query, w)| (*query, w.queue)).collect::<Vec<_>>() {
            if self.has_place(allocator, queue) {
                self.stop_waiting(allocator, query);
                self.start(allocator, query, queue);
                admitted.push(query);
            }
        }
        admitted
    }

    /// Queries that run and that wait in the queue and those below it.
    pub fn counts(&self, queue: QueueId) -> (u32, u32) {
        self.counts.get(&queue).map_or((0, 0), |counts| (counts.running, counts.queued))
    }

    fn has_place(&self, allocator: &Allocator, queue: QueueId) -> bool {
        allocator.path_of(queue).all(|id| {
            let running = self.counts.get(&id).map_or(0, |counts| counts.running);
            allocator.queue_spec(id).admission.max_running.is_none_or(|max| running < max)
        })
    }

    fn start(&mut self, allocator: &Allocator, query: u64, queue: QueueId) {
        self.running.insert(query, queue);
        for id in allocator.path_of(queue) {
            self.counts.entry(id).or_default().running += 1;
        }
    }

    fn stop_waiting(&mut self, allocator: &Allocator, query: u64) {
        if let Some(waiting) = self.waiting.remove(&query) {
            for id in allocator.path_of(waiting.queue) {
                self.counts.entry(id).or_default().queued -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, QueueSpec};
    use super::*;

    fn limits(max_running: u32, max_queued: u32, queue_timeout_ms: Millis) -> QueueSpec {
        let admission = AdmissionLimits {
            max_running: Some(max_running),
            max_queued: Some(max_queued),
            queue_timeout_ms: Some(queue_timeout_ms),
        };
        QueueSpec { admission, ..QueueSpec::default() }
    }

    #[test]
    fn queries_wait_for_a_place_in_order_and_too_many_are_refused() {
        let mut allocator = Allocator::new(Options::default());
        let bi = allocator.create_queue("bi", limits(1, 2, 1_000)).unwrap();
        let mut admission = Admission::default();
        assert_eq!(admission.arrive(&allocator, 1, bi, 0), Arrival::Run);
        assert_eq!(admission.arrive(&allocator, 2, bi, 0), Arrival::Wait { ahead: 0, until: Some(1_000) });
        assert_eq!(admission.arrive(&allocator, 3, bi, 500), Arrival::Wait { ahead: 1, until: Some(1_500) });
        assert_eq!(
            admission.arrive(&allocator, 4, bi, 500),
            Arrival::Refuse { queue: "root.bi".to_owned(), max_queued: 2 }
        );
        assert_eq!(admission.counts(bi), (1, 2));
        assert_eq!(admission.expire(&allocator, 1_000), [2]);
        assert_eq!(admission.leave(&allocator, 1), [3]);
        assert!(admission.leave(&allocator, 3).is_empty());
        assert_eq!(admission.counts(QueueId::ROOT), (0, 0));
    }

    #[test]
    fn limits_of_a_parent_bind_all_its_children() {
        let mut allocator = Allocator::new(Options::default());
        allocator.create_queue("bi", limits(1, 9, 1_000)).unwrap();
        let a = allocator.create_queue("bi.a", QueueSpec::default()).unwrap();
        let b = allocator.create_queue("bi.b", QueueSpec::default()).unwrap();
        let mut admission = Admission::default();
        assert_eq!(admission.arrive(&allocator, 1, a, 0), Arrival::Run);
        assert!(matches!(admission.arrive(&allocator, 2, b, 0), Arrival::Wait { .. }));
        assert_eq!(admission.leave(&allocator, 1), [2]);
    }

    #[test]
    fn raising_a_limit_lets_in_who_waits() {
        let mut allocator = Allocator::new(Options::default());
        let bi = allocator.create_queue("bi", limits(1, 9, 1_000)).unwrap();
        let mut admission = Admission::default();
        for query in 1..=3 {
            admission.arrive(&allocator, query, bi, 0);
        }
        allocator.alter_queue(bi, limits(3, 9, 1_000)).unwrap();
        assert_eq!(admission.admit(&allocator), [2, 3]);
    }
}
