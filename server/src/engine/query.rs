//! Running queries: how they are watched, cancelled and read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::Stream;
use serde::Serialize;
use sluice_scheduler::cluster::{Admitted, Allocation, StageSummary};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::error::{EngineError, SqlState};
use super::observers::Observers;
use super::watch::Watched;

/// Finished queries that can still be looked at.
const RECENT_QUERIES: usize = 200;
/// Characters of a statement that lists of queries show.
const SQL_SHOWN_CHARS: usize = 2_000;

/// How a query is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// As one task in the server, without an exchange.
    Server,
    /// As one task on an executor.
    OneTask,
    /// As stages with exchanges on the executors.
    Stages,
}

impl Placement {
    /// The word that lists and `EXPLAIN` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::OneTask => "one task",
            Self::Stages => "stages",
        }
    }
}

/// Why a query was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The user asked for it, or the client went away.
    User,
    /// `statement_timeout`.
    Timeout,
    /// The service is shutting down.
    Shutdown,
}

/// A query's switch: whoever holds it can stop the query.
#[derive(Debug, Default)]
pub struct QueryControl {
    token: CancellationToken,
    reason: OnceLock<StopReason>,
}

impl QueryControl {
    /// Stops the query; the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        // A later reason changes nothing.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Whether the query is to stop.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the query is to stop.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// What the client is told.
    pub fn error(&self) -> EngineError {
        match self.reason.get() {
            Some(StopReason::Timeout) => {
                EngineError::new(SqlState::CANCELLED, "canceling statement due to statement timeout")
            }
            Some(StopReason::Shutdown) => {
                EngineError::new(SqlState::ADMIN_SHUTDOWN, "terminating the query because the service is shutting down")
            }
            Some(StopReason::User) | None => EngineError::cancelled(),
        }
    }
}

/// What is known of a query while it runs and for a while after.
pub struct QueryRecord {
    /// Unique over restarts, growing with time.
    pub id: String,
    /// Who runs it.
    pub user: String,
    /// The statement's words, cut to a readable length.
    pub sql: String,
    /// Its switch.
    pub control: Arc<QueryControl>,
    started: SystemTime,
    placement: OnceLock<Placement>,
    job_id: Arc<Mutex<Option<String>>>,
    rows: AtomicU64,
    queue: OnceLock<String>,
    is_queued: AtomicBool,
    waits_for_core: AtomicBool,
    watched: Arc<Watched>,
    /// The query's place in its queue, until it ends.
    place: Mutex<Option<Admitted>>,
    end: OnceLock<(SystemTime, Option<String>)>,
    /// Who is told of its end.
    observers: Observers,
}

