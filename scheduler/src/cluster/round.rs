//! One round of offers: pending partitions become tasks on executors.
//!
//! Every queue asks for what its jobs have pending, the allocator offers, and each offer is answered
//! here for the queue: with a partition whose data is on the executor's host, with another one when
//! its wait for a better place is over, or with a decline until then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::config::BallistaConfig;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::job_status;
use ballista_core::serde::scheduler::TaskKey;
use ballista_scheduler::cluster::BoundTask;
use ballista_scheduler::state::execution_graph::{ExecutionGraphBox, TaskDescription, create_task_info};
use ballista_scheduler::state::execution_stage::RunningStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::prelude::SessionConfig;
use tokio::sync::OwnedRwLockWriteGuard;

use super::allocation::{Allocation, Grant, Inner, StageState, TaskRef, add_running};
use super::demand::{collapses_input, partition_demand};
use super::places::{Places, PreferredHosts};
use super::recovery::{Inputs, ValidOutputs, number_tasks_apart, plan_again};
use super::tag::JobTag;
use crate::core::{
    Ask, AskId, DelayClock, ExecutorId, Filter, Kind, Level, LocalityWaits, Millis, Offer, Policy, QueueId, Reach,
    Resources, TaskId,
};

/// The setting by which a task learns how much memory each of its partitions was granted.
pub const GRANT_SETTING: &str = "sluice_task.memory_bytes_per_vcore";

/// A job while a round goes on.
struct RunningJob {
    id: JobId,
    graph: OwnedRwLockWriteGuard<ExecutionGraphBox>,
    tag: Arc<JobTag>,
    session_id: String,
    running_partitions: usize,
}

/// The partitions of one accepted offer, and the task that holds its resources.
type Piece = (Vec<usize>, TaskId);

/// What a stage has pending.
struct Work {
    job_index: usize,
    stage_id: usize,
    attempt: usize,
    queue: QueueId,
    unit: Resources,
    places: Arc<Places>,
    collapses: bool,
    /// Partitions with a host that has an executor.
    near: Vec<usize>,
    /// Partitions that can run anywhere.
    anywhere: Vec<usize>,
    near_ask: AskId,
    anywhere_ask: AskId,
    reach: Reach,
    hosts: Vec<String>,
    waits_until: Option<Millis>,
    placed: BTreeMap<(ExecutorId, Level), Vec<Piece>>,
}

/// The tasks that start now, and the jobs whose result must not be believed.
pub(super) struct Bound {
    pub tasks: Vec<BoundTask>,
    pub spoiled: Vec<JobId>,
}

/// Runs one round over the jobs that run.
pub(super) async fn bind(
    allocation: &Allocation,
    jobs: &HashMap<JobId, JobInfoCache>,
    alive: Option<&HashSet<String>>,
    sources: &PreferredHosts,
) -> Result<Bound> {
    let mut running_jobs = lock_jobs(jobs).await;
    let mut running = HashSet::new();
    for job in &mut running_jobs {
        let before = running.len();
        add_running(&mut running, &job.id, &job.graph);
        job.running_partitions = running.len() - before;
    }
    let mut spoiled = Vec::new();
    for job in &mut running_jobs {
        if repair(job)? {
            spoiled.push(job.id.clone());
        }
    }
    let now = allocation.now();
    let mut inner = allocation.lock();
    inner.reconcile(&running, now);
    if let Some(alive) = alive {
        inner.offer_only(alive);
    }
    inner.round += 1;
    let mut works = Vec::new();
    for (job_index, job) in running_jobs.iter_mut().enumerate() {
        collect_work(&mut inner, job_index, job, sources, now, &mut works);
    }
    let round = inner.round;
    inner.stages.retain(|_, stage| stage.round == round);
    ask(&mut inner, &running_jobs, &works, now);
    answer(&mut inner, &mut works, now);
    inner.left_over = works.iter().any(|work| !work.near.is_empty() || !work.anywhere.is_empty());
    inner.last_round = now;
    let tasks = start(&mut inner, &mut running_jobs, works, now);
    Ok(Bound { tasks, spoiled })
}

/// A round while no job runs: for external frameworks.
pub(super) fn offer_to_frameworks(allocation: &Allocation) {
    let now = allocation.now();
    let mut inner = allocation.lock();
    ask(&mut inner, &[], &[], now);
    answer(&mut inner, &mut [], now);
    inner.left_over = false;
    inner.last_round = now;
}

