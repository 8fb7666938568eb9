//! [`Draft`] -> [`Prompt`]: checks a request once, and names every bad field at once.

use crate::{
    config::{Config, TargetIndex},
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
    pub kind: ProblemKind,
}

/// What is wrong with a field, as far as edges tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    Invalid,
    /// `model` names nothing that there is: over HTTP a 404.
    UnknownModel,
}

impl FieldProblem {
    /// Says that the field is invalid.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), kind: ProblemKind::Invalid }
    }
}

/// Every bad field of a request, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|p| format!("{}: {}", p.field, p.problem)).collect::<Vec<_>>().join("; "))]
pub struct BadRequest(pub Vec<FieldProblem>);

impl BadRequest {
    /// Returns whether the request asks for a model that there is not.
    pub fn names_unknown_model(&self) -> bool {
        self.0.iter().any(|problem| problem.kind == ProblemKind::UnknownModel)
    }
}

/// Returns the checked request, or every bad field.
pub fn admit(draft: Draft, config: &Config) -> Result<Prompt, BadRequest> {
    let mut problems = Problems::default();
    let messages = messages(draft.prompt, draft.messages, config, &mut problems);
    check_context(&draft.context, &mut problems);
    let shape = shape(&draft.shape, &mut problems);
    let mut preferences = preferences(&draft.preferences, config, &mut problems);
    fix_model(draft.model.as_deref().unwrap_or_default(), &mut preferences, config, &mut problems);
    if problems.0.is_empty() {
        let Draft { context, explain, .. } = draft;
        Ok(Prompt { messages, context, shape, preferences, tier_cap: None, explain })
    } else {
        Err(BadRequest(problems.0))
    }
}

/// Bad fields as they are found, up to [`PROBLEMS_MAX`].
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<FieldProblem>);

impl Problems {
    pub(crate) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.push(FieldProblem::new(field, problem));
    }

    fn push(&mut self, problem: FieldProblem) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(problem);
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
                let known = "system, developer, user, assistant and tool are known";
                let problem = format!("{:?} is no role; {known}", shown(&draft.role));
                problems.add(format!("messages[{at}].role"), problem);
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
        beside_text_tokens: draft.beside_text_tokens,
        choices: draft.choices,
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

/// Narrows the preferences to the tier or the target that `model` fixes, if it fixes one.
fn fix_model(model: &str, preferences: &mut Preferences, config: &Config, problems: &mut Problems) {
    let fixed = match Fixed::parse(model, config) {
        Ok(None) => return,
        Ok(Some(fixed)) => fixed,
        Err(problem) => {
            let kind = ProblemKind::UnknownModel;
            return problems.push(FieldProblem { field: "model".to_owned(), problem, kind });
        }
    };
    if let Some(problem) = fixed.contradiction(preferences, config) {
        return problems.add("model", problem);
    }
    match fixed {
        Fixed::Tier(tier) => (preferences.tier_min, preferences.tier_max) = (Some(tier), Some(tier)),
        // Of several tiers that list it, limits of rules may leave any: `Bounds` takes the weakest.
        Fixed::Target(target) => preferences.allow_targets = vec![config.target(target).id.clone()],
    }
}

/// What a `model` other than "auto" stands for.
#[derive(Debug, Clone, Copy)]
enum Fixed {
    Tier(Tier),
    Target(TargetIndex),
}

impl Fixed {
    /// Returns what the name stands for, `None` for "auto", or why it stands for nothing.
    fn parse(model: &str, config: &Config) -> Result<Option<Self>, String> {
        if model.is_empty() || model == "auto" {
            return Ok(None);
        }
        if let Some(name) = model.strip_prefix("tier:") {
            return config.tier_named(name).map(|tier| Some(Self::Tier(tier))).ok_or_else(|| {
                let known: Vec<&str> = config.tiers.iter().map(|tier| &*tier.name).collect();
                format!("no tier named {:?}; there are {}", shown(name), known.join(", "))
            });
        }
        let Some(target) = config.target_named(model) else {
            let known = "\"auto\", \"tier:NAME\" and the ids of targets are known; GET /v1/models lists them";
            return Err(format!("no model named {:?}; {known}", shown(model)));
        };
        match config.tier_of(target) {
            Some(_) => Ok(Some(Self::Target(target))),
            None => Err(format!("target {:?} serves no tier", shown(model))),
        }
    }

