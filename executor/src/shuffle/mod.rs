//! Shuffle files that are checked before they are believed.
//!
//! Arrow's reader takes most flipped bits for data: of random single-bit flips in a file, three in
//! four give wrong rows without an error. So each file that a task writes gets a seal beside it, and
//! nothing is read or sent before it has been compared with its seal. A file that does not match is a
//! failed fetch to Ballista's scheduler, which runs the task that wrote it again.
//!
//! - [`seal`]: checksums by section of a file
//! - [`engine`]: seals what a task writes, checks what it reads from this host
//! - [`service`]: checks what other hosts ask for

pub mod engine;
pub mod seal;
pub mod service;

pub use engine::{CheckedEngine, check_if_local};
pub use seal::SealError;
pub use service::CheckedFlightService;
