//! Rows a second that this process writes to one node.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use super::super::options::CassandraOptions;

/// A limit for each node of a cluster, shared by all tasks of this process.
#[derive(Debug)]
pub struct RowLimit {
    rows_per_second: NonZeroU32,
    nodes: Mutex<HashMap<Uuid, Arc<DefaultDirectRateLimiter>>>,
}

/// One for each set of options, as for connections.
static LIMITS: LazyLock<Mutex<HashMap<CassandraOptions, Arc<RowLimit>>>> = LazyLock::new(Mutex::default);

impl RowLimit {
    /// The limit that the options ask for, if any.
    pub fn shared(options: &CassandraOptions) -> Option<Arc<Self>> {
        let rows_per_second = NonZeroU32::new(options.write_rows_per_second)?;
        let mut limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(options.clone());
        Some(limit.or_insert_with(|| Arc::new(Self { rows_per_second, nodes: Mutex::default() })).clone())
    }

    /// Waits until each of the nodes, by their host ids, may be sent so many rows more.
    pub async fn wait(&self, nodes: &[Uuid], row_count: usize) {
        for node in nodes {
            let limiter = self.limiter(*node);
            let mut left = u32::try_from(row_count).unwrap_or(u32::MAX);
            // More rows than a second's are waited for second by second.
            while let Some(part) = NonZeroU32::new(left.min(self.rows_per_second.get())) {
                // A part is never more than a second's rows, which the limiter holds.
                if limiter.until_n_ready(part).await.is_err() {
                    break;
                }
                left -= part.get();
            }
        }
    }

    fn limiter(&self, node: Uuid) -> Arc<DefaultDirectRateLimiter> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = Quota::per_second(self.rows_per_second);
        nodes.entry(node).or_insert_with(|| Arc::new(RateLimiter::direct(quota))).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn limit(rows_per_second: u32) -> RowLimit {
        let rows_per_second = NonZeroU32::new(rows_per_second).expect("is not zero");
        RowLimit { rows_per_second, nodes: Mutex::default() }
    }

    #[tokio::test]
    async fn rows_wait_for_their_node_and_no_other() {
        let limit = limit(100);
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let started = Instant::now();
        limit.wait(&[one], 100).await;
        limit.wait(&[other], 100).await;
        assert!(started.elapsed() < Duration::from_millis(200), "a second's rows go at once");
        limit.wait(&[one], 50).await;
        assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn more_rows_than_a_second_has_are_waited_for() {
        let started = Instant::now();
        limit(100).wait(&[Uuid::nil()], 150).await;
        assert!((400..2_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    }
}
