//! Answers that come and are no good: a stronger tier is asked, and the best of them is returned, marked.

use serde_json::{Value, json};

use super::{
    callers::Way,
    case::{Case, answers, check, weakly},
    world::{Called, Speaks, good, long},
};
use crate::support::upstream::Behaviour;

const REFUSALS: [(&str, &str); 3] = [
    ("english", "I'm sorry, but I can't help with that request."),
    ("german", "Es tut mir leid, aber dabei kann ich dir nicht helfen."),
    ("spanish", "Lo siento, pero no puedo ayudarte con esa solicitud."),
];

fn says(text: &'static str) -> impl Fn(Called) -> Behaviour + Send + Sync + 'static {
    move |called| called.answer(text)
}

/// Longer than what is held back.
fn long_refusal() -> String {
    format!("{} Reasons are: {}", REFUSALS[0].1, long())
}

fn schema() -> Value {
    json!({
        "type": "object", "properties": { "arrives": { "type": "string" } }, "required": ["arrives"],
        "additionalProperties": false,
    })
}

const FITS: &str = r#"{"arrives": "tomorrow"}"#;
const MISFITS: &str = r#"{"arrives": 7}"#;

/// Longer than what is held back.
fn long_misfit() -> String {
    json!({ "arrives": long(), "leaves": "today" }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stronger_tier_answers_for_a_weak_one() {
    let mut cases: Vec<Case> = REFUSALS
        .into_iter()
        .map(|(name, refusal)| {
            Case::new(name)
                .at("a", says(refusal))
                .both(answers(good("c"), "a first weak:refusal$; c escalation answered$"))
        })
        .collect();
    cases.extend([
        Case::new("empty")
            .at("a", says(""))
            .both(answers(good("c"), "a first weak:empty$; c escalation answered$")),
        Case::new("schema")
            .asks_for(schema())
            .at("a", says(MISFITS))
            .at("c", says(FITS))
            .only(&[Way::Grpc, Way::GrpcStream, Way::Chat, Way::ChatStream])
            .both(answers(FITS, "a first weak:schema$; c escalation answered$")),
        Case::new("json")
            .asks_for(schema())
            .at("a", says("Here you are: tomorrow."))
            .at("c", says(FITS))
            .only(&[Way::Grpc, Way::GrpcStream, Way::Chat, Way::ChatStream])
            .both(answers(FITS, "a first weak:json$; c escalation answered$")),
        // Too long to be held back: what is wrong with it can only be said.
        Case::new("schema-late")
            .asks_for(schema())
            .at("a", |called| called.answer(&long_misfit()))
            .at("c", says(FITS))
            .only(&[Way::Grpc, Way::GrpcStream, Way::Chat, Way::ChatStream])
            .whole(answers(FITS, "a first weak:schema$; c escalation answered$"))
            .streamed(weakly(long_misfit(), "schema", "a first weak:schema$")),
        // Text where JSON was asked for shows at its start; what was said until then is paid for.
        Case::new("json-soon")
            .asks_for(schema())
            .at("a", |called| called.answer(&long()))
            .at("c", says(FITS))
            .only(&[Way::Grpc, Way::GrpcStream, Way::Chat, Way::ChatStream])
            .whole(answers(FITS, "a first weak:json$; c escalation answered$"))
            .streamed(answers(FITS, "a first weak:json~; c escalation answered$")),
    ]);
    check(Speaks::OpenAi, cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_weak_answer_is_better_than_none() {
    let refusal = REFUSALS[0].1;
    let down = |_: Called| Behaviour::error(404, "scripted trouble");
    let cases = vec![
        Case::new("all-weak").at("a", says(refusal)).at("c", says(REFUSALS[1].1)).both(weakly(
            REFUSALS[1].1,
            "refusal",
            "a first weak:refusal$; c escalation weak:refusal$",
        )),
        Case::new("empty-above").at("a", says(refusal)).at("c", says("")).both(weakly(
            refusal,
            "refusal",
            "a first weak:refusal$; c escalation weak:empty$",
        )),
        Case::new("down-above").at("a", says(refusal)).at("c", down).at("d", down).both(weakly(
            refusal,
            "refusal",
            "a first weak:refusal$; c escalation not_found; d failover not_found",
        )),
        // Its stream waits while others are asked, and goes on where it was.
        Case::new("paused")
            .at("a", |called| called.answer(&long_refusal()))
            .at("c", down)
            .at("d", down)
            .both(weakly(
                long_refusal(),
                "refusal",
                "a first weak:refusal$; c escalation not_found; d failover not_found",
            )),
    ];
    check(Speaks::OpenAi, cases, &[]).await;
}
