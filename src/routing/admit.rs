//! [`Draft`] -> [`Prompt`]: checks a request once, and names every bad field at once.

use crate::{
    config::Config,
    prompt::{
        Context, Draft, DraftMessage, DraftPreferences, DraftShape, Features, Message, Preferences, Prompt,
        Role, Shape, TargetId, Tier,
    },
};

/// Longest label, tenant, task type or session id, bytes.
const LABEL_BYTES_MAX: usize = 256;
const TAGS_MAX: usize = 64;
const TARGET_LIST_MAX: usize = 1000;
const TOKENS_MAX: i64 = 100_000_000;
/// Problems reported of one request; the rest is the same mistake again.
const PROBLEMS_MAX: usize = 20;

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// For example `messages[0].role`.
    pub field: String,
    pub problem: String,
}

/// Every bad field of a request, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|p| format!("{}: {}", p.field, p.problem)).collect::<Vec<_>>().join("; "))]
pub struct BadRequest(pub Vec<FieldProblem>);

/// Returns the checked request, or every bad field.
pub fn admit(draft: Draft, config: &Config) -> Result<Prompt, BadRequest> {
    let mut problems = Problems::default();
    let messages = messages(draft.prompt, draft.messages, config, &mut problems);
    check_context(&draft.context, &mut problems);
    let shape = shape(&draft.shape, &mut problems);
    let preferences = preferences(&draft.preferences, config, &mut problems);
    if problems.0.is_empty() {
        Ok(Prompt { messages, context: draft.context, shape, preferences, explain: draft.explain })
    } else {
        Err(BadRequest(problems.0))
    }
}

#[derive(Default)]
struct Problems(Vec<FieldProblem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(FieldProblem { field: field.into(), problem: problem.into() });
        }
    }
}

fn messages(
    prompt: Option<String>,
    drafts: Vec<DraftMessage>,
    config: &Config,
    problems: &mut Problems,
) -> Vec<Message> {
    let limits = config.limits;
    let drafts = match prompt {
        Some(_) if !drafts.is_empty() => {
            problems.add("prompt", "and messages are both set: give one of them");
            return Vec::new();
        }
        Some(text) => {
            if text.len() > limits.prompt_bytes_max {
                problems.add("prompt", too_long(text.len(), limits.prompt_bytes_max));
            }
            return vec![Message { role: Role::User, content: text }];
        }
        None => drafts,
    };
    if drafts.is_empty() {
        problems.add("messages", "is empty: give at least one message, or prompt");
    }
    if drafts.len() > limits.messages_max {
        problems.add("messages", format!("{} messages, at most {}", drafts.len(), limits.messages_max));
        return Vec::new();
    }
    let bytes: usize = drafts.iter().map(|message| message.content.len()).sum();
    if bytes > limits.prompt_bytes_max {
        let (at, longest) = drafts
            .iter()
            .enumerate()
            .max_by_key(|(_, message)| message.content.len())
            .map_or((0, 0), |(at, message)| (at, message.content.len()));
        let all = too_long(bytes, limits.prompt_bytes_max);
        problems.add(format!("messages[{at}].content"), format!("{longest} bytes; all messages: {all}"));
    }
    drafts
        .into_iter()
        .enumerate()
        .map(|(at, draft)| {
            let role = Role::parse(&draft.role).unwrap_or_else(|| {
                let shown: String = draft.role.chars().take(40).collect();
                let known = "system, developer, user, assistant and tool are known";
                problems.add(format!("messages[{at}].role"), format!("{shown:?} is no role; {known}"));
                Role::User
            });
            Message { role, content: draft.content }
        })
        .collect()
}

fn too_long(bytes: usize, most: usize) -> String {
    format!("{bytes} bytes, at most {most} (limits.prompt_bytes_max)")
}

fn check_context(context: &Context, problems: &mut Problems) {
    let labels = [
        ("context.task_type", &context.task_type),
        ("context.tenant", &context.tenant),
        ("context.session_id", &context.session_id),
        ("context.language", &context.language),
    ];
    for (field, value) in labels {
        if value.len() > LABEL_BYTES_MAX {
            problems.add(field, format!("{} bytes, at most {LABEL_BYTES_MAX}", value.len()));
        }
    }
    if context.tags.len() > TAGS_MAX {
        problems.add("context.tags", format!("{} tags, at most {TAGS_MAX}", context.tags.len()));
    }
    for (at, tag) in context.tags.iter().enumerate().take(TAGS_MAX) {
        if tag.len() > LABEL_BYTES_MAX {
            problems.add(
                format!("context.tags[{at}]"),
                format!("{} bytes, at most {LABEL_BYTES_MAX}", tag.len()),
            );
        }
    }
}

