//! Requests of the log -> what a router decides for each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::StreamExt;

use super::request::Request;
use crate::{
    config::TierConfig,
    evaluation::what_if::{After, Before, Choice},
    prompt::Decision,
    routing::{Router, cost::estimate_usd},
};

/// What a router decides, or why it cannot.
pub type Replayed = Result<After, String>;

/// Asks the router about every request, `in_flight` sessions at once, those of one session one after the other;
/// `done` is told how many more are decided. The answers are in the order of the requests.
pub async fn replay(
    router: &Arc<Router>,
    requests: &Arc<Vec<Request>>,
    in_flight: usize,
    done: impl Fn(u64),
) -> Vec<Replayed> {
    let mut answers: Vec<Option<Replayed>> = requests.iter().map(|_| None).collect();
    let mut decided = futures::stream::iter(sessions(requests))
        .map(|session| {
            let (router, requests) = (Arc::clone(router), Arc::clone(requests));
            // A task each: the rules of one request run beside those of another.
            tokio::spawn(async move {
                let mut decided = Vec::with_capacity(session.len());
                for at in session {
                    decided.push((at, decide(&router, &requests[at]).await));
                }
                decided
            })
        })
        .buffer_unordered(in_flight);
    while let Some(session) = decided.next().await {
        let session = session.expect("a session's task neither panics nor is cancelled");
        done(session.len() as u64);
        for (at, answer) in session {
            answers[at] = Some(answer);
        }
    }
    answers.into_iter().map(|answer| answer.expect("every request belongs to a session")).collect()
}

/// Returns the places of each session's requests, in their order; a request without a session stands alone.
fn sessions(requests: &[Request]) -> Vec<Vec<usize>> {
    let mut sessions: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    for (at, request) in requests.iter().enumerate() {
        let context = &request.prompt.context;
        if context.session_id.is_empty() {
            sessions.push(vec![at]);
            continue;
        }
        let place = *known.entry((&context.tenant, &context.session_id)).or_insert_with(|| {
            sessions.push(Vec::new());
            sessions.len() - 1
        });
        sessions[place].push(at);
    }
    sessions
}

async fn decide(router: &Router, request: &Request) -> Replayed {
    let decision =
        router.route_again(request.id, &request.prompt).await.map_err(|error| error.to_string())?;
    let config = router.config();
    let cost = |tier: &TierConfig| {
        estimate_usd(config.target(tier.targets[0]), &request.prompt, decision.prompt_tokens)
    };
    Ok(After {
        intent: decision.intent.as_ref().map(|intent| Arc::clone(&intent.0)),
        propensity: decision.propensity,
        tier_costs_usd: config.tiers.iter().map(cost).collect(),
        choice: choice(&decision),
        reason: decision.reason,
    })
}

fn choice(decision: &Decision) -> Choice {
    let scores: Vec<f64> = decision.tier_scores.iter().map(|score| score.sufficiency).collect();
    let timings = decision.timings;
    // Scores that were kept took no time; how often that happens depends on the replay.
    let kept = !scores.is_empty() && timings.inference_us == 0;
    Choice {
        tier: Arc::clone(&decision.tier),
        target: Arc::clone(&decision.target.id.0),
        sufficiency: (!scores.is_empty()).then_some(scores),
        cost_usd: decision.cost_usd_estimate,
        baseline_usd: decision.baseline_cost_usd,
        low_confidence: decision.low_confidence,
        deciding_us: (!kept).then(|| timings.total_us.saturating_sub(timings.queue_us)),
    }
}

/// Requests that every setting decides for, and why the others are left out.
#[derive(Debug, Default)]
pub struct Aligned {
    pub before: Vec<Before>,
    /// One for each setting.
    pub after: Vec<Vec<After>>,
    /// How often each reason kept a request out.
    pub undecided: BTreeMap<String, usize>,
}

