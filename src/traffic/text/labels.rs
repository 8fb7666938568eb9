//! The policies for what callers write beside a text: task types, tags, languages, intents, names of feedback.
//!
//! Callers may write anything there, so each is treated as a text, but for words that the operator wrote himself.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use super::{TextKeeper, redact::redact};
use crate::{
    config::{Config, TextPolicy},
    traffic::{feedback::Feedback, record::RequestRecord},
};

/// What is hashed stands in the hash.
const FEEDBACK: &[u8] = b"feedback name";
/// Of names made from the content of feedback, hexadecimal.
const CONTENT_NAME_CHARS: usize = 32;
/// Subtags of a language, as in `zh-Hant-TW`.
const SUBTAGS_MAX: usize = 2;

/// Words of the configuration and of the bundle: task types and tags that rules ask for, and intents. Shared with who
/// loads a bundle.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<RwLock<BTreeSet<String>>>);

impl Known {
    /// Takes the words of a configuration.
    pub fn of(config: &Config) -> Self {
        let known = Self::default();
        known.take(config);
        known
    }

    /// Adds the words of another configuration; those of the one before are still in what waits to be written.
    pub fn take(&self, config: &Config) {
        for rule in &config.rules {
            let asked = &rule.conditions;
            self.add(asked.task_type.iter().chain(&asked.tags).chain(&asked.language).cloned());
        }
        self.add(config.intents.iter().map(|intent| intent.name.to_string()));
    }

    /// Adds words, as those of a bundle.
    pub fn add(&self, words: impl IntoIterator<Item = String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(words);
    }

    /// Returns whether a word was taken.
    pub fn has(&self, word: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(word)
    }
}

impl TextKeeper {
    /// Applies the tenant's policy to what stands beside the text of a request.
    pub fn labels(&self, request: &mut RequestRecord) {
        let policy = self.policy(Some(&request.tenant));
        if policy == TextPolicy::Full {
            return;
        }
        request.tags = request.tags.drain(..).filter_map(|tag| self.label(policy, tag)).collect();
        request.task_type = self.label(policy, std::mem::take(&mut request.task_type)).unwrap_or_default();
        if !is_language(&request.language) {
            request.language = self.label(policy, std::mem::take(&mut request.language)).unwrap_or_default();
        }
    }

    /// Returns whether its tenant must be known to say what of it may be kept.
    pub fn depends_on_tenant(&self, feedback: &Feedback) -> bool {
        let free = |word: &String| !self.known.has(word);
        feedback.comment.is_some()
            || feedback.demonstration.is_some()
            || feedback.right_intent.as_ref().is_some_and(free)
    }

    /// Applies the policies to everything that was written into feedback; of an unknown tenant, the strictest.
    pub fn feedback(&self, tenant: Option<&str>, feedback: &mut Feedback) {
        for text in [&mut feedback.comment, &mut feedback.demonstration] {
            *text = text.take().and_then(|text| self.remark(tenant, &text));
        }
        let policy = self.policy(tenant);
        feedback.right_intent = feedback.right_intent.take().and_then(|intent| self.label(policy, intent));
        self.name(feedback);
    }

    /// By the strictest policy of all, whoever the tenant is: the same name must be the same before and after the
    /// tenant is known, or feedback would count twice.
    fn name(&self, feedback: &mut Feedback) {
        let start = format!("{}/", feedback.decision_id);
        let Some(name) = feedback.feedback_id.strip_prefix(&start) else { return };
        let is_hash = name.len() == CONTENT_NAME_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let as_given = match self.policy(None) {
            TextPolicy::Full => true,
            TextPolicy::Redacted => redact(name).count == 0,
            TextPolicy::Hash | TextPolicy::None => false,
        };
        if !as_given && !is_hash {
            let hash = self.hash(&[FEEDBACK, feedback.decision_id.as_bytes(), name.as_bytes()]);
            feedback.feedback_id = format!("{start}{hash}");
        }
    }

    fn label(&self, policy: TextPolicy, word: String) -> Option<String> {
        match policy {
            TextPolicy::Full => Some(word),
            _ if self.known.has(&word) => Some(word),
            TextPolicy::Redacted => Some(redact(&word).text.into_owned()),
            TextPolicy::Hash | TextPolicy::None => None,
        }
    }
}