async fn lock_jobs(jobs: &HashMap<JobId, JobInfoCache>) -> Vec<RunningJob> {
    let mut ids: Vec<&JobId> = jobs.keys().collect();
    // Always in the same order, so that two rounds could not wait for each other.
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut running = Vec::with_capacity(ids.len());
    for id in ids {
        let job = &jobs[id];
        if !matches!(job.status, Some(job_status::Status::Running(_))) {
            continue;
        }
        let graph = job.execution_graph.clone().write_owned().await;
        let tag = graph.session_config().get_extension::<JobTag>().unwrap_or_default();
        let session_id = graph.session_id().to_owned();
        running.push(RunningJob { id: id.clone(), graph, tag, session_id, running_partitions: 0 });
    }
    running
}

/// Drops what a repeated stage had written before; tells whether the job has to start again.
fn repair(job: &mut RunningJob) -> Result<bool> {
    let Some(valid) = ValidOutputs::of(&job.graph) else { return Ok(false) };
    let mut is_spoiled = false;
    let mut visited = Vec::new();
    while let Some(stage) = job.graph.fetch_running_stage(&visited) {
        let stage_id = stage.stage_id;
        let inputs = if stage.task_infos.is_empty() { valid.repair(stage) } else { Inputs::Sound };
        match inputs {
            Inputs::Sound => visited.push(stage_id),
            Inputs::Repaired => {
                tracing::warn!(job_id = %job.id, stage_id, "dropped what a repeated stage had written before");
                // It comes again, planned over what is left.
                plan_again(&mut job.graph, stage_id)?;
            }
            Inputs::Lost => {
                tracing::warn!(job_id = %job.id, stage_id, "the job has to start again");
                visited.push(stage_id);
                is_spoiled = true;
            }
        }
    }
    Ok(is_spoiled)
}

fn collect_work(
    inner: &mut Inner,
    job_index: usize,
    job: &mut RunningJob,
    sources: &PreferredHosts,
    now: Millis,
    works: &mut Vec<Work>,
) {
    let Some(queue) = inner.queue_or_default(&job.tag.queue) else { return };
    let mut visited = Vec::new();
    while let Some(stage) = job.graph.fetch_running_stage(&visited) {
        visited.push(stage.stage_id);
        let pending = stage.pending.next_slice(usize::MAX);
        stage.pending.reschedule(pending.iter().copied());
        if pending.is_empty() {
            continue;
        }
        let key = (job.id.clone(), stage.stage_id, stage.stage_attempt_num);
        if !inner.stages.contains_key(&key) {
            let state = stage_state(inner, stage, &job.tag, sources, now);
            inner.stages.insert(key.clone(), state);
        }
        let round = inner.round;
        let largest = inner.supply.largest_memory_bytes;
        let on_host = &inner.executors_on_host;
        let Some(state) = inner.stages.get_mut(&key) else { continue };
        state.round = round;
        let has_executor = |host: &String| on_host.contains_key(host);
        let is_near = |partition: &usize| state.places.hosts(*partition).iter().any(has_executor);
        let (near, anywhere): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_near);
        let mut hosts: Vec<String> =
            near.iter().flat_map(|p| state.places.hosts(*p)).filter(|host| has_executor(host)).cloned().collect();
        hosts.sort_unstable();
        hosts.dedup();
        let reach = if state.collapses { Reach::Anywhere } else { state.clock.level(now).reach() };
        // Executors may have become smaller since the stage began; what fits none would wait for ever.
        let memory = state.unit.memory_bytes().min(largest);
        let unit = state.unit.with(Kind::MEMORY, memory);
        works.push(Work {
            job_index,
            stage_id: stage.stage_id,
            attempt: stage.stage_attempt_num,
            queue,
            unit,
            places: state.places.clone(),
            collapses: state.collapses,
            near,
            anywhere,
            near_ask: state.near,
            anywhere_ask: state.anywhere,
            reach,
            hosts,
            waits_until: state.clock.next_change(),
            placed: BTreeMap::new(),
        });
    }
}

fn stage_state(
    inner: &mut Inner,
    stage: &RunningStage,
    tag: &JobTag,
    sources: &PreferredHosts,
    now: Millis,
) -> StageState {
    let places = Places::of(&stage.plan, sources);
    let waits = match places.is_worth_waiting {
        true => LocalityWaits { process_ms: 0, host_ms: tag.locality_wait_ms, rack_ms: tag.locality_wait_ms },
        false => LocalityWaits::NONE,
    };
    StageState {
        near: inner.new_ask(),
        anywhere: inner.new_ask(),
        unit: partition_demand(&stage.plan, tag, &inner.supply),
        places: Arc::new(places),
        collapses: collapses_input(&stage.plan),
        clock: DelayClock::new(waits, Level::Host, now),
        round: inner.round,
    }
}

