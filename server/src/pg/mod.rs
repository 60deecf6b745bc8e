//! The PostgreSQL front end: what psql, JDBC, psycopg and their kin speak.
//!
//! One task per connection. The task owns the socket, the session and the portals, and polls the
//! socket together with the engine: a client that goes away or asks to cancel ends its query. The
//! `pgwire` crate gives the messages and their encoding; the loop is ours, because the crate's own
//! collects whole results, waits for nobody and accepts a gigabyte from strangers.
//!
//! It never plans or executes anything, never holds more of a result than one batch and one write
//! buffer, and never logs a statement or a parameter.
//!
//! Reading order:
//! - [`listener`]: accepts connections, bounds them, ends them at shutdown
//! - [`startup`]: from the first byte to `ReadyForQuery`, under small limits; [`login`]: who the client is
//! - [`connection`]: the loop over messages, and what all statements share
//! - [`simple`], [`extended`]: the two query protocols; [`rows`]: results on their way out
//! - [`copy`]: rows to and from a client as a stream of bytes
//! - [`types`], [`encode`] (text, binary, json, numeric), [`params`]: values on the wire
//! - [`wire`], [`frontend`], [`backend`]: bytes, messages in, messages out
//! - [`cancel`]: secret keys and whom they cancel

mod backend;
mod cancel;
mod connection;
mod copy;
pub(crate) mod encode;
mod extended;
mod frontend;
pub(crate) mod fuzzing;
mod listener;
mod login;
mod params;
mod rows;
mod simple;
mod startup;
mod types;
mod wire;

use std::time::Duration;

pub(crate) use backend::Format;
pub use listener::serve;
pub(crate) use params::array_elements;
pub(crate) use types::{PG_TYPE_METADATA, PgType, type_modifier};

/// Limits of the PostgreSQL front end.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Sessions at the same time; the next one is refused with 53300.
    pub max_connections: usize,
    /// Bytes of one message (a statement, or a statement's parameters) after the start-up.
    pub max_message_bytes: usize,
    /// From the connect to the end of the start-up.
    pub startup_timeout: Duration,
    /// Prepared statements of one session.
    pub max_prepared_statements: usize,
    /// Open portals of one session, each of which may hold a running query.
    pub max_portals: usize,
    /// At shutdown, how long a client that does not read may hold up the end of its connection.
    pub drain_write_timeout: Duration,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            max_connections: 100,
            max_message_bytes: 16 << 20,
            startup_timeout: Duration::from_secs(60),
            max_prepared_statements: 1_000,
            max_portals: 100,
            drain_write_timeout: Duration::from_secs(5),
        }
    }
}
