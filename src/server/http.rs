//! Plain HTTP for machines that watch: metrics, liveness, readiness.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::{live::Live, telemetry};

/// Returns the HTTP application.
pub fn app(live: Arc<Live>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { telemetry::init_metrics().render() }))
        .with_state(live)
}

async fn ready(State(live): State<Arc<Live>>) -> (StatusCode, &'static str) {
    if live.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the classifier is not ready\n")
    }
}