/// Tells the allocator what each queue wants.
fn ask(inner: &mut Inner, jobs: &[RunningJob], works: &[Work], now: Millis) {
    let mut by_queue: HashMap<QueueId, Vec<&Work>> = HashMap::new();
    for work in works {
        by_queue.entry(work.queue).or_default().push(work);
    }
    for queue in inner.framework_queues().chain(inner.lease_queues()) {
        by_queue.entry(queue).or_default();
    }
    for queue in inner.asking.difference(&by_queue.keys().copied().collect()).copied().collect::<Vec<_>>() {
        inner.allocator.set_asks(queue, Vec::new(), now);
    }
    inner.asking = by_queue.keys().copied().collect();
    let is_fair = inner.allocator.options().policy == Policy::Drf;
    for (queue, mut works) in by_queue {
        // Within a queue, the query that has the least running is next, so that a short one passes a long one.
        works.sort_by_key(|work| {
            let job = &jobs[work.job_index];
            (if is_fair { job.running_partitions } else { 0 }, job.tag.arrived, work.job_index, work.stage_id)
        });
        let mut asks: Vec<Ask> = inner.lease_asks(queue).collect();
        for work in works {
            let arrived = jobs[work.job_index].tag.arrived;
            let mut add = |id: AskId, count: usize, hosts: &[String], reach: Reach| {
                if count > 0 {
                    asks.push(Ask { id, unit: work.unit, count: count as u32, hosts: hosts.to_vec(), reach, arrived });
                }
            };
            if work.collapses {
                // All of its partitions are one task.
                add(work.near_ask, 1, &work.hosts, work.reach);
            } else {
                add(work.near_ask, work.near.len(), &work.hosts, work.reach);
                add(work.anywhere_ask, work.anywhere.len(), &[], Reach::Anywhere);
            }
        }
        asks.extend(inner.framework_asks(queue));
        inner.allocator.set_asks(queue, asks, now);
    }
}

/// Answers offers until there are no more.
fn answer(inner: &mut Inner, works: &mut [Work], now: Millis) {
    let mut by_ask: HashMap<AskId, usize> = HashMap::new();
    for (index, work) in works.iter().enumerate() {
        by_ask.insert(work.near_ask, index);
        by_ask.insert(work.anywhere_ask, index);
    }
    loop {
        let offers = inner.allocator.allocate(now);
        if offers.is_empty() {
            return;
        }
        for offer in offers {
            match by_ask.get(&offer.ask) {
                Some(index) => answer_one(inner, &mut works[*index], &offer, now),
                // What was asked for in an earlier round is not wanted any more.
                None if inner.take_lease(&offer, now) || inner.deliver(&offer, now) => {}
                None => drop(inner.allocator.rescind(offer.id)),
            }
        }
    }
}

fn answer_one(inner: &mut Inner, work: &mut Work, offer: &Offer, now: Millis) {
    let host = inner.allocator.executor_spec(offer.executor).map(|spec| spec.host.clone()).unwrap_or_default();
    match choose(work, offer.ask, &host) {
        Some((partitions, level)) => {
            if let Ok(started) = inner.allocator.accept(offer.id, &[offer.resources], now)
                && let Some(task) = started.first()
            {
                work.placed.entry((offer.executor, level)).or_default().push((partitions, *task));
                inner.remember(offer, "accepted", now);
            }
        }
        None => {
            let filter = Filter { until: work.waits_until.unwrap_or(now + 1).max(now + 1) };
            // The offer was made a moment ago and stands.
            let _ = inner.allocator.decline(offer.id, Some(filter), now);
            inner.remember(offer, "declined", now);
        }
    }
}

/// The partitions to run on a host, and how near they are to their data.
fn choose(work: &mut Work, ask: AskId, host: &str) -> Option<(Vec<usize>, Level)> {
    if work.collapses {
        let mut all: Vec<usize> = work.near.drain(..).chain(work.anywhere.drain(..)).collect();
        all.sort_unstable();
        let is_near = all.iter().any(|partition| work.places.prefers(*partition, host));
        return (!all.is_empty()).then_some((all, if is_near { Level::Host } else { Level::Any }));
    }
    if ask == work.anywhere_ask {
        return (!work.anywhere.is_empty()).then(|| (vec![work.anywhere.remove(0)], Level::Any));
    }
    if let Some(index) = work.near.iter().position(|partition| work.places.prefers(*partition, host)) {
        return Some((vec![work.near.remove(index)], Level::Host));
    }
    let may_be_far = work.reach != Reach::Hosts && !work.near.is_empty();
    may_be_far.then(|| (vec![work.near.remove(0)], if work.reach == Reach::Racks { Level::Rack } else { Level::Any }))
}

