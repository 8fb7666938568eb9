//! Pairs of requests of one session, and the memory that holds the first of each.

use proptest::prelude::*;

use super::*;

const REGENERATED: Option<Signal> = Some(Signal::Regenerated);
const RETRIED: Option<Signal> = Some(Signal::Retried);

/// Turns in order, the user's first, then the assistant's and so on, separated by " / "; a turn may name its role.
fn conversation(turns: &str) -> Vec<Message> {
    let mut user = true;
    let mut message = |turn: &str| {
        let (role, content) = match turn.split_once(": ") {
            Some((name, content)) if Role::parse(name).is_some() => (Role::parse(name).unwrap(), content),
            _ if user => (Role::User, turn),
            _ => (Role::Assistant, turn),
        };
        user = role != Role::User;
        Message { role, content: content.to_owned() }
    };
    turns.split(" / ").map(&mut message).collect()
}

fn ask(signals: &Signals, session: &str, turns: &str, id: u128, at_ms: i64) -> Option<(Uuid, Signal)> {
    let messages = conversation(turns);
    let bytes = messages.iter().map(|message| message.content.len() as u64).sum();
    let decision_id = Uuid::from_u128(id);
    signals.asked(&Asked { decision_id, at_ms, tenant: "t", session, messages: &messages, bytes })
}

fn check(earlier: &str, later: &str, expected: Option<Signal>) {
    let signals = Signals::new();
    assert_eq!(ask(&signals, "s", earlier, 1, 10_000), None);
    let noticed = ask(&signals, "s", later, 2, 40_000);
    assert_eq!(noticed, expected.map(|signal| (Uuid::from_u128(1), signal)), "{earlier:?} then {later:?}");
}

#[test]
fn the_very_same_request_is_regenerated() {
    for turns in [
        "hi",
        "Write a poem about the sea",
        "system: Be brief. / Write a poem about the sea",
        "Write a poem / Which kind? / A sad one",
        "yes",
        "",
        "こんにちは",
        "Weather in Rome? / assistant: call / tool: 21 degrees",
        "Fix this:\n```\nlet x = 1\n```",
    ] {
        check(turns, turns, REGENERATED);
    }
}

#[test]
fn nearly_the_same_question_is_retried() {
    for (earlier, later) in [
        ("Write a poem about the sea", "Please write a poem about the sea"),
        ("Write a poem about the sea", "write a poem about the sea!!!"),
        (
            "Write a poem about the sea",
            "Write a poem about the sea / The sea is blue. / No. Write a poem about the sea",
        ),
        ("Write a poem about the sea", "Write a peom about the sea"),
        ("Explain how recieving works in TCP", "Explain how receiving works in TCP"),
        ("Explain photosynthesis for a child", "Can you explain photosynthesis again, for a child?"),
        ("What is the capital of Australia?", "What is the capital of Australia, not Sydney?"),
        ("Summarise the attached report in three bullets", "Summarise the report in three bullets"),
        ("Summarise the report in three bullets", "Summarise the attached report in three bullets please"),
        ("sort a list of numbers in Python", "How do I sort a list of numbers in Python?"),
        ("How do I sort a list in Python", "Python: sort a list"),
        ("Translate 'good morning' into Finnish", "translate good morning into finnish"),
        ("Why does my build fail with error E0382?", "Why does my build fail with E0382?"),
        ("Give me a recipe for vegan lasagne", "Give me a recipe for a vegan lasange"),
        ("Schreib ein Gedicht über das Meer", "Schreib bitte noch mal ein Gedicht über das Meer"),
        ("Erkläre die Photosynthese für Kinder", "Kannst du die Photosynthese für Kinder erkläre"),
        ("Écris un poème sur la mer", "Écris encore un poème sur la mer s'il te plaît"),
        ("Escribe un poema sobre el mar", "Por favor, escribe un poema sobre el mar"),
        ("Scrivi una poesia sul mare", "Scrivi ancora una poesia sul mare"),
        ("海についての詩を書いて", "海についての詩を書いてください"),
        ("Напиши стихотворение о море", "напиши стихотворение о море!"),
        (
            "Design a schema for a shop / Here / Add an index on price",
            "Design a schema for a shop / Here / Please add an index on price",
        ),
        (
            "Draft an e-mail to the landlord about the heating",
            "Draft an email to the landlord about the heating - e-mail",
        ),
        ("system: v1 / Name three rivers in France", "system: v2 / Name three rivers in France"),
        (
            "Weather Rome tomorrow? / assistant: call / tool: 21",
            "Weather Rome tomorrow? / assistant: call / tool: 21 / assistant: 21 / Weather Rome tomorrow",
        ),
        ("List prime numbers below 50", "List all prime numbers below 50"),
        ("count words", "count the words"),
    ] {
        check(earlier, later, RETRIED);
    }
}

