//! What queues had over the last minutes: a look a second, in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Engine;
use super::watch::now_ms;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks that are kept: a quarter of an hour.
const SAMPLES_KEPT: usize = 900;
/// Queues of one look; those that come first in a walk down the tree.
const QUEUES_KEPT: usize = 100;

/// What a queue had at a time.
#[derive(Debug, Clone, Serialize)]
pub struct QueueSample {
    /// The queue's path.
    pub queue: String,
    /// Its dominant share, from 0 to 1.
    pub share: f64,
    /// What it was entitled to, from 0 to 1.
    pub fair_share: f64,
    /// Thousandths of a core that it held.
    pub used_cpu_millis: u64,
    /// Bytes of memory that it held.
    pub used_memory_bytes: u64,
    /// Queries that ran, in it and below it.
    pub running_queries: u32,
    /// Queries that waited, in it and below it.
    pub queued_queries: u32,
}

/// All queues at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The queues, in the order of a walk down the tree.
    pub queues: Vec<QueueSample>,
}

/// The looks of the last minutes, oldest first.
#[derive(Default)]
pub struct QueueHistory {
    samples: Mutex<VecDeque<Sample>>,
}

impl QueueHistory {
    /// Those that are younger than a time, oldest first.
    pub fn since(&self, at_ms: u64) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.at_ms > at_ms).cloned().collect()
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(sample);
        if samples.len() > SAMPLES_KEPT {
            samples.pop_front();
        }
    }
}

/// Looks at the engine's queues until the engine is gone.
pub(super) fn follow(engine: &Arc<Engine>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Some(engine) = engine.upgrade() else { return };
            let sample = look(&engine).await;
            engine.queue_history.add(sample);
        }
    });
}

async fn look(engine: &Engine) -> Sample {
    let queues = engine.scheduler.queues().await;
    let queues = queues.into_iter().take(QUEUES_KEPT).map(|queue| QueueSample {
        queue: queue.view.path,
        share: queue.view.dominant_share,
        fair_share: queue.view.fair_share,
        used_cpu_millis: queue.view.used.cpu_millis(),
        used_memory_bytes: queue.view.used.memory_bytes(),
        running_queries: queue.running_queries,
        queued_queries: queue.queued_queries,
    });
    Sample { at_ms: now_ms(), queues: queues.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_looks_are_forgotten() {
        let history = QueueHistory::default();
        for at_ms in 1..=SAMPLES_KEPT as u64 + 5 {
            history.add(Sample { at_ms, queues: Vec::new() });
        }
        let all = history.since(0);
        assert_eq!((all.len(), all[0].at_ms), (SAMPLES_KEPT, 6));
        assert_eq!(history.since(903).iter().map(|sample| sample.at_ms).collect::<Vec<_>>(), [904, 905]);
    }
}
