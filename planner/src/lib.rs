//! From SQL text to plans: statements of our own, catalogs, and how large a plan's input is.
//!
//! The crate knows names and schemas; it runs nothing and knows no protocol, no session and no
//! executor.
//!
//! In reading order:
//!
//! - [`statement`]: a client's text as statements, DataFusion's and ours
//! - [`catalog`]: external tables, views and Cassandra catalogs, kept over restarts
//! - [`barrier`]: predicates and the rows that a policy hides
//! - [`subqueries`]: `EXISTS` and `IN` where DataFusion makes no join of them
//! - [`table_functions`]: scans of table functions that are told apart
//! - [`distribute`]: rules for plans that are cut into stages
//! - `small_batches`: batches that are put together
//! - [`size`]: how many bytes a physical plan will read
//! - [`suggest`]: "did you mean"

pub mod barrier;
pub mod catalog;
pub mod distribute;
pub mod size;
mod small_batches;
pub mod statement;
pub mod subqueries;
pub mod suggest;
pub mod table_functions;
