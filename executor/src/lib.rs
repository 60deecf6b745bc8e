//! Runs tasks near the data: sources and sinks, memory budgets, the executor process.
//!
//! An executor is given a plan cut at its exchanges, reads its inputs (Cassandra token ranges,
//! Parquet files, shuffle output of earlier stages), and writes shuffle output that others fetch
//! over Arrow Flight. It never parses SQL and knows no user or queue.
//!
//! In reading order:
//!
//! - [`cassandra`]: Apache Cassandra as a DataFusion source and sink; usable without the rest
//! - [`transfer`]: tables as folders of files with manifests and hashes
//! - [`barrier`]: rows that a policy chose, and predicates that may not see the others
//! - [`codec`]: our own operators in plans that cross processes
//! - [`config`]: the session configuration of plans that are cut into stages
//! - [`functions`]: what plans may call
//! - [`process`]: an executor from start to stop
//! - [`control`]: what the coordinator asks of it, and what it tells the coordinator
//! - [`shuffle`]: files between stages, checked before they are believed
//! - [`results`]: rows for clients; [`portable`]: in the types that every Arrow client reads
//! - [`client_pool`]: its connections to other executors
//! - [`listener`]: connections to it; [`peer`]: and who may make them

pub mod barrier;
pub mod cassandra;
pub mod client_pool;
pub mod codec;
pub mod config;
pub mod control;
pub mod functions;
pub mod listener;
pub mod peer;
pub mod portable;
pub mod process;
pub mod results;
pub mod shuffle;
pub mod transfer;
