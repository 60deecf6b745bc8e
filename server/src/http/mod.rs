//! The web page, and the service's state as JSON.
//!
//! - `/`: what runs, what ran, and on which executors
//! - `/api/queries`, `/api/queries/{id}/stages`, `/api/executors`: the same as JSON
//! - `/health`: the process answers; `/ready`: it takes queries
//!
//! Only reads: nothing here changes anything.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// The page: plain HTML and script that need nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Serves the page on `listener` until `stop`.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(page))
        .route("/api/queries", get(queries))
        .route("/api/queries/{id}/stages", get(stages))
        .route("/api/executors", get(executors))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(engine);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn page() -> impl IntoResponse {
    // The page runs its own script only, and nobody may show it in a frame.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE))
}

async fn queries(State(engine): State<Arc<Engine>>) -> impl IntoResponse {
    Json(engine.queries())
}

async fn stages(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> impl IntoResponse {
    let query = engine.queries().into_iter().find(|query| query.id == id);
    match query {
        None => Err((StatusCode::NOT_FOUND, "no such query\n")),
        Some(query) => Ok(Json(match &query.job_id {
            Some(job_id) => engine.stages(job_id).await,
            None => Vec::new(),
        })),
    }
}

async fn executors(State(engine): State<Arc<Engine>>) -> impl IntoResponse {
    Json(engine.executors().await)
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
