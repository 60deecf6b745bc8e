//! The pure allocator: whom to offer resources to, and in which order.
//!
//! Scheduling has two levels, as in Mesos (Hindman et al., NSDI 2011). The allocator decides which
//! queue is *offered* a piece of which executor; the queue decides what to run on the offer, or
//! declines it. Nothing here waits, does I/O, reads a clock or draws a random number: time is a
//! parameter (milliseconds since any fixed moment), so that a week of a cluster can be simulated in
//! a second and every decision repeats.
//!
//! In reading order:
//!
//! - [`resources`]: vectors of cpu, memory and named kinds, and their arithmetic
//! - [`queue`]: the tree of queues: weight, guarantee, limit, and what a queue asks for
//! - [`executor`]: executors, their places, and what is free or reserved on them
//! - [`index`]: finding an executor with room among many
//! - [`drf`]: the order of queues by weighted dominant share, down the tree
//! - [`allocator`]: the state machine around them, and the words for what goes in and out
//! - [`cluster`]: executors come, drain, are lost, and keep parts of themselves for queues
//! - [`tree`]: queues are created, altered and dropped
//! - [`demand`]: what queues want, and what follows for them and those above
//! - [`offers`]: offers made, accepted, declined, rescinded, expired
//! - [`tasks`] and [`combine`]: tasks start, are made one, and end
//! - [`claim`]: large tasks get an executor cleared for them
//! - [`restore`]: guarantees restored by revoking the youngest tasks of queues above their share
//! - [`locality`]: delay scheduling, the queue's own choice to wait for a better place
//! - [`admission`]: how many queries of a queue run, wait, and for how long
//! - [`views`] and [`check`]: what a person may wonder about, and whether all sums agree
//!
//! # Laws
//! Held by the tests in `examples.rs` and by properties in `laws.rs`:
//!
//! - *Conservation*: what is free, offered, used and reserved on an executor is its total, always.
//! - *Guarantees first*: a queue below its guarantee is served before any other, and no other
//!   queue takes what it still needs; limits bind every queue of a path.
//! - *Dominant resource fairness* between the rest: sharing incentive, strategy-proofness,
//!   envy-freeness and Pareto efficiency up to one task (Ghodsi et al., NSDI 2011).
//! - *Hierarchy*: a tenant's share does not depend on what happens inside of another tenant.
//! - *No starvation*: no filter, place or size of task keeps a queue from its share for ever.

pub mod admission;
pub mod allocator;
mod check;
mod claim;
mod cluster;
mod combine;
mod demand;
pub mod drf;
pub mod executor;
pub mod index;
pub mod locality;
mod offers;
pub mod queue;
pub mod resources;
mod restore;
mod tasks;
pub(crate) mod tree;
mod views;

pub use admission::{Admission, AdmissionLimits, Arrival};
pub use allocator::{Allocator, Departure, Filter, Offer, OfferError, OfferId, Options, QueueError, TaskId};
pub use drf::Policy;
pub use executor::{ExecutorId, ExecutorSpec, ExecutorView};
pub use locality::{DelayClock, Level, LocalityWaits};
pub use queue::{Ask, AskId, QueueId, QueueSpec, QueueView, Reach};
pub use resources::{Kind, Kinds, Resources};
pub use restore::Revocation;

/// Milliseconds since a moment that the caller fixes once; never read from a clock in here.
pub type Millis = u64;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod laws;
