//! Ballista's scheduler with Sluice's decisions in it.
//!
//! What touches the internal-but-public types of Ballista's scheduler is in this folder alone, so that
//! a new version of it is a change in one place.

pub mod allocation;
pub mod demand;
pub mod frameworks;
pub mod leases;
pub mod places;
pub mod queues;
mod recovery;
pub mod round;
pub mod service;
pub mod stages;
pub mod state;
pub mod tag;

pub use allocation::{Allocation, ExecutorAttributes, HostReservation, OfferRecord};
pub use frameworks::FrameworksService;
pub use leases::{Lease, LeaseSize};
pub use places::PreferredHosts;
pub use queues::{Admitted, QueueDefinition, QueueDefinitions, QueueSummary, QueueingError};
pub use service::{ClusterError, ExecutorSummary, Job, Scheduler, SchedulerOptions};
pub use stages::{StageSummary, TaskSummary, plan_stages};
pub use tag::{DEFAULT_QUEUE, JobTag, LEAST_TASK_MEMORY_BYTES, LOCALITY_WAIT_MS};
