//! The services: each call converts, asks the router, converts back.

mod admin;
mod complete;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use tonic::{Request, Response, Status, metadata::MetadataMap};

pub use self::admin::AdminGrpc;
use super::{
    convert,
    feedback::{self, Refusal},
    proto, status,
};
use crate::{
    live::{Live, Serving},
    prompt::Draft,
    routing::admit::admit,
    telemetry,
};

/// Requests of one batch that are in flight at once: enough to keep every session busy, too few
/// for one batch to fill the queue.
const BATCH_IN_FLIGHT: usize = 32;

/// The router behind gRPC.
pub struct RouterGrpc {
    live: Arc<Live>,
}

impl RouterGrpc {
    /// Serves what `live` holds at each call.
    pub fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

#[tonic::async_trait]
impl proto::router_service_server::RouterService for RouterGrpc {
    async fn route(
        &self,
        request: Request<proto::RouteRequest>,
    ) -> Result<Response<proto::RouteResponse>, Status> {
        let deadline = deadline(request.metadata());
        let serving = self.live.serving();
        let prompt = admit(Draft::from(request.into_inner()), &serving.config).map_err(|error| {
            telemetry::refused("bad_request");
            status::bad_request(&error)
        })?;
        let decision = serving.route(&prompt, deadline).await.map_err(|error| status::no_decision(&error))?;
        self.live.decided(&serving, prompt, &decision);
        Ok(Response::new(proto::RouteResponse { decision: Some(decision.into()) }))
    }

    async fn route_batch(
        &self,
        request: Request<proto::RouteBatchRequest>,
    ) -> Result<Response<proto::RouteBatchResponse>, Status> {
        let deadline = deadline(request.metadata());
        let serving = self.live.serving();
        let requests = request.into_inner().requests;
        let most = serving.config.limits.batch_requests_max;
        if requests.is_empty() {
            return Err(status::bad_field("requests", "is empty: give at least one request"));
        }
        if requests.len() > most {
            let problem = format!("{} requests, at most {most} (limits.batch_requests_max)", requests.len());
            return Err(status::bad_field("requests", &problem));
        }
        let results = stream::iter(requests.into_iter().enumerate())
            .map(|(at, request)| route_item(&self.live, &serving, at, request, deadline))
            .buffered(BATCH_IN_FLIGHT.min(serving.config.classifier.queue_max))
            .collect()
            .await;
        Ok(Response::new(proto::RouteBatchResponse { results }))
    }

    async fn complete(
        &self,
        request: Request<proto::CompleteRequest>,
    ) -> Result<Response<proto::CompleteResponse>, Status> {
        complete::complete(self.live.serving(), request).await.map(Response::new)
    }

    type StreamCompleteStream = complete::Events;

    async fn stream_complete(
        &self,
        request: Request<proto::CompleteRequest>,
    ) -> Result<Response<complete::Events>, Status> {
        complete::stream(self.live.serving(), request).await.map(Response::new)
    }

    async fn report_feedback(
        &self,
        request: Request<proto::ReportFeedbackRequest>,
    ) -> Result<Response<proto::ReportFeedbackResponse>, Status> {
        match feedback::take(&self.live, convert::feedback(request.into_inner())).await {
            Ok(taken) => Ok(Response::new(convert::taken(taken))),
            Err(Refusal::Invalid(error)) => Err(status::bad_request(&error)),
            Err(Refusal::NotTaken(why)) => Err(status::not_taken(why)),
        }
    }
}

async fn route_item(
    live: &Live,
    serving: &Arc<Serving>,
    at: usize,
    request: proto::RouteRequest,
    deadline: Option<Instant>,
) -> proto::RouteResult {
    use proto::route_result::Outcome;
    // Rules and cache never wait: without this a large batch would hold the reactor's thread.
    tokio::task::yield_now().await;
    let outcome = match admit(Draft::from(request), &serving.config) {
        Err(error) => {
            telemetry::refused("bad_request");
            Outcome::Error(status::bad_item(at, &error))
        }
        Ok(prompt) => match serving.route(&prompt, deadline).await {
            Ok(decision) => {
                live.decided(serving, prompt, &decision);
                Outcome::Decision(decision.into())
            }
            Err(error) => Outcome::Error(status::failed_item(&error)),
        },
    };
    proto::RouteResult { outcome: Some(outcome) }
}

/// Returns when the caller stops waiting.
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    Instant::now().checked_add(timeout(metadata)?)
}

/// Returns how long the caller waits, from the call's `grpc-timeout`.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    parse_timeout(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// Up to eight digits and a unit, as the gRPC protocol over HTTP/2 defines it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount: u64 = if is_number { digits.parse().ok()? } else { return None };
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("250m", Some(Duration::from_millis(250))),
            ("2S", Some(Duration::from_secs(2))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789m", None),
            ("-1m", None),
            ("m", None),
            ("", None),
            ("5é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