#[test]
fn another_question_is_neither() {
    for (earlier, later) in [
        ("Write a poem about cats", "Write a poem about dogs"),
        ("Translate this to German: good morning", "Translate this to German: good night"),
        (
            "Classify the sentiment of this review in one word: great phone",
            "Classify the sentiment of this review in one word: battery died",
        ),
        ("Summarise page 3 of the report", "Summarise page 4 of the report"),
        ("Sort a list in Python", "Sort a list in Rust"),
        ("encode this string in base64", "decode this string in base64"),
        ("What is 12 * 13?", "What is 12 * 14?"),
        ("Write tests for parse()", "Write tests for render()"),
        ("Who wrote Faust?", "When was Faust written?"),
        ("hi", "hello"),
        ("yes", "yes / Done. / yes"),
        ("Plan a trip / Where to? / continue", "Plan a trip / Where to? / continue / Day 1 / continue"),
        (
            "Plan a trip / Where to? / next step please",
            "Plan a trip / Where to? / next step please / Day 1 / next step please",
        ),
        ("Explain closures", "Explain lifetimes"),
        ("Write a poem about the sea", "Write a poem about the sea / The sea. / Make it shorter"),
        ("Write a poem about the sea", "Write a poem about the sea / The sea. / Now one about the mountains"),
        ("Write a poem about the sea", "Translate it into French"),
        ("What is the capital of France?", "What is the population of France?"),
        ("Fix the bug in main.rs", "Fix the bug in lib.rs"),
        ("Weather Rome tomorrow?", "Weather Rome tomorrow? / assistant: call / tool: 21"),
        (
            "Weather Rome? / assistant: call / tool: 21",
            "Weather Rome? / assistant: call / tool: 21 / assistant: call / tool: 22",
        ),
        ("", "something"),
        ("What should I cook tonight?", "What should I wear tonight?"),
        (
            "Describe the French Revolution",
            "Describe the French Revolution / It began in 1789. / Who was Robespierre?",
        ),
        ("Draft a mail to Anna about Monday", "Draft a mail to Peter about Monday"),
        ("Schreib ein Gedicht über Katzen", "Schreib ein Gedicht über Hunde"),
        ("Écris un poème sur la mer", "Écris un poème sur la montagne"),
        ("Traduce esto al inglés: perro", "Traduce esto al inglés: gato"),
        ("東京の天気は？", "大阪の天気は？"),
        ("5 ideas for a party", "A logo for a bakery"),
        ("increase the timeout to 30 seconds", "decrease the timeout to 30 seconds"),
        ("Explain the difference between TCP and UDP in detail with examples", "TCP"),
    ] {
        check(earlier, later, None);
    }
}

