//! The texts of one prompt, each matched, joined or language-detected once, and only if a rule asks.

use std::cell::OnceCell;

use super::{Rule, RuleSet};
use crate::{config::TextSource, prompt::Prompt, routing::language};

/// The prompt's texts with what is known of them so far.
pub struct Texts<'a> {
    sets: &'a RuleSet,
    prompt: &'a Prompt,
    last_user: OnceCell<Vec<bool>>,
    conversation: OnceCell<Vec<bool>>,
    system: OnceCell<Vec<bool>>,
    language: OnceCell<Option<&'a str>>,
}

impl<'a> Texts<'a> {
    /// Starts with nothing matched.
    pub fn new(sets: &'a RuleSet, prompt: &'a Prompt) -> Self {
        Self {
            sets,
            prompt,
            last_user: OnceCell::new(),
            conversation: OnceCell::new(),
            system: OnceCell::new(),
            language: OnceCell::new(),
        }
    }

    /// Returns whether the patterns of this rule hold.
    pub fn match_rule(&self, rule: &Rule) -> bool {
        if rule.any.is_empty() && rule.all.is_empty() && rule.none.is_empty() {
            return true;
        }
        let matched = self.matched(rule.on);
        (rule.any.is_empty() || rule.any.iter().any(|&at| matched[at]))
            && rule.all.iter().all(|&at| matched[at])
            && !rule.none.iter().any(|&at| matched[at])
    }

    fn matched(&self, on: TextSource) -> &[bool] {
        match on {
            TextSource::LastUser => {
                self.last_user.get_or_init(|| self.sets.last_user.matches(self.prompt.last_user_text()))
            }
            TextSource::System => {
                self.system.get_or_init(|| self.sets.system.matches(self.prompt.system_text()))
            }
            TextSource::Conversation => self.conversation.get_or_init(|| {
                let contents: Vec<&str> =
                    self.prompt.messages.iter().map(|message| message.content.as_str()).collect();
                self.sets.conversation.matches(&contents.join("\n"))
            }),
        }
    }

    /// Returns whether the user's language is one of these, or none is asked for. Ask last: telling a language
    /// costs more than everything before.
    pub fn language_is_one_of(&self, asked: &[String]) -> bool {
        asked.is_empty()
            || self
                .language()
                .is_some_and(|language| asked.iter().any(|item| item.eq_ignore_ascii_case(language)))
    }

    /// Returns the user's language as ISO 639-1, stated or detected; `None` when unsure.
    fn language(&self) -> Option<&str> {
        *self.language.get_or_init(|| {
            let text = self.prompt.last_user_text();
            language::stated(self.prompt).or_else(|| language::detect(text).language)
        })
    }
}
