//! A server with two tiers of two targets each, every target at an upstream of its own that fails as each case
//! wants it: many cases share a server, told apart by a mark in their requests.

use std::{collections::HashMap, sync::Arc};

use super::{case::Case, process::Process};
use crate::support::upstream::{Behaviour, Request, Upstream, usage};

/// Tier `low`: `a`, `b`; tier `high`: `c`, `d`.
pub const TARGETS: [&str; 4] = ["a", "b", "c", "d"];

/// Waits and limits under which a busy machine does not look like a fault: nothing is waited for that long.
pub const LIMITS: &str = "[completion.timeouts]\nconnect_ms = 30000\nfirst_token_ms = 200000\n\
                          between_tokens_ms = 200000\ntotal_ms = 200000\n\
                          [completion.backoff]\nfirst_ms = 1\nmax_ms = 400\nretry_after_ms_max = 1000\n\
                          [completion.breaker]\nfailures = 1000000\nerror_ratio = 1.0\ncalls_min = 1000000\n";

/// Waits of the first target where it is too slow on purpose: it is given up soon, and whoever follows has all the time
/// that a busy machine needs.
const HASTY: &str = "[targets.timeouts]\nfirst_token_ms = 4000\nbetween_tokens_ms = 4000\ntotal_ms = 6000\n";

/// How long the first target is waited for; all others long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    Long,
    Short,
}

/// What providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    OpenAi,
    Anthropic,
}

/// One call, as a fault sees it.
#[derive(Debug, Clone, Copy)]
pub struct Called {
    pub streams: bool,
    /// Among the calls of one target by one caller, from 0.
    pub nth: usize,
    pub speaks: Speaks,
}

impl Called {
    /// A good answer, whole or as a stream.
    pub fn answer(self, text: &str) -> Behaviour {
        match (self.speaks, self.streams) {
            (Speaks::OpenAi, false) => Behaviour::openai(text, usage(20, 15)),
            (Speaks::OpenAi, true) => Behaviour::openai_stream(text, usage(20, 15)),
            (Speaks::Anthropic, false) => Behaviour::anthropic(text, 20, 15),
            (Speaks::Anthropic, true) => Behaviour::anthropic_stream(text, 20, 15),
        }
    }
}

/// What a target does with a call.
pub type Does = Arc<dyn Fn(Called) -> Behaviour + Send + Sync>;

/// Where targets are that are not at their own upstream.
pub type Elsewhere = [(&'static str, String)];

/// A running server and its providers.
pub struct World {
    pub server: Process,
    pub calls: Calls,
}

/// What every target's upstream was asked.
pub struct Calls(Vec<Upstream>);

impl World {
    /// Starts a server whose providers do what these cases say.
    pub async fn start(speaks: Speaks, waits: Waits, cases: &[Case], elsewhere: &Elsewhere) -> Self {
        let mut upstreams = Vec::new();
        for target in TARGETS {
            upstreams.push(Upstream::answering(doing(target, speaks, cases)).await);
        }
        let sections: String = TARGETS
            .iter()
            .zip(&upstreams)
            .map(|(target, upstream)| {
                let other = elsewhere.iter().find(|(name, _)| name == target);
                let url = other.map_or_else(|| upstream.base_url(), |(_, url)| url.clone());
                let hasty = if *target == TARGETS[0] && waits == Waits::Short { HASTY } else { "" };
                place(target, speaks, &url, "") + hasty
            })
            .collect();
        let server = Process::start(&format!("{sections}{TIERS}{LIMITS}"), &[]).await;
        Self { server, calls: Calls(upstreams) }
    }
}

impl Calls {
    /// Returns what each was asked by the caller with this mark.
    pub fn of(&self, mark: &str) -> Vec<(&'static str, Request)> {
        let each = TARGETS.iter().zip(&self.0);
        each.flat_map(|(target, upstream)| {
            let calls = upstream.requests().into_iter().filter(|request| mark_of(request) == mark);
            calls.map(|request| (*target, request))
        })
        .collect()
    }
}

/// The two tiers, and nothing that decides but the default tier.
pub const TIERS: &str = "[[tiers]]\nname = \"low\"\ntargets = [\"a\", \"b\"]\n[[tiers]]\nname = \"high\"\n\
                         targets = [\"c\", \"d\"]\n[policy]\ndefault_tier = \"low\"\n[classifier]\nenabled = false\n";

/// Returns a target and its provider as they are configured; `more` is said of the provider.
pub fn place(target: &str, speaks: Speaks, url: &str, more: &str) -> String {
    let kind = match speaks {
        Speaks::OpenAi => "openai_compatible",
        Speaks::Anthropic => "anthropic",
    };
    let keys = if more.contains("keys") { "" } else { "keys = []\n" };
    format!(
        "{}[[providers]]\nname = \"{target}-place\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\n{keys}{more}\
         [[targets]]\nid = \"{target}\"\nprovider = \"{target}-place\"\nmodel = \"model-{target}\"\n\
         input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 10.0\nprice_date = \"2026-01-01\"\n\
         context_tokens = 100000\noutput_tokens_max = 2000\noutput_tokens_typical = 100\n\
         features = [\"tools\", \"json\", \"vision\"]\n",
        if target == TARGETS[0] { "rules = []\n" } else { "" },
    )
}

/// Returns the text that tells a caller's requests from all others.
pub fn marked(mark: &str, text: &str) -> String {
    format!("<{mark}> {text}")
}

fn mark_of(request: &Request) -> &str {
    let body = std::str::from_utf8(&request.body).unwrap();
    body.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(mark, _)| mark)
}

/// What a target says that works; ends like every whole answer in a full stop.
pub fn good(target: &str) -> String {
    format!("Target {target} says that the parcel left the depot this morning and arrives tomorrow at noon.")
}

/// Sixty words, a token each, with a full stop at the end alone.
pub fn long() -> String {
    let words: Vec<String> = (1..=60).map(|at| format!("word{at}")).collect();
    format!("{}.", words.join(" "))
}

/// Returns what so many tokens of the long answer say.
pub fn long_start(tokens: usize) -> String {
    long().split_inclusive(' ').take(tokens).collect()
}

fn doing(
    target: &'static str,
    speaks: Speaks,
    cases: &[Case],
) -> impl FnMut(&Request) -> Behaviour + Send + 'static {
    let mut does: HashMap<&'static str, Does> = HashMap::new();
    for case in cases {
        if let Some(what) = case.does(target) {
            assert!(does.insert(case.name, what).is_none(), "two cases named {}", case.name);
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    move |request| {
        let mark = mark_of(request).to_owned();
        let name = mark.split('/').next().unwrap().to_owned();
        let nth = counts.entry(mark).or_default();
        let streams = request.streams();
        let called = Called { streams, nth: *nth, speaks };
        *nth += 1;
        match does.get(name.as_str()) {
            Some(does) => does(called),
            None => called.answer(&good(target)),
        }
    }
}
