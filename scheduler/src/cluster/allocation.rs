//! The allocator among living executors and jobs: what both know of each other.
//!
//! One lock holds the pure allocator of [`crate::core`], the admission of queries, and which task of
//! Ballista's is which task of the allocator's. Nothing waits while it is held. What runs is always
//! derived from Ballista's own execution graphs, so that nothing leaks when a task's end is not told.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ballista_core::JobId;
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::demand::{CPU_MILLIS, Supply};
use super::frameworks::Framework;
use super::leases::Server;
use super::places::Places;
use super::queues::QueueDefinition;
use super::tag::DEFAULT_QUEUE;
use crate::core::executor::ExecutorState;
use crate::core::{
    Admission, Allocator, AskId, DelayClock, ExecutorId, ExecutorSpec, Kind, Kinds, Millis, Offer, Options, QueueId,
    QueueSpec, Resources, TaskId,
};

/// Milliseconds for which it is known what the tasks of a finished job were given; its stages are kept as long.
const GRANTS_KEPT_MS: Millis = 600_000;
/// Milliseconds between two searches for tasks to revoke, which look at every executor.
const REVOKE_INTERVAL_MS: Millis = 500;
/// Answered offers that can still be looked at.
const OFFERS_REMEMBERED: usize = 1_000;

/// What an executor tells of itself at registration, beside its vcores, as JSON.
///
/// It travels in the field `os_ver_long` of Ballista's registration, the only text there that has no
/// use of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutorAttributes {
    /// Bytes that its tasks may hold together.
    pub memory_bytes: u64,
    /// Its rack, if known.
    pub rack: String,
    /// Its data centre, if known.
    pub data_centre: String,
    /// Amounts of further kinds of resources, by name.
    pub resources: BTreeMap<String, u64>,
    /// Whatever else is known of it.
    pub attributes: BTreeMap<String, String>,
}

/// A task of Ballista's, over all attempts of its stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TaskRef {
    pub job_id: JobId,
    pub stage_id: usize,
    pub attempt: usize,
    pub task_id: usize,
}

/// What a task was given.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub resources: Resources,
    pub locality: &'static str,
}

/// What the tasks of a job were given, by stage and task.
#[derive(Debug, Default)]
pub(super) struct JobGrants {
    pub by_task: HashMap<(usize, usize), Grant>,
    pub last_running: Millis,
}

/// What is known of a stage while it has partitions to place.
pub(super) struct StageState {
    pub near: AskId,
    pub anywhere: AskId,
    pub unit: Resources,
    pub places: Arc<Places>,
    pub collapses: bool,
    pub clock: DelayClock,
    pub round: u64,
}

/// A part of the executors of one host that is kept for a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReservation {
    /// The host's name or address, as executors on it register.
    pub host: String,
    /// The queue's path.
    pub queue: String,
    /// Amounts by name: thousandths of a core, bytes, and so on.
    pub amounts: BTreeMap<String, u64>,
}

/// An offer that was made, and what became of it.
#[derive(Debug, Clone)]
pub struct OfferRecord {
    /// Its number.
    pub id: u64,
    /// The queue it was made to, by path.
    pub queue: String,
    /// The executor's id.
    pub executor_id: String,
    /// The executor's host.
    pub host: String,
    /// How much was offered.
    pub resources: Resources,
    /// `open`, `accepted`, `declined`, `rescinded` or `expired`.
    pub state: &'static str,
    /// Milliseconds since the service started.
    pub made_ms: Millis,
}

pub(super) struct Inner {
    pub allocator: Allocator,
    pub admission: Admission,
    pub kinds: Kinds,
    pub executors: HashMap<String, ExecutorId>,
    pub executors_on_host: HashMap<String, u32>,
    pub supply: Supply,
    pub tasks: HashMap<TaskRef, TaskId>,
    pub grants: HashMap<JobId, JobGrants>,
    pub stages: HashMap<(JobId, usize, usize), StageState>,
    pub asking: HashSet<QueueId>,
    pub next_ask: u64,
    pub round: u64,
    /// Whether partitions were left over in the last round.
    pub left_over: bool,
    pub last_round: Millis,
    pub last_revoked: Millis,
    pub definitions: BTreeMap<String, QueueDefinition>,
    pub reservations: Vec<HostReservation>,
    pub frameworks: HashMap<String, Framework>,
    pub server: Server,
    /// Whether something happened since the last round that no job tells of.
    pub has_changed: bool,
    pub waiting: HashMap<u64, oneshot::Sender<()>>,
    pub next_query: u64,
    pub answered: VecDeque<OfferRecord>,
}

/// The allocator of one cluster. Cheap to share.
pub struct Allocation {
    inner: Mutex<Inner>,
    started: Instant,
    woken: Notify,
}