    /// Returns which preference leaves nothing of what is fixed, `None` when something is left.
    fn contradiction(self, preferences: &Preferences, config: &Config) -> Option<String> {
        let Preferences { tier_min, tier_max, allow_targets, deny_targets, .. } = preferences;
        let (name, targets) = match self {
            Self::Tier(tier) => (format!("tier {}", config.tier(tier).name), &config.tier(tier).targets[..]),
            Self::Target(ref target) => {
                (format!("target {}", config.target(*target).id), std::slice::from_ref(target))
            }
        };
        let serves = |allowed: &dyn Fn(Tier) -> bool| match self {
            Self::Tier(tier) => allowed(tier),
            Self::Target(target) => (0..config.tiers.len())
                .map(Tier)
                .any(|tier| allowed(tier) && config.tier(tier).targets.contains(&target)),
        };
        let ids = || targets.iter().map(|&target| &config.target(target).id);
        let against = if let Some(low) = tier_min.filter(|&low| !serves(&|tier| tier >= low)) {
            format!("preferences.tier_min is {}", config.tier(low).name)
        } else if let Some(high) = tier_max.filter(|&high| !serves(&|tier| tier <= high)) {
            format!("preferences.tier_max is {}", config.tier(high).name)
        } else if !allow_targets.is_empty() && !ids().any(|id| allow_targets.contains(id)) {
            "preferences.allow_targets does not allow it".to_owned()
        } else if ids().all(|id| deny_targets.contains(id)) {
            "preferences.deny_targets denies it".to_owned()
        } else {
            return None;
        };
        Some(format!("asks for {name}, but {against}"))
    }
}

/// Returns the beginning of a caller's text, for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn tier(name: &str, field: &str, config: &Config, problems: &mut Problems) -> Option<Tier> {
    if name.is_empty() {
        return None;
    }
    let found = config.tier_named(name);
    if found.is_none() {
        let known: Vec<&str> = config.tiers.iter().map(|tier| &*tier.name).collect();
        problems.add(field, format!("no tier named {:?}; there are {}", shown(name), known.join(", ")));
    }
    found
}