/// A query in a list.
#[derive(Debug, Clone, Serialize)]
pub struct QuerySummary {
    /// The query's id.
    pub id: String,
    /// Who runs it.
    pub user: String,
    /// The statement's words, cut to a readable length.
    pub sql: String,
    /// `queued`, `running`, `finished` or `failed`.
    pub state: &'static str,
    /// `server`, `one task` or `stages`; empty while it is planned.
    pub placement: &'static str,
    /// Path of the queue whose resources it uses; empty if it uses none.
    pub queue: String,
    /// The scheduler's job, if the executors run it.
    pub job_id: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Milliseconds from its start to its end or to now.
    pub elapsed_ms: u64,
    /// Rows that went to the client so far.
    pub rows: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl QueryRecord {
    pub(super) fn new(user: &str, sql: &str, observers: Observers) -> Arc<Self> {
        Arc::new(Self {
            id: uuid::Uuid::now_v7().to_string(),
            user: user.to_owned(),
            sql: sql.chars().take(SQL_SHOWN_CHARS).collect(),
            control: Arc::default(),
            started: SystemTime::now(),
            placement: OnceLock::new(),
            job_id: Arc::default(),
            rows: AtomicU64::new(0),
            queue: OnceLock::new(),
            is_queued: AtomicBool::new(false),
            waits_for_core: AtomicBool::new(false),
            watched: Arc::default(),
            place: Mutex::new(None),
            end: OnceLock::new(),
            observers,
        })
    }

    /// A record for one of several jobs of this query, which has its place: it stops when the query does, and its end
    /// is not the query's.
    pub(super) fn part(&self) -> Arc<Self> {
        let queue = OnceLock::new();
        // A record of its own has none yet.
        let _ = queue.set(self.queue.get().cloned().unwrap_or_default());
        let control = QueryControl { token: self.control.token.child_token(), reason: OnceLock::new() };
        Arc::new(Self {
            id: self.id.clone(),
            user: self.user.clone(),
            sql: self.sql.clone(),
            control: Arc::new(control),
            started: self.started,
            placement: OnceLock::new(),
            job_id: self.job_id.clone(),
            rows: AtomicU64::new(0),
            queue,
            is_queued: AtomicBool::new(false),
            waits_for_core: AtomicBool::new(false),
            watched: self.watched.clone(),
            place: Mutex::new(None),
            end: OnceLock::new(),
            observers: Observers::default(),
        })
    }

    pub(super) fn placed(&self, placement: Placement) {
        // A re-planned query keeps its first placement.
        let _ = self.placement.set(placement);
    }

    /// How many rows it has left for its client to fetch.
    pub(super) fn left(&self, rows: Option<u64>) {
        self.rows.store(rows.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn runs_as(&self, job_id: &str) {
        *self.job_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(job_id.to_owned());
    }

    /// The scheduler's job, if the executors run the query.
    pub fn job_id(&self) -> Option<String> {
        self.job_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the query may run, if it has not got its place yet. The place is kept to its end.
    pub(super) async fn admitted(&self, allocation: &Arc<Allocation>, queue: &str) -> Result<(), EngineError> {
        if self.queue.set(queue.to_owned()).is_err() {
            return Ok(());
        }
        self.is_queued.store(true, Ordering::Relaxed);
        let since = SystemTime::now();
        let outcome = tokio::select! {
            outcome = allocation.admit(queue) => outcome.map_err(EngineError::from),
            () = self.control.stopped() => Err(self.control.error()),
        };
        self.is_queued.store(false, Ordering::Relaxed);
        self.observers.waited(since);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome?);
        Ok(())
    }

    /// The query's work, for whoever looks at it.
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Its stages as far as they are known without the scheduler.
    pub(super) fn known_stages(&self) -> Option<Vec<StageSummary>> {
        self.watched.stages(self.rows.load(Ordering::Relaxed))
    }

    pub(super) fn set_waits_for_core(&self, waits: bool) {
        self.waits_for_core.store(waits, Ordering::Relaxed);
    }

    /// Whether it waits for a core of this process.
    pub(super) fn waits_for_core(&self) -> bool {
        self.waits_for_core.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self, error: Option<&EngineError>) {
        let state = match error {
            None => "successful",
            Some(_) if self.control.is_stopped() => "stopped",
            Some(_) => "failed",
        };
        self.watched.ended(self.rows.load(Ordering::Relaxed), state);
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Only the first end counts.
        let is_first = self.end.set((SystemTime::now(), error.map(|e| format!("{} {}", e.state, e.message)))).is_ok();
        if is_first {
            let stages = || self.known_stages().unwrap_or_default();
            self.observers.ended(&self.summary(), self.elapsed(), error, stages);
        }
    }

    /// Whether it waits for its turn.
    pub(super) fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Relaxed)
    }

    /// Path of the queue whose resources it uses; empty if it uses none yet.
    pub(super) fn queue_name(&self) -> &str {
        self.queue.get().map_or("", String::as_str)
    }

    /// Time since its start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed().unwrap_or(Duration::ZERO)
    }

    /// Whether the query has not ended.
    pub fn is_running(&self) -> bool {
        self.end.get().is_none()
    }

    pub(super) fn summary(&self) -> QuerySummary {
        let end = self.end.get();
        let elapsed = end.map_or_else(SystemTime::now, |(at, _)| *at).duration_since(self.started);
        QuerySummary {
            id: self.id.clone(),
            user: self.user.clone(),
            sql: self.sql.clone(),
            state: match end {
                None if self.is_queued.load(Ordering::Relaxed) => "queued",
                None => "running",
                Some((_, None)) => "finished",
                Some((_, Some(_))) => "failed",
            },
            placement: self.placement.get().map_or("", |placement| placement.as_str()),
            queue: self.queue.get().cloned().unwrap_or_default(),
            job_id: self.job_id(),
            started_ms: self.started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            elapsed_ms: elapsed.unwrap_or(Duration::ZERO).as_millis() as u64,
            rows: self.rows.load(Ordering::Relaxed),
            error: end.and_then(|(_, error)| error.clone()),
        }
    }
}

impl Drop for QueryRecord {
    /// A statement whose rows were at hand, such as `SHOW`, has ended when nobody holds it any more.
    fn drop(&mut self) {
        if self.is_running() {
            self.observers.ended(&self.summary(), self.elapsed(), None, Vec::new);
        }
    }
}

/// Running queries, and the last that ran.
#[derive(Default)]
pub struct QueryList {
    records: Mutex<VecDeque<Arc<QueryRecord>>>,
}

impl QueryList {
    pub(super) fn add(&self, record: Arc<QueryRecord>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push_back(record);
        // Running queries stay, and push out nothing, however many there are: their number is bounded by the sessions'.
        let ended = records.iter().filter(|record| !record.is_running()).count();
        for _ in RECENT_QUERIES..ended {
            if let Some(index) = records.iter().position(|record| !record.is_running()) {
                records.remove(index);
            }
        }
    }

    /// Newest first.
    pub fn summaries(&self) -> Vec<QuerySummary> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().map(|r| r.summary()).collect()
    }

    /// All that are known, newest first.
    pub(super) fn records(&self) -> Vec<Arc<QueryRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// The queries that have not ended.
    pub fn running(&self) -> Vec<Arc<QueryRecord>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|record| record.is_running()).cloned().collect()
    }
}

