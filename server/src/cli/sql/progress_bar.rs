//! How far a statement is, in one line that is drawn anew and leaves no trace.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::super::args::ProgressName;
use crate::engine::{JobProgress, PROGRESS};

/// Cells of the bar.
const BAR_CELLS: usize = 24;
/// To the line's beginning, which is then erased.
const ERASE: &str = "\r\x1b[2K";
/// A line that is wider than the terminal is cut off and not continued on the next.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

/// The line of a statement that runs.
pub struct ProgressBar {
    started: Instant,
    told: String,
    is_drawn: bool,
}

/// Whether there is to be a bar: by default if a person sees it.
pub fn is_wanted(progress: ProgressName) -> bool {
    match progress {
        ProgressName::On => true,
        ProgressName::Off => false,
        ProgressName::Auto => std::io::stderr().is_terminal(),
    }
}

/// Whether a notice tells how far a statement is.
pub fn is_progress(notice: &str) -> bool {
    notice.starts_with(PROGRESS)
}

impl ProgressBar {
    /// A statement starts.
    pub fn new() -> Self {
        Self { started: Instant::now(), told: String::new(), is_drawn: false }
    }

    /// Takes what the service tells of the statement's progress.
    pub fn take(&mut self, notice: &str) {
        let told = notice.strip_prefix(PROGRESS).unwrap_or(notice);
        // Where the page is, and how long it takes, is not how far it is.
        if !told.starts_with("see ") && !told.starts_with("runs for ") {
            told.clone_into(&mut self.told);
        }
    }

    /// Draws the line over the one before.
    pub fn draw(&mut self) {
        let line = line(&self.told, self.started.elapsed());
        // Who cannot see it misses nothing else.
        let _ = write!(std::io::stderr(), "{ERASE}{WRAP_OFF}{line}{WRAP_ON}");
        self.is_drawn = true;
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(std::io::stderr(), "{ERASE}");
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(told: &str, elapsed: Duration) -> String {
    let elapsed = time(elapsed);
    let Ok(progress) = told.parse::<JobProgress>() else {
        return match told {
            "" => format!("runs, {elapsed}"),
            told => format!("{told}, {elapsed}"),
        };
    };
    let full = (progress.share() * BAR_CELLS as f64).round() as usize;
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR_CELLS.saturating_sub(full)));
    let stages = format!("{}/{} stages", progress.ended, progress.count);
    let running = progress.running.iter().map(|stage| {
        let (ended, count) = (stage.partitions_ended, stage.partition_count);
        format!("stage {}: {ended}/{count} tasks, {} rows", stage.stage_id, stage.rows)
    });
    [format!("[{bar}] {stages}, {elapsed}")].into_iter().chain(running).collect::<Vec<_>>().join("; ")
}

fn time(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{}:{:02} min", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_stages_tasks_rows_and_time() {
        let told = "1 of 4 stages ended; stage 2: 4 of 8 partitions, 30 rows; stage 3: 4 of 8 partitions, 0 rows";
        let drawn =
            "[############............] 1/4 stages, 1:05 min; stage 2: 4/8 tasks, 30 rows; stage 3: 4/8 tasks, 0 rows";
        assert_eq!(line(told, Duration::from_secs(65)), drawn);
        let between = line("1 of 4 stages ended", Duration::from_secs(2));
        assert_eq!(between, "[######..................] 1/4 stages, 2 s");
        assert_eq!(line("", Duration::from_millis(4_200)), "runs, 4 s");
        let waits = "waits for its turn in queue root.bi";
        assert_eq!(line(waits, Duration::from_secs(3)), format!("{waits}, 3 s"));
    }

    #[test]
    fn how_far_it_is_stays_when_other_things_are_told() {
        let mut bar = ProgressBar::new();
        bar.take("progress: 1 of 2 stages ended; stage 2: 0 of 1 partitions, 0 rows");
        bar.take("progress: see http://127.0.0.1:8080/#/query/1");
        assert!(bar.told.starts_with("1 of 2"), "{}", bar.told);
        assert!(is_progress("progress: runs for 4 s") && !is_progress("the query starts again"));
    }
}
