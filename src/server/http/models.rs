//! `GET /v1/models`: what may stand as `model` in a request: "auto", every tier, every target of a tier.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::Response,
};
use serde_json::{Value, json};

use super::{
    chat::json_answer,
    errors::{Dialect, Problem, What},
    shown,
};
use crate::{
    config::{Config, TargetIndex},
    live::Live,
};

/// Who owns "auto" and the tiers.
const OWN: &str = "pointsman";

/// One name that requests may ask for.
#[derive(Debug, PartialEq, Eq)]
struct Model {
    id: String,
    owner: String,
}

/// Lists every model; with Anthropic's version header in that dialect's form.
pub async fn list(State(live): State<Arc<Live>>, headers: HeaderMap) -> Response {
    let models = models(live.router().config());
    let body = match dialect(&headers) {
        Dialect::OpenAi => {
            json!({ "object": "list", "data": models.iter().map(openai).collect::<Vec<_>>() })
        }
        // All of them on one page, whatever page was asked for.
        Dialect::Anthropic => json!({
            "data": models.iter().map(anthropic).collect::<Vec<_>>(),
            "first_id": models.first().map(|model| &model.id),
            "last_id": models.last().map(|model| &model.id),
            "has_more": false,
        }),
    };
    json_answer(HeaderMap::new(), &body)
}

/// Shows one model.
pub async fn one(
    State(live): State<Arc<Live>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let dialect = dialect(&headers);
    // What is not UTF-8 names nothing either.
    let Path(id) = id.unwrap_or_else(|_| Path(String::new()));
    let Some(model) = models(live.router().config()).into_iter().find(|model| model.id == id) else {
        let message = format!("no model named {:?}; GET /v1/models lists them", shown(&id));
        return Problem::new(What::UnknownModel, message).answer(dialect);
    };
    let body = match dialect {
        Dialect::OpenAi => openai(&model),
        Dialect::Anthropic => anthropic(&model),
    };
    json_answer(HeaderMap::new(), &body)
}

fn dialect(headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") { Dialect::Anthropic } else { Dialect::OpenAi }
}

fn models(config: &Config) -> Vec<Model> {
    let own = |id: String| Model { id, owner: OWN.to_owned() };
    let tiers = config.tiers.iter().map(|tier| own(format!("tier:{}", tier.name)));
    let targets = (0..config.targets.len())
        .map(TargetIndex)
        // One that no tier lists cannot be asked for.
        .filter(|&target| config.tier_of(target).is_some())
        .map(|target| config.target(target))
        .map(|target| Model { id: target.id.to_string(), owner: target.provider.to_string() });
    std::iter::once(own("auto".to_owned())).chain(tiers).chain(targets).collect()
}

/// Nobody knows when a model was made; both dialects take the epoch for that.
fn openai(model: &Model) -> Value {
    json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.owner })
}

fn anthropic(model: &Model) -> Value {
    json!({
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": "1970-01-01T00:00:00Z",
    })
}
