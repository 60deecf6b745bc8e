//! Counters and gauges for Prometheus, in the text form of
//! [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).
//!
//! What happens is counted where it happens ([`Metrics`]); what there is is looked at when somebody asks
//! ([`Engine::metrics_text`]). Labels are paths of queues, protocols, outcomes and classes of errors. Their number is
//! bounded by what an administrator defines; nothing that a user writes becomes a label.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{Array, RecordBatch};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sluice_executor::cassandra::traffic;
use sluice_scheduler::cluster::{ExecutorSummary, QueueSummary};

use super::Engine;
use super::error::{EngineError, SqlState};
use super::session::Protocol;

/// The media type of [`Engine::metrics_text`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The queue of statements that use no queue's resources, such as `SET` and looks at the schema `system`.
const NO_QUEUE: &str = "none";

/// Upper bounds of query durations, in seconds: point reads take milliseconds, scans of large tables minutes.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    queue: String,
    /// `finished`, `failed` or `cancelled`.
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabel {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    /// The first two characters of the SQLSTATE.
    class: String,
}

type Histograms = Family<QueueLabel, Histogram, fn() -> Histogram>;

/// What has been counted since the service started.
pub(super) struct Metrics {
    registry: Registry,
    queries: Family<QueryLabels, Counter>,
    durations: Histograms,
    rows: Counter,
    bytes: Counter,
    errors: Family<ClassLabel, Counter>,
    sessions: Family<ProtocolLabel, Counter>,
    /// Wrong passwords, over all protocols.
    pub failed_logins: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("sluice"),
            queries: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            rows: Counter::default(),
            bytes: Counter::default(),
            errors: Family::default(),
            sessions: Family::default(),
            failed_logins: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("queries", "Statements that have ended", metrics.queries.clone());
        let durations = metrics.durations.clone();
        let help = "Time from a statement's start to its end, reading its rows included";
        registry.register_with_unit("query_duration", help, Unit::Seconds, durations);
        registry.register("returned_rows", "Rows that queries gave", metrics.rows.clone());
        let help = "Bytes of the rows that queries gave, as Arrow arrays";
        registry.register_with_unit("returned", help, Unit::Bytes, metrics.bytes.clone());
        registry.register("errors", "Errors that clients were told, by class of SQLSTATE", metrics.errors.clone());
        registry.register("sessions_opened", "Sessions that were opened", metrics.sessions.clone());
        registry.register("failed_logins", "Wrong passwords", metrics.failed_logins.clone());
        metrics
    }

    /// A session was opened.
    pub fn session_opened(&self, protocol: Protocol) {
        self.sessions.get_or_create(&ProtocolLabel { protocol: protocol.name() }).inc();
    }

    /// A client is told an error.
    pub fn error(&self, state: SqlState) {
        let class = state.0.chars().take(2).collect();
        self.errors.get_or_create(&ClassLabel { class }).inc();
    }

    /// A query gives rows.
    pub fn returned(&self, batch: &RecordBatch) {
        self.rows.inc_by(batch.num_rows() as u64);
        // A batch may be a part of larger buffers, which count for nothing else.
        let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        self.bytes.inc_by(bytes.sum::<usize>() as u64);
    }

    /// A query has ended, in this queue or in none.
    pub fn query_ended(&self, queue: &str, elapsed: Duration, error: Option<&EngineError>) {
        let queue = if queue.is_empty() { NO_QUEUE } else { queue };
        let state = match error {
            None => "finished",
            Some(error) if error.state == SqlState::CANCELLED => "cancelled",
            Some(_) => "failed",
        };
        self.queries.get_or_create(&QueryLabels { queue: queue.to_owned(), state }).inc();
        self.durations.get_or_create(&QueueLabel { queue: queue.to_owned() }).observe(elapsed.as_secs_f64());
        if let Some(error) = error {
            self.error(error.state);
        }
    }
}

