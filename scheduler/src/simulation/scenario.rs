//! What a scenario file may say, and the checked form of it.
//!
//! The file is TOML. This is all of it, with what is meant by a key that is left out:
//!
//! ```toml
//! title = "Two tenants"          # above the report; default: none
//! seed = 1                       # of all that is left to chance; default: 1
//! duration = "10m"               # how much time is simulated
//! policy = "drf"                 # or "fifo", to compare with; default: drf
//!
//! [allocator]                    # all default to what the service has
//! claim_after = "2s"             # until an executor is cleared for a large task
//! restore_after = "10s"          # until guarantees are restored by ending tasks of others
//!
//! [[executors]]
//! name = "node"                  # node-0, node-1, ...; default: executor
//! count = 10
//! each = { cpu = 16, memory = "64GB" }   # any other name is a kind of its own: disk = 4
//! rack_size = 5                  # executors to a rack; default: one rack for all of the group
//!
//! [[queues]]                     # parents before their children
//! path = "bi.dashboards"
//! weight = 1.0                   # default: 1
//! guarantee = { cpu = 16 }       # default: none
//! limit = { cpu = 64 }           # default: none; so are the three that follow
//! max_running = 10               # jobs that run at a time
//! max_queued = 100               # jobs that wait to run; more are refused
//! queue_timeout = "5m"           # how long one waits
//!
//! [[workloads]]
//! queue = "bi.dashboards"
//! jobs = 1                       # that come together; default: 1
//! from = "0s"                    # when the first come, or, at random, may come; default: at once
//! every = "10s"                  # and again; or
//! poisson = "10s"                # at random, on average after that time; default: never again
//! until = "10m"                  # when the last may come; default: the end
//! tasks = 20                     # of each job
//! task = { cpu = 1, memory = "2GB" }
//! time = { fixed = "5s" }        # or one of
//! # time = { exponential = { mean = "5s" } }
//! # time = { lognormal = { median = "5s", sigma = 1.0 } }
//! # time = { pareto = { least = "2s", alpha = 1.5 } }
//!
//! [workloads.locality]           # default: tasks have no data anywhere
//! replicas = 3                   # executors that hold the data of a task
//! host_wait = "3s"               # how long a job waits for one of them; default: 0s
//! rack_wait = "1s"               # and then for one in their racks; default: 0s
//! rack_slowdown = 1.2            # how much longer a task takes there; default: 1
//! slowdown = 2.0                 # and in other racks; default: 1
//!
//! [[failures]]
//! executors = "node"             # of which group; default: of all
//! mean_between = "1h"            # between two failures of one executor, at random; or
//! at = "3m"                      # at that moment
//! count = 1                      # so many of them; default: 1
//! repair = "2m"                  # until it is back; default: never
//! ```

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;

use super::units::{Amounts, Time, amounts};
use crate::core::{
    AdmissionLimits, Allocator, ExecutorId, ExecutorSpec, Kinds, LocalityWaits, Millis, Options, Policy, QueueError,
    QueueId, QueueSpec, Resources,
};

/// What one simulation may cost: more tasks than that would take too long.
const MAX_TASKS: f64 = 20e6;

/// More executors than any cluster has.
const MAX_EXECUTORS: u32 = 200_000;

/// Why a scenario cannot be simulated. The message says where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The text is not TOML, a key is unknown or missing, or a value is of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// What it says makes no sense, in the part of the file that begins at that line.
    #[error("line {line}: {problem}")]
    At {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Something is missing.
    #[error("{0}")]
    Missing(String),
}

/// Each with the id that it has in the scenario's allocator.
type Executors = Vec<(ExecutorId, ExecutorSpec)>;

/// A checked scenario, ready to be simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Of all that is left to chance.
    pub seed: u64,
    /// Which queue is served first.
    pub policy: Policy,
    pub(super) title: String,
    pub(super) duration_ms: Millis,
    /// With the executors and queues in it.
    pub(super) allocator: Allocator,
    pub(super) kinds: Kinds,
    pub(super) executors: Executors,
    /// Those that run tasks, in the order of the file.
    pub(super) queues: Vec<QueueId>,
    pub(super) workloads: Vec<Workload>,
    pub(super) failures: Vec<Failures>,
}

