//! Callers of `Route` that never stop asking, and what they saw: latency, failures, and which generation said what.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use pointsman::server::proto::{Decision, RouteRequest, router_service_client::RouterServiceClient};
use tonic::{Request, transport::Endpoint};

use crate::{
    SwapError,
    measure::{histogram_us, runtime},
    texts::Texts,
};

/// Tokens of the texts for the classifier.
const TOKENS: usize = 20;
/// Connections that the callers share.
const CONNECTIONS: usize = 8;
const CALL_MAX: Duration = Duration::from_secs(10);
/// Different errors that are kept.
const ERRORS_KEPT: usize = 8;

/// What was seen since the last look.
pub struct Seen {
    pub latency_us: Histogram<u64>,
    pub errors: BTreeMap<String, u64>,
    /// Of each generation: the bundles that scored, and the rules that decided.
    by_generation: BTreeMap<u64, Said>,
    since: Instant,
    took: Duration,
}

#[derive(Default)]
struct Said {
    bundles: BTreeSet<String>,
    rules: BTreeSet<String>,
}

impl Seen {
    fn new() -> Self {
        Self {
            latency_us: histogram_us(),
            errors: BTreeMap::new(),
            by_generation: BTreeMap::new(),
            since: Instant::now(),
            took: Duration::ZERO,
        }
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    pub fn per_second(&self) -> f64 {
        self.latency_us.len() as f64 / self.took.as_secs_f64()
    }

    pub fn generations(&self) -> usize {
        self.by_generation.len()
    }

    /// Returns the generations that said two different things, in words.
    pub fn mixed(&self) -> Vec<String> {
        self.by_generation
            .iter()
            .filter(|(_, said)| said.bundles.len() > 1 || said.rules.len() > 1)
            .map(|(generation, said)| {
                format!("generation {generation}: bundles {:?}, rules {:?}", said.bundles, said.rules)
            })
            .collect()
    }

    fn note(&mut self, latency: Duration, outcome: Result<Decision, String>) {
        match outcome {
            Ok(decision) => {
                self.latency_us.saturating_record(latency.as_micros() as u64);
                let said = self.by_generation.entry(decision.config_generation).or_default();
                if decision.bundle_version.is_empty() {
                    said.rules.insert(decision.rule);
                } else {
                    said.bundles.insert(decision.bundle_version);
                }
            }
            Err(why) => {
                let known = self.errors.contains_key(&why) || self.errors.len() < ERRORS_KEPT;
                let why = if known { why } else { "other errors".to_owned() };
                *self.errors.entry(why).or_default() += 1;
            }
        }
    }
}

/// Callers on a thread of their own.
pub struct Clients {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Clients {
    /// Starts so many; each asks again when it has its answer.
    pub fn start(endpoint: &Endpoint, clients: u16) -> Result<Self, SwapError> {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = runtime().map_err(|error| SwapError::Io { what: "starting the runtime", error })?;
        let channels: Vec<_> = {
            let _inside = runtime.enter();
            (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect()
        };
        let (noting, stopping) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let texts = Arc::new(Texts::new());
                let mut running = tokio::task::JoinSet::new();
                for at in 0..usize::from(clients) {
                    let client = RouterServiceClient::new(channels[at % CONNECTIONS].clone());
                    running.spawn(ask(
                        client,
                        at,
                        Arc::clone(&texts),
                        Arc::clone(&noting),
                        Arc::clone(&stopping),
                    ));
                }
                while running.join_next().await.is_some() {}
            });
        });
        Ok(Self { seen, stop, thread })
    }

    /// Returns what was seen since the last call of this.
    pub fn take(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = std::mem::replace(&mut *seen, Seen::new());
        taken.took = taken.since.elapsed();
        taken
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A caller that broke down has said so on stderr.
        let _ = self.thread.join();
    }
}

async fn ask(
    mut client: RouterServiceClient<tonic::transport::Channel>,
    at: usize,
    texts: Arc<Texts>,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
) {
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let prompt = if turn % 2 == 0 { format!("ping {at} {turn}") } else { texts.classifier(TOKENS) };
        let mut request = Request::new(RouteRequest { prompt: Some(prompt), ..RouteRequest::default() });
        request.set_timeout(CALL_MAX);
        let started = Instant::now();
        let outcome = match client.route(request).await {
            Ok(answer) => answer.into_inner().decision.ok_or_else(|| "no decision".to_owned()),
            Err(status) => Err(format!("{}: {}", status.code(), status.message())),
        };
        let latency = started.elapsed();
        seen.lock().unwrap_or_else(PoisonError::into_inner).note(latency, outcome);
    }
}
