//! One call of the loop: the target itself, a hedge beside it when it is slow, the judge behind it.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use super::{
    Completer,
    answer::Usage,
    attempt::{Cause, Check, Outcome, Weakness},
    breaker::Substitute,
    chat::Chat,
    clock,
    cost::cost_usd,
    judge,
    leg::{self, Ask},
    pace::{Streamed, usual_latency},
    providers::Call,
    quality::{Checks, UNCHECKED},
    run::{Run, Taken},
    step::{self, Next},
};
use crate::{
    config::{HedgeConfig, JudgeConfig, TargetConfig},
    routing::cost::expected_output_tokens,
};

/// A target that shows nothing for so long does not do well, whatever its own timeouts allow.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Calls a target, and a second one beside it when hedging is on and the first is slow; the first good
/// answer wins. `None`: no answer; why stands in the ledger.
pub async fn call(completer: &Completer, run: &Run, next: &Next, streamed: Streamed) -> Option<Taken> {
    let mut first = pin!(leg(completer, run, *next, streamed));
    let Some((hedge, second)) = hedge_for(completer, run, next) else { return first.await };
    let delay = completer.pace.delay(
        next.target,
        streamed,
        hedge,
        usual_latency(completer.config.target(next.target)),
    );
    tokio::select! {
        biased;
        taken = &mut first => return taken,
        () = sleep(delay) => {}
    }
    let mut second = pin!(leg(completer, run, second, streamed));
    let (early, late, is_slow) = tokio::select! {
        early = &mut first => (early, second, false),
        early = &mut second => (early, first, true),
    };
    match early {
        // The other side is dropped with this scope: what it cost is accounted as lost.
        Some(early) if early.weakness().is_none() => {
            if is_slow {
                // All that is known is that it took longer than the delay. Were that forgotten the delay would
                // only ever shrink; were the time until it lost taken for its own, it would only ever grow.
                completer.pace.note(next.target, streamed, delay);
            }
            run.ledger.others_lost(early.place());
            Some(early)
        }
        weak_or_none => match (weak_or_none, late.await) {
            (None, late) => late,
            (early, None) => early,
            (Some(early), Some(late)) if late.weakness().is_none() => {
                early.leave();
                Some(late)
            }
            (Some(early), Some(late)) => Some(early.better(late)),
        },
    }
}

/// Returns the call to hedge this one with, when it is one to hedge.
fn hedge_for<'a>(completer: &'a Completer, run: &Run, next: &Next) -> Option<(&'a HedgeConfig, Next)> {
    let hedge = completer.config.completion.hedge.as_ref()?;
    if !(hedge.tiers.is_empty() || hedge.tiers.contains(&next.tier)) {
        return None;
    }
    let cost_of = |target| run.estimate_usd(target);
    let moment = run.moment(&cost_of);
    let second = run.ledger.look(|attempts| step::hedge(&run.plan(), attempts, next, moment))?;
    (!completer.health.refuses(second.target, clock())).then_some((hedge, second))
}

/// Returns how long a target may show nothing before a deadline that ends the wait is its fault: a whole answer
/// shows nothing until it is there.
fn silence_max(target: &TargetConfig, streamed: Streamed) -> Duration {
    match streamed {
        Streamed::Yes => target.timeouts.first_token.min(SILENCE_MAX),
        Streamed::No => (usual_latency(target) * 3).max(SILENCE_MAX).min(target.timeouts.total),
    }
}

