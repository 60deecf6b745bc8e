//! Traces as a collector of OpenTelemetry gets them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use sluice_sql_tests::python;
use sluice_sql_tests::sluice_process::{Layout, Service, free_ports};
use tonic::{Request, Response, Status};

use crate::bed::{Bed, trial};

/// Spans leave every five seconds.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(60);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Layout::ALL
        .into_iter()
        .map(|layout| {
            let name = format!("traces::statements_reach_the_collector::{}", layout.name());
            trial(bed, name, move |bed| statements_reach_the_collector(bed, layout))
        })
        .collect();
    trials.push(trial(bed, "traces::a_collector_may_be_away".to_owned(), a_collector_may_be_away));
    trials
}

/// A collector that keeps what it is sent.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> std::result::Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let mut kept = self.0.lock().map_err(|_| Status::internal("a test panicked"))?;
        kept.extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts to listen, in the test bed's runtime.
    fn start(bed: &Bed, port: u16) -> Self {
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        bed.block_on(async {
            tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(([127, 0, 0, 1], port).into()));
        });
        collector
    }

    /// The spans of this trace as soon as one of them has this name.
    fn trace(&self, trace_id: &str, name: &str) -> Result<Vec<Span>> {
        let deadline = Instant::now() + ARRIVE_TIMEOUT;
        loop {
            let all = self.0.lock().ok().context("a test panicked")?.clone();
            let trace: Vec<Span> = all.into_iter().filter(|span| hex(&span.trace_id) == trace_id).collect();
            if trace.iter().any(|span| span.name == name) {
                return Ok(trace);
            }
            ensure!(Instant::now() < deadline, "no span {name} of the trace {trace_id} came, only {trace:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    spans.iter().find(|span| span.name == name).with_context(|| format!("no span {name} in {spans:?}"))
}

fn is_within(inner: &Span, outer: &Span) -> bool {
    // The scheduler tells times in milliseconds.
    const ROUNDED_NS: u64 = 1_000_000;
    inner.start_time_unix_nano + ROUNDED_NS >= outer.start_time_unix_nano
        && inner.end_time_unix_nano <= outer.end_time_unix_nano + ROUNDED_NS
}

fn statements_reach_the_collector(bed: &Bed, layout: Layout) -> Result<()> {
    let port = free_ports(1)?[0];
    let collector = Collector::start(bed, port);
    let service = bed.own_service(layout, &["--otlp-endpoint", &format!("http://127.0.0.1:{port}")])?;
    let nations = bed.tpch("0.01")?.join("nation.parquet").display().to_string();
    let trace_id = |index: u8| format!("0af7651916cd43dd8448eb211c8031{index:02x}");
    let sql = |index: u8, sql: &str| format!("{sql} /*traceparent='00-{}-b7ad6b7169203331-01'*/", trace_id(index));
    bed.block_on(async {
        let client = service.connect().await?;
        client.simple_query("SET sluice.single_task_max_bytes = 0").await?;
        let grouped = format!("SELECT n_nationkey % 7, 'a secret' FROM '{nations}' GROUP BY 1");
        client.simple_query(&sql(1, &grouped)).await?;
        ensure!(client.simple_query(&sql(2, "SELECT * FROM no_such_table")).await.is_err(), "it runs");
        ensure!(client.simple_query(&sql(3, "SELECT CAST('a secret' AS INT)")).await.is_err(), "it runs");
        // A statement that is prepared belongs to its trace whenever it runs.
        let prepared = client.prepare(&sql(4, "SELECT $1::int + 1")).await?;
        client.query(&prepared, &[&1i32]).await?;
        anyhow::Ok(())
    })?;
    let parent = format!("00-{}-b7ad6b7169203331-01", trace_id(5));
    python::run(bed.python()?, "clients/trace_client.py", &[&service.flight_port.to_string(), &parent])?;

    let spans = collector.trace(&trace_id(1), "SELECT")?;
    let statement = named(&spans, "SELECT")?;
    ensure!(hex(&statement.parent_span_id) == "b7ad6b7169203331", "the parent is {}", hex(&statement.parent_span_id));
    for (key, wanted) in [
        ("db.system.name", "sluice"),
        ("db.namespace", "sluice"),
        ("db.operation.name", "SELECT"),
        ("db.query.text", "SELECT n_nationkey % ?, ? FROM ? GROUP BY ?"),
        ("db.response.status_code", "00000"),
        ("db.response.returned_rows", "7"),
        ("network.protocol.name", "postgresql"),
        ("user.name", "sluice"),
        ("sluice.queue", "root.default"),
        ("sluice.placement", "stages"),
    ] {
        let value = attribute(statement, key);
        ensure!(value.as_deref() == Some(wanted), "{key} is {value:?} and not {wanted:?}");
    }
    let (plan, stage) = (named(&spans, "plan")?, named(&spans, "stage 1")?);
    for inner in [plan, stage] {
        ensure!(inner.parent_span_id == statement.span_id && is_within(inner, statement), "{inner:?} in {statement:?}");
    }
    let tasks: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == stage.span_id).collect();
    ensure!(!tasks.is_empty() && tasks.iter().all(|task| is_within(task, stage)), "{tasks:?} in {stage:?}");
    ensure!(tasks.iter().all(|task| attribute(task, "sluice.task.executor").is_some()), "no executor in {tasks:?}");

    let spans = collector.trace(&trace_id(3), "SELECT")?;
    let failed = named(&spans, "SELECT")?;
    ensure!(attribute(failed, "error.type").as_deref() == Some("22P02"), "the error is {failed:?}");
    ensure!(!format!("{spans:?}").contains("secret"), "a text is in {spans:?}");
    collector.trace(&trace_id(4), "SELECT")?;
    let spans = collector.trace(&trace_id(5), "SELECT")?;
    let over_flight = named(&spans, "SELECT")?;
    let protocol = attribute(over_flight, "network.protocol.name");
    ensure!(protocol.as_deref() == Some("flight-sql"), "the protocol is {protocol:?}");
    Ok(())
}

fn a_collector_may_be_away(bed: &Bed) -> Result<()> {
    const TOLD: &str = "traces do not arrive";
    let port = free_ports(1)?[0];
    let service = bed.own_service(Layout::Embedded, &["--otlp-endpoint", &format!("http://127.0.0.1:{port}")])?;
    let told = || service.output().matches(TOLD).count();
    let deadline = Instant::now() + ARRIVE_TIMEOUT;
    let started = Instant::now();
    // Long enough for several batches to be lost.
    while told() == 0 || started.elapsed() < Duration::from_secs(12) {
        let one = Instant::now();
        bed.block_on(service.check_serving())?;
        ensure!(one.elapsed() < Duration::from_secs(2), "a statement takes {:?}", one.elapsed());
        ensure!(Instant::now() < deadline, "nobody is told that traces do not arrive");
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(told() == 1, "it is told {} times", told());
    let collector = Collector::start(bed, port);
    let id = "0af7651916cd43dd8448eb211c80310a";
    let sql = format!("SELECT 1 /*traceparent='00-{id}-b7ad6b7169203331-01'*/");
    let deadline = Instant::now() + ARRIVE_TIMEOUT;
    while collector.0.lock().ok().context("a test panicked")?.is_empty() {
        bed.block_on(service.rows(&sql))?;
        ensure!(Instant::now() < deadline, "traces do not arrive at a collector that is back");
        std::thread::sleep(Duration::from_millis(500));
    }
    last_spans_leave(&service, &collector, bed)
}

/// What has not left when the service stops leaves then.
fn last_spans_leave(service: &Service, collector: &Collector, bed: &Bed) -> Result<()> {
    let id = "0af7651916cd43dd8448eb211c80310b";
    bed.block_on(service.rows(&format!("SELECT 1 /*traceparent='00-{id}-b7ad6b7169203331-01'*/")))?;
    let status = service.terminate(Duration::from_secs(30))?;
    ensure!(status.success(), "the service ends with {status}");
    collector.trace(id, "SELECT").map(drop)
}
