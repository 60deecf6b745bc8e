//! The Arrow Flight SQL front end: what ADBC, JDBC's Flight SQL driver and Arrow's own clients speak.
//!
//! Reading order:
//! - [`service`]: statements, prepared statements and their results; [`outer`]: what is around them in Flight
//! - [`handles`]: what a client's ticket or handle stands for, and for how long
//! - [`endpoints`]: results that clients fetch from executors
//! - [`poll`]: statements that run before they are fetched; [`cancel`]: stopping them
//! - [`sessions`]: settings that last for longer than a statement; [`session_options`], [`session_messages`]: how clients
//!   change them; [`actions`]: that and the rest of what is asked for by name
//! - [`ingest`]: tables that clients fill and create; [`sql_types`]: the types of their columns
//! - [`parameters`]: a prepared statement's parameters, from Arrow
//! - [`users`]: who a client is; [`trace_parent`]: the trace that its call belongs to
//! - [`metadata`]: catalogs, schemas, tables, types; [`sql_info`]: what the service can do
//! - [`portable`]: results in the types that every Arrow client reads
//!
//! A ticket is a random number that is good once and for a while. A statement runs when its ticket
//! is redeemed, unless the client polls it, and stops when the client hangs up. Results are never held here: a batch
//! leaves when the client has read the one before.
//!
//! Specification: <https://arrow.apache.org/docs/format/FlightSql.html>.

mod actions;
mod cancel;
mod endpoints;
mod handles;
mod ingest;
mod metadata;
mod outer;
mod parameters;
mod poll;
mod service;
mod session_messages;
mod session_options;
mod sessions;
mod sql_info;
mod sql_types;
mod trace_parent;
mod users;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use sluice_executor::portable;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::engine::{Engine, Wire};
use crate::tls::Incoming;
use users::Tokens;

/// Time between two looks for what clients forgot.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Limits of the Flight SQL front end.
#[derive(Debug, Clone)]
pub struct FlightOptions {
    /// Bytes of one message from a client: a statement, or a batch of parameters.
    pub max_message_bytes: usize,
    /// Tickets and prepared statements that clients may hold at a time, together.
    pub max_handles: usize,
    /// Sessions that clients may have at a time, beyond those of single statements.
    pub max_sessions: usize,
    /// Clients that may be logged in at a time.
    pub max_logins: usize,
    /// How long a ticket, a prepared statement, a session or a login that nobody uses is kept.
    pub handle_lifetime: Duration,
    /// Whether rows may travel in clear, should there be a way past this service.
    pub wire: Wire,
}

impl Default for FlightOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            max_handles: 1000,
            // Fewer than all sessions of the service, so that some are left for statements.
            max_sessions: 200,
            max_logins: 1000,
            handle_lifetime: Duration::from_secs(600),
            wire: Wire::MayBeClear,
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
    let service = Arc::new(service::Service::new(engine, tokens, options));
    tokio::spawn(sweep(Arc::downgrade(&service), stop.clone()));
    let service = FlightServiceServer::new(outer::Outer(service)).max_decoding_message_size(max_message_bytes);
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .add_service(frameworks)
        .serve_with_incoming_shutdown(incoming.into_streams(), stop.cancelled_owned())
        .await
}

/// Lets go of what clients forgot, for as long as there is a service.
async fn sweep(service: Weak<service::Service>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        let Some(service) = service.upgrade() else { return };
        service.sweep();
    }
}
