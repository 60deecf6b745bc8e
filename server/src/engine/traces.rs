//! Statements as OpenTelemetry traces, sent to a collector over [OTLP](https://opentelemetry.io/docs/specs/otlp/) by
//! gRPC.
//!
//! A statement is a span of kind `server`; below it are its planning, its wait for its turn in its queue, its stages and
//! their tasks. It belongs to the trace that its client names, in the header `traceparent` of a Flight call or in a
//! comment of the statement ([sqlcommenter](https://google.github.io/sqlcommenter/spec/)), else it begins one. Names of
//! attributes follow the [conventions for databases](https://opentelemetry.io/docs/specs/semconv/database/); texts and
//! numbers are left out of the statement.
//!
//! Spans wait in a queue of a fixed length for a thread of their own. What finds the queue full is dropped: a statement
//! never waits for a collector.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter};
use sluice_planner::statement::{Statement, without_literals};
use sluice_scheduler::cluster::{StageSummary, TaskSummary};

use super::error::{EngineError, SqlState};
use super::query::QuerySummary;
use super::session::Session;

/// The header, and the key in a comment, that names a trace.
pub const TRACE_PARENT: &str = "traceparent";
/// Characters of a statement in its span.
const SQL_SHOWN_CHARS: usize = 2_000;
/// Tasks of one statement that get spans; the rest are in their stage's count.
const MOST_TASK_SPANS: usize = 256;
/// A plan that was made longer ago than this is not part of the statement's time: the client kept it.
const PLANNED_JUST_NOW: Duration = Duration::from_secs(1);
/// How long the last spans may take to leave when the service stops.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// A collector, and the spans on their way to it.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Spans go to the collector at this address, such as `http://127.0.0.1:4317`, once it answers. The environment's
    /// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_...` and
    /// `OTEL_EXPORTER_OTLP_HEADERS` are followed.
    ///
    /// Errors: 22023 for an address that is none.
    pub fn start(endpoint: &str) -> Result<Self, EngineError> {
        let unusable = |error: ExporterBuildError| {
            let message = format!("traces cannot be sent to \"{endpoint}\": {error}");
            EngineError::new(SqlState::INVALID_PARAMETER, message).with_hint("--otlp-endpoint takes http://HOST:PORT")
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        let exporter = ToldOnce {
            inner: exporter.build().map_err(unusable)?,
            endpoint: endpoint.to_owned(),
            fails: AtomicBool::new(false),
        };
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("sluice");
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
        Ok(Self::over(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    fn over(provider: SdkTracerProvider) -> Self {
        let tracer = provider.tracer("sluice");
        Self { provider, tracer }
    }

    /// Begins the span of a statement; `None` if the trace that it belongs to is not recorded.
    pub fn begin(&self, session: &Session, statement: &Statement, planned: Option<Planned>) -> Option<StatementTrace> {
        let parent = statement.trace_parent.clone().or_else(|| session.trace_parent());
        let now = SystemTime::now();
        let planned =
            planned.filter(|planned| now.duration_since(planned.ended).unwrap_or_default() < PLANNED_JUST_NOW);
        let mut attributes = vec![
            KeyValue::new("db.system.name", "sluice"),
            KeyValue::new("db.namespace", session.database()),
            KeyValue::new("db.operation.name", statement.tag),
            KeyValue::new("db.query.text", shown(&statement.text)),
            KeyValue::new("network.protocol.name", session.protocol().name()),
            KeyValue::new("user.name", session.user().to_owned()),
            KeyValue::new("session.id", session.id().to_owned()),
        ];
        attributes.extend(session.client_address().map(|address| KeyValue::new("client.address", address.to_owned())));
        let start = planned.as_ref().map_or(now, |planned| planned.started);
        let trace = self.statement(parent.as_deref(), statement.tag, start, attributes)?;
        if let Some(planned) = planned {
            trace.child("plan", planned.started, planned.ended, Vec::new());
        }
        Some(trace)
    }

    fn statement(
        &self,
        parent: Option<&str>,
        name: &'static str,
        start: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Option<StatementTrace> {
        let builder = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_start_time(start);
        let span = self.tracer.build_with_context(builder.with_attributes(attributes), &context_of(parent));
        span.is_recording().then(|| StatementTrace { span, tracer: self.tracer.clone() })
    }

    /// Sends what is left, for as long as it may take. Blocks.
    pub fn stop(&self) {
        // What could not be sent was told when it failed.
        let _ = self.provider.shutdown_with_timeout(LAST_EXPORT);
    }
}

/// The time in which a statement was planned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub started: SystemTime,
    pub ended: SystemTime,
}

/// The trace of a header's value; without one that can be read, the beginning of a new one.
fn context_of(parent: Option<&str>) -> Context {
    let Some(parent) = parent else { return Context::new() };
    let headers = HashMap::from([(TRACE_PARENT.to_owned(), parent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
}

fn shown(sql: &str) -> String {
    let mut shown = without_literals(sql);
    if let Some((end, _)) = shown.char_indices().nth(SQL_SHOWN_CHARS) {
        shown.truncate(end);
    }
    shown
}

/// The span of a statement that runs.
pub(super) struct StatementTrace {
    span: Span,
    tracer: SdkTracer,
}

impl StatementTrace {
    /// The statement waited for its turn since then, and has it now.
    pub fn waited(&self, since: SystemTime) {
        self.child("wait in queue", since, SystemTime::now(), Vec::new());
    }

    /// The statement has ended so, after these stages.
    pub fn end(mut self, query: &QuerySummary, error: Option<&EngineError>, stages: &[StageSummary]) {
        let state = error.map_or("00000", |error| error.state.0);
        self.span.set_attribute(KeyValue::new("db.response.status_code", state));
        self.span.set_attribute(KeyValue::new("db.response.returned_rows", count(query.rows)));
        self.span.set_attribute(KeyValue::new("sluice.query.id", query.id.clone()));
        if !query.queue.is_empty() {
            self.span.set_attribute(KeyValue::new("sluice.queue", query.queue.clone()));
        }
        if !query.placement.is_empty() {
            self.span.set_attribute(KeyValue::new("sluice.placement", query.placement));
        }
        if error.is_some() {
            // The words of an error may hold what a user wrote.
            self.span.set_attribute(KeyValue::new("error.type", state));
            self.span.set_status(Status::error(state));
        }
        let mut tasks_left = MOST_TASK_SPANS;
        stages.iter().for_each(|stage| self.stage(stage, &mut tasks_left));
        self.span.end();
    }

    fn stage(&self, stage: &StageSummary, tasks_left: &mut usize) {
        let started = stage.tasks.iter().filter_map(|task| time(task.started_ms)).min();
        let ended = stage.tasks.iter().filter_map(|task| time(task.ended_ms)).max();
        let Some((started, ended)) = started.zip(ended) else { return };
        let attributes = vec![
            KeyValue::new("sluice.stage.id", count(stage.stage_id as u64)),
            KeyValue::new("sluice.stage.state", stage.state),
            KeyValue::new("sluice.stage.partitions", count(stage.partition_count as u64)),
            KeyValue::new("sluice.stage.tasks", count(stage.tasks.len() as u64)),
            KeyValue::new("sluice.stage.output_rows", count(stage.output_rows)),
            KeyValue::new("sluice.stage.output_bytes", count(stage.output_bytes)),
        ];
        let name = format!("stage {}", stage.stage_id);
        let span = self.child(name, started, ended, attributes);
        let below = Context::new().with_remote_span_context(span.span_context().clone());
        for task in stage.tasks.iter().take(*tasks_left) {
            self.task(task, &below);
        }
        *tasks_left = tasks_left.saturating_sub(stage.tasks.len());
    }

    fn task(&self, task: &TaskSummary, stage: &Context) {
        let Some((started, ended)) = time(task.started_ms).zip(time(task.ended_ms)) else { return };
        let attributes = vec![
            KeyValue::new("sluice.task.state", task.state),
            KeyValue::new("sluice.task.executor", task.executor_id.clone()),
            KeyValue::new("sluice.task.locality", task.locality),
            KeyValue::new("sluice.task.partitions", count(task.partitions.len() as u64)),
            KeyValue::new("sluice.task.memory_bytes", count(task.memory_bytes)),
        ];
        self.span_below(stage, format!("task {}", task.task_id), started, ended, attributes);
    }

    fn child(
        &self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        started: SystemTime,
        ended: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let below = Context::new().with_remote_span_context(self.span.span_context().clone());
        self.span_below(&below, name, started, ended, attributes)
    }

    /// A span that has ended.
    fn span_below(
        &self,
        parent: &Context,
        name: impl Into<std::borrow::Cow<'static, str>>,
        started: SystemTime,
        ended: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let builder = self.tracer.span_builder(name).with_start_time(started).with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, parent);
        span.end_with_timestamp(ended.max(started));
        span
    }
}

/// The time of so many milliseconds since the Unix epoch; none for 0.
fn time(ms: u64) -> Option<SystemTime> {
    (ms > 0).then(|| UNIX_EPOCH + Duration::from_millis(ms))
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Sends spans, and tells once that they do not arrive, and once that they do again.
#[derive(Debug)]
struct ToldOnce<E> {
    inner: E,
    endpoint: String,
    fails: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for ToldOnce<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.inner.export(batch).await;
        match (&outcome, self.fails.swap(outcome.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(endpoint = %self.endpoint, %error, "traces do not arrive; statements run all the same");
            }
            (Ok(()), true) => tracing::info!(endpoint = %self.endpoint, "traces arrive again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::observers::Observers;
    use super::super::query::QueryRecord;
    use super::*;

    /// Keeps what it is given.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("no test panicked with it").append(&mut batch);
            Ok(())
        }
    }

    fn traces() -> (Traces, Kept) {
        let kept = Kept::default();
        (Traces::over(SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build()), kept)
    }

    #[test]
    fn a_statement_belongs_to_the_trace_that_its_client_names() {
        let (traces, kept) = traces();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = traces.statement(Some(parent), "SELECT", SystemTime::now(), Vec::new()).expect("is recorded");
        let task = TaskSummary { state: "successful", started_ms: 1_000, ended_ms: 3_000, ..TaskSummary::default() };
        let stage = StageSummary { stage_id: 2, state: "successful", tasks: vec![task], ..StageSummary::default() };
        let query = QueryRecord::new("ann", "SELECT 1", Observers::default()).summary();
        trace.end(&QuerySummary { rows: 7, ..query }, None, &[stage]);
        let spans = kept.0.lock().expect("no test panicked with it");
        let named = |name: &str| spans.iter().find(|span| span.name == name).expect("is sent");
        let (statement, stage, task) = (named("SELECT"), named("stage 2"), named("task 0"));
        for span in [statement, stage, task] {
            assert_eq!(span.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        }
        assert_eq!(statement.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(stage.parent_span_id, statement.span_context.span_id());
        assert_eq!(task.parent_span_id, stage.span_context.span_id());
        assert_eq!(stage.end_time.duration_since(stage.start_time).ok(), Some(Duration::from_secs(2)));
        assert!(statement.attributes.contains(&KeyValue::new("db.response.returned_rows", 7)));
    }

    #[test]
    fn a_trace_that_nobody_records_is_not_begun() {
        let (traces, _) = traces();
        let now = SystemTime::now();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(traces.statement(Some(parent), "SELECT", now, Vec::new()).is_none());
        assert!(traces.statement(Some("nonsense"), "SELECT", now, Vec::new()).is_some(), "begins one of its own");
    }

    #[test]
    fn a_statement_is_shown_without_its_texts_and_cut() {
        assert_eq!(shown("SELECT 'secret', 7"), "SELECT ?, ?");
        assert_eq!(shown(&"ä, ".repeat(5_000)).chars().count(), SQL_SHOWN_CHARS);
    }
}
