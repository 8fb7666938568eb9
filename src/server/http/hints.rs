//! What a caller tells the router by headers: context, preferences, and how long it waits. Pure.
//!
//! A header and a field of the body that say the same are a contradiction waiting to happen, so both together
//! are refused.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use crate::{
    prompt::Draft,
    routing::admit::{BadRequest, FieldProblem},
};

/// Headers that begin so are for pointsman; one that it does not know is a mistake.
const PREFIX: &str = "x-pointsman-";
/// Longest value, bytes; lists of targets are the long ones.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Longest wait that a header may ask for: a day. The configuration's own deadline is usually shorter.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// What each header sets, in the words of a [`Draft`].
const KNOWN: [(&str, &str); 13] = [
    ("tenant", "context.tenant"),
    ("session", "context.session_id"),
    ("task-type", "context.task_type"),
    ("tags", "context.tags"),
    ("language", "context.language"),
    ("quality", "preferences.quality"),
    ("cost-usd-max", "preferences.cost_usd_max"),
    ("latency-ms-max", "preferences.latency_ms_max"),
    ("tier-min", "preferences.tier_min"),
    ("tier-max", "preferences.tier_max"),
    ("allow-targets", "preferences.allow_targets"),
    ("deny-targets", "preferences.deny_targets"),
    ("timeout-ms", "timeout"),
];

/// What a caller's headers set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// How long the caller waits.
    pub timeout: Option<Duration>,
    /// Fields of the [`Draft`] that came from headers.
    set: Vec<&'static str>,
}

impl Hints {
    /// Puts what the headers say into the draft; `callers_word` tells what a field of the draft is called in
    /// the body.
    pub fn read(
        headers: &HeaderMap,
        draft: &mut Draft,
        callers_word: impl Fn(&str) -> String,
    ) -> Result<Self, BadRequest> {
        let mut hints = Self::default();
        let mut problems = Vec::new();
        for name in headers.keys().filter_map(|name| name.as_str().strip_prefix(PREFIX)) {
            let header = format!("{PREFIX}{name}");
            let Some(&(_, field)) = KNOWN.iter().find(|(known, _)| *known == name) else {
                problems.push(FieldProblem::new(header, format!("is unknown; {}", known())));
                continue;
            };
            let outcome = text(headers, &header).and_then(|text| hints.take(field, &text, draft));
            match outcome {
                Ok(Taken::New) => hints.set.push(field),
                Ok(Taken::Twice) => {
                    let body = callers_word(field);
                    let problem = format!("and {body} in the body are both set: give one of them");
                    problems.push(FieldProblem::new(header, problem));
                }
                Err(problem) => problems.push(FieldProblem::new(header, problem)),
            }
        }
        if problems.is_empty() { Ok(hints) } else { Err(BadRequest(problems)) }
    }

    /// Renames the fields that `routing::admit` found fault with to the headers that set them.
    pub fn in_callers_words(&self, BadRequest(problems): BadRequest) -> BadRequest {
        let rename = |problem: FieldProblem| {
            let field = problem.field.split('[').next().unwrap_or_default();
            match KNOWN.iter().find(|(_, known)| *known == field && self.set.contains(known)) {
                Some((name, _)) => FieldProblem { field: format!("{PREFIX}{name}"), ..problem },
                None => problem,
            }
        };
        BadRequest(problems.into_iter().map(rename).collect())
    }

    fn take(&mut self, field: &str, value: &str, draft: &mut Draft) -> Result<Taken, String> {
        let Draft { context, preferences, .. } = draft;
        match field {
            "context.tenant" => Ok(put_text(&mut context.tenant, value)),
            "context.session_id" => Ok(put_text(&mut context.session_id, value)),
            "context.task_type" => Ok(put_text(&mut context.task_type, value)),
            "context.tags" => put_list(&mut context.tags, value),
            "context.language" => Ok(put_text(&mut context.language, value)),
            "preferences.quality" => put_number(&mut preferences.quality, value),
            "preferences.cost_usd_max" => put_number(&mut preferences.cost_usd_max, value),
            "preferences.latency_ms_max" => put_whole(&mut preferences.latency_ms_max, value),
            "preferences.tier_min" => Ok(put_text(&mut preferences.tier_min, value)),
            "preferences.tier_max" => Ok(put_text(&mut preferences.tier_max, value)),
            "preferences.allow_targets" => put_list(&mut preferences.allow_targets, value),
            "preferences.deny_targets" => put_list(&mut preferences.deny_targets, value),
            // The only one left of KNOWN.
            _ => {
                let timeout_ms: u64 = value.parse().map_err(|_| "is not a whole number".to_owned())?;
                if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
                    return Err(format!("{timeout_ms} is not within 1 to {TIMEOUT_MS_MAX}"));
                }
                self.timeout = Some(Duration::from_millis(timeout_ms));
                Ok(Taken::New)
            }
        }
    }
}

