//! The service's state as JSON: the same facts as the tables of schema `system`.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::FutureExt;
use serde::Deserialize;
use serde_json::json;
use sluice_scheduler::cluster::QueueSummary;

use super::Page;
use super::guard::Caller;
use crate::engine::{LoginPolicy, MONITOR};

/// Characters of a statement in a list; the query itself has more.
const SQL_LISTED_CHARS: usize = 300;

/// Thousandths of a core.
const CPU_MILLIS: f64 = 1_000.0;

/// Who asks, and what it may see and do.
pub async fn session(State(page): State<Arc<Page>>, Extension(caller): Extension<Caller>) -> Response {
    let engine = &page.engine;
    Json(json!({
        "user": caller.user,
        "asks_for_passwords": engine.roles().policy() == LoginPolicy::Password,
        "is_monitor": caller.is_monitor,
        "is_superuser": caller.is_superuser,
        "version": env!("CARGO_PKG_VERSION"),
        "is_draining": engine.is_draining(),
    }))
    .into_response()
}

/// Queries that the caller may see, newest first.
pub async fn queries(State(page): State<Arc<Page>>, Extension(caller): Extension<Caller>) -> Response {
    let mut all = page.engine.query_overviews().boxed().await;
    all.retain(|query| may_see(&caller, &query.summary.user));
    for query in &mut all {
        let sql = &mut query.summary.sql;
        if let Some((end, _)) = sql.char_indices().nth(SQL_LISTED_CHARS) {
            sql.truncate(end);
            sql.push('…');
        }
    }
    Json(all).into_response()
}

/// One query with its stages and their tasks.
pub async fn query(
    State(page): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    match page.engine.query_details(&id).boxed().await {
        Some(query) if may_see(&caller, &query.overview.summary.user) => {
            let may_cancel = may_cancel(&caller, &query.overview.summary.user);
            match serde_json::to_value(query) {
                Ok(mut value) => {
                    value["may_cancel"] = may_cancel.into();
                    Json(value).into_response()
                }
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
            }
        }
        _ => no_such_query(),
    }
}

/// The stages of one query alone.
pub async fn stages(
    State(page): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    match page.engine.query_details(&id).boxed().await {
        Some(query) if may_see(&caller, &query.overview.summary.user) => Json(query.stages).into_response(),
        _ => no_such_query(),
    }
}

/// Stops a query, for its user or a superuser.
pub async fn cancel(
    State(page): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let found = page.engine.queries().into_iter().find(|query| query.id == id);
    match found {
        Some(query) if !may_see(&caller, &query.user) => no_such_query(),
        Some(query) if !may_cancel(&caller, &query.user) => {
            (StatusCode::FORBIDDEN, "a query is stopped by its user or a superuser\n").into_response()
        }
        Some(_) if page.engine.cancel_query(&id) => StatusCode::NO_CONTENT.into_response(),
        Some(_) => (StatusCode::CONFLICT, "the query has ended\n").into_response(),
        None => no_such_query(),
    }
}

/// Executors that are registered.
pub async fn executors(State(page): State<Arc<Page>>, Extension(caller): Extension<Caller>) -> Response {
    match caller.is_monitor {
        true => Json(page.engine.executors().await).into_response(),
        false => for_monitors(),
    }
}

/// Queues in the order of a walk down the tree.
pub async fn queues(State(page): State<Arc<Page>>, Extension(caller): Extension<Caller>) -> Response {
    if !caller.is_monitor {
        return for_monitors();
    }
    let all = page.engine.queues().await;
    Json(all.iter().map(queue_json).collect::<Vec<_>>()).into_response()
}

fn queue_json(queue: &QueueSummary) -> serde_json::Value {
    let view = &queue.view;
    let cores = |cpu_millis: u64| cpu_millis as f64 / CPU_MILLIS;
    let (guarantee, limit) = (&view.spec.guarantee, &view.spec.limit);
    let given = |amount: u64| (amount > 0).then_some(amount);
    let bounded = |amount: u64| (amount < u64::MAX).then_some(amount);
    json!({
        "queue": view.path,
        "parent": view.parent,
        "weight": view.spec.weight,
        "share": view.dominant_share,
        "dominant_resource": queue.dominant_resource,
        "fair_share": view.fair_share,
        "used_cpu": cores(view.used.cpu_millis()),
        "used_memory_bytes": view.used.memory_bytes(),
        "wanted_cpu": cores(view.wanted.cpu_millis()),
        "wanted_memory_bytes": view.wanted.memory_bytes(),
        "running_tasks": view.running_tasks,
        "pending_tasks": view.pending_tasks,
        "running_queries": queue.running_queries,
        "queued_queries": queue.queued_queries,
        "guarantee_cpu": given(guarantee.cpu_millis()).map(cores),
        "guarantee_memory_bytes": given(guarantee.memory_bytes()),
        "limit_cpu": bounded(limit.cpu_millis()).map(cores),
        "limit_memory_bytes": bounded(limit.memory_bytes()),
        "max_running": queue.definition.max_running,
        "max_queued": queue.definition.max_queued,
        "queue_timeout_ms": queue.definition.queue_timeout_ms,
        "users": queue.definition.users,
    })
}

/// Which looks at queues are asked for.
#[derive(Debug, Deserialize)]
pub struct Since {
    /// Milliseconds since the Unix epoch; looks that are younger are told.
    #[serde(default)]
    since_ms: u64,
}

/// What queues had over the last quarter of an hour.
pub async fn queue_history(
    State(page): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Query(since): Query<Since>,
) -> Response {
    match caller.is_monitor {
        true => Json(page.engine.queue_history().since(since.since_ms)).into_response(),
        false => for_monitors(),
    }
}

fn may_see(caller: &Caller, user: &str) -> bool {
    caller.is_monitor || caller.user == user
}

fn may_cancel(caller: &Caller, user: &str) -> bool {
    caller.is_superuser || caller.user == user
}

fn no_such_query() -> Response {
    (StatusCode::NOT_FOUND, "no such query\n").into_response()
}

pub(super) fn for_monitors() -> Response {
    (StatusCode::FORBIDDEN, format!("it takes membership in role {MONITOR}\n")).into_response()
}
