//! How fast this process reads from one node and writes to it, so that the operational load is left alone.
//!
//! Limits are kept node by node and shared by everything that goes through one [`super::CassandraCluster`].
//! A request waits for its [`Turn`] before it is sent. Rows are paid for after they came, because nobody knows
//! before how many there will be: whoever read them asks for more only when this [`Debt`] is paid.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::options::CassandraOptions;
use super::traffic::throttled;

/// So many of something a second, for each node.
struct NodeRate {
    limiter: RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>,
    /// What may come at once after a pause.
    burst: NonZeroU32,
}

impl NodeRate {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)), burst }
    }

    /// Waits until so many are within the rate; more than a burst are waited for part by part.
    async fn wait(&self, node: &IpAddr, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(part) = NonZeroU32::new(left.min(self.burst.get())) {
            // A part is never more than the burst, which is all that could be refused.
            if self.limiter.until_key_n_ready(node, part).await.is_err() {
                return;
            }
            left -= part.get();
        }
    }
}

/// A limit's allowance for a burst is what it gives in a second, divided by this.
const BURSTS_PER_SECOND: u32 = 20;
/// Pages of a throttled scan hold what the limit gives in a second, divided by this: a large page is a burst.
const PAGES_PER_SECOND: u32 = 4;
/// No page is made smaller than so many rows, whatever the limit.
const LEAST_PAGE_ROWS: u32 = 100;

/// The requests that each node may still be sent.
type SlotsByNode = HashMap<IpAddr, Arc<Semaphore>>;

/// The limits of one cluster's nodes.
pub struct Throttle {
    reads: Option<NodeRate>,
    rows: Option<(u32, NodeRate)>,
    written_rows: Option<NodeRate>,
    in_flight: Option<(usize, Mutex<SlotsByNode>)>,
    turn: AtomicUsize,
}

/// The right to have one request under way; given back when dropped.
#[derive(Debug)]
#[must_use = "a request is under way for as long as its turn is held"]
pub struct Turn {
    node: Option<IpAddr>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Rows that a node gave and that are yet to be paid for.
#[derive(Debug)]
#[must_use = "what is not paid for is not limited"]
pub struct Debt {
    node: Option<IpAddr>,
    rows: usize,
}

impl Turn {
    /// The request has given `row_count` rows. The next one may begin, whoever waits for these rows.
    pub fn end(self, row_count: usize) -> Debt {
        Debt { node: self.node, rows: row_count }
    }
}

impl Throttle {
    /// The limits that a catalog's options ask for.
    pub fn new(options: &CassandraOptions) -> Self {
        Self {
            reads: options.reads_per_second.and_then(read_rate),
            rows: options.rows_per_second.and_then(|limit| Some((limit, read_rate(limit)?))),
            written_rows: NonZeroU32::new(options.write_rows_per_second).map(|limit| NodeRate::new(limit, limit)),
            in_flight: options.requests_in_flight.map(|most| (most as usize, Mutex::default())),
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether there is any limit of reads; without, nobody needs to know which node is asked.
    pub fn limits_reads(&self) -> bool {
        self.reads.is_some() || self.rows.is_some() || self.in_flight.is_some()
    }

    /// Rows that a page may have.
    pub fn page_rows(&self, wanted: i32) -> i32 {
        let most = self.rows.as_ref().map(|(limit, _)| (limit / PAGES_PER_SECOND).max(LEAST_PAGE_ROWS));
        most.and_then(|most| i32::try_from(most).ok()).map_or(wanted, |most| wanted.min(most))
    }

    /// Waits until a request may go to one of the nodes that would answer it, each in turn.
    pub async fn begin(&self, replicas: &[IpAddr]) -> Turn {
        let chosen = self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let Some(node) = replicas.get(chosen).copied().filter(|_| self.limits_reads()) else {
            return Turn { node: None, _permit: None };
        };
        let permit = match self.semaphore(node) {
            // It is never closed; if it were, nothing would be limited.
            Some(semaphore) => throttled(semaphore.acquire_owned()).await.ok(),
            None => None,
        };
        if let Some(reads) = &self.reads {
            throttled(reads.wait(&node, 1)).await;
        }
        Turn { node: Some(node), _permit: permit }
    }

    /// Waits until what was read is paid for.
    pub async fn pay(&self, debt: Debt) {
        if let (Some(node), Some((_, rows))) = (debt.node, &self.rows) {
            throttled(rows.wait(&node, debt.rows)).await;
        }
    }

    /// Whether there is a limit of writes.
    pub fn limits_writes(&self) -> bool {
        self.written_rows.is_some()
    }

    /// Waits until each of the nodes may be sent so many rows more.
    pub async fn wait_to_write(&self, nodes: &[IpAddr], row_count: usize) {
        let Some(rate) = &self.written_rows else { return };
        for node in nodes {
            throttled(rate.wait(node, row_count)).await;
        }
    }

    fn semaphore(&self, node: IpAddr) -> Option<Arc<Semaphore>> {
        let (most, nodes) = self.in_flight.as_ref()?;
        let mut nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Some(nodes.entry(node).or_insert_with(|| Arc::new(Semaphore::new(*most))).clone())
    }
}

fn read_rate(limit: u32) -> Option<NodeRate> {
    let burst = NonZeroU32::new(limit / BURSTS_PER_SECOND).unwrap_or(NonZeroU32::MIN);
    Some(NodeRate::new(NonZeroU32::new(limit)?, burst))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const NODES: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))];

