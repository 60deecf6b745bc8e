//! How fast this process reads from one node, so that scans leave the operational load alone.
//!
//! Limits are kept node by node and shared by everything that reads through one [`super::CassandraCluster`].
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

type Limiter = RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>;

/// A limit's allowance for a burst is what it gives in a second, divided by this.
const BURSTS_PER_SECOND: u32 = 20;
/// Pages of a throttled scan hold what the limit gives in a second, divided by this: a large page is a burst.
const PAGES_PER_SECOND: u32 = 4;
/// No page is made smaller than so many rows, whatever the limit.
const LEAST_PAGE_ROWS: u32 = 100;

/// The limits of one cluster's nodes.
pub struct Throttle {
    reads: Option<Limiter>,
    rows: Option<(u32, Limiter)>,
    in_flight: Option<(usize, Mutex<HashMap<IpAddr, Arc<Semaphore>>>)>,
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
    rows: u32,
}

impl Turn {
    /// The request has given `row_count` rows. The next one may begin, whoever waits for these rows.
    pub fn end(self, row_count: usize) -> Debt {
        Debt { node: self.node, rows: u32::try_from(row_count).unwrap_or(u32::MAX) }
    }
}

impl Throttle {
    /// The limits that a catalog's options ask for.
    pub fn new(options: &CassandraOptions) -> Self {
        Self {
            reads: options.reads_per_second.and_then(limiter),
            rows: options.rows_per_second.and_then(|limit| Some((limit, limiter(limit)?))),
            in_flight: options.requests_in_flight.map(|most| (most as usize, Mutex::default())),
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether there is any limit; without, nobody needs to know which node is asked.
    pub fn is_on(&self) -> bool {
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
        let Some(node) = replicas.get(chosen).copied().filter(|_| self.is_on()) else {
            return Turn { node: None, _permit: None };
        };
        let permit = match self.semaphore(node) {
            // It is never closed; if it were, nothing would be limited.
            Some(semaphore) => semaphore.acquire_owned().await.ok(),
            None => None,
        };
        if let Some(reads) = &self.reads {
            reads.until_key_ready(&node).await;
        }
        Turn { node: Some(node), _permit: permit }
    }

    /// Waits until what was read is paid for.
    pub async fn pay(&self, debt: Debt) {
        let (Some(node), Some((limit, rows))) = (debt.node, &self.rows) else { return };
        let burst = burst(*limit).get();
        let mut owed = debt.rows;
        while let Some(part) = NonZeroU32::new(owed.min(burst)) {
            // A part is never more than the burst, which is all that could be refused.
            if rows.until_key_n_ready(&node, part).await.is_err() {
                return;
            }
            owed -= part.get();
        }
    }

    fn semaphore(&self, node: IpAddr) -> Option<Arc<Semaphore>> {
        let (most, nodes) = self.in_flight.as_ref()?;
        let mut nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Some(nodes.entry(node).or_insert_with(|| Arc::new(Semaphore::new(*most))).clone())
    }
}

fn burst(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit / BURSTS_PER_SECOND).unwrap_or(NonZeroU32::MIN)
}

fn limiter(limit: u32) -> Option<Limiter> {
    Some(RateLimiter::keyed(Quota::per_second(NonZeroU32::new(limit)?).allow_burst(burst(limit))))
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
        assert!(!throttle.is_on());
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
}
