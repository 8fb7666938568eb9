//! What a caller learns of a decision and its completion from the answer's headers.
//!
//! Pure. A value is always printable ASCII: what is not is percent-encoded.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    completion::outcome::{Failure, Opening, Summary},
    prompt::{Decision, TargetRef},
};

/// Longest value, bytes, encoded; some proxies refuse heads of more than 8 KiB in all.
const VALUE_BYTES_MAX: usize = 512;

const DECISION_ID: HeaderName = HeaderName::from_static("x-pointsman-decision-id");
const DECIDED_TIER: HeaderName = HeaderName::from_static("x-pointsman-decided-tier");
const SOURCE: HeaderName = HeaderName::from_static("x-pointsman-source");
const RULE: HeaderName = HeaderName::from_static("x-pointsman-rule");
const TIER: HeaderName = HeaderName::from_static("x-pointsman-tier");
const TARGET: HeaderName = HeaderName::from_static("x-pointsman-target");
const MODEL: HeaderName = HeaderName::from_static("x-pointsman-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-pointsman-attempts");
const ESCALATED: HeaderName = HeaderName::from_static("x-pointsman-escalated");
const WEAK: HeaderName = HeaderName::from_static("x-pointsman-weak");
const COST: HeaderName = HeaderName::from_static("x-pointsman-cost-usd");
const BASELINE: HeaderName = HeaderName::from_static("x-pointsman-baseline-cost-usd");
const ESTIMATED: HeaderName = HeaderName::from_static("x-pointsman-estimated");
const OVERHEAD: HeaderName = HeaderName::from_static("x-pointsman-overhead-ms");
const DROPPED: HeaderName = HeaderName::from_static("x-pointsman-dropped-parameters");

/// Adds what a decision alone tells.
pub fn add_decision(decision: &Decision, headers: &mut HeaderMap) {
    headers.insert(DECISION_ID, value(&decision.decision_id));
    headers.insert(DECIDED_TIER, value(&decision.tier));
    headers.insert(SOURCE, value(decision.source.as_str()));
    if let Some(rule) = &decision.rule {
        headers.insert(RULE, value(rule));
    }
}

/// Adds who answers, or would.
pub fn add_target(target: &TargetRef, tier: &str, headers: &mut HeaderMap) {
    headers.insert(TIER, value(tier));
    headers.insert(TARGET, value(&target.id.0));
    headers.insert(MODEL, value(&target.model));
}

/// Adds the account of a whole answer.
pub fn add_summary(summary: &Summary, dropped_parameters: &[String], headers: &mut HeaderMap) {
    add_decision(&summary.decision, headers);
    add_target(&summary.target, &summary.tier, headers);
    headers.insert(ATTEMPTS, summary.attempts.len().into());
    headers.insert(ESCALATED, flag(summary.escalated));
    if let Some(weakness) = &summary.weak {
        headers.insert(WEAK, value(weakness.check.as_str()));
    }
    headers.insert(COST, value(&dollars(summary.cost_usd)));
    headers.insert(BASELINE, value(&dollars(summary.baseline_cost_usd)));
    headers.insert(ESTIMATED, flag(summary.estimated));
    headers.insert(OVERHEAD, value(&format!("{:.3}", summary.overhead.as_secs_f64() * 1e3)));
    add_dropped(dropped_parameters, headers);
}

/// Adds what is known when a stream begins. Its cost is not: that stands at its end.
pub fn add_opening(opening: &Opening, headers: &mut HeaderMap) {
    add_decision(&opening.decision, headers);
    add_target(&opening.target, &opening.tier, headers);
    // And the one that goes on.
    headers.insert(ATTEMPTS, (opening.attempts.len() + 1).into());
    headers.insert(ESCALATED, flag(opening.escalated));
    if let Some(weakness) = &opening.weak {
        headers.insert(WEAK, value(weakness.check.as_str()));
    }
    headers.insert(OVERHEAD, value(&format!("{:.3}", opening.overhead.as_secs_f64() * 1e3)));
    add_dropped(&opening.dropped_parameters, headers);
}

/// Adds what there is to tell of a request that nobody answered.
pub fn add_failure(failure: &Failure, headers: &mut HeaderMap) {
    let Some(decision) = &failure.decision else { return };
    add_decision(decision, headers);
    headers.insert(ATTEMPTS, failure.attempts.len().into());
    headers.insert(COST, value(&dollars(failure.cost_usd)));
    headers.insert(ESTIMATED, flag(failure.attempts.iter().any(|attempt| attempt.estimated)));
}

fn add_dropped(parameters: &[String], headers: &mut HeaderMap) {
    if !parameters.is_empty() {
        headers.insert(DROPPED, value(&parameters.join(",")));
    }
}

fn flag(is: bool) -> HeaderValue {
    HeaderValue::from_static(if is { "true" } else { "false" })
}

/// Billionths of a dollar: one token of the cheapest models costs some hundred of them.
fn dollars(amount: f64) -> String {
    let text = format!("{amount:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns a text as a header's value: printable ASCII as it is, every other byte and "%" as %XX.
fn value(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = (byte.is_ascii_graphic() && byte != b'%') || byte == b' ';
        let width = if is_plain { 1 } else { 3 };
        if encoded.len() + width > VALUE_BYTES_MAX {
            break;
        }
        if is_plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(encoded.trim()).expect("printable ASCII is a valid header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_printable_ascii() {
        let check =
            |text: &str, expected: &str| assert_eq!(value(text).to_str().unwrap(), expected, "{text}");
        check("gpt-6-luna", "gpt-6-luna");
        check("prix:élevé", "prix:%C3%A9lev%C3%A9");
        check("100%", "100%25");
        check("a\r\nset-cookie: b", "a%0D%0Aset-cookie: b");
        check("", "");
    }

    #[test]
    fn amounts_are_never_in_scientific_notation() {
        let check = |amount: f64, expected: &str| assert_eq!(dollars(amount), expected);
        check(0.0, "0");
        check(0.000_000_15, "0.00000015");
        check(0.1 + 0.2, "0.3");
        check(12.0, "12");
        check(1e-15, "0");
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_value(text in any::<String>()) {
            let value = value(&text);
            prop_assert!(value.len() <= VALUE_BYTES_MAX);
            prop_assert!(value.to_str().unwrap().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }
}
