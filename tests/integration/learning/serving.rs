//! From feedback about a running server's decisions to its next ones.

use pointsman::server::proto::{Decision, ReportFeedbackRequest, RouteRequest, Verdict};

use crate::support::{Behaviour, Scripted, TestServer, config, until};

/// One target for each tier, so that nobody takes over within one.
const TIERS: &str = r#"
[[tiers]]
name = "simple"
targets = ["small"]
[[tiers]]
name = "moderate"
targets = ["middle"]
[[tiers]]
name = "complex"
targets = ["large"]
"#;

async fn start(sections: &str) -> (tempfile::TempDir, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("traffic.sqlite");
    let sections = format!(
        "rules = []\n[traffic]\nstore = \"{}\"\nflush_ms = 20\n[learning]\nenabled = true\nrefresh_ms = 100\n{sections}{TIERS}{}",
        store.display(),
        ["small", "middle", "large"].map(target).concat()
    );
    // Moderate is enough, complex surely.
    let scripted = Scripted::new(Behaviour::Answer([0.1, 0.6, 0.95]));
    let server = TestServer::start(config(&sections), Some(scripted)).await;
    (folder, server)
}

fn target(id: &str) -> String {
    format!(
        "[[targets]]\nid = \"{id}\"\nprovider = \"p\"\nmodel = \"{id}-1\"\ninput_usd_per_mtok = 1.0\n\
         output_usd_per_mtok = 1.0\nprice_date = \"2026-11-21\"\ncontext_tokens = 100000\n"
    )
}

async fn decide(server: &TestServer) -> Decision {
    let request = RouteRequest { prompt: Some("x".to_owned()), ..RouteRequest::default() };
    server.client().route(request).await.unwrap().into_inner().decision.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn complaints_move_the_next_decisions() {
    let (_folder, server) = start("").await;
    let first = decide(&server).await;
    assert_eq!((first.tier.as_str(), first.propensity, first.explored), ("moderate", 1.0, false));
    let mut moved = first;
    until("another target", async || {
        let feedback = ReportFeedbackRequest {
            decision_id: moved.decision_id.clone(),
            verdict: Verdict::Bad as i32,
            ..ReportFeedbackRequest::default()
        };
        // A store that is not open yet refuses it; the next round says the same.
        let _ = server.client().report_feedback(feedback).await;
        moved = decide(&server).await;
        moved.tier != "moderate"
    })
    .await;
    assert_eq!(moved.tier, "complex");
    assert!(moved.reason.contains("without what was learned it would be moderate"), "{}", moved.reason);
    assert!(moved.tier_scores[1].sufficiency < 0.5, "{:?}", moved.tier_scores);
    let store = server.live.traffic().store().unwrap();
    until("the decision in the log", async || {
        let whole = pointsman::traffic::store::Selection::default();
        let log = store.page(&whole, None, 1000).await.unwrap();
        let logged = log.iter().find(|logged| logged.record.decision_id.to_string() == moved.decision_id);
        logged.is_some_and(|logged| logged.record.decision.sufficiency_base == [0.1, 0.6, 1.0])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trials_are_marked_and_have_their_propensity() {
    let (_folder, server) = start("[learning.explore]\nrate = 0.5\nquality_min = 0.0\n").await;
    let mut explored = 0;
    for _ in 0..200 {
        let decision = decide(&server).await;
        assert!(decision.propensity > 0.0 && decision.propensity <= 1.0);
        assert_eq!(decision.explored, decision.reason.contains("tried to learn about it"));
        assert!(!decision.explored || decision.propensity < 0.5);
        explored += u32::from(decision.explored);
    }
    assert!(explored > 0 && explored < 150, "{explored}");
}
