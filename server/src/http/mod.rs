//! The web page, and the service's state as JSON.
//!
//! - `/`: the page, whose parts have addresses of their own, such as `/#/query/ID`
//! - `/api/session`: who asks, and what it may see
//! - `/api/queries`, `/api/queries/{id}`, `/api/queries/{id}/stages`: what runs and what ran
//! - `/api/executors`, `/api/queues`, `/api/queues/history?since_ms=N`
//! - `POST /api/queries/{id}/cancel`, `POST /api/sql`: what does something; see [`guard`] for whom
//! - `/metrics`: counters and gauges for Prometheus
//! - `/health`: the process answers; `/ready`: it takes queries
//!
//! In reading order: [`guard`] (who may), [`api`] (what there is to see), [`sql`] (statements and their results),
//! [`assets`] (the page's files, which ask for all of that).

mod api;
mod assets;
mod guard;
mod metrics;
mod sql;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::tls::Incoming;
use guard::{ClientAddress, Names};

/// Bytes of a request; a statement is not longer.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What the handlers share.
struct Page {
    engine: Arc<Engine>,
    names: Names,
}

impl Page {
    /// Whether a request that was sent to this host is answered where no password is asked for.
    fn answers_to(&self, host: &str) -> bool {
        self.names.has(host)
    }
}

/// The address that a person opens, for a listener and the name that was configured for it.
pub fn page_url(address: SocketAddr, http_host: Option<&str>, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    match http_host {
        Some(name) => format!("{scheme}://{name}:{}/", address.port()),
        None if address.ip().is_unspecified() => format!("{scheme}://localhost:{}/", address.port()),
        None => format!("{scheme}://{address}/"),
    }
}

/// Serves the page to clients of `incoming` until `stop`. `http_host` is a name of this service besides its machine's.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    incoming: Incoming,
    engine: Arc<Engine>,
    http_host: Option<&str>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let page = Arc::new(Page { engine: engine.clone(), names: Names::new(http_host) });
    let guarded = Router::new()
        .route("/", get(assets::index))
        .route("/assets/{name}", get(assets::file))
        .route("/api/session", get(api::session))
        .route("/api/queries", get(api::queries))
        .route("/api/queries/{id}", get(api::query))
        .route("/api/queries/{id}/stages", get(api::stages))
        .route("/api/queries/{id}/cancel", post(api::cancel))
        .route("/api/executors", get(api::executors))
        .route("/api/queues", get(api::queues))
        .route("/api/queues/history", get(api::queue_history))
        .route("/api/sql", post(sql::run))
        .route("/metrics", get(metrics::metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(page.clone(), guard::admit))
        .layer(middleware::from_fn(guard::harden))
        .with_state(page);
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(engine)
        .merge(guarded);
    let router = router.into_make_service_with_connect_info::<ClientAddress>();
    axum::serve(incoming, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(engine): State<Arc<Engine>>) -> impl IntoResponse {
    if engine.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else if engine.executors().await.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, "no executor has registered yet\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