/// Jobs of one kind.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub queue: QueueId,
    /// Jobs that come together.
    pub jobs: u32,
    pub from: Millis,
    pub until: Millis,
    pub again: Again,
    /// Tasks of each job.
    pub tasks: u32,
    pub unit: Resources,
    pub time: TaskTime,
    pub locality: Option<Locality>,
}

/// When jobs come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Every(Millis),
    /// At random, after that time on average.
    Poisson(Millis),
}

/// How long a task runs where its data is.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum TaskTime {
    Fixed(Time),
    Exponential { mean: Time },
    Lognormal { median: Time, sigma: f64 },
    Pareto { least: Time, alpha: f64 },
}

/// Where the data of a job's tasks is, and what it means to run elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Locality {
    pub replicas: usize,
    pub waits: LocalityWaits,
    pub rack_slowdown: f64,
    pub slowdown: f64,
}

/// How executors fail.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    /// Indices of the executors that this is about.
    pub executors: Vec<usize>,
    pub when: When,
    pub repair_ms: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    At(Millis),
    /// Each at random, after that time on average.
    MeanBetween(Millis),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    title: String,
    #[serde(default = "one")]
    seed: u64,
    duration: Spanned<Time>,
    #[serde(default)]
    policy: FilePolicy,
    #[serde(default)]
    allocator: FileOptions,
    #[serde(default)]
    executors: Vec<Spanned<FileExecutors>>,
    #[serde(default)]
    queues: Vec<Spanned<FileQueue>>,
    #[serde(default)]
    workloads: Vec<Spanned<FileWorkload>>,
    #[serde(default)]
    failures: Vec<Spanned<FileFailures>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FilePolicy {
    #[default]
    Drf,
    Fifo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOptions {
    claim_after: Option<Time>,
    restore_after: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileExecutors {
    #[serde(default = "executor")]
    name: String,
    count: u32,
    each: Amounts,
    rack_size: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileQueue {
    path: String,
    weight: Option<f64>,
    #[serde(default)]
    guarantee: Amounts,
    #[serde(default)]
    limit: Amounts,
    max_running: Option<u32>,
    max_queued: Option<u32>,
    queue_timeout: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWorkload {
    queue: String,
    #[serde(default = "one_job")]
    jobs: u32,
    from: Option<Time>,
    every: Option<Time>,
    poisson: Option<Time>,
    until: Option<Time>,
    tasks: u32,
    task: Amounts,
    time: TaskTime,
    locality: Option<FileLocality>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLocality {
    replicas: usize,
    host_wait: Option<Time>,
    rack_wait: Option<Time>,
    rack_slowdown: Option<f64>,
    slowdown: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFailures {
    executors: Option<String>,
    mean_between: Option<Time>,
    at: Option<Time>,
    count: Option<u32>,
    repair: Option<Time>,
}

fn one() -> u64 {
    1
}

fn one_job() -> u32 {
    1
}

fn executor() -> String {
    "executor".to_owned()
}

impl Scenario {
    /// Reads and checks the text of a scenario file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and what to do about it.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let file: File =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string().trim().to_owned()))?;
        Checker { text, kinds: Kinds::default() }.scenario(file)
    }
}

/// Turns what a file says into a scenario.
struct Checker<'a> {
    text: &'a str,
    kinds: Kinds,
}

impl Checker<'_> {
    fn scenario(mut self, file: File) -> Result<Scenario, ScenarioError> {
        let duration_ms = file.duration.get_ref().0;
        self.require(duration_ms > 0, &file.duration, || "the duration must be above zero".to_owned())?;
        let policy = match file.policy {
            FilePolicy::Drf => Policy::Drf,
            FilePolicy::Fifo => Policy::Fifo,
        };
        let mut options = Options { policy, ..Options::default() };
        if let Some(Time(wait_ms)) = file.allocator.claim_after {
            options.claim_after_ms = wait_ms;
        }
        if let Some(Time(wait_ms)) = file.allocator.restore_after {
            options.restore_after_ms = wait_ms;
        }
        let mut allocator = Allocator::new(options);
        let (executors, groups) = self.executors(&mut allocator, &file.executors)?;
        let queues = self.queues(&mut allocator, &file.queues)?;
        let mut workloads = Vec::with_capacity(file.workloads.len());
        let mut task_count = 0.0;
        for workload in &file.workloads {
            let checked = self.workload(&allocator, workload, duration_ms)?;
            task_count += expected_tasks(&checked);
            self.require(task_count <= MAX_TASKS, workload, || {
                format!("this would be about {task_count:.0} tasks; simulate fewer jobs, tasks or less time")
            })?;
            workloads.push(checked);
        }
        if workloads.is_empty() {
            return Err(ScenarioError::Missing("there is nothing to run: add a [[workloads]]".to_owned()));
        }
        let failures = file.failures.iter().map(|failures| self.failures(failures, &groups));
        let failures = failures.collect::<Result<_, _>>()?;
        let (seed, title) = (file.seed, file.title);
        let kinds = self.kinds;
        Ok(Scenario { seed, policy, title, duration_ms, allocator, kinds, executors, queues, workloads, failures })
    }

    /// The executors, and the group of each.
    fn executors(
        &mut self,
        allocator: &mut Allocator,
        groups: &[Spanned<FileExecutors>],
    ) -> Result<(Executors, Vec<String>), ScenarioError> {
        let mut executors = Vec::new();
        let mut group_of = Vec::new();
        let mut known = HashSet::new();
        for (number, spanned) in groups.iter().enumerate() {
            let group = spanned.get_ref();
            self.require(known.insert(&group.name), spanned, || {
                format!("there are executors \"{}\" already; give these another name", group.name)
            })?;
            let fits = group.count > 0 && executors.len() + group.count as usize <= MAX_EXECUTORS as usize;
            self.require(fits, spanned, || format!("count must be from 1 to {MAX_EXECUTORS} in all"))?;
            let total = self.resources(&group.each, spanned)?;
            self.require(!total.is_zero(), spanned, || "an executor must have cpu or memory in \"each\"".to_owned())?;
            self.require(group.rack_size != Some(0), spanned, || "rack_size must be above zero".to_owned())?;
            for index in 0..group.count {
                let name = format!("{}-{index}", group.name);
                let rack = format!("rack-{number}-{}", index / group.rack_size.unwrap_or(group.count));
                let spec = ExecutorSpec { host: name.clone(), name, rack, total, ..ExecutorSpec::default() };
                let (id, _) = allocator.add_executor(spec.clone());
                executors.push((id, spec));
                group_of.push(group.name.clone());
            }
        }
        if executors.is_empty() {
            return Err(ScenarioError::Missing("there is nowhere to run: add [[executors]]".to_owned()));
        }
        Ok((executors, group_of))
    }

    fn queues(
        &mut self,
        allocator: &mut Allocator,
        queues: &[Spanned<FileQueue>],
    ) -> Result<Vec<QueueId>, ScenarioError> {
        let mut ids = Vec::with_capacity(queues.len());
        for spanned in queues {
            let queue = spanned.get_ref();
            let limit = queue.limit.limit(&mut self.kinds);
            let spec = QueueSpec {
                weight: queue.weight.unwrap_or(1.0),
                guarantee: self.resources(&queue.guarantee, spanned)?,
                limit: self.known(limit, spanned)?,
                admission: AdmissionLimits {
                    max_running: queue.max_running,
                    max_queued: queue.max_queued,
                    queue_timeout_ms: queue.queue_timeout.map(|time| time.0),
                },
            };
            let created = allocator.create_queue(&queue.path, spec);
            ids.push(created.map_err(|error| {
                let hint = if matches!(error, QueueError::NotFound(_)) { "; add it before this one" } else { "" };
                self.error(spanned, format!("{error}{hint}"))
            })?);
        }
        ids.retain(|id| allocator.runs_tasks(*id));
        Ok(ids)
    }

    fn workload(
        &mut self,
        allocator: &Allocator,
        spanned: &Spanned<FileWorkload>,
        duration_ms: Millis,
    ) -> Result<Workload, ScenarioError> {
        let workload = spanned.get_ref();
        let Some(queue) = allocator.find_queue(&workload.queue) else {
            let problem = format!("queue \"{0}\" does not exist; add a [[queues]] with path = \"{0}\"", workload.queue);
            return Err(self.error(spanned, problem));
        };
        self.require(allocator.runs_tasks(queue), spanned, || {
            format!("queue \"{}\" has queues below it; only those can run jobs", workload.queue)
        })?;
        let again = match (workload.every, workload.poisson) {
            (None, None) => Again::Never,
            (Some(Time(gap_ms)), None) => Again::Every(gap_ms),
            (None, Some(Time(gap_ms))) => Again::Poisson(gap_ms),
            (Some(_), Some(_)) => return Err(self.error(spanned, "say either every or poisson".to_owned())),
        };
        let is_never_zero = !matches!(again, Again::Every(0) | Again::Poisson(0));
        self.require(is_never_zero, spanned, || "every and poisson must be above zero".to_owned())?;
        self.require(workload.tasks > 0 && workload.jobs > 0, spanned, || "tasks and jobs start at 1".to_owned())?;
        let unit = self.resources(&workload.task, spanned)?;
        self.require(!unit.is_zero(), spanned, || "a task must need cpu or memory".to_owned())?;
        self.require(allocator.is_possible(&unit), spanned, || {
            format!("no executor has room for a task of {}", amounts(&unit, &self.kinds))
        })?;
        let is_sensible = match workload.time {
            TaskTime::Fixed(_) => true,
            TaskTime::Exponential { mean } => mean.0 > 0,
            TaskTime::Lognormal { median, sigma } => median.0 > 0 && (0.0..=10.0).contains(&sigma),
            TaskTime::Pareto { least, alpha } => least.0 > 0 && alpha > 0.0 && alpha.is_finite(),
        };
        self.require(is_sensible, spanned, || "times and alpha must be above zero, and sigma from 0 to 10".to_owned())?;
        let locality = match &workload.locality {
            None => None,
            Some(locality) => Some(self.locality(locality, spanned)?),
        };
        let from = workload.from.map_or(0, |time| time.0);
        let until = workload.until.map_or(duration_ms, |time| time.0.min(duration_ms));
        self.require(from <= until, spanned, || "the first jobs would come after the last".to_owned())?;
        let (jobs, tasks, time) = (workload.jobs, workload.tasks, workload.time);
        Ok(Workload { queue, jobs, from, until, again, tasks, unit, time, locality })
    }

    fn locality(&self, locality: &FileLocality, spanned: &Spanned<FileWorkload>) -> Result<Locality, ScenarioError> {
        self.require(locality.replicas > 0, spanned, || "replicas start at 1".to_owned())?;
        let (rack_slowdown, slowdown) = (locality.rack_slowdown.unwrap_or(1.0), locality.slowdown.unwrap_or(1.0));
        let are_sensible = [rack_slowdown, slowdown].iter().all(|factor| (0.01..=1_000.0).contains(factor));
        self.require(are_sensible, spanned, || "a slowdown is a factor from 0.01 to 1000".to_owned())?;
        let wait_ms = |time: Option<Time>| time.map_or(0, |time| time.0);
        let (host_ms, rack_ms) = (wait_ms(locality.host_wait), wait_ms(locality.rack_wait));
        let waits = LocalityWaits { process_ms: 0, host_ms, rack_ms };
        Ok(Locality { replicas: locality.replicas, waits, rack_slowdown, slowdown })
    }

    fn failures(&self, spanned: &Spanned<FileFailures>, groups: &[String]) -> Result<Failures, ScenarioError> {
        let failures = spanned.get_ref();
        let is_meant = |group: &String| failures.executors.as_ref().is_none_or(|name| name == group);
        let mut executors: Vec<_> = (0..groups.len()).filter(|index| is_meant(&groups[*index])).collect();
        self.require(!executors.is_empty(), spanned, || {
            format!("there are no executors \"{}\"", failures.executors.as_deref().unwrap_or_default())
        })?;
        let when = match (failures.at, failures.mean_between) {
            (Some(Time(at)), None) => {
                executors.truncate(failures.count.unwrap_or(1) as usize);
                When::At(at)
            }
            (None, Some(Time(mean_ms))) if mean_ms > 0 && failures.count.is_none() => When::MeanBetween(mean_ms),
            _ => {
                let problem = "say either at, with count, or mean_between, which must be above zero";
                return Err(self.error(spanned, problem.to_owned()));
            }
        };
        Ok(Failures { executors, when, repair_ms: failures.repair.map(|time| time.0) })
    }

    fn resources<T>(&mut self, amounts: &Amounts, place: &Spanned<T>) -> Result<Resources, ScenarioError> {
        let resources = amounts.resources(&mut self.kinds);
        self.known(resources, place)
    }

    fn known<T>(&self, resources: Option<Resources>, place: &Spanned<T>) -> Result<Resources, ScenarioError> {
        resources.ok_or_else(|| self.error(place, "there are too many kinds of resources".to_owned()))
    }

    fn require<T>(
        &self,
        holds: bool,
        place: &Spanned<T>,
        problem: impl FnOnce() -> String,
    ) -> Result<(), ScenarioError> {
        if holds { Ok(()) } else { Err(self.error(place, problem())) }
    }

    fn error<T>(&self, place: &Spanned<T>, problem: String) -> ScenarioError {
        let before = self.text.get(..place.span().start).unwrap_or_default();
        ScenarioError::At { line: before.matches('\n').count() + 1, problem }
    }
}

fn expected_tasks(workload: &Workload) -> f64 {
    let times = match workload.again {
        Again::Never => 1.0,
        Again::Every(gap_ms) | Again::Poisson(gap_ms) => 1.0 + (workload.until - workload.from) as f64 / gap_ms as f64,
    };
    times * f64::from(workload.jobs) * f64::from(workload.tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
duration = "1m"
[[executors]]
count = 2
each = { cpu = 4, memory = "8GB" }
[[queues]]
path = "a"
[[workloads]]
queue = "a"
tasks = 3
task = { cpu = 1, memory = "1GB" }
time = { fixed = "5s" }
"#;

    fn error(from: &str, to: &str) -> String {
        assert!(SMALL.contains(from), "{from}");
        Scenario::parse(&SMALL.replacen(from, to, 1)).expect_err("is wrong").to_string()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let scenario = Scenario::parse(SMALL).expect("is right");
        assert_eq!((scenario.seed, scenario.policy, scenario.duration_ms), (1, Policy::Drf, 60_000));
        assert_eq!(scenario.allocator.total(), Resources::new(8_000, 16 << 30));
        let workload = &scenario.workloads[0];
        assert_eq!((workload.jobs, workload.from, workload.until, workload.again), (1, 0, 60_000, Again::Never));
    }

    #[test]
    fn all_that_the_chapter_shows_can_be_read() {
        let chapter = include_str!("scenario.rs").lines().skip_while(|line| !line.contains("```toml")).skip(1);
        let example = chapter.take_while(|line| !line.contains("```"));
        let example: Vec<_> = example.map(|line| line.trim_start_matches("//!").trim_start()).collect();
        let example = example.join("\n").replace("poisson", "# poisson").replace("mean_between", "# mean_between");
        let example = example.replacen("[[queues]]", "[[queues]]\npath = \"bi\"\n[[queues]]", 1);
        Scenario::parse(&example).expect("is right");
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (from, to, expected) in [
            ("\"1m\"", "\"1 minuet\"", "line 2"),
            ("\"1m\"", "\"0s\"", "line 2: the duration must be above zero"),
            ("count = 2", "cuont = 2", "unknown field `cuont`"),
            ("count = 2", "count = 0", "line 3: count must be from 1"),
            ("queue = \"a\"", "queue = \"b\"", "line 8: queue \"b\" does not exist; add a [[queues]]"),
            ("path = \"a\"", "path = \"a.b\"", "line 6: queue \"root.a\" does not exist; add it before this one"),
            ("path = \"a\"", "path = \"a\"\nweight = -1", "line 6: the weight of a queue"),
            ("tasks = 3", "tasks = 0", "line 8: tasks and jobs start at 1"),
            ("tasks = 3", "tasks = 3\nevery = \"0s\"", "line 8: every and poisson must be above zero"),
            ("tasks = 3", "tasks = 3\nevery = \"1ms\"\njobs = 1000", "line 8: this would be about"),
            ("memory = \"1GB\"", "memory = \"9GB\"", "line 8: no executor has room for a task of 1 cpu, 9 GB memory"),
            ("fixed = \"5s\"", "pareto = { least = \"5s\", alpha = 0.0 }", "line 8: times and alpha"),
            ("[[workloads]]", "[[failures]]\nrepair = \"1s\"\n[[workloads]]", "line 8: say either at"),
            ("[[executors]]\ncount = 2\neach = { cpu = 4, memory = \"8GB\" }", "", "there is nowhere to run"),
        ] {
            let error = error(from, to);
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
