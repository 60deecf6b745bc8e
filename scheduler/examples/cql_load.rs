//! A framework beside SQL: reads rows of a Cassandra table by key, as many tasks at a time as its queue is offered.
//!
//!     cargo run -p sluice-scheduler --example cql_load -- --queue load --nodes 127.0.0.1:9042 \
//!         --statement 'SELECT * FROM shop.orders WHERE o_orderkey = ?' --keys 100000 \
//!         --total-queries 200000 --queries-per-task 2000 --parallelism 4
//!
//! Each task is one of the framework's own: it sends `queries-per-task` reads, one after another. The
//! allocator says how many run at a time, and where; a task that is revoked runs again later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::{FutureExt, StreamExt};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use sluice_scheduler::frameworks_proto as proto;
use sluice_scheduler::frameworks_proto::frameworks_client::FrameworksClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Reads rows of a Cassandra table by key, on resources that Sluice offers.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Sluice's Flight SQL port, where frameworks register, too
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    sluice: String,
    /// The queue that the tasks count for
    #[arg(long, default_value = "default")]
    queue: String,
    /// The user to register as
    #[arg(long, default_value = "load")]
    user: String,
    /// Cassandra's contact points, separated by commas
    #[arg(long, default_value = "127.0.0.1:9042")]
    nodes: String,
    /// A statement with one place for a key: int, bigint or text
    #[arg(long)]
    statement: String,
    /// Keys run from 1 to this number
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Queries in all
    #[arg(long, default_value_t = 10_000)]
    total_queries: u64,
    /// Queries of one task
    #[arg(long, default_value_t = 500)]
    queries_per_task: u64,
    /// The most tasks that run at a time
    #[arg(long, default_value_t = 4)]
    parallelism: u32,
    /// Megabytes of memory that a task asks for
    #[arg(long, default_value_t = 32)]
    memory_mb: u64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a task did.
struct Done {
    task_id: String,
    /// Milliseconds of each query; `None` if the task was stopped before its end.
    latencies_ms: Option<Vec<f64>>,
}

struct Load {
    options: Options,
    client: FrameworksClient<Channel>,
    framework_id: String,
    session: std::sync::Arc<Session>,
    prepared: PreparedStatement,
    /// Tasks that have not been started, or have to be started again.
    waiting: u64,
    next_task: u64,
    running: BTreeMap<String, tokio::sync::oneshot::Sender<()>>,
    tasks: JoinSet<Result<Done, Failure>>,
    tasks_by_host: BTreeMap<String, u64>,
    latencies_ms: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let nodes: Vec<&str> = options.nodes.split(',').collect();
    let session = SessionBuilder::new().known_nodes(nodes).build().await?;
    let prepared = session.prepare(options.statement.as_str()).await?;
    let mut client = FrameworksClient::connect(options.sluice.clone()).await?;
    let register = proto::RegisterRequest {
        name: "cql-load".to_owned(),
        queue: options.queue.clone(),
        user: options.user.clone(),
    };
    let framework_id = client.register(register).await?.into_inner().framework_id;
    let events = client.events(proto::EventsRequest { framework_id: framework_id.clone() }).await?.into_inner();
    let waiting = options.total_queries.div_ceil(options.queries_per_task.max(1));
    let load = Load {
        options,
        client,
        framework_id,
        session: session.into(),
        prepared,
        waiting,
        next_task: 0,
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        tasks_by_host: BTreeMap::new(),
        latencies_ms: Vec::new(),
    };
    load.run(events).await
}

