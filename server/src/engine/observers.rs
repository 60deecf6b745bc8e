//! Who is told of a query's rows and its end: the counters, the audit log, and the trace that it belongs to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::RecordBatch;
use sluice_scheduler::cluster::StageSummary;

use super::audit::{AuditLog, Event};
use super::error::EngineError;
use super::metrics::Metrics;
use super::query::QuerySummary;
use super::session::{Prepared, Session};
use super::traces::StatementTrace;

/// A wait that is worth a span.
const NOTEWORTHY_WAIT: Duration = Duration::from_millis(1);

/// Who is told; nobody by default.
#[derive(Default)]
pub(super) struct Observers {
    metrics: Option<Arc<Metrics>>,
    audit: Option<Arc<AuditLog>>,
    trace: Mutex<Option<StatementTrace>>,
}

impl Observers {
    pub fn new(metrics: Arc<Metrics>, audit: Option<Arc<AuditLog>>, trace: Option<StatementTrace>) -> Self {
        Self { metrics: Some(metrics), audit, trace: Mutex::new(trace) }
    }

    /// The query gives rows.
    pub fn returned(&self, batch: &RecordBatch) {
        if let Some(metrics) = &self.metrics {
            metrics.returned(batch);
        }
    }

    /// The query has its turn in its queue, which it waited for since then.
    pub fn waited(&self, since: SystemTime) {
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = trace.as_ref().filter(|_| since.elapsed().unwrap_or_default() >= NOTEWORTHY_WAIT) {
            trace.waited(since);
        }
    }

    /// The query has ended, after stages that are asked for if somebody wants to know them.
    pub fn ended(
        &self,
        query: &QuerySummary,
        elapsed: Duration,
        error: Option<&EngineError>,
        stages: impl FnOnce() -> Vec<StageSummary>,
    ) {
        if let Some(metrics) = &self.metrics {
            metrics.query_ended(&query.queue, elapsed, error);
        }
        if let Some(audit) = &self.audit {
            // It has run; that its end could not be written down is in the service's log.
            let _ = audit.note(Event {
                event: "end",
                user: &query.user,
                query: Some(&query.id),
                state: Some(error.map_or("00000", |error| error.state.0)),
                rows: Some(query.rows),
                ..Event::default()
            });
        }
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(trace) = trace {
            trace.end(query, error, &stages());
        }
    }
}

impl Session {
    /// Counts an error that the client is about to be told. Errors of queries are counted when these end.
    pub(super) fn counted<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        result.inspect_err(|error| self.engine().metrics.error(error.state))
    }

    /// Those who are told of a statement that is about to run.
    pub(super) fn observers(&self, prepared: &Prepared) -> Observers {
        let engine = self.engine();
        let planned = prepared.planned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let trace = engine.traces.as_ref().and_then(|traces| traces.begin(self, &prepared.statement, planned));
        Observers::new(engine.metrics.clone(), engine.audit().cloned(), trace)
    }
}
