//! Which task runs on which executor, and when.
//!
//! The crate hosts Ballista's scheduler (stages, lineage recovery, task status) and takes the one
//! decision that Ballista leaves open: which tenant's task runs next, and where. It never
//! plans SQL, never touches data, and does not know what a Cassandra table is: where a partition
//! would like to run is told to it by a function that the server passes in.
//!
//! In reading order:
//!
//! - [`core`]: the pure allocator: queues, offers, dominant resource fairness
//! - [`simulation`]: a cluster on paper, driven by the same allocator
//! - [`cluster::allocation`]: the allocator among living executors and jobs
//! - [`cluster::demand`] and [`cluster::places`]: what a partition needs, and where it would like to run
//! - [`cluster::round`]: one round of offers, from pending partitions to tasks
//! - [`cluster::queues`]: queues as administrators define them, and places in them for queries
//! - [`cluster::leases`]: queries in the server itself, for the same queues
//! - [`cluster::frameworks`]: programs other than SQL that take offers
//! - [`cluster::state`]: the executor registry, as Ballista's `ClusterState`
//! - `cluster::recovery`: what a repeated stage wrote counts once
//! - [`cluster::service`]: starting the scheduler, submitting and cancelling jobs
//! - [`cluster::stages`]: a job's stages as a person reads them, before and after it ran

pub mod cluster;
pub mod core;
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod frameworks_proto;
pub mod simulation;