#[test]
fn sessions_and_tenants_are_apart() {
    let signals = Signals::new();
    assert_eq!(ask(&signals, "a", "Write a poem", 1, 0), None);
    assert_eq!(ask(&signals, "b", "Write a poem", 2, 5_000), None);
    assert_eq!(ask(&signals, "", "Write a poem", 3, 5_000), None);
    assert_eq!(ask(&signals, "", "Write a poem", 4, 10_000), None, "without a session nothing is the same");
    let messages = conversation("Write a poem");
    let other = Asked {
        decision_id: Uuid::from_u128(5),
        at_ms: 9_000,
        tenant: "u",
        session: "a",
        messages: &messages,
        bytes: 12,
    };
    assert_eq!(signals.asked(&other), None);
    assert_eq!(ask(&signals, "a", "Write a poem", 6, 9_000), Some((Uuid::from_u128(1), Signal::Regenerated)));
}

#[test]
fn it_is_said_of_the_earlier_decision_whichever_ends_first() {
    let signals = Signals::new();
    assert_eq!(ask(&signals, "s", "Write a poem", 2, 20_000), None);
    let first = (Uuid::from_u128(1), Signal::Regenerated);
    assert_eq!(ask(&signals, "s", "Write a poem", 1, 10_000), Some(first));
    let second = (Uuid::from_u128(2), Signal::Regenerated);
    assert_eq!(ask(&signals, "s", "Write a poem", 3, 30_000), Some(second), "the later one is remembered");
}

#[test]
fn too_soon_and_too_late_are_not_noticed() {
    let memory_ms = i64::try_from(MEMORY.as_millis()).unwrap();
    for (pause_ms, noticed) in
        [(0, false), (999, false), (1_000, true), (memory_ms, true), (memory_ms + 1, false)]
    {
        let signals = Signals::new();
        ask(&signals, "s", "Write a poem", 1, 50_000);
        assert_eq!(ask(&signals, "s", "Write a poem", 2, 50_000 + pause_ms).is_some(), noticed, "{pause_ms}");
    }
}

#[test]
fn a_cut_conversation_is_told_from_a_longer_one() {
    let signals = Signals::new();
    let messages = conversation("user: yes");
    let asked = |id, at_ms, bytes| {
        let decision_id = Uuid::from_u128(id);
        signals.asked(&Asked { decision_id, at_ms, tenant: "t", session: "s", messages: &messages, bytes })
    };
    assert_eq!(asked(1, 0, 50_000), None);
    assert_eq!(asked(2, 5_000, 60_000), None);
    assert_eq!(asked(3, 9_000, 60_000), Some((Uuid::from_u128(2), Signal::Regenerated)));
}

#[test]
fn the_same_noticed_twice_is_one() {
    let id = Uuid::from_u128(7);
    let feedback = Feedback::noticed(id, Signal::Retried, 5);
    assert_eq!(feedback.feedback_id, Feedback::noticed(id, Signal::Retried, 9).feedback_id);
    assert_ne!(feedback.feedback_id, Feedback::noticed(id, Signal::Regenerated, 5).feedback_id);
    assert_ne!(feedback.feedback_id, Feedback::noticed(Uuid::from_u128(8), Signal::Retried, 5).feedback_id);
    assert_eq!((feedback.source, feedback.signal), (FeedbackSource::Automatic, Some(Signal::Retried)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_a_signal_names_an_earlier_decision(
        asked in proptest::collection::vec((0..3_usize, "(write|a|poem|cat|/|no| ){0,9}", 0..2_000_000_i64), 1..20),
    ) {
        let signals = Signals::new();
        let mut before: Vec<(usize, i64)> = Vec::new();
        for (id, (session, text, at_ms)) in asked.iter().enumerate() {
            before.push((*session, *at_ms));
            if let Some((decision, _)) = ask(&signals, ["", "a", "b"][*session], text, id as u128, *at_ms) {
                let (of, then_ms) = before[usize::try_from(decision.as_u128()).unwrap()];
                prop_assert_eq!(of, *session);
                prop_assert!(before.iter().any(|(other, at_ms)| other == session && *at_ms >= then_ms + 1_000));
            }
        }
    }
}
