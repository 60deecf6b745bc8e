//! The web page, and the service's state as JSON.
//!
//! - `/`: what runs, what ran, and on which executors
//! - `/api/queries`, `/api/queries/{id}/stages`, `/api/executors`: the same as JSON
//! - `/health`: the process answers; `/ready`: it takes queries
//!
//! Only reads: nothing here changes anything.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use crate::basic_auth::basic_credentials;
use crate::engine::{Engine, LoginPolicy, MONITOR};
use crate::tls::Incoming;

/// The page: plain HTML and script that need nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Serves the page to clients of `incoming` until `stop`.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(incoming: Incoming, engine: Arc<Engine>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(page))
        .route("/api/queries", get(queries))
        .route("/api/queries/{id}/stages", get(stages))
        .route("/api/executors", get(executors))
        .layer(axum::middleware::from_fn_with_state(engine.clone(), who_may_look))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(engine);
    let router = router.into_make_service_with_connect_info::<ClientAddress>();
    axum::serve(incoming, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Where a client is.
#[derive(Debug, Clone, Copy)]
struct ClientAddress(SocketAddr);

impl Connected<IncomingStream<'_, Incoming>> for ClientAddress {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Where passwords are asked for, the page is for those who may see what others run; who is healthy is no secret.
async fn who_may_look(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(ClientAddress(address)): ConnectInfo<ClientAddress>,
    request: Request,
    next: Next,
) -> Response {
    if engine.roles().policy() == LoginPolicy::Trust {
        return next.run(request).await;
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((user, password)) = header.and_then(basic_credentials) else {
        return refused("log in as a role that may see what others run\n".to_owned());
    };
    match engine.roles().check_password(&user, &password, &address.ip().to_string()) {
        Err(error) => refused(format!("{error}\n")),
        Ok(()) if !engine.roles().is_member(&user, MONITOR) => {
            (StatusCode::FORBIDDEN, format!("it takes membership in role {MONITOR}\n")).into_response()
        }
        Ok(()) => next.run(request).await,
    }
}

fn refused(message: String) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"Sluice\", charset=\"UTF-8\"")], message)
        .into_response()
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
