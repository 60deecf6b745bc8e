//! Ballista's scheduler with Sluice's decisions in it.
//!
//! What touches the internal-but-public types of Ballista's scheduler is in this folder alone, so that
//! a new version of it is a change in one place.

pub mod binder;
mod recovery;
pub mod service;
pub mod stages;
pub mod state;

pub use service::{ClusterError, ExecutorSummary, Job, Scheduler, SchedulerOptions};
pub use stages::{StageSummary, TaskSummary, plan_stages};
pub use state::PreferredHosts;