    fn throttle(set: impl FnOnce(&mut CassandraOptions)) -> Throttle {
        let mut options = CassandraOptions::default();
        set(&mut options);
        Throttle::new(&options)
    }

    #[tokio::test]
    async fn without_limits_nothing_waits() {
        let throttle = throttle(|_| {});
        assert!(!throttle.limits_reads());
        let turn = throttle.begin(&NODES).await;
        throttle.pay(turn.end(usize::MAX)).await;
        assert_eq!(throttle.page_rows(5_000), 5_000);
    }

    #[tokio::test]
    async fn rows_are_paid_for_node_by_node() {
        let throttle = throttle(|options| options.rows_per_second = Some(10_000));
        assert_eq!(throttle.page_rows(5_000), 2_500);
        let begun = Instant::now();
        for _ in 0..4 {
            let turn = throttle.begin(&NODES).await;
            throttle.pay(turn.end(2_000)).await;
        }
        // Two pages of each node, less one burst: 0.35 s at 10,000 rows/s.
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn requests_wait_for_their_rate() {
        let throttle = throttle(|options| options.reads_per_second = Some(100));
        let begun = Instant::now();
        for _ in 0..25 {
            let turn = throttle.begin(&NODES[..1]).await;
            throttle.pay(turn.end(1)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(180), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_node_has_no_more_requests_under_way_than_it_may() {
        let throttle = throttle(|options| options.requests_in_flight = Some(1));
        let first = throttle.begin(&NODES[..1]).await;
        let second = tokio::time::timeout(Duration::from_millis(50), throttle.begin(&NODES[..1])).await;
        assert!(second.is_err(), "two requests at one node");
        let _other = throttle.begin(&NODES[1..]).await;
        throttle.pay(first.end(0)).await;
        let _second = throttle.begin(&NODES[..1]).await;
    }

    #[tokio::test]
    async fn rows_wait_for_their_node_and_no_other() {
        let throttle = throttle(|options| options.write_rows_per_second = 100);
        let started = Instant::now();
        throttle.wait_to_write(&NODES[..1], 100).await;
        throttle.wait_to_write(&NODES[1..], 100).await;
        assert!(started.elapsed() < Duration::from_millis(200), "a second's rows go at once");
        throttle.wait_to_write(&NODES[..1], 50).await;
        assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn more_rows_than_a_second_has_are_waited_for() {
        let started = Instant::now();
        throttle(|options| options.write_rows_per_second = 100).wait_to_write(&NODES[..1], 150).await;
        assert!((400..2_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    }
}
