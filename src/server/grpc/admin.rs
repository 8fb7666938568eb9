//! `AdminService`: what operators watch.

use std::{sync::Arc, time::SystemTime};

use tonic::{Request, Response, Status};

use crate::{
    live::Live,
    server::{convert, proto},
};

/// A running router's inside behind gRPC.
pub struct AdminGrpc {
    live: Arc<Live>,
}

impl AdminGrpc {
    /// Shows what `live` holds at each call.
    pub fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

#[tonic::async_trait]
impl proto::admin_service_server::AdminService for AdminGrpc {
    async fn list_targets(
        &self,
        _: Request<proto::ListTargetsRequest>,
    ) -> Result<Response<proto::ListTargetsResponse>, Status> {
        // The clock that breakers follow.
        let now = tokio::time::Instant::now().into_std();
        let reports = self.live.serving().completer.target_reports(now);
        let targets = reports.iter().map(convert::target_report).collect();
        Ok(Response::new(proto::ListTargetsResponse { targets }))
    }

    async fn get_spend(
        &self,
        _: Request<proto::GetSpendRequest>,
    ) -> Result<Response<proto::GetSpendResponse>, Status> {
        let report = self.live.serving().completer.spend_report(SystemTime::now());
        Ok(Response::new(convert::spend(report)))
    }
}
