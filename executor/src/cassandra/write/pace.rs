//! How many requests to have under way: as many as the nodes answer without queueing.
//!
//! Latency says how long requests wait. While it is near the best that was seen, more requests under way
//! mean more rows a second; beyond, they only wait longer, and whoever else uses the nodes waits with them.
//! So the number grows by its square root while latency is near its best, and shrinks in proportion when it is not
//! (the gradient of Netflix's concurrency limits). A time-out or an overloaded node halves it.

use std::time::{Duration, Instant};

/// Requests under way at first.
const FIRST_LIMIT: f64 = 32.0;
/// Answers are looked at together for so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer answers than these say nothing of latency.
const LEAST_ANSWERS: u32 = 10;
/// Latency up to so many times the best is not taken for queueing.
const TOLERANCE: f64 = 2.0;
/// The most that one window takes away.
const LEAST_GRADIENT: f64 = 0.5;
/// By how much the best latency is forgotten with each window: doubled in 35 s, for nodes that have got slower.
const FORGETTING: f64 = 1.002;

/// The number of requests to have under way, as it follows their latency.
#[derive(Debug)]
pub struct Pace {
    limit: f64,
    ceiling: f64,
    /// The lowest mean latency of a window, in seconds.
    best_s: Option<f64>,
    under_way: usize,
    window: Window,
}

/// Answers that are looked at together.
#[derive(Debug, Default)]
struct Window {
    started: Option<Instant>,
    answers: u32,
    total: Duration,
    most_under_way: usize,
    is_overloaded: bool,
}

impl Pace {
    /// A pace that never has more than `ceiling` requests under way, and at least one.
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1) as f64;
        Self { limit: FIRST_LIMIT.min(ceiling), ceiling, best_s: None, under_way: 0, window: Window::default() }
    }

    /// Requests to have under way now.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Instant) {
        self.under_way += 1;
        self.window.most_under_way = self.window.most_under_way.max(self.under_way);
        self.window.started.get_or_insert(now);
    }

    /// A request was answered after `latency`.
    pub fn answered(&mut self, now: Instant, latency: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        self.window.answers += 1;
        self.window.total += latency;
        let is_over = self.window.started.is_some_and(|started| now.duration_since(started) >= WINDOW);
        if is_over && self.window.answers >= LEAST_ANSWERS {
            self.end_window(now);
        }
    }

    /// A request failed because the nodes have too much to do, or was not answered in time.
    pub fn overloaded(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        // Requests that were under way together fail together; they count once.
        if !self.window.is_overloaded {
            self.limit = (self.limit / 2.0).max(1.0);
            self.window = Window { started: Some(now), is_overloaded: true, ..Window::default() };
        }
    }

    /// A request failed in a way that says nothing of the nodes' load.
    pub fn refused(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn end_window(&mut self, now: Instant) {
        let window = std::mem::take(&mut self.window);
        self.window.started = Some(now);
        self.window.most_under_way = self.under_way;
        let mean_s = window.total.as_secs_f64() / f64::from(window.answers);
        let best_s = self.best_s.map_or(mean_s, |best_s| mean_s.min(best_s * FORGETTING));
        self.best_s = Some(best_s);
        if window.is_overloaded {
            return;
        }
        let gradient = (TOLERANCE * best_s / mean_s.max(f64::MIN_POSITIVE)).clamp(LEAST_GRADIENT, 1.0);
        let next = (self.limit * gradient + self.limit.sqrt()).clamp(1.0, self.ceiling);
        // A limit that was not reached was not tried.
        if next < self.limit || window.most_under_way as f64 >= self.limit.floor() {
            self.limit = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs windows in which each request takes what `latency_ms` says for the number under way.
    fn run(pace: &mut Pace, windows: usize, latency_ms: impl Fn(usize) -> f64) {
        // Where the windows before ended, if there were any.
        let mut now = pace.window.started.unwrap_or_else(Instant::now);
        for _ in 0..windows {
            let limit = pace.limit();
            (0..limit).for_each(|_| pace.sent(now));
            now += WINDOW;
            let latency = Duration::from_secs_f64(latency_ms(limit) / 1_000.0);
            (0..limit.max(LEAST_ANSWERS as usize)).for_each(|_| pace.answered(now, latency));
        }
    }

    #[test]
    fn it_grows_to_its_ceiling_while_nodes_answer_at_once() {
        let mut pace = Pace::new(128);
        assert_eq!(pace.limit(), 32);
        run(&mut pace, 40, |_| 1.0);
        assert_eq!(pace.limit(), 128);
        assert_eq!(Pace::new(4).limit(), 4);
    }

    #[test]
    fn it_stays_where_nodes_begin_to_queue() {
        // Forty requests are answered at once, more of them wait for each other.
        let mut pace = Pace::new(4_096);
        run(&mut pace, 200, |limit| (limit as f64 / 40.0).max(1.0));
        assert!((80..200).contains(&pace.limit()), "{}", pace.limit());
    }

    #[test]
    fn it_shrinks_when_nodes_get_slower_and_recovers() {
        let mut pace = Pace::new(128);
        run(&mut pace, 40, |_| 1.0);
        run(&mut pace, 10, |_| 20.0);
        let slow = pace.limit();
        assert!(slow < 16, "{slow}");
        run(&mut pace, 40, |_| 1.0);
        assert_eq!(pace.limit(), 128);
    }

    #[test]
    fn a_time_out_halves_it_once_for_all_that_were_under_way() {
        let mut pace = Pace::new(128);
        run(&mut pace, 40, |_| 1.0);
        let now = Instant::now();
        (0..128).for_each(|_| pace.sent(now));
        (0..128).for_each(|_| pace.overloaded(now));
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn a_limit_that_was_not_reached_does_not_grow() {
        let mut pace = Pace::new(128);
        let mut now = Instant::now();
        for _ in 0..1_000 {
            pace.sent(now);
            now += Duration::from_millis(20);
            pace.answered(now, Duration::from_millis(1));
        }
        assert_eq!(pace.limit(), 32);
    }
}
