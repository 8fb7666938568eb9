//! Rows of the log -> prompts for another router, and what the log had decided for them. Pure.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Row,
    reward::{RewardBy, reward},
};
use crate::{
    config::Config,
    evaluation::what_if::{Before, Choice},
    prompt::{Context, Draft, DraftMessage, DraftPreferences, DraftShape, Prompt},
    routing::admit::admit,
};

/// Longest beginning of a text that an example shows, characters.
const EXCERPT_CHARS_MAX: usize = 200;
/// Source of decisions that the request itself, or a spent budget, had fixed.
const OVERRIDE: &str = "override";
/// Source of decisions whose scores were kept from an earlier request.
const CACHE: &str = "cache";

/// A request of the log that can be asked again.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: Uuid,
    pub prompt: Prompt,
}

/// What must be known of the requests as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peculiarities {
    pub redacted: usize,
    pub cut: usize,
    /// Those that ask for a quality of their own, which no setting changes.
    pub own_quality: usize,
    /// Those whose tier the request itself, or a budget, had fixed: they keep it.
    pub fixed: usize,
    /// Of these, those whose tier the configuration lacks: they are decided freely.
    pub fixed_unknown: usize,
    pub explored: usize,
    pub without_propensity: usize,
    /// Refused by the configuration's limits, with the first reason.
    pub refused: usize,
    pub refused_why: Option<String>,
}

/// Requests and what the log says of each, in the same order.
#[derive(Debug, Default)]
pub struct Requests {
    pub requests: Vec<Request>,
    pub before: Vec<Before>,
    pub peculiarities: Peculiarities,
}

impl Requests {
    /// Makes requests of rows, oldest first; what the configuration refuses is left out and counted.
    ///
    /// A session whose pause was longer than the configuration remembers goes on as a new one, as it would when
    /// served: a replay takes no pauses.
    pub fn of(rows: &[Row], config: &Config, by: RewardBy) -> Self {
        let mut requests = Self::default();
        let mut sessions = Pauses::new(config);
        for row in rows {
            match prompt(row, config) {
                Ok(mut prompt) => {
                    sessions.rename(&mut prompt.context, row.at_ms());
                    requests.peculiarities.note(row, config);
                    requests.requests.push(Request { id: row.decision_id, prompt });
                    requests.before.push(before(row, by));
                }
                Err(why) => {
                    requests.peculiarities.refused += 1;
                    requests.peculiarities.refused_why.get_or_insert(why);
                }
            }
        }
        requests
    }
}

impl Peculiarities {
    fn note(&mut self, row: &Row, config: &Config) {
        let count = |is: bool| usize::from(is);
        self.redacted += count(row.redactions > 0);
        self.cut += count(row.text_cut);
        self.own_quality += count(row.quality.is_some());
        self.explored += count(row.explored);
        self.without_propensity += count(row.propensity.is_none());
        if row.source == OVERRIDE {
            self.fixed += 1;
            self.fixed_unknown += count(config.tier_named(&row.tier).is_none());
        }
    }
}

/// Returns the request as it was, as far as the log tells; an error names no text.
fn prompt(row: &Row, config: &Config) -> Result<Prompt, String> {
    let fixed = row.source == OVERRIDE && config.tier_named(&row.tier).is_some();
    let draft = Draft {
        prompt: None,
        messages: row
            .messages
            .iter()
            .map(|message| DraftMessage { role: message.role.clone(), content: message.content.clone() })
            .collect(),
        context: Context {
            task_type: row.task_type.clone(),
            tags: row.tags.clone(),
            tenant: row.tenant.clone(),
            session_id: row.session.clone(),
            language: row.language.clone(),
        },
        shape: DraftShape {
            // The count of the whole request: texts may have been cut since.
            prompt_tokens: Some(row.prompt_tokens).filter(|&tokens| tokens > 0),
            max_output_tokens: row.output_tokens_max,
            needs_tools: row.needs_tools,
            needs_vision: row.needs_vision,
            needs_json: row.needs_json,
            ..DraftShape::default()
        },
        preferences: DraftPreferences { quality: row.quality, ..DraftPreferences::default() },
        model: fixed.then(|| format!("tier:{}", row.tier)),
        explain: false,
    };
    admit(draft, config).map_err(|bad| {
        // The names of the fields alone: a problem may quote what was sent.
        let fields: Vec<&str> = bad.0.iter().map(|problem| problem.field.as_str()).collect();
        fields.join(", ")
    })
}