impl Load {
    async fn run(mut self, mut events: tonic::Streaming<proto::Event>) -> Result<(), Failure> {
        let started = Instant::now();
        self.ask().await?;
        while self.waiting > 0 || !self.tasks.is_empty() {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.on_event(event?.event).await?,
                    None => return Err("Sluice ended the stream of offers".into()),
                },
                Some(done) = self.tasks.join_next() => self.on_done(done??).await?,
            }
        }
        self.report(started.elapsed());
        Ok(())
    }

    /// Asks for as many tasks as may still start.
    async fn ask(&mut self) -> Result<(), Failure> {
        let free = u64::from(self.options.parallelism).saturating_sub(self.running.len() as u64);
        let amounts = [("cpu".to_owned(), 1_000), ("memory".to_owned(), self.options.memory_mb << 20)];
        let demand = proto::Demand {
            demand_id: 1,
            unit: Some(proto::Resources { amounts: amounts.into_iter().collect() }),
            count: free.min(self.waiting) as u32,
            hosts: Vec::new(),
            only_hosts: false,
        };
        let request = proto::SetDemandRequest { framework_id: self.framework_id.clone(), demands: vec![demand] };
        self.client.set_demand(request).await?;
        Ok(())
    }

    async fn on_event(&mut self, event: Option<proto::event::Event>) -> Result<(), Failure> {
        match event {
            Some(proto::event::Event::Offer(offer)) if self.waiting == 0 => {
                let request = proto::DeclineRequest {
                    framework_id: self.framework_id.clone(),
                    offer_id: offer.offer_id,
                    refuse_ms: 60_000,
                };
                self.client.decline(request).await?;
            }
            Some(proto::event::Event::Offer(offer)) => self.on_offer(offer).await?,
            Some(proto::event::Event::Revoked(revoked)) => {
                if let Some(stop) = self.running.remove(&revoked.task_id) {
                    // A task that has just ended needs no stop.
                    let _ = stop.send(());
                }
            }
            Some(proto::event::Event::Rescinded(_)) | None => {}
        }
        Ok(())
    }

    async fn on_offer(&mut self, offer: proto::Offer) -> Result<(), Failure> {
        self.next_task += 1;
        let task_id = format!("load-{}", self.next_task);
        let task = proto::Task { task_id: task_id.clone(), resources: offer.resources };
        let request = proto::AcceptRequest {
            framework_id: self.framework_id.clone(),
            offer_id: offer.offer_id,
            tasks: vec![task],
        };
        match self.client.accept(request).await {
            Ok(_) => {}
            // It was rescinded while we thought about it.
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
            Err(status) => return Err(status.into()),
        }
        *self.tasks_by_host.entry(offer.host).or_default() += 1;
        self.waiting -= 1;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        self.running.insert(task_id.clone(), stop);
        let first_key = self.next_task * self.options.queries_per_task;
        let queries = read_keys(self.session.clone(), self.prepared.clone(), self.options.clone(), first_key).boxed();
        self.tasks.spawn(async move {
            let latencies_ms = tokio::select! {
                latencies = queries => Some(latencies?),
                _ = stopped => None,
            };
            Ok(Done { task_id, latencies_ms })
        });
        Ok(())
    }

    async fn on_done(&mut self, done: Done) -> Result<(), Failure> {
        self.running.remove(&done.task_id);
        match done.latencies_ms {
            Some(latencies) => self.latencies_ms.extend(latencies),
            None => self.waiting += 1,
        }
        let request =
            proto::UpdateStatusRequest { framework_id: self.framework_id.clone(), ended_task_ids: vec![done.task_id] };
        self.client.update_status(request).await?;
        self.ask().await
    }

    fn report(&mut self, elapsed: Duration) {
        self.latencies_ms.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (self.latencies_ms.len() as f64 * part) as usize;
            self.latencies_ms.get(index.min(self.latencies_ms.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        let count = self.latencies_ms.len();
        println!("queries {count} in {} tasks, {:.0} a second", self.next_task, count as f64 / elapsed.as_secs_f64());
        println!("latency p50 {:.2} ms, p99 {:.2} ms", at(0.50), at(0.99));
        for (host, tasks) in &self.tasks_by_host {
            println!("host {host}: {tasks} tasks");
        }
    }
}

/// Reads a task's rows; milliseconds of each query.
async fn read_keys(
    session: std::sync::Arc<Session>,
    prepared: PreparedStatement,
    options: Options,
    first_key: u64,
) -> Result<Vec<f64>, Failure> {
    let key_type = prepared.get_variable_col_specs().iter().next().map(|column| column.typ().clone());
    let mut latencies_ms = Vec::with_capacity(options.queries_per_task as usize);
    for offset in 0..options.queries_per_task {
        let key = (first_key + offset) % options.keys.max(1) + 1;
        let value = match &key_type {
            Some(ColumnType::Native(NativeType::Int)) => CqlValue::Int(i32::try_from(key)?),
            Some(ColumnType::Native(NativeType::BigInt)) => CqlValue::BigInt(i64::try_from(key)?),
            Some(ColumnType::Native(NativeType::Text)) => CqlValue::Text(key.to_string()),
            other => return Err(format!("the statement's key is {other:?}, not int, bigint or text").into()),
        };
        let started = Instant::now();
        session.execute_unpaged(&prepared, (value,)).await?;
        latencies_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(latencies_ms)
}