/// Makes one attempt.
async fn leg(completer: &Completer, run: &Run, next: Next, streamed: Streamed) -> Option<Taken> {
    let target = &completer.targets[next.target.0];
    let now = clock();
    let refuses = |target| completer.health.refuses(target, now);
    let substitute = step::substitute(&run.plan(), &run.ledger.attempts(), &next, &refuses);
    let Some(permit) = completer.breakers.admit(next.target, now, substitute) else {
        run.ledger.skipped(&next, target);
        return None;
    };
    let provider = completer.providers[next.target.0].as_ref().expect("the ladder holds callable targets");
    let until = run.attempt_end(&next, target).into();
    let open = run.ledger.open(next.cause, next.tier, next.target, target);
    let ask = Ask {
        provider: Arc::clone(provider),
        call: Call { chat: Arc::clone(&run.chat), target: Arc::clone(target) },
        permit,
        total: target.timeouts.total,
        until,
        deadline: run.deadline.into(),
        silence_max: silence_max(target, streamed),
        checks: run.checks(next.tier),
    };
    match streamed {
        Streamed::No => {
            let open = open.with_output_tokens(expected_output_tokens(target, &run.prompt));
            let whole = leg::whole(ask, open).await?;
            completer.pace.note(next.target, streamed, whole.open.age());
            Some(Taken::Whole(Box::new(whole)))
        }
        Streamed::Yes => {
            let ready = leg::streamed(ask, completer.config.completion.stream, open).await?;
            if let Some(took) = ready.open.first_token() {
                completer.pace.note(next.target, streamed, took);
            }
            Some(Taken::Ready(Box::new(ready)))
        }
    }
}

/// Asks the judge about an answer that is there as a whole, where the operator wants that.
///
/// A judge that fails, is slow or has spent its budget is done without. Takes the answer alone: a stream in it
/// may be sent to another thread, but not be shared with one.
pub async fn judged(completer: &Completer, run: &Run, taken: &mut Taken) -> Option<Weakness> {
    let config = completer.config.completion.judge.as_ref()?;
    let tier = taken.tier();
    let view = taken.whole_view()?;
    let is_wanted = run.checks(tier).runs(Check::Judge)
        && judge::applies(config, tier, completer.config.top_tier(), rand::random())
        && completer.is_callable(config.target);
    if !is_wanted {
        return None;
    }
    let chat = run.ledger.working(|| judge::chat(config, &run.prompt, view, rand::random()));
    let chat = Arc::new(chat);
    let target = &completer.targets[config.target.0];
    let prompt_tokens = judge::prompt_tokens(&chat);
    if !is_affordable(completer, run, config, expected_usd(target, &chat, prompt_tokens)) {
        return None;
    }
    // Answers can do without a judge.
    let permit = completer.breakers.admit(config.target, clock(), Substitute::Ready)?;
    let provider = completer.providers[config.target.0].as_ref().expect("it is callable");
    let open = run
        .ledger
        .open(Cause::Judge, tier, config.target, target)
        .with_prompt_tokens(prompt_tokens)
        .with_output_tokens(expected_verdict_tokens(target, &chat));
    let ask = Ask {
        provider: Arc::clone(provider),
        call: Call { chat, target: Arc::clone(target) },
        permit,
        total: target.timeouts.total.min(config.timeout),
        until: run.calls_end().into(),
        deadline: run.deadline.into(),
        silence_max: silence_max(target, Streamed::No),
        checks: Checks { config: &UNCHECKED, ..run.checks(tier) },
    };
    let whole = leg::whole(ask, open).await?;
    let verdict = run.ledger.working(|| judge::verdict(&whole.answer.view));
    whole.open.settle(Outcome::Answered);
    match verdict {
        Ok(verdict) => verdict.weakness(config),
        Err(why) => {
            tracing::warn!(target = %target.id, why, "the judge gave no verdict");
            None
        }
    }
}

/// Returns whether the judges' budget of the day is not spent, and the request's own has room for a verdict.
fn is_affordable(completer: &Completer, run: &Run, config: &JudgeConfig, expected_usd: f64) -> bool {
    completer.spend.judge_day_usd(SystemTime::now()) < config.day_usd_max
        && run.plan().limits.cost_usd_max.is_none_or(|most| run.ledger.cost_usd() + expected_usd <= most)
}

/// Returns what a verdict is expected to cost, US dollars.
fn expected_usd(target: &TargetConfig, chat: &Chat, prompt_tokens: u32) -> f64 {
    let usage = Usage {
        input_tokens: u64::from(prompt_tokens),
        output_tokens: u64::from(expected_verdict_tokens(target, chat)),
        ..Usage::default()
    };
    cost_usd(target, &usage)
}

fn expected_verdict_tokens(target: &TargetConfig, chat: &Chat) -> u32 {
    target.output_tokens_typical.min(chat.asks.output_tokens_max.unwrap_or(u32::MAX))
}