fn shape(draft: &DraftShape, problems: &mut Problems) -> Shape {
    let mut tokens = |value: Option<i64>, field: &str| {
        let value = value?;
        if !(0..=TOKENS_MAX).contains(&value) {
            problems.add(field, format!("{value} is not within 0 to {TOKENS_MAX}"));
        }
        Some(value.clamp(0, TOKENS_MAX) as u32)
    };
    Shape {
        prompt_tokens: tokens(draft.prompt_tokens, "shape.prompt_tokens"),
        max_output_tokens: tokens(draft.max_output_tokens, "shape.max_output_tokens"),
        needs: Features { tools: draft.needs_tools, vision: draft.needs_vision, json: draft.needs_json },
    }
}

fn preferences(draft: &DraftPreferences, config: &Config, problems: &mut Problems) -> Preferences {
    if let Some(quality) = draft.quality
        && !(0.0..=1.0).contains(&quality)
    {
        problems.add("preferences.quality", format!("{quality} is not within 0 to 1"));
    }
    if let Some(cost) = draft.cost_usd_max
        && !(cost.is_finite() && cost >= 0.0)
    {
        problems.add("preferences.cost_usd_max", format!("{cost} is not an amount of at least 0"));
    }
    let latency_ms_max = draft.latency_ms_max.map(|latency| {
        if latency < 1 {
            problems.add("preferences.latency_ms_max", format!("{latency} is not above 0"));
        }
        latency.clamp(1, i64::from(u32::MAX)) as u32
    });
    let tier_min = tier(&draft.tier_min, "preferences.tier_min", config, problems);
    let tier_max = tier(&draft.tier_max, "preferences.tier_max", config, problems);
    if let (Some(low), Some(high)) = (tier_min, tier_max)
        && low > high
    {
        problems.add("preferences.tier_min", "is above preferences.tier_max: no tier is left");
    }
    Preferences {
        quality: draft.quality,
        cost_usd_max: draft.cost_usd_max,
        latency_ms_max,
        tier_min,
        tier_max,
        allow_targets: targets(&draft.allow_targets, "preferences.allow_targets", config, problems),
        deny_targets: targets(&draft.deny_targets, "preferences.deny_targets", config, problems),
    }
}

fn tier(name: &str, field: &str, config: &Config, problems: &mut Problems) -> Option<Tier> {
    if name.is_empty() {
        return None;
    }
    let found = config.tier_named(name);
    if found.is_none() {
        let known: Vec<&str> = config.tiers.iter().map(|tier| &*tier.name).collect();
        let shown: String = name.chars().take(40).collect();
        problems.add(field, format!("no tier named {shown:?}; there are {}", known.join(", ")));
    }
    found
}

fn targets(ids: &[String], field: &str, config: &Config, problems: &mut Problems) -> Vec<TargetId> {
    if ids.len() > TARGET_LIST_MAX {
        problems.add(field, format!("{} targets, at most {TARGET_LIST_MAX}", ids.len()));
        return Vec::new();
    }
    ids.iter()
        .enumerate()
        .filter_map(|(at, id)| match config.target_named(id) {
            Some(index) => Some(config.target(index).id.clone()),
            None => {
                let shown: String = id.chars().take(40).collect();
                problems.add(format!("{field}[{at}]"), format!("no target named {shown:?}"));
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_config;

    fn problems(draft: Draft) -> Vec<String> {
        match admit(draft, &default_config()) {
            Ok(_) => Vec::new(),
            Err(BadRequest(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
        }
    }

    #[test]
    fn an_empty_request_is_refused_and_an_empty_prompt_is_not() {
        assert_eq!(problems(Draft::default()), ["messages"]);
        assert!(problems(Draft::from_text("")).is_empty());
    }

    #[test]
    fn every_bad_field_is_named() {
        let draft = Draft {
            messages: vec![DraftMessage { role: "robot".to_owned(), content: String::new() }],
            shape: DraftShape {
                prompt_tokens: Some(-1),
                max_output_tokens: Some(-5),
                ..DraftShape::default()
            },
            preferences: DraftPreferences {
                quality: Some(2.0),
                cost_usd_max: Some(f64::NAN),
                latency_ms_max: Some(0),
                tier_min: "huge".to_owned(),
                allow_targets: vec!["nobody".to_owned()],
                ..DraftPreferences::default()
            },
            ..Draft::default()
        };
        assert_eq!(
            problems(draft),
            [
                "messages[0].role",
                "shape.prompt_tokens",
                "shape.max_output_tokens",
                "preferences.quality",
                "preferences.cost_usd_max",
                "preferences.latency_ms_max",
                "preferences.tier_min",
                "preferences.allow_targets[0]",
            ]
        );
    }

    #[test]
    fn too_much_is_refused_with_its_size() {
        let error = admit(Draft::from_text("x".repeat(5 << 20)), &default_config()).unwrap_err();
        assert!(error.to_string().starts_with("prompt: 5242880 bytes, at most 4194304"), "{error}");
        let messages = vec![DraftMessage { role: "user".to_owned(), content: String::new() }; 10_000];
        let error = admit(Draft { messages, ..Draft::default() }, &default_config()).unwrap_err();
        assert!(error.to_string().starts_with("messages: 10000 messages, at most 4096"), "{error}");
    }
}
