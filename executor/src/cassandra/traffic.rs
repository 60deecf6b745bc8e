//! What this process has asked of Cassandra since it started, all clusters together, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static PAGES: AtomicU64 = AtomicU64::new(0);
static READ_ROWS: AtomicU64 = AtomicU64::new(0);
static READ_BYTES: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);
static WRITTEN_ROWS: AtomicU64 = AtomicU64::new(0);
static RETRIES: AtomicU64 = AtomicU64::new(0);
static THROTTLED_US: AtomicU64 = AtomicU64::new(0);

/// Sums since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Pages of rows that came.
    pub pages: u64,
    /// Rows in them.
    pub read_rows: u64,
    /// Bytes of these rows, as Cassandra sent them.
    pub read_bytes: u64,
    /// Requests that wrote rows, one row or a batch.
    pub writes: u64,
    /// Rows in them.
    pub written_rows: u64,
    /// Pages that were asked for again, and writes that were sent again, after a failure that passes.
    pub retries: u64,
    /// Time that reads and writes waited for the limits of their catalogs, of all tasks together.
    pub throttled: Duration,
}

/// The sums so far.
pub fn traffic() -> Traffic {
    let sum = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Traffic {
        pages: sum(&PAGES),
        read_rows: sum(&READ_ROWS),
        read_bytes: sum(&READ_BYTES),
        writes: sum(&WRITES),
        written_rows: sum(&WRITTEN_ROWS),
        retries: sum(&RETRIES),
        throttled: Duration::from_micros(sum(&THROTTLED_US)),
    }
}

pub(super) fn count_page(rows: usize, bytes: usize) {
    PAGES.fetch_add(1, Ordering::Relaxed);
    READ_ROWS.fetch_add(rows as u64, Ordering::Relaxed);
    READ_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

pub(super) fn count_write(rows: usize) {
    WRITES.fetch_add(1, Ordering::Relaxed);
    WRITTEN_ROWS.fetch_add(rows as u64, Ordering::Relaxed);
}

pub(super) fn count_retry() {
    RETRIES.fetch_add(1, Ordering::Relaxed);
}

/// Waits, and counts the time as waited for a limit.
pub(super) async fn throttled<T>(waiting: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = waiting.await;
    THROTTLED_US.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_and_waited_for_adds_up() {
        let before = traffic();
        count_page(5, 100);
        count_write(3);
        count_retry();
        throttled(tokio::time::sleep(Duration::from_millis(20))).await;
        let after = traffic();
        // Other tests count in the same process.
        assert!(after.pages > before.pages && after.read_rows >= before.read_rows + 5);
        assert!(after.read_bytes >= before.read_bytes + 100 && after.written_rows >= before.written_rows + 3);
        assert!(after.writes > before.writes && after.retries > before.retries);
        assert!(after.throttled >= before.throttled + Duration::from_millis(20));
    }
}
