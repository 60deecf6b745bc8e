//! What a job says of itself to the scheduler.

/// Travels with a job's session configuration, as an extension of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTag {
    /// Path of the queue whose resources the job uses.
    pub queue: String,
    /// Order of arrival among all jobs.
    pub arrived: u64,
    /// Bytes of memory for each partition that runs, if the user wants to choose.
    pub task_memory_bytes: Option<u64>,
    /// The least that a task gets, whatever its plan.
    pub least_task_memory_bytes: u64,
    /// What the estimate from the plan is multiplied by; more than 1 when it was too little before.
    pub memory_factor: u64,
    /// How long a task waits for an executor beside its data.
    pub locality_wait_ms: u64,
}

impl Default for JobTag {
    fn default() -> Self {
        Self {
            queue: DEFAULT_QUEUE.to_owned(),
            arrived: 0,
            task_memory_bytes: None,
            least_task_memory_bytes: LEAST_TASK_MEMORY_BYTES,
            memory_factor: 1,
            locality_wait_ms: LOCALITY_WAIT_MS,
        }
    }
}

/// The queue of whoever has no other.
pub const DEFAULT_QUEUE: &str = "root.default";
/// Enough for the buffers of a scan and of an exchange.
pub const LEAST_TASK_MEMORY_BYTES: u64 = 64 << 20;
/// A scan's split takes longer than this, and a full page from a node that is not beside it, too.
pub const LOCALITY_WAIT_MS: u64 = 500;