/// What a statement gives.
pub enum QueryResult {
    /// Rows, as they come.
    Rows(SendableRecordBatchStream),
    /// No rows; the statement has run to its end.
    Command {
        /// PostgreSQL's complete command tag, such as `INSERT 0 5`.
        tag: String,
        /// Rows written, for statements that write.
        rows_affected: Option<u64>,
    },
}

/// A statement that runs or has run. Dropping it cancels what still runs.
pub struct QueryHandle {
    /// The query's id, as `system.queries` shows it.
    pub id: String,
    /// The columns; none for a statement that returns no rows.
    pub schema: SchemaRef,
    /// Its rows, or its command tag.
    pub result: QueryResult,
}

impl QueryHandle {
    /// The result alone; the stream goes on to cancel the query when it is dropped.
    pub fn into_result(self) -> QueryResult {
        self.result
    }
}

/// Ends a query whose client goes away before its result has come, with its place in its queue.
pub(super) struct WaitedFor(Option<Arc<QueryRecord>>);

impl WaitedFor {
    pub(super) fn new(record: &Arc<QueryRecord>) -> Self {
        Self(Some(record.clone()))
    }

    /// The result is there, or why there is none; from here on it is up to others to end the query.
    pub(super) fn has_come(mut self) {
        self.0 = None;
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        let Some(record) = self.0.take() else { return };
        record.control.stop(StopReason::User);
        record.ended(Some(&record.control.error()));
    }
}

/// Something to be done when a result has been read, or will not be read any more.
type OnDrop = Box<dyn FnOnce() + Send>;

/// What makes a query's rows, and what is to be done when they are no longer made.
struct Rows {
    made_by: SendableRecordBatchStream,
    _end: End,
}

struct End(Option<OnDrop>);

impl Drop for End {
    fn drop(&mut self) {
        if let Some(on_drop) = self.0.take() {
            on_drop();
        }
    }
}

/// A query's rows: ends with an error when the query is stopped, and cleans up when it is dropped.
///
/// A query that is stopped gives back what it holds also while nobody asks for rows, as when its client does not read.
pub(super) struct QueryStream {
    schema: SchemaRef,
    rows: Arc<Mutex<Option<Rows>>>,
    record: Arc<QueryRecord>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
    watch: Option<AbortHandle>,
}

impl QueryStream {
    pub(super) fn new(inner: SendableRecordBatchStream, record: Arc<QueryRecord>, on_drop: Option<OnDrop>) -> Self {
        let stopped = Box::pin(record.control.token.clone().cancelled_owned());
        let schema = inner.schema();
        let rows = Arc::new(Mutex::new(Some(Rows { made_by: inner, _end: End(on_drop) })));
        let runtime = tokio::runtime::Handle::try_current().ok();
        let watch =
            runtime.map(|runtime| runtime.spawn(let_go_if_stopped(rows.clone(), record.clone())).abort_handle());
        Self { schema, rows, record, stopped, is_over: false, watch }
    }

    fn finish(&mut self, error: Option<&EngineError>) {
        self.is_over = true;
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
        self.record.ended(error);
        let_go(&self.rows);
    }
}

/// Lets go of a query's rows when the query is stopped.
async fn let_go_if_stopped(rows: Arc<Mutex<Option<Rows>>>, record: Arc<QueryRecord>) {
    record.control.stopped().await;
    let_go(&rows);
    record.ended(Some(&record.control.error()));
}

/// Waits for a poll of the rows that is under way, which is short: queries compute on threads of their own.
fn let_go(rows: &Mutex<Option<Rows>>) {
    drop(rows.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Stream for QueryStream {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let polled = match this.stopped.as_mut().poll(cx) {
            Poll::Ready(()) => None,
            Poll::Pending => {
                let mut rows = this.rows.lock().unwrap_or_else(PoisonError::into_inner);
                rows.as_mut().map(|rows| rows.made_by.as_mut().poll_next(cx))
            }
        };
        let Some(polled) = polled else {
            let error = this.record.control.error();
            this.finish(Some(&error));
            return Poll::Ready(Some(Err(DataFusionError::External(Box::new(error)))));
        };
        match std::task::ready!(polled) {
            Some(Ok(batch)) => {
                this.record.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                this.record.observers.returned(&batch);
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => {
                let error = EngineError::from(error);
                this.finish(Some(&error));
                Poll::Ready(Some(Err(DataFusionError::External(Box::new(error)))))
            }
            None => {
                this.finish(None);
                Poll::Ready(None)
            }
        }
    }
}

impl RecordBatchStream for QueryStream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Drop for QueryStream {
    fn drop(&mut self) {
        if !self.is_over {
            self.record.control.stop(StopReason::User);
            let error = self.record.control.error();
            self.finish(Some(&error));
        }
    }
}
