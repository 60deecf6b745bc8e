//! The Arrow Flight SQL front end: what ADBC, JDBC's Flight SQL driver and Arrow's own clients speak.
//!
//! Reading order:
//! - [`service`]: statements, prepared statements and their results
//! - [`handles`]: what a client's ticket or handle stands for, and for how long
//! - [`parameters`]: a prepared statement's parameters, from Arrow
//! - [`users`]: who a client is
//! - [`metadata`]: catalogs, schemas, tables, types; [`sql_info`]: what the service can do
//! - [`portable`]: results in the types that every Arrow client reads
//!
//! A ticket is a random number that is good once and for a while. A statement runs when its ticket
//! is redeemed, and stops when the client hangs up. Results are never held: a batch leaves when the
//! client has read the one before.
//!
//! Specification: <https://arrow.apache.org/docs/format/FlightSql.html>.

mod handles;
mod metadata;
mod parameters;
mod portable;
mod service;
mod sql_info;
mod users;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::engine::Engine;
use crate::tls::Incoming;
use users::Tokens;

/// Limits of the Flight SQL front end.
#[derive(Debug, Clone)]
pub struct FlightOptions {
    /// Bytes of one message from a client: a statement, or a batch of parameters.
    pub max_message_bytes: usize,
    /// Tickets and prepared statements that clients may hold at a time, together.
    pub max_handles: usize,
    /// Clients that may be logged in at a time.
    pub max_logins: usize,
    /// How long a ticket, a prepared statement or a login that nobody uses is kept.
    pub handle_lifetime: Duration,
}

impl Default for FlightOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            max_handles: 1000,
            max_logins: 1000,
            handle_lifetime: Duration::from_secs(600),
        }
    }
}

/// Serves clients of `incoming` until `stop`, then lets those that are being answered finish.
///
/// # Errors
///
/// When the transport fails.
pub async fn serve(
    incoming: Incoming,
    engine: Arc<Engine>,
    options: FlightOptions,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let max_message_bytes = options.max_message_bytes;
    let tokens = Arc::new(Tokens::new(engine.clone(), options.max_logins, options.handle_lifetime));
    let frameworks = InterceptedService::new(engine.frameworks(), tokens.clone().superusers_only());
    let service = FlightServiceServer::new(service::Service::new(engine, tokens, options))
        .max_decoding_message_size(max_message_bytes);
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .add_service(frameworks)
        .serve_with_incoming_shutdown(incoming.into_streams(), stop.cancelled_owned())
        .await
}