/// Returns an error for every header that is for pointsman and that it never knows, where none says anything: one that a
/// proxy sets on whatever passes it is no mistake of the caller's.
pub fn none(headers: &HeaderMap) -> Result<(), BadRequest> {
    let is_known =
        |name: &HeaderName| KNOWN.iter().any(|(known, _)| name.as_str() == format!("{PREFIX}{known}"));
    let ours = headers.keys().filter(|name| name.as_str().starts_with(PREFIX) && !is_known(name));
    let problem = |name: &HeaderName| FieldProblem::new(name.as_str(), format!("is unknown; {}", known()));
    let problems: Vec<FieldProblem> = ours.map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(BadRequest(problems)) }
}

/// Whether a header was the only one to set its field.
enum Taken {
    New,
    Twice,
}

fn known() -> String {
    let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    format!("{PREFIX}* is known for {}", names.join(", "))
}

/// Returns a header's value without the blanks around it; never empty.
fn text(headers: &HeaderMap, name: &str) -> Result<String, String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().ok_or("is missing")?;
    if values.next().is_some() {
        return Err("is given more than once".to_owned());
    }
    if first.len() > VALUE_BYTES_MAX {
        return Err(format!("{} bytes, at most {VALUE_BYTES_MAX}", first.len()));
    }
    let text = std::str::from_utf8(first.as_bytes()).map_err(|_| "is not UTF-8")?.trim();
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn put_text(field: &mut String, value: &str) -> Taken {
    if !field.is_empty() {
        return Taken::Twice;
    }
    value.clone_into(field);
    Taken::New
}

fn put_list(field: &mut Vec<String>, value: &str) -> Result<Taken, String> {
    if !field.is_empty() {
        return Ok(Taken::Twice);
    }
    *field = value.split(',').map(|item| item.trim().to_owned()).collect();
    if field.iter().any(String::is_empty) {
        return Err("has an empty entry; entries are separated by single commas".to_owned());
    }
    Ok(Taken::New)
}

fn put_number(field: &mut Option<f64>, value: &str) -> Result<Taken, String> {
    if field.is_some() {
        return Ok(Taken::Twice);
    }
    *field = Some(value.parse().map_err(|_| "is not a number".to_owned())?);
    Ok(Taken::New)
}