/// Keeps the requests that every setting decides for: figures of the same requests can be compared.
pub fn align(before: Vec<Before>, settings: Vec<Vec<Replayed>>) -> Aligned {
    let mut aligned = Aligned { after: settings.iter().map(|_| Vec::new()).collect(), ..Aligned::default() };
    let mut settings: Vec<_> = settings.into_iter().map(Vec::into_iter).collect();
    for before in before {
        // All of them go on, also past one that failed.
        let answers: Vec<Replayed> =
            settings.iter_mut().map(|setting| setting.next().expect("one answer for each request")).collect();
        let answers: Result<Vec<After>, String> = answers.into_iter().collect();
        match answers {
            Ok(answers) => {
                aligned.before.push(before);
                for (after, answer) in aligned.after.iter_mut().zip(answers) {
                    after.push(answer);
                }
            }
            Err(why) => *aligned.undecided.entry(why).or_default() += 1,
        }
    }
    aligned
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            request::Requests,
            reward::RewardBy,
            row::{Row, tests::row},
        },
        *,
    };
    use crate::{
        config::{Config, read_text},
        routing::{health::TargetHealth, sessions::Sessions},
    };

    /// Two tiers; a rule knows the hard requests.
    const CONFIG: &str = r#"
        [classifier]
        enabled = false
        [policy]
        default_tier = "simple"
        [[rules]]
        id = "proofs"
        any = ["prove"]
        tier = "reasoning"
    "#;

    fn router(config: &str) -> Arc<Router> {
        let config: Arc<Config> = Arc::new(read_text(config).unwrap_or_else(|error| panic!("{error}")));
        let sessions = Arc::new(Sessions::new(&config.sessions));
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        Arc::new(Router::new(config, None, sessions, health, 1).unwrap())
    }

    fn asked(number: u64, session: &str, text: &str) -> Row {
        row(json!({
            "decision_id": format!("01932c07-e4f0-7a2b-8c3d-{number:012}"), "session": session,
            "messages": [{"role": "user", "content": text}],
        }))
    }

    async fn tiers(rows: &[Row], config: &str) -> Vec<Value> {
        let router = router(config);
        let requests = Requests::of(rows, router.config(), RewardBy::Both);
        let told = std::cell::Cell::new(0);
        let answers =
            replay(&router, &Arc::new(requests.requests), 4, |more| told.set(told.get() + more)).await;
        assert_eq!(told.get(), rows.len() as u64);
        answers.into_iter().map(|answer| json!(answer.unwrap().choice.tier)).collect()
    }

    #[tokio::test]
    async fn sessions_are_replayed_in_order_and_keep_their_floor() {
        let rows = [
            asked(1, "a", "hello"),
            asked(2, "b", "hello"),
            asked(3, "a", "prove it"),
            asked(4, "", "hello"),
            asked(5, "a", "thanks"),
            asked(6, "b", "thanks"),
        ];
        let got = tiers(&rows, CONFIG).await;
        assert_eq!(got, ["simple", "simple", "reasoning", "simple", "reasoning", "simple"]);
        let forgetful = format!("{CONFIG}\n[sessions]\nfloor = \"off\"\nsticky = false\n");
        assert_eq!(tiers(&rows, &forgetful).await[4], "simple");
    }

    #[tokio::test]
    async fn targets_of_a_weight_are_drawn_by_the_logged_id() {
        let weights = r#"
            rules = []
            [classifier]
            enabled = false
            [policy]
            default_tier = "simple"
            [[tiers]]
            name = "simple"
            level = "simple"
            order = "weight"
            targets = ["gpt-6-luna", "claude-haiku-5-5"]
        "#;
        let ids: Vec<u64> = (1..40).collect();
        let run = async |ids: &[u64]| {
            let router = router(weights);
            let rows: Vec<Row> = ids.iter().map(|&id| asked(id, "", "hello")).collect();
            let requests = Requests::of(&rows, router.config(), RewardBy::Both);
            let answers = replay(&router, &Arc::new(requests.requests), 4, |_| {}).await;
            answers.into_iter().map(|answer| answer.unwrap().choice.target).collect::<Vec<_>>()
        };
        let first = run(&ids).await;
        assert_eq!(first, run(&ids).await);
        assert!(first.iter().any(|target| *target != first[0]), "a draw, and not always the same");
    }

    #[test]
    fn what_one_setting_cannot_decide_is_left_out_of_all() {
        let router = router(CONFIG);
        let rows: Vec<Row> = (1..=3).map(|at| asked(at, "", "x")).collect();
        let Requests { before, .. } = Requests::of(&rows, router.config(), RewardBy::Both);
        let after = |tier: &str| {
            let mut after = After {
                choice: before[0].choice.clone(),
                intent: None,
                propensity: 1.0,
                tier_costs_usd: Vec::new(),
                reason: String::new(),
            };
            after.choice.tier = tier.into();
            after
        };
        let settings = vec![
            vec![Ok(after("a")), Err("no target".to_owned()), Ok(after("c"))],
            vec![Ok(after("a")), Ok(after("b")), Err("no target".to_owned())],
        ];
        let aligned = align(before.clone(), settings);
        assert_eq!(aligned.before, before[..1]);
        assert_eq!(aligned.after, [vec![after("a")], vec![after("a")]]);
        assert_eq!(aligned.undecided, BTreeMap::from([("no target".to_owned(), 2)]));
    }
}
