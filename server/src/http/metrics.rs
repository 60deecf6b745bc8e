//! `/metrics`, for Prometheus.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Page;
use super::api::for_monitors;
use super::guard::Caller;
use crate::engine::METRICS_TYPE;

/// What the service counts, for those who may see what others run.
pub async fn metrics(State(page): State<Arc<Page>>, Extension(caller): Extension<Caller>) -> Response {
    match caller.is_monitor {
        true => ([(header::CONTENT_TYPE, METRICS_TYPE)], page.engine.metrics_text().await).into_response(),
        false => for_monitors(),
    }
}
