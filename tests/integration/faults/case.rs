//! One case: what providers do, and what every caller must see of it.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt, stream};
use serde_json::Value;

use super::{
    callers::{Ask, Attempts, End, Seen, Way, ask},
    world::{Called, Calls, Does, Elsewhere, Speaks, Waits, World, marked},
};
use crate::support::{until, upstream::Behaviour};

/// Callers at a time: enough to be quick, few enough that no wait of a well-behaved target grows long.
const CALLERS_MAX: usize = 12;
/// Nothing in the cases is worth more; an absurd report of usage would be.
const COST_USD_MAX: f64 = 0.01;

/// What providers do, and what callers see.
pub struct Case {
    pub name: &'static str,
    does: Vec<(&'static str, Does)>,
    schema: Option<Value>,
    ways: Vec<Way>,
    whole: Option<Expected>,
    streamed: Option<Expected>,
}

/// What a caller must see.
#[derive(Clone)]
pub struct Expected {
    text: String,
    /// `None`: a clean end.
    failure: Option<&'static str>,
    /// As [`Attempts::Account`].
    attempts: &'static str,
    weak: &'static str,
}

/// An answer, and the attempts that it took.
pub fn answers(text: impl Into<String>, attempts: &'static str) -> Expected {
    Expected { text: text.into(), failure: None, attempts, weak: "" }
}

/// An answer that no check lets pass, and the attempts that it took.
pub fn weakly(text: impl Into<String>, weak: &'static str, attempts: &'static str) -> Expected {
    Expected { weak, ..answers(text, attempts) }
}

/// An error, what was said before it, and the attempts.
pub fn fails(kind: &'static str, text: impl Into<String>, attempts: &'static str) -> Expected {
    Expected { failure: Some(kind), ..answers(text, attempts) }
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        Self { name, does: Vec::new(), schema: None, ways: Way::ALL.to_vec(), whole: None, streamed: None }
    }

    /// Says what a target does; those that nothing is said of answer well.
    pub fn at(
        mut self,
        target: &'static str,
        does: impl Fn(Called) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        self.does.push((target, Arc::new(does)));
        self
    }

    /// Asks for JSON of this schema.
    pub fn asks_for(mut self, schema: Value) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Leaves out ways in that cannot say what this case needs.
    pub fn only(mut self, ways: &[Way]) -> Self {
        self.ways = ways.to_vec();
        self
    }

    pub fn whole(mut self, expected: Expected) -> Self {
        self.whole = Some(expected);
        self
    }

    pub fn streamed(mut self, expected: Expected) -> Self {
        self.streamed = Some(expected);
        self
    }

    /// The same, whole and streamed.
    pub fn both(self, expected: Expected) -> Self {
        self.whole(expected.clone()).streamed(expected)
    }

    /// Returns what a target does, if anything is said of it.
    pub fn does(&self, target: &str) -> Option<Does> {
        self.does.iter().find(|(name, _)| *name == target).map(|(_, does)| Arc::clone(does))
    }

    fn expected(&self, way: Way) -> Option<&Expected> {
        if way.streams() { self.streamed.as_ref() } else { self.whole.as_ref() }
    }
}

/// Checks every case over every way in; reports all that differ.
pub async fn check(speaks: Speaks, cases: Vec<Case>, elsewhere: &Elsewhere) -> Calls {
    check_in(World::start(speaks, Waits::Long, &cases, elsewhere).await, cases).await
}

/// The same where the first target is not waited for long.
pub async fn check_slow(speaks: Speaks, cases: Vec<Case>) {
    check_in(World::start(speaks, Waits::Short, &cases, &[]).await, cases).await;
}

async fn check_in(world: World, cases: Vec<Case>) -> Calls {
    let runs: Vec<(&Case, Way, &Expected)> = cases
        .iter()
        .flat_map(|case| case.ways.iter().map(move |way| (case, *way)))
        .filter_map(|(case, way)| Some((case, way, case.expected(way)?)))
        .collect();
    assert!(!runs.is_empty());
    let problems: Vec<String> = stream::iter(runs)
        .map(|(case, way, expected)| run(&world, case, way, expected))
        .buffer_unordered(CALLERS_MAX)
        .flat_map(stream::iter)
        .collect()
        .await;
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    let World { server, calls } = world;
    server.stop().await;
    calls
}

async fn run(world: &World, case: &Case, way: Way, expected: &Expected) -> Vec<String> {
    let mark = format!("{}/{way:?}", case.name);
    let text = marked(&mark, "Tell me where my parcel is and when it comes.");
    let begun = Instant::now();
    let seen = ask(&world.server, way, &Ask { schema: case.schema.clone(), ..Ask::text(&text) }).await;
    let took = begun.elapsed();
    until("every upstream call to be over", async || {
        let mut calls = world.calls.of(&mark).into_iter();
        calls.all(|(_, request)| request.answered || request.hung_up.is_some())
    })
    .await;
    let problems = differences(&seen, expected);
    problems.into_iter().map(|problem| format!("{mark}: {problem} (after {took:?})")).collect()
}

fn differences(seen: &Seen, expected: &Expected) -> Vec<String> {
    let mut problems = Vec::new();
    let mut same = |what: &str, seen: String, expected: String| {
        if seen != expected {
            problems.push(format!("{what}: {seen:?}, expected {expected:?}"));
        }
    };
    let end = expected.failure.map_or(End::Clean, |kind| End::Failed(kind.to_owned()));
    same("end", format!("{:?}", seen.end), format!("{end:?}"));
    same("text", seen.text.clone(), expected.text.clone());
    let attempts = match &seen.attempts {
        Attempts::Account(_) => Attempts::Account(expected.attempts.to_owned()),
        Attempts::Course(_) => Attempts::Course(expected.attempts.replace(['$', '~'], "")),
        Attempts::Count(_) => Attempts::Count(expected.attempts.split("; ").count()),
    };
    same("attempts", format!("{:?}", seen.attempts), format!("{attempts:?}"));
    if let Some(cost) = seen.cost_usd {
        let is_billed = expected.attempts.contains(['$', '~']);
        same("cost above 0", (cost > 0.0).to_string(), is_billed.to_string());
        same("cost is sane", (cost < COST_USD_MAX).to_string(), true.to_string());
    }
    if let Some(estimated) = seen.estimated {
        same("estimated", estimated.to_string(), expected.attempts.contains('~').to_string());
    }
    if let Some(weak) = &seen.weak {
        same("weak", weak.clone(), expected.weak.to_owned());
    }
    // The rule. Every whole answer of the cases ends so, and no part of one does.
    if seen.end == End::Clean && !seen.text.is_empty() && !seen.text.ends_with(['.', '}', '。']) {
        problems.push(format!("a clean end of a truncated answer: {:?}", seen.text));
    }
    problems
}
