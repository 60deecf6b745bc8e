//! What the coordinator asks of an executor, and what the executor tells it.
//!
//! The executor's side of Ballista's push protocol. Ballista's own server of it opens its port by itself and lets anybody
//! in, and reports to whatever address a task names; this one is served on a listener of ours, behind its gate, and
//! reports over the connection that the executor joined by.
//!
//! - [`service`]: tasks come in, are cancelled, and what they wrote is removed
//! - [`run`]: a task from its plan to its status, on threads that give way to those that answer
//! - [`report`]: statuses and heartbeats go out

pub mod report;
pub mod run;
pub mod service;

pub use report::{beat, report};
pub use run::{TaskRunner, run_all};
pub use service::ControlService;
