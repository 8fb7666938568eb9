//! Gemini's whole `generationConfig`, written here: the library's own lacks JSON mode, penalties and `topK`, and it
//! reads an effort out of model names. Pure.

use genai::chat::ReasoningEffort;
use serde_json::{Map, Value, json};

use super::request::{Dropped, Wanted, WantedJson};

/// Returns the `generationConfig` that says what is wanted.
pub(super) fn generation(wanted: &Wanted, model: &str, dropped: &mut Dropped) -> Value {
    let mut config = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    };
    set("temperature", wanted.temperature.map(Value::from));
    set("topP", wanted.top_p.map(Value::from));
    set("topK", wanted.top_k.map(Value::from));
    set("presencePenalty", wanted.presence_penalty.map(Value::from));
    set("frequencyPenalty", wanted.frequency_penalty.map(Value::from));
    set("maxOutputTokens", wanted.output_tokens_max.map(Value::from));
    set("stopSequences", (!wanted.stop.is_empty()).then(|| json!(wanted.stop)));
    match wanted.seed.map(i32::try_from) {
        Some(Ok(seed)) => set("seed", Some(seed.into())),
        Some(Err(_)) => dropped.add("seed"),
        None => {}
    }
    match &wanted.json {
        WantedJson::No => {}
        WantedJson::Object => set("responseMimeType", Some("application/json".into())),
        WantedJson::Schema(spec) => {
            set("responseMimeType", Some("application/json".into()));
            set("responseJsonSchema", Some(spec.schema.clone()));
        }
    }
    if let Some(effort) = &wanted.effort {
        match thinking(effort, model) {
            Some(thinking) => set("thinkingConfig", Some(thinking)),
            None => dropped.add("reasoning_effort"),
        }
    }
    Value::Object(config)
}

/// Returns the `thinkingConfig`: a level from version 3 on, a budget before, with the numbers that
/// Google's own OpenAI-compatible endpoint uses; `None` where thinking cannot be turned off.
fn thinking(effort: &ReasoningEffort, model: &str) -> Option<Value> {
    let by_level = ["gemini-3", "gemma-4"].iter().any(|family| model.contains(family));
    let (level, budget) = match effort {
        ReasoningEffort::Zero if by_level => return None,
        ReasoningEffort::Zero => return Some(json!({ "thinkingBudget": 0 })),
        ReasoningEffort::Minimal => ("MINIMAL", 1_024),
        ReasoningEffort::Low => ("LOW", 1_024),
        ReasoningEffort::Medium => ("MEDIUM", 8_192),
        ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max => ("HIGH", 24_576),
        ReasoningEffort::Budget(budget) => ("HIGH", *budget),
    };
    Some(if by_level {
        json!({ "thinkingLevel": level, "includeThoughts": true })
    } else {
        json!({ "thinkingBudget": budget, "includeThoughts": true })
    })
}
