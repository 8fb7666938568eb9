//! `AdminService`: what operators watch, and what they change.
//!
//! A change goes on when its caller hangs up, and a drain waits for it. Never decides what may change: that is the
//! deployer's.

use std::{future::Future, sync::Arc, time::SystemTime};

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{
    live::{
        Live,
        deploy::{Cause, DeployError, Deployer, EventsView, FleetView, Who, Wish},
        differences::differences,
    },
    server::{convert, deploy_status, in_flight::InFlight, proto, status},
    traffic::now_ms,
};

/// Changes that run or wait for their turn; each takes seconds, so that more than these is a mistake.
const CHANGES_MAX: usize = 16;
/// Longest name of a version that is looked for.
const VERSION_BYTES_MAX: usize = 128;
/// Longest reason that is kept with an event: a sentence or two, or a ticket's address.
const WHY_BYTES_MAX: usize = 500;
const EVENTS_BY_DEFAULT: u32 = 50;
const EVENTS_MAX: u32 = 1000;

/// A running router's inside behind gRPC.
pub struct AdminGrpc {
    live: Arc<Live>,
    deployer: Option<Arc<Deployer>>,
    in_flight: InFlight,
    changes: Arc<Semaphore>,
}

impl AdminGrpc {
    /// Shows what `live` holds at each call, and changes it by `deployer`; without one it only shows.
    pub fn new(live: Arc<Live>, deployer: Option<Arc<Deployer>>, in_flight: InFlight) -> Self {
        Self { live, deployer, in_flight, changes: Arc::new(Semaphore::new(CHANGES_MAX)) }
    }

    fn deployer(&self) -> Result<Arc<Deployer>, Status> {
        let none =
            || Status::failed_precondition("nothing can be changed: this server runs without a deployer");
        self.deployer.clone().ok_or_else(none)
    }

    /// Does something that must come to its end, whether or not somebody still waits for it.
    async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Deployer>) -> F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeployError>> + Send + 'static,
    {
        let work = work(self.deployer()?);
        let turn = Arc::clone(&self.changes).try_acquire_owned();
        let turn =
            turn.map_err(|_| Status::resource_exhausted("too many changes wait already: try again later"))?;
        let running = self.in_flight.enter();
        let work = tokio::spawn(async move {
            let (_turn, _running) = (turn, running);
            work.await
        });
        match work.await {
            Ok(outcome) => outcome.map_err(|error| deploy_status::status(&error)),
            Err(_) => Err(Status::internal("the change ended unexpectedly; ListEvents may tell more")),
        }
    }

    async fn change(&self, wish: Wish, cause: Cause) -> Result<Option<proto::BundleChange>, Status> {
        let deployed =
            self.to_the_end(async move |deployer: Arc<Deployer>| deployer.change(wish, cause).await);
        Ok(Some(convert::change(&deployed.await?)))
    }
}

/// Returns who calls, as the guard found out.
fn who<T>(request: &Request<T>) -> Who {
    // Without a guard nobody could have come here; a name that says so is better than a wrong one.
    request.extensions().get::<Who>().cloned().unwrap_or_else(|| Who("unknown".to_owned()))
}

fn version(asked: String) -> Result<String, Status> {
    match asked.len() {
        0 => Err(status::bad_field("version", "is missing: `pointsman bundle list` shows every version")),
        length if length > VERSION_BYTES_MAX => {
            Err(status::bad_field("version", "is longer than any name of a version, 128 bytes"))
        }
        _ => Ok(asked),
    }
}

