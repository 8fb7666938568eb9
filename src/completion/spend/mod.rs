//! What tenants and tags have spent, and what follows when a budget is spent.
//!
//! Spend is known when an attempt has ended, so requests in flight together may pass a limit by what they
//! cost; the next one is held to it. Days and months are those of UTC.

mod calendar;
mod file;
mod ledger;

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use self::{calendar::Now, ledger::Ledger};
pub use self::{
    file::SpendError,
    ledger::{BudgetState, Report, Totals, Verdict},
};
use crate::{
    config::{BudgetConfig, Config},
    prompt::{Context, Tier},
    telemetry,
};

/// Shortest time between two writings of the spend file; a crash loses at most the spend of this time.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Sums by budget, kept across restarts where a file is configured. Of each file there is one at a time.
pub struct Spend {
    shared: Arc<Shared>,
    /// Names by [`Tier`], of the configuration that this is of.
    tiers: Vec<Arc<str>>,
    /// `None` without a file.
    writer: Option<Arc<Writer>>,
}

/// The thread that writes the file; whoever drops it last waits until all is written.
struct Writer {
    shared: Arc<Shared>,
    /// `None` when it was joined.
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    news: Condvar,
}

struct State {
    ledger: Ledger,
    /// Names by [`Tier`], of the configuration whose budgets the ledger has.
    tiers: Vec<Arc<str>>,
    unwritten: bool,
    /// Whether the last writing failed.
    failing: bool,
    stopping: bool,
}

impl Spend {
    /// Starts with what the spend file holds; without one, or when it is not there yet, with nothing spent.
    ///
    /// Blocks while the file is read.
    pub fn open(config: &Config) -> Result<Self, SpendError> {
        Self::open_at(config, SystemTime::now())
    }

    fn open_at(config: &Config, now: SystemTime) -> Result<Self, SpendError> {
        let mut ledger = Ledger::new(&config.budgets, Now::of(now));
        if let Some(path) = &config.spend_file {
            if let Some(kept) = file::read(path)? {
                for budget in ledger.restore(kept) {
                    tracing::warn!(%budget, "the spend file has a budget that is no more: dropped");
                }
            }
            file::check_writable(path)?;
        }
        let tiers: Vec<Arc<str>> = names(config);
        let state = State { ledger, tiers: tiers.clone(), unwritten: false, failing: false, stopping: false };
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { state, news: Condvar::new() });
        let writer = config.spend_file.clone().map(|path| start_writer(&shared, path)).transpose()?;
        let spend = Self { shared, tiers, writer };
        spend.note_shares(&spend.shared.lock().ledger, Now::of(now));
        Ok(spend)
    }

    /// Returns the same sums and the same file under another configuration. Budgets stay those of before until
    /// [`Spend::take_over`].
    pub fn under(&self, config: &Config) -> Self {
        Self { shared: Arc::clone(&self.shared), tiers: names(config), writer: self.writer.clone() }
    }

    /// Counts by these budgets from now on: one that was there before, under this name and for the same requests, keeps
    /// what was spent of it.
    pub fn take_over(&self, budgets: &[BudgetConfig]) {
        let now = Now::of(SystemTime::now());
        let mut state = self.shared.lock();
        let mut ledger = Ledger::new(budgets, now);
        for budget in ledger.restore(state.ledger.keep()) {
            tracing::info!(%budget, "a budget is no more: what was spent of it is dropped");
        }
        state.ledger = ledger;
        state.tiers.clone_from(&self.tiers);
        self.note_shares(&state.ledger, now);
        self.changed(state);
    }

    /// Returns what the budgets that fit this request say, the strictest of them; a tier is one of this configuration.
    pub fn verdict(&self, context: &Context, now: SystemTime) -> Verdict {
        let mut state = self.shared.lock();
        match state.ledger.verdict(context, Now::of(now)) {
            Verdict::TierMax { tier, why } => {
                Verdict::TierMax { tier: translated(tier, &state.tiers, &self.tiers), why }
            }
            verdict @ (Verdict::Free | Verdict::Refuse { .. }) => verdict,
        }
    }

    /// Adds what an attempt of this tier cost, judges and abandoned attempts included, and what its answer
    /// would have cost from the top tier: 0 where it is not the answer that was sent.
    pub fn add(&self, context: &Context, tier: Tier, cost_usd: f64, baseline_usd: f64, now: SystemTime) {
        let (cost_usd, baseline_usd) = (amount(cost_usd), amount(baseline_usd));
        let now = Now::of(now);
        if let Some(name) = self.tiers.get(tier.0) {
            telemetry::spent(name, cost_usd, baseline_usd);
        }
        let mut state = self.shared.lock();
        state.ledger.add(context, cost_usd, baseline_usd, now);
        self.note_shares(&state.ledger, now);
        self.changed(state);
    }

    /// Adds what a judge cost to the judges' own sum of the day, beside [`Spend::add`].
    pub fn add_judge(&self, cost_usd: f64, now: SystemTime) {
        let mut state = self.shared.lock();
        state.ledger.add_judge(amount(cost_usd), Now::of(now));
        self.changed(state);
    }

    /// Returns what judges cost today, US dollars: to be held against
    /// [`crate::config::JudgeConfig::day_usd_max`].
    pub fn judge_day_usd(&self, now: SystemTime) -> f64 {
        self.shared.lock().ledger.judge_day_usd(Now::of(now))
    }

    /// Returns how far budgets are spent, and the totals.
    pub fn report(&self, now: SystemTime) -> Report {
        let now = Now::of(now);
        let state = self.shared.lock();
        self.note_shares(&state.ledger, now);
        state.ledger.report(now)
    }

    fn changed(&self, mut state: MutexGuard<'_, State>) {
        let first = !mem::replace(&mut state.unwritten, true);
        drop(state);
        if first && self.writer.is_some() {
            self.shared.news.notify_one();
        }
    }

    fn note_shares(&self, ledger: &Ledger, now: Now) {
        for (budget, share) in ledger.shares(now) {
            telemetry::budget_spent(budget, share);
        }
    }
}

