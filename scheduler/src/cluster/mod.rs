//! Ballista's scheduler with Sluice's decisions in it.
//!
//! Everything that touches Ballista's internal-but-public types is in this folder, so that a new
//! version of Ballista is a change to this folder alone.

pub mod binder;
mod recovery;
pub mod service;
pub mod stages;
pub mod state;

pub use service::{ClusterError, ExecutorSummary, Job, Scheduler, SchedulerOptions};
pub use stages::{StageSummary, TaskSummary, plan_stages};
pub use state::PreferredHosts;