impl Engine {
    /// Everything that is counted and looked at, in OpenMetrics' text form.
    pub async fn metrics_text(&self) -> String {
        let executors = self.scheduler.executors().await;
        let queues = self.scheduler.queues().await;
        let mut now = Registry::with_prefix("sluice");
        self.look(&mut now, &executors, &queues);
        let mut process = Registry::default();
        look_at_process(&mut process, self.started);
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode_registry(&mut text, &self.metrics.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_registry(&mut text, &process);
        let _ = encode_eof(&mut text);
        text
    }

    fn look(&self, registry: &mut Registry, executors: &[ExecutorSummary], queues: &[QueueSummary]) {
        registry.register("build", "The service's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let sessions = self.sessions_by_protocol();
        let sessions = sessions.into_iter().map(|(protocol, count)| (ProtocolLabel { protocol }, count as f64));
        gauges(registry, "sessions", "Sessions that are open", sessions);

        gauge(registry, "executors", "Executors that are registered", executors.len() as f64);
        let sum = |of: fn(&ExecutorSummary) -> u64| executors.iter().map(of).sum::<u64>() as f64;
        gauge(registry, "executor_vcores", "Vcores of all executors", sum(|e| e.total_vcores.into()));
        gauge(registry, "executor_free_vcores", "Vcores that no task holds", sum(|e| e.free_vcores.into()));
        gauge(registry, "executor_tasks", "Partitions that run on executors", sum(|e| e.task_count.into()));
        gauge(registry, "executor_memory_bytes", "Memory of all executors for tasks", sum(|e| e.total_memory_bytes));
        let help = "Memory that was granted to tasks";
        gauge(registry, "executor_granted_memory_bytes", help, sum(|e| e.used_memory_bytes));

        let mut by_queue = |name, help, of: fn(&QueueSummary) -> f64| {
            let values = queues.iter().map(|queue| (QueueLabel { queue: queue.view.path.clone() }, of(queue)));
            gauges(registry, name, help, values);
        };
        by_queue("queue_running_queries", "Queries that run, in the queue and below it", |q| q.running_queries.into());
        by_queue("queue_waiting_queries", "Queries that wait, in the queue and below it", |q| q.queued_queries.into());
        by_queue("queue_running_tasks", "Tasks that the queue has", |q| q.view.running_tasks as f64);
        by_queue("queue_pending_tasks", "Tasks that wait for a place", |q| q.view.pending_tasks as f64);
        by_queue("queue_dominant_share", "What the queue has of its scarcest resource", |q| q.view.dominant_share);
        by_queue("queue_fair_share", "What the queue would have if all were shared out now", |q| q.view.fair_share);
        by_queue("queue_cpu_cores", "Cores that the queue has", |q| q.view.used.cpu_millis() as f64 / 1e3);
        by_queue("queue_memory_bytes", "Memory that the queue has", |q| q.view.used.memory_bytes() as f64);

        let asked = traffic();
        counter(registry, "cassandra_pages", "Pages of rows that came from Cassandra", asked.pages);
        counter(registry, "cassandra_read_rows", "Rows that came from Cassandra", asked.read_rows);
        counter(registry, "cassandra_read_bytes", "Bytes of rows that came from Cassandra", asked.read_bytes);
        counter(registry, "cassandra_writes", "Requests that wrote rows to Cassandra", asked.writes);
        counter(registry, "cassandra_written_rows", "Rows that were written to Cassandra", asked.written_rows);
        counter(registry, "cassandra_retries", "Requests that Cassandra was sent again", asked.retries);
        let waited = Counter::<f64, AtomicU64>::default();
        waited.inc_by(asked.throttled.as_secs_f64());
        let help = "Time that requests waited for the limits of their catalogs";
        registry.register_with_unit("cassandra_throttled", help, Unit::Seconds, waited);
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn gauges<L>(registry: &mut Registry, name: &str, help: &str, values: impl Iterator<Item = (L, f64)>)
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<L, Gauge<f64, AtomicU64>>::default();
    values.for_each(|(labels, value)| {
        family.get_or_create(&labels).set(value);
    });
    registry.register(name, help, family);
}

/// What Prometheus' own libraries tell of a process. What the system does not tell is left out.
fn look_at_process(registry: &mut Registry, started: SystemTime) {
    let started_s = started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    gauge(registry, "process_start_time_seconds", "When the process started", started_s);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (key, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory that the process has in RAM"),
        ("VmHWM:", "process_resident_memory_max_bytes", "The most memory that the process ever had in RAM"),
        ("VmSize:", "process_virtual_memory_bytes", "Address space of the process"),
    ] {
        if let Some(kib) = status_value(&status, key) {
            gauge(registry, name, help, kib as f64 * 1024.0);
        }
    }
    if let Some(threads) = status_value(&status, "Threads:") {
        gauge(registry, "process_threads", "Threads of the process", threads as f64);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge(registry, "process_open_fds", "Files and sockets that the process has open", files.count() as f64);
    }
}

/// The number behind a key of `/proc/self/status`.
fn status_value(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode_registry(&mut text, &metrics.registry).expect("is written");
        text
    }

    #[test]
    fn ended_queries_are_counted_by_queue_and_state() {
        let metrics = Metrics::new();
        metrics.query_ended("root.bi", Duration::from_millis(3), None);
        metrics.query_ended("root.bi", Duration::from_millis(30), Some(&EngineError::cancelled()));
        metrics.query_ended("", Duration::ZERO, Some(&EngineError::not_supported("x")));
        let text = text(&metrics);
        for line in [
            "sluice_queries_total{queue=\"root.bi\",state=\"finished\"} 1",
            "sluice_queries_total{queue=\"root.bi\",state=\"cancelled\"} 1",
            "sluice_queries_total{queue=\"none\",state=\"failed\"} 1",
            "sluice_query_duration_seconds_bucket{le=\"0.005\",queue=\"root.bi\"} 1",
            "sluice_errors_total{class=\"57\"} 1",
            "sluice_errors_total{class=\"0A\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_part_of_a_batch_counts_as_its_own_bytes() {
        let metrics = Metrics::new();
        let column = Arc::new(Int64Array::from_iter_values(0..1_000)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("a batch");
        metrics.returned(&batch.slice(10, 5));
        let text = text(&metrics);
        assert!(text.contains("sluice_returned_rows_total 5\n"), "{text}");
        assert!(text.contains("sluice_returned_bytes_total 40\n"), "{text}");
    }

    #[test]
    fn the_process_is_looked_at() {
        assert_eq!(status_value("VmHWM:\t  10 kB\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(status_value("", "VmRSS:"), None);
    }
}