/// Makes Ballista's tasks of what was placed.
fn start(inner: &mut Inner, jobs: &mut [RunningJob], works: Vec<Work>, now: Millis) -> Vec<BoundTask> {
    let mut bound = Vec::new();
    for work in works.into_iter().filter(|work| !work.placed.is_empty()) {
        let job = &mut jobs[work.job_index];
        let (job_id, session_id) = (job.id.clone(), job.session_id.clone());
        let Some(stage) = running_stage(&mut job.graph, work.stage_id) else { continue };
        number_tasks_apart(stage);
        let key = (job_id.clone(), work.stage_id, work.attempt);
        if let Some(state) = inner.stages.get_mut(&key) {
            for (_, level) in work.placed.keys() {
                state.clock.launched(*level, now);
            }
        }
        let started: HashSet<usize> =
            work.placed.values().flatten().flat_map(|(partitions, _)| partitions.iter().copied()).collect();
        let pending = stage.pending.next_slice(usize::MAX);
        stage.pending.reschedule(pending.into_iter().filter(|partition| !started.contains(partition)));
        let config = with_grant(&stage.session_config, work.unit.memory_bytes());
        let most = if work.collapses { usize::MAX } else { max_partitions_per_task(stage) };
        let has_places = |partitions: &[usize]| partitions.iter().any(|p| !work.places.hosts(*p).is_empty());
        for ((executor, level), placed) in &work.placed {
            let Some(executor_id) = inner.allocator.executor_spec(*executor).map(|spec| spec.name.clone()) else {
                continue;
            };
            for slice in placed.chunks(most) {
                let ids: Vec<TaskId> = slice.iter().map(|(_, id)| *id).collect();
                let mut partitions: Vec<usize> = slice.iter().flat_map(|(p, _)| p.iter().copied()).collect();
                partitions.sort_unstable();
                let grant = Grant {
                    resources: work.unit.times(ids.len() as u64),
                    locality: match level {
                        _ if !has_places(&partitions) => "none",
                        Level::Process | Level::Host => "host",
                        Level::Rack => "rack",
                        Level::Any => "any",
                    },
                };
                let task =
                    bind_task(stage, &executor_id, partitions, ids.len() as u32, (&job_id, &session_id), &config);
                let task_id = task.1.key.task_id;
                let grants = inner.grants.entry(job_id.clone()).or_default();
                grants.last_running = now;
                grants.by_task.insert((work.stage_id, task_id), grant);
                let task_ref =
                    TaskRef { job_id: job_id.clone(), stage_id: work.stage_id, attempt: work.attempt, task_id };
                if let Some(id) = inner.allocator.combine_tasks(&ids) {
                    inner.tasks.insert(task_ref, id);
                }
                bound.push(task);
            }
        }
    }
    bound
}

/// The stage of that number, which has something pending.
fn running_stage(graph: &mut ExecutionGraphBox, stage_id: usize) -> Option<&mut RunningStage> {
    let others: Vec<usize> = graph.running_stages().into_iter().filter(|id| *id != stage_id).collect();
    graph.fetch_running_stage(&others)
}

fn with_grant(config: &Arc<SessionConfig>, memory_bytes: u64) -> Arc<SessionConfig> {
    let mut granted = config.as_ref().clone();
    match granted.options_mut().set(GRANT_SETTING, &memory_bytes.to_string()) {
        Ok(()) => Arc::new(granted),
        Err(error) => {
            tracing::error!(%error, "a task's memory grant cannot be told to it");
            config.clone()
        }
    }
}

fn max_partitions_per_task(stage: &RunningStage) -> usize {
    let options = stage.session_config.options();
    let configured = options.extensions.get::<BallistaConfig>().map(BallistaConfig::max_partitions_per_task);
    configured.filter(|limit| *limit > 0).unwrap_or(usize::MAX)
}

fn bind_task(
    stage: &mut RunningStage,
    executor_id: &str,
    partitions: Vec<usize>,
    vcores: u32,
    (job_id, session_id): (&JobId, &str),
    config: &Arc<SessionConfig>,
) -> BoundTask {
    // Ballista identifies a task by its place in the stage's append-only list.
    let task_id = stage.task_infos.len();
    let task_attempt = partitions.iter().filter_map(|p| stage.task_failure_numbers.get(*p)).max().copied().unwrap_or(0);
    let mut info = create_task_info(executor_id.to_owned(), task_id);
    info.global_input_partition_ids = partitions.clone();
    info.vcores_consumed = vcores;
    stage.task_infos.push(info);
    let task = TaskDescription {
        session_id: session_id.to_owned(),
        key: TaskKey { job_id: job_id.clone(), stage_id: stage.stage_id, task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt,
        global_input_partition_ids: partitions,
        vcores_consumed: vcores,
        plan: stage.plan.clone(),
        session_config: config.clone(),
    };
    (executor_id.to_owned(), task)
}