/// Returns who wants something, and why.
fn cause(who: Who, why: String) -> Result<Cause, Status> {
    if why.len() > WHY_BYTES_MAX {
        return Err(status::bad_field("why", "is longer than 500 bytes"));
    }
    // It stands in a line of the log and in a row of a table.
    if why.chars().any(char::is_control) {
        return Err(status::bad_field("why", "holds a line break or another control character"));
    }
    Ok(Cause { who, why })
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

    async fn list_bundles(
        &self,
        _: Request<proto::ListBundlesRequest>,
    ) -> Result<Response<proto::ListBundlesResponse>, Status> {
        let bundles = self.deployer()?.bundles().await.map_err(|error| deploy_status::status(&error))?;
        let bundles = bundles.into_iter().map(convert::bundle).collect();
        Ok(Response::new(proto::ListBundlesResponse { bundles }))
    }

    async fn verify_bundle(
        &self,
        request: Request<proto::VerifyBundleRequest>,
    ) -> Result<Response<proto::VerifyBundleResponse>, Status> {
        let version = version(request.into_inner().version)?;
        let report = self.to_the_end(async move |deployer: Arc<Deployer>| {
            let listed = deployer.verify(&version).await?;
            let bundles = deployer.bundles().await?;
            let known = bundles.into_iter().find(|report| report.listed.bundle.name == listed.bundle.name);
            Ok(known.ok_or(listed))
        });
        let bundle = match report.await? {
            Ok(known) => convert::bundle(known),
            Err(listed) => convert::verified(listed),
        };
        Ok(Response::new(proto::VerifyBundleResponse { bundle: Some(bundle) }))
    }

    async fn stage_bundle(
        &self,
        request: Request<proto::StageBundleRequest>,
    ) -> Result<Response<proto::StageBundleResponse>, Status> {
        let who = who(&request);
        let proto::StageBundleRequest { version: asked, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let change = self.change(Wish::Stage { version }, cause).await?;
        Ok(Response::new(proto::StageBundleResponse { change }))
    }

    async fn shadow_bundle(
        &self,
        request: Request<proto::ShadowBundleRequest>,
    ) -> Result<Response<proto::ShadowBundleResponse>, Status> {
        let who = who(&request);
        let proto::ShadowBundleRequest { version: asked, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let change = self.change(Wish::Shadow { version }, cause).await?;
        Ok(Response::new(proto::ShadowBundleResponse { change }))
    }

    async fn canary_bundle(
        &self,
        request: Request<proto::CanaryBundleRequest>,
    ) -> Result<Response<proto::CanaryBundleResponse>, Status> {
        let who = who(&request);
        let proto::CanaryBundleRequest { version: asked, reach, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let reach = convert::asked_reach(reach).map_err(|problem| status::bad_field("reach", problem))?;
        let change = self.change(Wish::Canary { version, reach }, cause).await?;
        Ok(Response::new(proto::CanaryBundleResponse { change }))
    }

    async fn activate_bundle(
        &self,
        request: Request<proto::ActivateBundleRequest>,
    ) -> Result<Response<proto::ActivateBundleResponse>, Status> {
        let who = who(&request);
        let proto::ActivateBundleRequest { version: asked, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let change = self.change(Wish::Activate { version }, cause).await?;
        Ok(Response::new(proto::ActivateBundleResponse { change }))
    }

    async fn rollback_bundle(
        &self,
        request: Request<proto::RollbackBundleRequest>,
    ) -> Result<Response<proto::RollbackBundleResponse>, Status> {
        let who = who(&request);
        let proto::RollbackBundleRequest { version: asked, why } = request.into_inner();
        let version = Some(asked).filter(|version| !version.is_empty());
        let version = version.map(self::version).transpose()?;
        let change = self.change(Wish::Rollback { version }, cause(who, why)?).await?;
        Ok(Response::new(proto::RollbackBundleResponse { change }))
    }

    async fn forget_bundle(
        &self,
        request: Request<proto::ForgetBundleRequest>,
    ) -> Result<Response<proto::ForgetBundleResponse>, Status> {
        let who = who(&request);
        let proto::ForgetBundleRequest { version: asked, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let change = self.change(Wish::Forget { version }, cause).await?;
        Ok(Response::new(proto::ForgetBundleResponse { change }))
    }

    async fn note_deleted_bundle(
        &self,
        request: Request<proto::NoteDeletedBundleRequest>,
    ) -> Result<Response<proto::NoteDeletedBundleResponse>, Status> {
        let who = who(&request);
        let proto::NoteDeletedBundleRequest { version: asked, why } = request.into_inner();
        let (version, cause) = (version(asked)?, cause(who, why)?);
        let name = version.clone();
        let told = self
            .to_the_end(async move |deployer: Arc<Deployer>| deployer.tell_deleted(&version, &cause).await)
            .await?;
        if told {
            return Ok(Response::new(proto::NoteDeletedBundleResponse {}));
        }
        Err(Status::failed_precondition(format!(
            "bundle {name} is still in the bundle store of this server: was it deleted from another one?"
        )))
    }

    async fn reload_config(
        &self,
        request: Request<proto::ReloadConfigRequest>,
    ) -> Result<Response<proto::ReloadConfigResponse>, Status> {
        let cause = cause(who(&request), request.into_inner().why)?;
        let reloaded =
            self.to_the_end(async move |deployer: Arc<Deployer>| deployer.reload_all(cause).await).await?;
        Ok(Response::new(convert::reloaded(reloaded)))
    }

    async fn get_fleet(
        &self,
        _: Request<proto::GetFleetRequest>,
    ) -> Result<Response<proto::GetFleetResponse>, Status> {
        let deployer = self.deployer()?;
        let FleetView { wanted, replicas, apart, has_others } = deployer.fleet().await;
        let store_away = apart.map(convert::store_away);
        let store_away = store_away.map(|away| proto::StoreAway { replicas_known: has_others, ..away });
        let now_ms = now_ms();
        let differences = differences(wanted.as_ref(), &replicas, now_ms);
        let replicas = replicas.into_iter().zip(differences);
        Ok(Response::new(proto::GetFleetResponse {
            wanted: wanted.as_ref().map(convert::wanted),
            replicas: replicas.map(|(report, differences)| convert::replica(report, differences)).collect(),
            now_ms,
            rollout_waits: deployer.waits(),
            store_away,
            answered_by: deployer.replica_id().to_string(),
        }))
    }

    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let most = match request.into_inner().events_max {
            0 => EVENTS_BY_DEFAULT,
            most if most <= EVENTS_MAX => most,
            _ => return Err(status::bad_field("events_max", "is above 1,000")),
        };
        let EventsView { events, apart } = self.deployer()?.events(most as usize).await;
        let events = events.into_iter().map(convert::event).collect();
        Ok(Response::new(proto::ListEventsResponse { events, store_away: apart.map(convert::store_away) }))
    }
}
