//! What becomes of texts before they leave the process's memory: each tenant's policy.
//!
//! Pure: nothing here reads a clock or a file, and no text stands in an error, a log line or `Debug`.

mod labels;
pub mod redact;

use std::{collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

pub use self::labels::Known;
use self::redact::redact;
use super::record::{MessageRecord, TextRecord};
use crate::{
    config::{TextPolicy, TrafficConfig},
    prompt::Message,
};

/// What is hashed stands in the hash, so that a session's name and a text never hash to the same.
const CONVERSATION: &[u8] = b"conversation";
const SESSION: &[u8] = b"session";

/// Applies each tenant's policy.
#[derive(Clone)]
pub struct TextKeeper {
    policy: TextPolicy,
    tenant_policies: BTreeMap<String, TextPolicy>,
    hash_key: Option<SecretString>,
    known: Known,
}

impl TextKeeper {
    /// Takes the policies and the key of hashes.
    pub fn new(config: &TrafficConfig) -> Self {
        Self {
            policy: config.text,
            tenant_policies: config.tenant_text.clone(),
            hash_key: config.hash_key.clone(),
            known: Known::default(),
        }
    }

    /// Takes the operator's own words, which every policy keeps.
    #[must_use]
    pub fn knowing(self, known: Known) -> Self {
        Self { known, ..self }
    }

    /// Returns the policy for a tenant; for one that is not known, the strictest of all.
    pub fn policy(&self, tenant: Option<&str>) -> TextPolicy {
        match tenant {
            Some(tenant) => self.tenant_policies.get(tenant).copied().unwrap_or(self.policy),
            None => self
                .tenant_policies
                .values()
                .copied()
                .chain([self.policy])
                .max_by_key(|policy| strictness(*policy))
                .unwrap_or(TextPolicy::None),
        }
    }

    /// Returns whether of a text of which the tenant is not known less is kept than might be if it were.
    pub fn tenant_matters(&self) -> bool {
        let keeps = |policy: &TextPolicy| matches!(policy, TextPolicy::Full | TextPolicy::Redacted);
        !keeps(&self.policy(None)) && self.tenant_policies.values().chain([&self.policy]).any(keeps)
    }

    /// Returns a conversation as it may be kept; `bytes` is its length before it was cut.
    pub fn conversation(&self, tenant: &str, messages: &[Message], bytes: u64, cut: bool) -> TextRecord {
        let policy = self.policy(Some(tenant));
        let mut record = TextRecord {
            policy: policy.as_str().to_owned(),
            messages: Vec::new(),
            hash: None,
            bytes,
            cut,
            redactions: 0,
        };
        match policy {
            TextPolicy::Full => {
                record.messages =
                    messages.iter().map(|message| kept(message, message.content.clone())).collect();
            }
            TextPolicy::Redacted => {
                for message in messages {
                    let redacted = redact(&message.content);
                    record.redactions = record.redactions.saturating_add(redacted.count);
                    record.messages.push(kept(message, redacted.text.into_owned()));
                }
            }
            TextPolicy::Hash => record.hash = Some(self.conversation_hash(tenant, messages, bytes)),
            TextPolicy::None => {}
        }
        record
    }

    /// Returns a comment or demonstration as it may be kept; `None` where nothing of it may.
    pub fn remark(&self, tenant: Option<&str>, text: &str) -> Option<String> {
        match self.policy(tenant) {
            TextPolicy::Full => Some(text.to_owned()),
            TextPolicy::Redacted => Some(redact(text).text.into_owned()),
            TextPolicy::Hash | TextPolicy::None => None,
        }
    }

    /// Returns a session's name as it may be kept: hashed where no text is kept, and where it holds something that
    /// a redacted text may not hold, such as an e-mail address.
    pub fn session(&self, tenant: &str, session: &str) -> String {
        let as_given = match self.policy(Some(tenant)) {
            TextPolicy::Full => true,
            TextPolicy::Redacted => redact(session).count == 0,
            TextPolicy::Hash | TextPolicy::None => false,
        };
        if as_given || session.is_empty() { session.to_owned() } else { self.session_hash(tenant, session) }
    }

    /// Returns every name under which a session of this tenant may have been kept, whatever the policy was then, and
    /// also where there was no key yet. What was hashed with a key that is gone is found by nobody.
    pub fn session_names(&self, tenant: &str, session: &str) -> Vec<String> {
        let mut names = vec![session.to_owned(), self.session_hash(tenant, session)];
        if self.hash_key.is_some() {
            names.push(Self { hash_key: None, ..self.clone() }.session_hash(tenant, session));
        }
        names
    }

    fn session_hash(&self, tenant: &str, session: &str) -> String {
        self.hash(&[SESSION, tenant.as_bytes(), session.as_bytes()])
    }

    /// Of one tenant: whether two tenants asked the same is nobody's business. The original length tells long texts
    /// apart that were cut at the same place.
    fn conversation_hash(&self, tenant: &str, messages: &[Message], bytes: u64) -> String {
        let bytes = bytes.to_le_bytes();
        let mut parts = vec![CONVERSATION, tenant.as_bytes(), &bytes];
        for message in messages {
            parts.extend([message.role.as_str().as_bytes(), message.content.as_bytes()]);
        }
        self.hash(&parts)
    }

    /// Each part goes in with its length, so that no two lists of parts are the same bytes.
    fn hash(&self, parts: &[&[u8]]) -> String {
        let lengths = parts.iter().map(|part| (part.len() as u64).to_le_bytes());
        let digest = match &self.hash_key {
            Some(key) => {
                let mut keyed = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
                    .expect("HMAC takes keys of every length");
                for (part, length) in parts.iter().zip(lengths) {
                    keyed.update(&length);
                    keyed.update(part);
                }
                keyed.finalize().into_bytes()
            }
            None => {
                let mut plain = Sha256::new();
                for (part, length) in parts.iter().zip(lengths) {
                    plain.update(length);
                    plain.update(part);
                }
                plain.finalize()
            }
        };
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TextKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextKeeper").field("policy", &self.policy).finish_non_exhaustive()
    }
}

fn strictness(policy: TextPolicy) -> u8 {
    match policy {
        TextPolicy::Full => 0,
        TextPolicy::Redacted => 1,
        TextPolicy::Hash => 2,
        TextPolicy::None => 3,
    }
}

fn kept(message: &Message, content: String) -> MessageRecord {
    MessageRecord { role: message.role.as_str().to_owned(), content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Role;

    fn keeper(policy: TextPolicy, key: Option<&str>) -> TextKeeper {
        let mut config = TrafficConfig::in_folder("nowhere".into());
        config.text = policy;
        config.hash_key = key.map(|key| SecretString::from(key.to_owned()));
        config.tenant_text = [("open", TextPolicy::Full), ("closed", TextPolicy::None)]
            .map(|(name, policy)| (name.to_owned(), policy))
            .into();
        TextKeeper::new(&config)
    }

    fn said(text: &str) -> Vec<Message> {
        vec![
            Message { role: Role::System, content: "Be brief.".to_owned() },
            Message { role: Role::User, content: text.to_owned() },
        ]
    }

    #[test]
    fn a_tenant_has_its_own_policy_and_an_unknown_one_the_strictest() {
        let keeper = keeper(TextPolicy::Redacted, None);
        assert_eq!(keeper.policy(Some("open")), TextPolicy::Full);
        assert_eq!(keeper.policy(Some("closed")), TextPolicy::None);
        assert_eq!(keeper.policy(Some("")), TextPolicy::Redacted);
        assert_eq!(keeper.policy(Some("another")), TextPolicy::Redacted);
        assert_eq!(keeper.policy(None), TextPolicy::None);
    }

    #[test]
    fn each_policy_keeps_what_it_says() {
        let messages = said("mail anna@example.org now");
        let record = |policy| keeper(policy, Some("k")).conversation("t", &messages, 34, false);
        let full = record(TextPolicy::Full);
        assert_eq!((full.policy.as_str(), full.redactions, full.hash.as_ref()), ("full", 0, None));
        assert_eq!(full.messages[1].content, "mail anna@example.org now");
        let redacted = record(TextPolicy::Redacted);
        assert_eq!((redacted.policy.as_str(), redacted.redactions, redacted.bytes), ("redacted", 1, 34));
        assert_eq!(redacted.messages[0].role, "system");
        assert_eq!(redacted.messages[1].content, "mail [EMAIL] now");
        let hash = record(TextPolicy::Hash);
        assert!(hash.messages.is_empty());
        assert_eq!(hash.hash.map(|hash| hash.len()), Some(64));
        let none = record(TextPolicy::None);
        assert_eq!((none.messages.len(), none.hash, none.bytes), (0, None, 34));
    }

    #[test]
    fn hashes_differ_by_key_tenant_text_role_and_length_and_by_nothing_else() {
        let hash = |key: Option<&str>, tenant: &str, messages: &[Message], bytes| {
            keeper(TextPolicy::Hash, key).conversation(tenant, messages, bytes, false).hash.unwrap()
        };
        let text = said("hello");
        let first = hash(Some("k"), "t", &text, 5);
        assert_eq!(first, hash(Some("k"), "t", &text, 5));
        let mut other_role = text.clone();
        other_role[1].role = Role::Assistant;
        let split: Vec<Message> =
            ["Be brief.he", "llo"].map(|text| Message { role: Role::User, content: text.to_owned() }).into();
        for other in [
            hash(None, "t", &text, 5),
            hash(Some("other"), "t", &text, 5),
            hash(Some("k"), "u", &text, 5),
            hash(Some("k"), "t", &said("hello!"), 5),
            hash(Some("k"), "t", &text, 6),
            hash(Some("k"), "t", &other_role, 5),
            hash(Some("k"), "t", &split, 5),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn hashes_are_of_each_part_with_its_length_so_that_others_can_compute_them() {
        for (key, expected) in [
            (Some("key"), "310ba656c5285e9a78a614043093fa39aa9c65fb164ef204608a4ad90b1cf424"),
            (None, "5a97878f2b3d751bd7c49f830ea21349d5048db15728aa61e647755073a79d2f"),
        ] {
            assert_eq!(keeper(TextPolicy::Hash, key).session("tenant", "session"), expected);
        }
    }

    #[test]
    fn a_session_is_hashed_where_its_name_may_not_be_kept() {
        for (policy, session, kept) in [
            (TextPolicy::Full, "anna@example.org", true),
            (TextPolicy::Redacted, "5f0c-77", true),
            (TextPolicy::Redacted, "anna@example.org", false),
            (TextPolicy::Hash, "5f0c-77", false),
            (TextPolicy::None, "5f0c-77", false),
            (TextPolicy::None, "", true),
        ] {
            let keeper = keeper(policy, None);
            let name = keeper.session("t", session);
            assert_eq!(name == session, kept, "{policy:?} {session}");
            assert!(keeper.session_names("t", session).contains(&name));
        }
        let (with, without) =
            (keeper(TextPolicy::Hash, Some("k")), keeper(TextPolicy::Hash, None).session("t", "s"));
        assert!(with.session_names("t", "s").contains(&without), "it was hashed before there was a key");
    }

    #[test]
    fn remarks_follow_the_policy() {
        let text = "call me: anna@example.org";
        let remark = |policy, tenant| keeper(policy, None).remark(tenant, text);
        assert_eq!(remark(TextPolicy::Redacted, Some("t")).as_deref(), Some("call me: [EMAIL]"));
        assert_eq!(remark(TextPolicy::Full, Some("t")).as_deref(), Some(text));
        assert_eq!(remark(TextPolicy::Hash, Some("t")), None);
        assert_eq!(
            remark(TextPolicy::Full, None),
            None,
            "a tenant that is not known may be the strictest one"
        );
    }

    #[test]
    fn debug_shows_neither_key_nor_tenants() {
        let shown = format!("{:?}", keeper(TextPolicy::Hash, Some("hush")));
        assert!(!shown.contains("hush") && !shown.contains("closed"), "{shown}");
    }
}
