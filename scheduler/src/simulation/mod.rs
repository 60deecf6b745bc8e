//! A cluster in a file: what the allocator would do with it, in a second instead of a day.
//!
//! Whether a weight, a guarantee or a wait is right is hard to say beforehand, and trying it out on people takes weeks.
//! The allocator in [`crate::core`] knows no clock and no network, so that the very code that decides in the service
//! can be run through a working day of an invented cluster: jobs come, tasks run and end, executors fail, and what
//! happened is told in tables and in a picture. `sluice simulate` is this module on the command line.
//!
//! In reading order:
//!
//! - [`scenario`]: what the file says: executors, queues, workloads, failures
//! - `units`: quantities with units, as people write and read them
//! - `run`: the simulation itself, one event after the other
//! - `measure`: what is counted meanwhile
//! - [`report`]: what came out, as tables
//! - [`plot`]: and as a picture
//! - [`curves`]: a picture of measurements at growing sizes, for `examples/growth.rs`
//!
//! The same scenario gives the same report to the last byte, on every machine; with another seed it gives another run
//! of the same kind. A job here is one stage of equal tasks. What it leaves out of a real query, stages that wait for
//! each other and data that is moved between them, changes when queues want something and not who is served.
//!
//! ```
//! use sluice_scheduler::simulation::{Scenario, simulate};
//!
//! let scenario = Scenario::parse(
//!     r#"
//!     duration = "1m"
//!     [[executors]]
//!     count = 2
//!     each = { cpu = 4, memory = "8GB" }
//!     [[queues]]
//!     path = "dashboards"
//!     [[workloads]]
//!     queue = "dashboards"
//!     every = "10s"
//!     tasks = 16
//!     task = { cpu = 1, memory = "1GB" }
//!     time = { fixed = "2s" }
//!     "#,
//! )?;
//! let outcome = simulate(&scenario);
//! // Eight tasks run at a time, so that each job takes four seconds.
//! assert_eq!(outcome.queues[0].times().map(|times| times.max_ms), Some(4_000));
//! # Ok::<(), sluice_scheduler::simulation::ScenarioError>(())
//! ```

pub mod curves;
mod measure;
pub mod plot;
pub mod report;
mod run;
pub mod scenario;
mod units;

pub use report::{JobTimes, Outcome, Percentiles, QueueOutcome, TaskCounts, comparison};
pub use run::simulate;
pub use scenario::{Scenario, ScenarioError};

#[cfg(test)]
mod tests;