impl Allocation {
    /// No executors, and the default queue.
    pub fn new(options: Options) -> Self {
        let mut allocator = Allocator::new(options);
        // The tree is empty, so that the name is free.
        let _ = allocator.create_queue(DEFAULT_QUEUE, QueueSpec::default());
        let inner = Inner {
            allocator,
            admission: Admission::default(),
            kinds: Kinds::default(),
            executors: HashMap::new(),
            executors_on_host: HashMap::new(),
            supply: Supply::default(),
            tasks: HashMap::new(),
            grants: HashMap::new(),
            stages: HashMap::new(),
            asking: HashSet::new(),
            next_ask: 0,
            round: 0,
            left_over: false,
            last_round: 0,
            last_revoked: 0,
            definitions: BTreeMap::new(),
            reservations: Vec::new(),
            frameworks: HashMap::new(),
            server: Server::default(),
            has_changed: false,
            waiting: HashMap::new(),
            next_query: 0,
            answered: VecDeque::new(),
        };
        Self { inner: Mutex::new(inner), started: Instant::now(), woken: Notify::new() }
    }

    /// Milliseconds since the service started: the allocator's time.
    pub fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the scheduler look at once whether there is something to offer.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn register_executor(&self, metadata: &ExecutorMetadata, spec: &ExecutorData) {
        let said: ExecutorAttributes = serde_json::from_str(&metadata.os_info.os_ver_long).unwrap_or_default();
        let mut inner = self.lock();
        let mut total = Resources::new(u64::from(spec.total_vcores) * CPU_MILLIS, said.memory_bytes);
        for (name, amount) in &said.resources {
            match inner.kinds.intern(name) {
                Some(kind) => total = total.with(kind, *amount),
                None => tracing::warn!(resource = %name, "one kind of resource too many; it is not offered"),
            }
        }
        let spec = ExecutorSpec {
            name: metadata.id.clone(),
            host: metadata.host.clone(),
            rack: said.rack,
            data_centre: said.data_centre,
            attributes: said.attributes,
            total,
            is_apart: false,
        };
        inner.remove_executor(&metadata.id, self.now());
        let (id, _) = inner.allocator.add_executor(spec);
        inner.executors.insert(metadata.id.clone(), id);
        *inner.executors_on_host.entry(metadata.host.clone()).or_default() += 1;
        inner.measure_supply();
        inner.apply_reservations();
    }

    pub(super) fn remove_executor(&self, executor_id: &str) {
        let mut inner = self.lock();
        inner.remove_executor(executor_id, self.now());
        inner.measure_supply();
    }

    /// Ends what no job of these runs any more.
    pub(super) async fn reconcile(&self, jobs: &HashMap<JobId, JobInfoCache>) -> bool {
        let mut running = HashSet::new();
        for (job_id, job) in jobs {
            add_running(&mut running, job_id, &*job.execution_graph.read().await);
        }
        let now = self.now();
        self.lock().reconcile(&running, now)
    }

    /// What the tasks of a job were given, by stage and task.
    pub(super) fn grants(&self, job_id: &JobId) -> HashMap<(usize, usize), Grant> {
        self.lock().grants.get(job_id).map(|grants| grants.by_task.clone()).unwrap_or_default()
    }
}

/// Adds the tasks of a job that run.
pub(super) fn add_running(running: &mut HashSet<TaskRef>, job_id: &JobId, graph: &ExecutionGraphBox) {
    for (stage_id, stage) in graph.stages() {
        let ExecutionStage::Running(stage) = stage else { continue };
        for (task_id, _, _) in stage.running_tasks() {
            let attempt = stage.stage_attempt_num;
            running.insert(TaskRef { job_id: job_id.clone(), stage_id: *stage_id, attempt, task_id });
        }
    }
}

