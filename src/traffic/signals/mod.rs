//! What users do when an answer was not what they wanted: they send the same request again, or ask the same thing
//! in nearly the same words. Noticed within a session, and said of the earlier decision.
//!
//! Keeps hashes, never text. Bounded: old and little used sessions are forgotten. Without a session's id nothing is
//! noticed: equal requests of many users are just equal requests.

mod words;

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use self::words::{Word, content_words, same_question};
use super::{
    feedback::{self, Feedback, FeedbackSource, Signal},
    observe::Pending,
};
use crate::prompt::{Message, Role};

/// Who asks again later has begun something new.
const MEMORY: Duration = Duration::from_secs(600);
/// Nobody reads an answer and asks again faster; programs that ask several times at once do.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Some 300 bytes each with usual prompts, 1.5 KB at most.
const SESSIONS_MAX: u64 = 20_000;

/// A bounded memory of what each session asked last.
pub struct Signals {
    last: moka::sync::Cache<Session, Arc<Turn>>,
    /// Keyed anew in every process, so that nobody can make texts collide.
    hashing: [RandomState; 2],
}

/// A request as far as it is compared.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub decision_id: Uuid,
    /// The time in `decision_id`.
    pub at_ms: i64,
    pub tenant: &'a str,
    pub session: &'a str,
    pub messages: &'a [Message],
    /// Of the whole conversation, of which `messages` may be a part.
    pub bytes: u64,
}

/// Tenant and session, hashed twice: no two sessions share a memory by chance.
type Session = [u64; 2];

/// What is remembered of a request.
#[derive(Debug)]
struct Turn {
    decision_id: Uuid,
    at_ms: i64,
    conversation: u64,
    /// Of the last user turn, in the order of their hashes.
    words: Box<[Word]>,
    /// Whether the user had the last word; else a program goes on with what it was asked before.
    asks: bool,
}

impl Signals {
    /// Starts an empty memory.
    pub fn new() -> Self {
        Self {
            last: moka::sync::Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(MEMORY).build(),
            hashing: [RandomState::new(), RandomState::new()],
        }
    }

    /// Remembers a request that ended, its texts still as they are, and returns what it says about an earlier one.
    pub(super) fn notice(&self, pending: &Pending) -> Option<Feedback> {
        let request = &pending.record.request;
        // Two pictures with the same question are two questions; and that a failed request is sent again says nothing
        // about an answer.
        if request.needs_vision || pending.record.outcome.status == "failed" {
            return None;
        }
        let (decision_id, signal) = self.asked(&Asked {
            decision_id: pending.record.decision_id,
            at_ms: pending.record.at_ms,
            tenant: &request.tenant,
            session: &request.session,
            messages: &pending.messages,
            bytes: pending.bytes,
        })?;
        Some(Feedback::noticed(decision_id, signal, pending.record.at_ms))
    }

    /// Remembers a request, and returns an earlier decision of its session with what this one says about it.
    pub fn asked(&self, asked: &Asked<'_>) -> Option<(Uuid, Signal)> {
        if asked.session.is_empty() {
            return None;
        }
        let session = [0, 1].map(|at| self.hashing[at].hash_one((asked.tenant, asked.session)));
        let turn = Arc::new(self.turn(asked));
        let Some(last) = self.last.get(&session) else {
            self.last.insert(session, turn);
            return None;
        };
        // Requests are noticed as they end, which need not be the order in which they were decided.
        let (earlier, later) = if last.at_ms <= turn.at_ms { (&last, &turn) } else { (&turn, &last) };
        let signal = compare(earlier, later).map(|signal| (earlier.decision_id, signal));
        if Arc::ptr_eq(later, &turn) {
            self.last.insert(session, turn);
        }
        signal
    }

    fn turn(&self, asked: &Asked<'_>) -> Turn {
        let mut conversation = self.hashing[0].build_hasher();
        asked.bytes.hash(&mut conversation);
        for message in asked.messages {
            (message.role, message.content.as_str()).hash(&mut conversation);
        }
        let question = asked.messages.iter().rfind(|message| message.role == Role::User);
        Turn {
            decision_id: asked.decision_id,
            at_ms: asked.at_ms,
            conversation: conversation.finish(),
            words: question
                .map_or_else(Box::default, |message| content_words(&message.content, &self.hashing[1])),
            asks: asked.messages.last().is_some_and(|message| message.role == Role::User),
        }
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}

impl Feedback {
    /// Returns what was noticed about a decision; the same noticed twice has the same id, and is one.
    pub fn noticed(decision_id: Uuid, signal: Signal, at_ms: i64) -> Self {
        Self {
            version: feedback::VERSION,
            feedback_id: format!("{}-{decision_id}", signal.as_str()),
            decision_id,
            at_ms,
            source: FeedbackSource::Automatic,
            verdict: None,
            score: None,
            right_tier: None,
            right_intent: None,
            comment: None,
            demonstration: None,
            signal: Some(signal),
        }
    }
}

/// Returns what the later of two requests of a session says about the earlier.
fn compare(earlier: &Turn, later: &Turn) -> Option<Signal> {
    let pause_ms = u64::try_from(later.at_ms.saturating_sub(earlier.at_ms)).ok()?;
    let pause = Duration::from_millis(pause_ms);
    if !(PAUSE_MIN..=MEMORY).contains(&pause) || earlier.decision_id == later.decision_id {
        return None;
    }
    if earlier.conversation == later.conversation {
        return Some(Signal::Regenerated);
    }
    (later.asks && same_question(&earlier.words, &later.words)).then_some(Signal::Retried)
}

#[cfg(test)]
mod tests;