fn put_whole(field: &mut Option<i64>, value: &str) -> Result<Taken, String> {
    if field.is_some() {
        return Ok(Taken::Twice);
    }
    *field = Some(value.parse().map_err(|_| "is not a whole number".to_owned())?);
    Ok(Taken::New)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    fn read(lines: &[(&'static str, &[u8])], draft: &mut Draft) -> Result<Hints, BadRequest> {
        Hints::read(&headers(lines), draft, str::to_owned)
    }

    #[test]
    fn every_header_sets_its_field() {
        let mut draft = Draft::default();
        let hints = read(
            &[
                ("x-pointsman-tenant", b"team-a"),
                ("x-pointsman-session", "größe".as_bytes()),
                ("x-pointsman-task-type", b"support"),
                ("x-pointsman-tags", b"beta, eu"),
                ("x-pointsman-language", b"de"),
                ("x-pointsman-quality", b"0.75"),
                ("x-pointsman-cost-usd-max", b"1e-3"),
                ("x-pointsman-latency-ms-max", b"800"),
                ("x-pointsman-tier-min", b"simple"),
                ("x-pointsman-tier-max", b"complex"),
                ("x-pointsman-allow-targets", b"a,b"),
                ("x-pointsman-deny-targets", b"c"),
                ("x-pointsman-timeout-ms", b"1500"),
                ("authorization", b"Bearer whatever"),
            ],
            &mut draft,
        )
        .unwrap();
        assert_eq!(hints.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(hints.set.len(), KNOWN.len());
        let Draft { context, preferences, .. } = draft;
        assert_eq!((context.tenant.as_str(), context.session_id.as_str()), ("team-a", "größe"));
        assert_eq!((context.task_type.as_str(), context.language.as_str()), ("support", "de"));
        assert_eq!(context.tags, ["beta", "eu"]);
        assert_eq!((preferences.quality, preferences.cost_usd_max), (Some(0.75), Some(1e-3)));
        assert_eq!(preferences.latency_ms_max, Some(800));
        assert_eq!((preferences.tier_min.as_str(), preferences.tier_max.as_str()), ("simple", "complex"));
        assert_eq!(
            (preferences.allow_targets, preferences.deny_targets),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
    }

    #[test]
    fn bad_values_name_their_header() {
        let check = |name: &'static str, value: &[u8], problem: &str| {
            let BadRequest(problems) = read(&[(name, value)], &mut Draft::default()).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert_eq!(problems[0].field, name);
            assert!(problems[0].problem.contains(problem), "{name}: {}", problems[0].problem);
        };
        check("x-pointsman-quality", b"high", "not a number");
        check("x-pointsman-latency-ms-max", b"1.5", "not a whole number");
        check("x-pointsman-timeout-ms", b"0", "not within 1 to");
        check("x-pointsman-timeout-ms", b"-1", "not a whole number");
        check("x-pointsman-timeout-ms", b"99999999999", "not within 1 to");
        check("x-pointsman-tags", b"a,,b", "empty entry");
        check("x-pointsman-tenant", b"", "is empty");
        check("x-pointsman-tenant", b"\xff", "not UTF-8");
        check("x-pointsman-qualty", b"1", "is unknown; x-pointsman-* is known for tenant, session");
        check("x-pointsman-tenant", &[b'a'; VALUE_BYTES_MAX + 1], "at most");
    }

    #[test]
    fn where_none_says_anything_a_slip_is_refused() {
        let lines =
            [("x-pointsman-tenent", b"a".as_slice()), ("x-pointsman-tenant", b"a"), ("x-request-id", b"b")];
        let BadRequest(problems) = none(&headers(&lines)).unwrap_err();
        assert_eq!((problems.len(), problems[0].field.as_str()), (1, "x-pointsman-tenent"));
        assert_eq!(none(&headers(&lines[1..])), Ok(()));
    }

    #[test]
    fn a_header_given_twice_is_refused() {
        let lines = [("x-pointsman-tier-min", b"simple".as_slice()), ("x-pointsman-tier-min", b"complex")];
        let BadRequest(problems) = read(&lines, &mut Draft::default()).unwrap_err();
        assert_eq!(problems[0].problem, "is given more than once");
    }

    #[test]
    fn header_and_body_together_are_refused_and_both_named() {
        let mut draft = Draft::default();
        draft.context.session_id = "s".to_owned();
        let lines = headers(&[("x-pointsman-session", b"t")]);
        let word = |field: &str| field.replace("context.", "pointsman.");
        let BadRequest(problems) = Hints::read(&lines, &mut draft, word).unwrap_err();
        assert_eq!(problems[0].field, "x-pointsman-session");
        assert_eq!(
            problems[0].problem,
            "and pointsman.session_id in the body are both set: give one of them"
        );
    }

    #[test]
    fn what_admit_finds_names_the_header_that_set_it() {
        let mut draft = Draft::default();
        let hints = read(&[("x-pointsman-tags", b"a"), ("x-pointsman-quality", b"7")], &mut draft).unwrap();
        let check = |field: &str, expected: &str| {
            let BadRequest(renamed) =
                hints.in_callers_words(BadRequest(vec![FieldProblem::new(field, "is bad")]));
            assert_eq!(renamed[0].field, expected);
        };
        check("preferences.quality", "x-pointsman-quality");
        check("context.tags[0]", "x-pointsman-tags");
        check("preferences.tier_min", "preferences.tier_min");
        check("messages[0].role", "messages[0].role");
    }
}