impl Inner {
    pub fn remove_executor(&mut self, executor_id: &str, now: Millis) {
        let Some(id) = self.executors.remove(executor_id) else { return };
        if let Some(host) = self.allocator.executor_spec(id).map(|spec| spec.host.clone())
            && let Some(count) = self.executors_on_host.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                self.executors_on_host.remove(&host);
            }
        }
        let departure = self.allocator.remove_executor(id);
        let lost: HashSet<TaskId> = departure.lost.into_iter().collect();
        self.stop_framework_tasks(&lost, now);
        self.tasks.retain(|_, id| !lost.contains(id));
    }

    fn measure_supply(&mut self) {
        let executors = self.allocator.executors();
        let totals: Vec<Resources> =
            executors.iter().filter(|view| !view.spec.is_apart).map(|view| view.spec.total).collect();
        let for_a_vcore = |total: &Resources| total.memory_bytes() / (total.cpu_millis() / CPU_MILLIS).max(1);
        self.supply = Supply {
            memory_for_a_vcore_bytes: totals.iter().map(for_a_vcore).min().unwrap_or(0),
            largest_memory_bytes: totals.iter().map(Resources::memory_bytes).max().unwrap_or(0),
            total_vcores: totals.iter().map(|total| (total.cpu_millis() / CPU_MILLIS) as u32).sum(),
        };
    }

    /// Reserves on the executors that are here what is reserved on their hosts.
    pub fn apply_reservations(&mut self) {
        for view in self.allocator.executors() {
            let mut wanted: HashMap<QueueId, Resources> = HashMap::new();
            for reservation in self.reservations.iter().filter(|reservation| reservation.host == view.spec.host) {
                if let Some(queue) = self.allocator.find_queue(&reservation.queue) {
                    wanted.insert(queue, self.amounts(&reservation.amounts));
                }
            }
            for (path, _) in &view.reserved {
                if let Some(queue) = self.allocator.find_queue(path) {
                    wanted.entry(queue).or_insert(Resources::ZERO);
                }
            }
            for (queue, amount) in wanted {
                if let Err(error) = self.allocator.reserve(view.id, queue, amount) {
                    tracing::warn!(%error, host = %view.spec.host, "a reservation is not in force");
                }
            }
        }
    }

    /// Amounts by name as a vector; kinds that nobody has are left out.
    pub fn amounts(&self, amounts: &BTreeMap<String, u64>) -> Resources {
        amounts.iter().fold(Resources::ZERO, |sum, (name, amount)| match self.kinds.find(name) {
            Some(kind) => sum.with(kind, *amount),
            None => sum,
        })
    }

    /// Ends the tasks that are not among those that run. Tells whether there were any.
    pub fn reconcile(&mut self, running: &HashSet<TaskRef>, now: Millis) -> bool {
        let ended: Vec<TaskRef> = self.tasks.keys().filter(|task| !running.contains(*task)).cloned().collect();
        for task in &ended {
            if let Some(id) = self.tasks.remove(task) {
                self.allocator.finish_task(id, now);
            }
        }
        !ended.is_empty()
    }

    /// Offers only the executors that are alive and not about to stop.
    pub fn offer_only(&mut self, alive: &HashSet<String>) {
        for (name, id) in &self.executors {
            let state = if alive.contains(name) { ExecutorState::Active } else { ExecutorState::Draining };
            self.allocator.set_executor_state(*id, state);
        }
    }

    pub fn new_ask(&mut self) -> AskId {
        self.next_ask += 1;
        AskId(self.next_ask)
    }

    pub fn remember(&mut self, offer: &Offer, state: &'static str, now: Millis) {
        let record = self.offer_record(offer, state, now);
        self.answered.push_back(record);
        if self.answered.len() > OFFERS_REMEMBERED {
            self.answered.pop_front();
        }
    }

    pub fn offer_record(&self, offer: &Offer, state: &'static str, now: Millis) -> OfferRecord {
        let executor = self.allocator.executor_spec(offer.executor);
        OfferRecord {
            id: offer.id.0,
            queue: self.allocator.queue_path(offer.queue).to_owned(),
            executor_id: executor.map(|spec| spec.name.clone()).unwrap_or_default(),
            host: executor.map(|spec| spec.host.clone()).unwrap_or_default(),
            resources: offer.resources,
            state,
            made_ms: now,
        }
    }

    /// The queue of that path if it runs tasks, or else the default queue.
    pub fn queue_or_default(&self, path: &str) -> Option<QueueId> {
        let named = self.allocator.find_queue(path).filter(|queue| self.allocator.runs_tasks(*queue));
        named.or_else(|| self.allocator.find_queue(DEFAULT_QUEUE))
    }

    pub fn kind_names(&self) -> Vec<(Kind, String)> {
        self.kinds.iter().map(|(kind, name)| (kind, name.to_owned())).collect()
    }

    /// Which of Ballista's tasks have to go so that guarantees are kept, and on which executor they run.
    pub fn revoke(&mut self, now: Millis) -> Vec<(String, TaskRef)> {
        if now.saturating_sub(self.last_revoked) < REVOKE_INTERVAL_MS {
            return Vec::new();
        }
        self.last_revoked = now;
        let revoked: HashSet<TaskId> = self.allocator.revoke(now).iter().map(|revocation| revocation.task).collect();
        if revoked.is_empty() {
            return Vec::new();
        }
        self.stop_framework_tasks(&revoked, now);
        let tasks = self.tasks.iter().filter(|(_, id)| revoked.contains(id));
        let executor_of = |id: TaskId| {
            let executor = self.allocator.executor_of(id)?;
            Some(self.allocator.executor_spec(executor)?.name.clone())
        };
        tasks.filter_map(|(task, id)| Some((executor_of(*id)?, task.clone()))).collect()
    }

    /// Forgets what the tasks of jobs were given that ended a while ago.
    pub fn forget_grants(&mut self, running: &HashMap<JobId, JobInfoCache>, now: Millis) {
        for (job_id, grants) in &mut self.grants {
            if running.contains_key(job_id) {
                grants.last_running = now;
            }
        }
        self.grants.retain(|_, grants| now.saturating_sub(grants.last_running) < GRANTS_KEPT_MS);
    }
}