/// Names the targets, or some of many.
fn known_targets(config: &Config) -> String {
    const NAMED_MAX: usize = 12;
    let ids: Vec<&str> = config.targets.iter().take(NAMED_MAX).map(|target| &*target.id.0).collect();
    match config.targets.len().saturating_sub(NAMED_MAX) {
        0 => ids.join(", "),
        more => format!("{} and {more} more", ids.join(", ")),
    }
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
                let problem = format!("no target named {:?}; there are {}", shown(id), known_targets(config));
                problems.add(format!("{field}[{at}]"), problem);
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{default_config, read_text};

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

    /// Tiers simple (s1, both), moderate (m1, both), and a target that no tier lists.
    fn models(model: &str, preferences: DraftPreferences) -> Result<Prompt, BadRequest> {
        let target = |id: &str| {
            format!(
                "[[targets]]\nid = \"{id}\"\nprovider = \"p\"\nmodel = \"x-1\"\ninput_usd_per_mtok = 1.0\n\
                 output_usd_per_mtok = 1.0\nprice_date = \"2026-11-21\"\ncontext_tokens = 8000\n"
            )
        };
        let tiers = "rules = []\n[[tiers]]\nname = \"simple\"\ntargets = [\"s1\", \"both\"]\n\
                     [[tiers]]\nname = \"moderate\"\ntargets = [\"m1\", \"both\"]\n";
        let targets: Vec<String> = ["s1", "m1", "both", "nowhere"].map(target).into();
        let config = read_text(&format!("{tiers}{}", targets.join(""))).unwrap();
        admit(Draft { model: Some(model.to_owned()), preferences, ..Draft::from_text("x") }, &config)
    }

    #[test]
    fn a_model_routes_or_fixes_a_tier_or_a_target() {
        for auto in ["", "auto"] {
            let prompt = models(auto, DraftPreferences::default()).unwrap();
            assert_eq!(prompt.preferences, Preferences::default());
        }
        let prompt = models("tier:moderate", DraftPreferences::default()).unwrap();
        let expected =
            Preferences { tier_min: Some(Tier(1)), tier_max: Some(Tier(1)), ..Preferences::default() };
        assert_eq!(prompt.preferences, expected);
        let prompt = models("both", DraftPreferences::default()).unwrap();
        let both = vec![TargetId("both".into())];
        assert_eq!(prompt.preferences, Preferences { allow_targets: both, ..Preferences::default() });
    }

    #[test]
    fn a_model_that_is_not_there_is_told_from_other_mistakes() {
        for (model, because) in [
            (
                "gpt",
                "model: no model named \"gpt\"; \"auto\", \"tier:NAME\" and the ids of targets are known; \
                 GET /v1/models lists them",
            ),
            (
                "Auto",
                "model: no model named \"Auto\"; \"auto\", \"tier:NAME\" and the ids of targets are known; \
                 GET /v1/models lists them",
            ),
            ("tier:huge", "model: no tier named \"huge\"; there are simple, moderate"),
            ("tier:", "model: no tier named \"\"; there are simple, moderate"),
            ("nowhere", "model: target \"nowhere\" serves no tier"),
        ] {
            let error = models(model, DraftPreferences::default()).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.names_unknown_model()), (because, true));
        }
        let error = admit(Draft::default(), &default_config()).unwrap_err();
        assert!(!error.names_unknown_model());
    }

    #[test]
    fn a_model_that_the_preferences_rule_out_names_both() {
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tiers = |low: &str, high: &str| DraftPreferences {
            tier_min: low.to_owned(),
            tier_max: high.to_owned(),
            ..DraftPreferences::default()
        };
        let allow = |allowed: &[&str]| DraftPreferences {
            allow_targets: ids(allowed),
            ..DraftPreferences::default()
        };
        let deny =
            |denied: &[&str]| DraftPreferences { deny_targets: ids(denied), ..DraftPreferences::default() };
        for (model, preferences, expected) in [
            ("tier:simple", tiers("moderate", ""), "tier simple, but preferences.tier_min is moderate"),
            ("tier:moderate", tiers("", "simple"), "tier moderate, but preferences.tier_max is simple"),
            ("m1", tiers("", "simple"), "target m1, but preferences.tier_max is simple"),
            ("s1", allow(&["m1", "both"]), "target s1, but preferences.allow_targets does not allow it"),
            ("tier:simple", allow(&["m1"]), "tier simple, but preferences.allow_targets does not allow it"),
            ("s1", deny(&["s1"]), "target s1, but preferences.deny_targets denies it"),
            ("tier:simple", deny(&["s1", "both"]), "tier simple, but preferences.deny_targets denies it"),
        ] {
            let error = models(model, preferences).unwrap_err();
            assert_eq!(error.to_string(), format!("model: asks for {expected}"));
            assert!(!error.names_unknown_model());
        }
        for (model, preferences) in [
            ("both", tiers("moderate", "")),
            ("both", tiers("", "simple")),
            ("tier:simple", deny(&["s1"])),
            ("s1", allow(&["m1", "s1"])),
        ] {
            assert!(models(model, preferences).is_ok(), "{model}");
        }
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
