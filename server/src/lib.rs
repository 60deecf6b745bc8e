//! The service: sessions, protocols, configuration, command line.
//!
//! In reading order:
//!
//! - [`engine`]: the one engine under every front end
//! - [`pg`]: the PostgreSQL wire protocol
//! - [`pgcatalog`]: the tables and functions that PostgreSQL's clients ask
//! - [`flight`]: Arrow Flight SQL
//! - [`http`]: the web page
//! - [`tls`]: encryption of all three
//! - [`cli`]: the command line and configuration
//! - `fuzzing`: decoders under bytes of any kind

mod basic_auth;
pub mod cli;
pub mod engine;
pub mod flight;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod pg;
pub mod pgcatalog;
pub mod tls;