impl Drop for Writer {
    /// Writes what is not written yet.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.lock().stopping = true;
            self.shared.news.notify_one();
            if thread.join().is_err() {
                tracing::error!("the thread that writes spend broke down: the last spend is not in its file");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Sums are whole between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is no amount costs nothing: one wrong price must not make a sum unusable.
fn amount(usd: f64) -> f64 {
    if usd.is_finite() { usd.max(0.0) } else { 0.0 }
}

/// Returns the names of a configuration's tiers.
fn names(config: &Config) -> Vec<Arc<str>> {
    config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect()
}

/// Returns a tier of one configuration as one of another: that of the same name, or else of the nearest weaker one that
/// both have. Budgets may be those of a later configuration than a request's, whose tiers stand elsewhere.
fn translated(tier: Tier, from: &[Arc<str>], to: &[Arc<str>]) -> Tier {
    let mut weaker = from.iter().take(tier.0 + 1).rev();
    let known = weaker.find_map(|name| to.iter().position(|other| other == name));
    known.map_or(Tier(0), Tier)
}

fn start_writer(shared: &Arc<Shared>, path: PathBuf) -> Result<Arc<Writer>, SpendError> {
    let written = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name("spend".to_owned())
        .spawn(move || keep_written(&written, &path))
        .map_err(SpendError::Thread)?;
    Ok(Arc::new(Writer { shared: Arc::clone(shared), thread: Some(thread) }))
}

/// Writes the file after changes, with a pause between, until it is told to stop and all is written.
fn keep_written(shared: &Shared, path: &Path) {
    loop {
        let idle = |state: &mut State| !state.unwritten && !state.stopping;
        let mut state = shared.news.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let (stopping, failing) = (state.stopping, state.failing);
        if mem::take(&mut state.unwritten) {
            let kept = state.ledger.keep();
            drop(state);
            let written = file::write(path, kept);
            match &written {
                // Once for each time that it begins to fail, and at the end, when it is lost.
                Err(error) if !failing || stopping => tracing::error!(%error, "spend is not written"),
                Ok(()) if failing => tracing::info!("spend is written again"),
                Ok(()) | Err(_) => {}
            }
            let mut state = shared.lock();
            state.failing = written.is_err();
            state.unwritten |= written.is_err();
        }
        if stopping {
            return;
        }
        let (state, _) = shared
            .news
            .wait_timeout_while(shared.lock(), WRITE_EVERY, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
    }
}

#[cfg(test)]
mod tests;