/// Returns what the log says of a row.
pub(super) fn before(row: &Row, by: RewardBy) -> Before {
    let scored = !row.sufficiency.is_empty() && row.sufficiency.len() == row.tiers.len();
    Before {
        id: row.decision_id,
        choice: Choice {
            tier: Arc::clone(&row.tier),
            target: Arc::clone(&row.target),
            sufficiency: scored.then(|| row.sufficiency.clone()),
            cost_usd: row.cost_usd_estimate,
            baseline_usd: row.baseline_cost_usd_estimate,
            low_confidence: row.low_confidence,
            deciding_us: (row.total_us > 0 && row.source != CACHE)
                .then(|| row.total_us.saturating_sub(row.queue_us)),
        },
        tiers: row.tiers.clone(),
        session: session(row),
        // Without one the log tells nothing: the estimators leave it out.
        propensity: row.propensity.unwrap_or(0.0),
        explored: row.explored,
        reward: reward(row, by),
        excerpt: excerpt(row),
    }
}

/// Returns a number for the session, `None` where there is none; the same session of two tenants is two.
fn session(row: &Row) -> Option<u64> {
    let number = || {
        let mut hasher = DefaultHasher::new();
        (&row.tenant, &row.session).hash(&mut hasher);
        hasher.finish()
    };
    (!row.session.is_empty()).then(number)
}

/// Returns the beginning of the last user message, on one line.
fn excerpt(row: &Row) -> Option<String> {
    let asked = row.messages.iter().rfind(|message| message.role == "user").or(row.messages.last())?;
    let mut words = String::new();
    for word in asked.content.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if let Some((end, _)) = words.char_indices().nth(EXCERPT_CHARS_MAX) {
            words.truncate(end);
            words.push('…');
            break;
        }
    }
    Some(words)
}

/// When each session was last heard of.
struct Pauses {
    idle_ms: i64,
    /// By tenant and session: the last time, and how many times it was forgotten.
    sessions: HashMap<(String, String), (i64, usize)>,
}

impl Pauses {
    fn new(config: &Config) -> Self {
        let idle_ms = i64::try_from(config.sessions.idle.as_millis()).unwrap_or(i64::MAX);
        Self { idle_ms, sessions: HashMap::new() }
    }

