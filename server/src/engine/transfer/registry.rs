//! Transfers that run and the last that ran.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::error::{EngineError, SqlState};
use super::super::session::Session;

/// Ended transfers that can still be looked at.
const RECENT: usize = 200;
/// How often a client is told how far its statement has come.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Running transfers, and the last that ran.
#[derive(Debug)]
pub struct Transfers {
    records: Mutex<VecDeque<Arc<TransferRecord>>>,
    /// Where restores note what they have done.
    notes_dir: PathBuf,
}

/// What is known of a transfer.
#[derive(Debug)]
pub struct TransferRecord {
    /// Unique over restarts, growing with time.
    pub id: String,
    /// `COPY TO`, `COPY FROM`, `BACKUP` or `RESTORE`.
    pub kind: &'static str,
    /// What is read.
    pub what: String,
    /// What is written.
    pub target: String,
    folder: PathBuf,
    started: SystemTime,
    units_total: AtomicU64,
    units_done: AtomicU64,
    units_kept: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    told_at: Mutex<Instant>,
    end: OnceLock<(SystemTime, Option<String>)>,
}

/// A transfer in a list.
#[derive(Debug, Clone)]
pub struct TransferSummary {
    pub id: String,
    pub kind: &'static str,
    pub what: String,
    pub target: String,
    /// `running`, `finished` or `failed`.
    pub state: &'static str,
    /// Token ranges or files.
    pub units_total: u64,
    /// Units that are whole.
    pub units_done: u64,
    /// Units that were whole before the statement began.
    pub units_kept: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub elapsed_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Transfers {
    /// An empty list; restores note what they have done below `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { records: Mutex::default(), notes_dir: data_dir.join("transfers") }
    }

    /// Where restores note what they have done.
    pub fn notes_dir(&self) -> &Path {
        &self.notes_dir
    }

    /// Begins a transfer. Two that use one folder at a time are refused (55006), unless both only read it.
    pub fn begin(
        &self,
        session: &Session,
        kind: &'static str,
        what: &str,
        target: &str,
        folder: &Path,
    ) -> Result<TransferGuard, EngineError> {
        let record = Arc::new(TransferRecord::new(kind, what, target, folder));
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_the_way = |other: &&Arc<TransferRecord>| {
            let reads = |kind: &str| matches!(kind, "COPY FROM" | "RESTORE");
            let is_near = other.folder.starts_with(folder) || folder.starts_with(&other.folder);
            let both_read = reads(kind) && reads(other.kind) && other.target != target;
            other.end.get().is_none() && is_near && !both_read
        };
        if let Some(other) = records.iter().find(is_in_the_way) {
            let message = format!("{} is in use by {} of {}", folder.display(), other.kind, other.what);
            return Err(EngineError::new(SqlState("55006"), message)
                .with_hint("wait for it: SELECT * FROM system.transfers WHERE state = 'running'"));
        }
        records.push_back(record.clone());
        let ended = records.iter().filter(|record| record.end.get().is_some()).count();
        for _ in RECENT..ended {
            if let Some(index) = records.iter().position(|record| record.end.get().is_some()) {
                records.remove(index);
            }
        }
        tracing::info!(transfer = %record.id, kind, what, target, user = session.user(), "a transfer begins");
        Ok(TransferGuard(record))
    }

    /// Newest first.
    pub fn summaries(&self) -> Vec<TransferSummary> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().rev().map(|record| record.summary()).collect()
    }
}

impl TransferRecord {
    fn new(kind: &'static str, what: &str, target: &str, folder: &Path) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            kind,
            what: what.to_owned(),
            target: target.to_owned(),
            folder: folder.to_owned(),
            started: SystemTime::now(),
            units_total: AtomicU64::new(0),
            units_done: AtomicU64::new(0),
            units_kept: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            told_at: Mutex::new(Instant::now()),
            end: OnceLock::new(),
        }
    }

    /// There are so many more units.
    pub fn expect(&self, units: usize) {
        self.units_total.fetch_add(units as u64, Ordering::Relaxed);
    }

    /// A unit is whole.
    pub fn done(&self, rows: u64, bytes: u64) {
        self.units_done.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many units were whole already; they have been told of as done.
    pub fn kept(&self, units: usize) {
        self.units_kept.fetch_add(units as u64, Ordering::Relaxed);
    }

    /// Rows of the units that are whole.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes of the units that are whole.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Tells the client how far it is, if it was not told a moment ago.
    pub fn tell(&self, session: &Session) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.elapsed() < TELL_EVERY {
            return;
        }
        *told_at = Instant::now();
        let (done, total) = (self.units_done.load(Ordering::Relaxed), self.units_total.load(Ordering::Relaxed));
        let words = format!("{}: {done} of {total} parts, {} rows", self.kind, self.rows());
        tracing::info!(transfer = %self.id, "{words}");
        session.notice(words);
    }

    fn summary(&self) -> TransferSummary {
        let end = self.end.get();
        let elapsed = end.map_or_else(SystemTime::now, |(at, _)| *at).duration_since(self.started);
        TransferSummary {
            id: self.id.clone(),
            kind: self.kind,
            what: self.what.clone(),
            target: self.target.clone(),
            state: match end {
                None => "running",
                Some((_, None)) => "finished",
                Some((_, Some(_))) => "failed",
            },
            units_total: self.units_total.load(Ordering::Relaxed),
            units_done: self.units_done.load(Ordering::Relaxed),
            units_kept: self.units_kept.load(Ordering::Relaxed),
            rows: self.rows(),
            bytes: self.bytes(),
            started_ms: self.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            elapsed_ms: elapsed.unwrap_or_default().as_millis() as u64,
            error: end.and_then(|(_, error)| error.clone()),
        }
    }
}

/// A transfer that runs; dropped before its end, it was stopped.
#[derive(Debug)]
pub struct TransferGuard(Arc<TransferRecord>);

impl TransferGuard {
    /// What is known of it.
    pub fn record(&self) -> &TransferRecord {
        &self.0
    }

    /// Ends it with its result.
    pub fn end<T>(self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        let error = result.as_ref().err().map(|error| format!("{} {}", error.state, error.message));
        if let Some(error) = &error {
            tracing::warn!(transfer = %self.0.id, error, "a transfer failed");
        }
        // The end that counts is this one: the guard is gone after it.
        let _ = self.0.end.set((SystemTime::now(), error));
        result
    }
}

impl Drop for TransferGuard {
    fn drop(&mut self) {
        // After an end this changes nothing.
        let _ = self.0.end.set((SystemTime::now(), Some(EngineError::cancelled().to_string())));
    }
}
