//! Which task runs on which executor, and when.
//!
//! The crate hosts Ballista's scheduler (stages, lineage recovery, task status) and takes the one
//! decision that Ballista leaves open: the binding of pending partitions to executors. It never
//! plans SQL, never touches data, and does not know what a Cassandra table is: where a partition
//! would like to run is told to it by a function that the server passes in.
//!
//! In reading order:
//!
//! - [`cluster::binder`]: the pure decision, partitions to executors by preferred host and free vcores
//! - [`cluster::state`]: the executor registry around it, as Ballista's `ClusterState`
//! - `cluster::recovery`: what a repeated stage wrote counts once
//! - [`cluster::service`]: starting the scheduler, submitting and cancelling jobs
//! - [`cluster::stages`]: a job's stages as a person reads them, before and after it ran

pub mod cluster;
pub mod core;
pub mod simulation;