    /// Gives a session that was forgotten meanwhile another name.
    fn rename(&mut self, context: &mut Context, at_ms: i64) {
        if context.session_id.is_empty() {
            return;
        }
        let key = (context.tenant.clone(), context.session_id.clone());
        let (last_ms, forgotten) = self.sessions.entry(key).or_insert((at_ms, 0));
        if at_ms.saturating_sub(*last_ms) > self.idle_ms {
            *forgotten += 1;
        }
        *last_ms = at_ms;
        if *forgotten > 0 {
            // No caller's name holds a control character of this kind.
            context.session_id.push_str(&format!("\u{1f}{forgotten}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::row::tests::row, *};
    use crate::{
        config::{default_config, read_text},
        prompt::{Role, Tier},
    };

    #[test]
    fn a_request_is_as_it_was() {
        let row = row(json!({
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "tenant": "a", "session": "s", "task_type": "chat", "tags": ["x"], "language": "de",
            "prompt_tokens": 812, "output_tokens_max": 100, "needs_json": true, "quality": 0.7,
        }));
        let prompt = prompt(&row, &default_config()).unwrap();
        assert_eq!(prompt.messages[0].role, Role::System);
        let Context { task_type, tags, tenant, session_id, language } = prompt.context;
        assert_eq!(
            (task_type, tags, tenant, session_id, language),
            ("chat".into(), vec!["x".into()], "a".into(), "s".into(), "de".into())
        );
        assert_eq!((prompt.shape.prompt_tokens, prompt.shape.max_output_tokens), (Some(812), Some(100)));
        assert!(prompt.shape.needs.json && !prompt.shape.needs.tools);
        assert_eq!(prompt.preferences.quality, Some(0.7));
    }

    #[test]
    fn what_the_request_had_fixed_stays_fixed() {
        let config = default_config();
        let fixed = |tier: &str| Row { tier: tier.into(), source: "override".to_owned(), ..row(json!({})) };
        let prompt = prompt(&fixed("complex"), &config).unwrap();
        assert_eq!(prompt.preferences.tier_min, Some(Tier(2)));
        assert_eq!(prompt.preferences.tier_max, Some(Tier(2)));
        let requests = Requests::of(&[fixed("complex"), fixed("gone")], &config, RewardBy::Both);
        assert_eq!((requests.peculiarities.fixed, requests.peculiarities.fixed_unknown), (2, 1));
        assert_eq!(requests.requests[1].prompt.preferences.tier_min, None);
    }

    #[test]
    fn a_refusal_names_fields_and_no_text() {
        let config = read_text("[limits]\nprompt_bytes_max = 20\n").unwrap();
        let long = row(json!({"messages": [{"role": "poet", "content": "a secret that is far too long"}]}));
        let requests = Requests::of(&[long, row(json!({}))], &config, RewardBy::Both);
        assert_eq!((requests.requests.len(), requests.before.len()), (1, 1));
        assert_eq!(requests.peculiarities.refused, 1);
        let why = requests.peculiarities.refused_why.unwrap();
        assert_eq!(why, "messages[0].content, messages[0].role");
    }

    #[test]
    fn sessions_are_told_apart() {
        let of = |tenant: &str, session: &str| {
            before(&row(json!({"tenant": tenant, "session": session})), RewardBy::Both).session
        };
        assert_eq!(of("a", ""), None);
        assert!(of("a", "s").is_some());
        assert_eq!(of("a", "s"), of("a", "s"));
        assert!(of("a", "s") != of("b", "s") && of("a", "s") != of("a", "t"));
    }

    #[test]
    fn a_session_is_new_after_a_pause() {
        let mut pauses = Pauses { idle_ms: 100, sessions: HashMap::new() };
        let mut name = |tenant: &str, at_ms: i64| {
            let session_id = "s".to_owned();
            let mut context = Context { tenant: tenant.to_owned(), session_id, ..Context::default() };
            pauses.rename(&mut context, at_ms);
            context.session_id
        };
        let names = [("a", 0), ("a", 100), ("a", 201), ("b", 202), ("a", 250), ("a", 900)];
        let names = names.map(|(tenant, at_ms)| name(tenant, at_ms));
        assert_eq!(names, ["s", "s", "s\u{1f}1", "s", "s\u{1f}1", "s\u{1f}2"]);
    }

    #[test]
    fn an_excerpt_is_short_and_of_the_last_question() {
        let of = |content: &str| {
            let messages = json!([
                {"role": "user", "content": "first"}, {"role": "assistant", "content": "answer"},
                {"role": "user", "content": content}, {"role": "tool", "content": "result"},
            ]);
            excerpt(&row(json!({"messages": messages}))).unwrap()
        };
        assert_eq!(of("two\n  lines\t here "), "two lines here");
        assert_eq!(of(&"ü ".repeat(500)).chars().count(), EXCERPT_CHARS_MAX + 1);
        assert_eq!(of(""), "");
    }

    #[test]
    fn scores_that_do_not_fit_the_tiers_do_not_count() {
        let of = |sufficiency: serde_json::Value| {
            before(
                &row(json!({"sufficiency": sufficiency, "total_us": 900, "queue_us": 300})),
                RewardBy::Both,
            )
        };
        assert_eq!(of(json!([0.1, 0.2, 0.3, 1.0])).choice.sufficiency, Some(vec![0.1, 0.2, 0.3, 1.0]));
        assert_eq!(of(json!([0.1])).choice.sufficiency, None);
        let bare = of(json!([]));
        assert_eq!(
            (bare.choice.sufficiency, bare.choice.deciding_us, bare.reward),
            (None, Some(600), Some(1.0))
        );
    }
}