/// Returns whether it looks like a BCP 47 tag of a language, script and region, which says nothing of anybody.
fn is_language(text: &str) -> bool {
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let mut parts = text.split(['-', '_']);
    let first = parts.next().is_some_and(|first| matches!(first.len(), 2 | 3) && letters(first));
    let rest: Vec<&str> = parts.collect();
    let subtag = |part: &&str| match part.len() {
        2 | 4 => letters(part),
        3 => part.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    first && rest.len() <= SUBTAGS_MAX && rest.iter().all(subtag)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        config::{TrafficConfig, read_text},
        traffic::{observe::tests::pending, writer::tests::feedback},
    };

    const ID: Uuid = Uuid::nil();

    fn keeper(policy: TextPolicy) -> TextKeeper {
        let config = read_text(
            "[[rules]]\nid = \"r\"\ntier_min = \"moderate\"\ntask_type = [\"triage\"]\ntags = [\"beta\"]\n",
        );
        let known = Known::of(&config.unwrap());
        known.add(["refund".to_owned()]);
        let mut config = TrafficConfig::in_folder("nowhere".into());
        config.text = policy;
        config.tenant_text = [("open".to_owned(), TextPolicy::Full)].into();
        TextKeeper::new(&config).knowing(known)
    }

    fn labels(policy: TextPolicy, tenant: &str) -> (Vec<String>, String, String) {
        let mut request = pending("hello").record.request;
        request.tenant = tenant.to_owned();
        request.tags = ["beta", "anna@example.org", "blue"].map(str::to_owned).into();
        request.task_type = "ask anna@example.org".to_owned();
        request.language = "my own words".to_owned();
        keeper(policy).labels(&mut request);
        (request.tags, request.task_type, request.language)
    }

    #[test]
    fn labels_follow_the_policy_and_the_operators_words_stay() {
        let check = |policy, tenant: &str, tags: &[&str], task_type: &str, language: &str| {
            let expected =
                (tags.iter().map(|&tag| tag.to_owned()).collect(), task_type.into(), language.into());
            assert_eq!(labels(policy, tenant), expected, "{policy:?} {tenant}");
        };
        let given = ["beta", "anna@example.org", "blue"];
        check(TextPolicy::None, "open", &given, "ask anna@example.org", "my own words");
        check(TextPolicy::Redacted, "t", &["beta", "[EMAIL]", "blue"], "ask [EMAIL]", "my own words");
        check(TextPolicy::Hash, "t", &["beta"], "", "");
        check(TextPolicy::None, "t", &["beta"], "", "");
    }

    #[test]
    fn languages_are_kept_where_they_are_languages() {
        for language in ["de", "zh-Hant-TW", "pt_BR", "es-419", "yue"] {
            assert!(is_language(language), "{language}");
        }
        for other in ["", "hello", "d", "de-anna-x", "de-", "en-US-x-anna-was-here", "de DE", "1a"] {
            assert!(!is_language(other), "{other}");
        }
    }

    fn kept(policy: TextPolicy, tenant: Option<&str>, name: &str, intent: &str) -> (String, Option<String>) {
        let mut given = feedback(ID, "fine");
        given.feedback_id = format!("{ID}/{name}");
        given.right_intent = Some(intent.to_owned());
        keeper(policy).feedback(tenant, &mut given);
        (given.name().to_owned(), given.right_intent)
    }

    #[test]
    fn intents_and_names_of_feedback_follow_the_policy() {
        assert_eq!(
            kept(TextPolicy::Redacted, Some("t"), "f-1", "about anna@example.org").1.unwrap(),
            "about [EMAIL]"
        );
        assert_eq!(kept(TextPolicy::None, Some("t"), "f-1", "anna's case").1, None);
        assert_eq!(kept(TextPolicy::None, Some("t"), "f-1", "refund").1.unwrap(), "refund");
        assert_eq!(kept(TextPolicy::Redacted, Some("t"), "f-1", "refund").0, "f-1");
        assert_eq!(kept(TextPolicy::Redacted, Some("t"), "anna@example.org", "refund").0.len(), 64);
        let hashed = kept(TextPolicy::None, Some("t"), "anna's case", "refund").0;
        assert_eq!(hashed.len(), 64);
        for tenant in [None, Some("open")] {
            assert_eq!(
                kept(TextPolicy::None, tenant, "anna's case", "refund").0,
                hashed,
                "one name, one piece"
            );
        }
        let by_content = "0123456789abcdef0123456789abcdef";
        assert_eq!(kept(TextPolicy::None, None, by_content, "refund").0, by_content);
    }

    #[test]
    fn a_tenant_is_asked_for_where_it_matters() {
        let mut given = feedback(ID, "fine");
        assert!(keeper(TextPolicy::None).depends_on_tenant(&given));
        given.comment = None;
        given.right_intent = Some("refund".to_owned());
        assert!(!keeper(TextPolicy::None).depends_on_tenant(&given));
        given.right_intent = Some("anna's case".to_owned());
        assert!(keeper(TextPolicy::None).depends_on_tenant(&given));
        assert!(keeper(TextPolicy::None).tenant_matters() && !keeper(TextPolicy::Redacted).tenant_matters());
    }
}
