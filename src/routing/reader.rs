//! The classifier with what belongs to its bundle: levels of the tiers, intents by example, the
//! languages it reads, and the scores kept of identical texts.

use std::{
    hash::RandomState,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    RouterError,
    classifier::{Classifier, ClassifyError, Description, Excerpt, Scored, Scores, StageTimes},
    intents::{Claim, ExampleIntents, learn},
    language::{Detected, ReadLanguages, Unread, detect_turns},
};
use crate::{
    config::{Config, ExamplesConfig},
    prompt::Prompt,
    telemetry,
};

/// Reads prompts; made for one configuration and one classifier.
pub struct Reader {
    classifier: Arc<dyn Classifier>,
    /// Level of each tier.
    levels: Vec<usize>,
    intents: Option<Arc<ExampleIntents>>,
    /// What `intents` was learned from.
    examples: Vec<Examples>,
    languages: Option<ReadLanguages>,
    cache: Option<Cache>,
    cache_entries: u64,
    wait_max: Duration,
}

/// An intent's place in the configuration, its name and its examples.
type Examples = (usize, Arc<str>, ExamplesConfig);

/// Scores kept of identical texts; clones share them.
#[derive(Clone)]
struct Cache {
    kept: moka::sync::Cache<u128, Arc<Kept>>,
    keys: [RandomState; 2],
}

/// What was read of one prompt.
pub struct Read {
    kept: Arc<Kept>,
    /// The prompt's language, when the classifier does not read it well.
    pub unread: Option<Unread>,
    /// Whether the scores were kept from an earlier request.
    pub cached: bool,
    pub times: StageTimes,
}

/// All that follows from a text alone.
struct Kept {
    scores: Scores,
    claim: Option<Claim>,
    /// `None` where the bundle does not say what it reads.
    language: Option<Detected>,
}

impl Read {
    pub fn scores(&self) -> &Scores {
        &self.kept.scores
    }

    /// Returns the intent whose examples the prompt is like. In a language that the classifier does not
    /// read well, likeness says nothing: unknown words all look the same.
    pub fn claim(&self) -> Option<&Claim> {
        self.kept.claim.as_ref().filter(|_| self.unread.is_none())
    }
}

impl Reader {
    /// Fits the classifier to the configuration; embeds the examples of intents, which blocks.
    pub fn new(config: &Config, classifier: Arc<dyn Classifier>) -> Result<Self, RouterError> {
        let description = classifier.describe();
        let levels = levels(config, description)?;
        check_intents(config, description)?;
        let intents = learn(config, &*classifier)?.map(Arc::new);
        let languages = description.languages.clone();
        let cache_entries = config.classifier.cache_entries;
        let cache = Cache::of(cache_entries);
        let (examples, wait_max) = (examples(config), config.classifier.wait_max);
        Ok(Self { classifier, levels, intents, examples, languages, cache, cache_entries, wait_max })
    }

    /// Fits the same classifier to another configuration. What was learned of examples, and the scores that were
    /// kept, stay where the configuration changes nothing about them; else this blocks like [`Reader::new`].
    pub fn under(&self, config: &Config) -> Result<Self, RouterError> {
        if self.examples != examples(config) {
            return Self::new(config, Arc::clone(&self.classifier));
        }
        let description = self.describe();
        let levels = levels(config, description)?;
        check_intents(config, description)?;
        let cache_entries = config.classifier.cache_entries;
        let cache =
            if cache_entries == self.cache_entries { self.cache.clone() } else { Cache::of(cache_entries) };
        Ok(Self {
            classifier: Arc::clone(&self.classifier),
            levels,
            intents: self.intents.clone(),
            examples: self.examples.clone(),
            languages: self.languages.clone(),
            cache,
            cache_entries,
            wait_max: config.classifier.wait_max,
        })
    }

    /// Has it wait so long for scores, whatever the configuration says.
    pub fn waiting(self, wait_max: Duration) -> Self {
        Self { wait_max, ..self }
    }

    pub fn classifier(&self) -> &Arc<dyn Classifier> {
        &self.classifier
    }

    pub fn describe(&self) -> &Description {
        self.classifier.describe()
    }

    /// Returns the level of each tier.
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    pub fn intents(&self) -> Option<&ExampleIntents> {
        self.intents.as_deref()
    }

    /// Asks the cache, then the classifier.
    pub async fn read(&self, prompt: &Prompt, deadline: Option<Instant>) -> Result<Read, ClassifyError> {
        let excerpt = Excerpt::of(prompt, &self.describe().input);
        let key = self.cache.as_ref().map(|cache| (&cache.kept, excerpt.fingerprint(&cache.keys)));
        let (kept, cached, times) = match key.as_ref().and_then(|(cache, key)| cache.get(key)) {
            Some(kept) => (kept, true, StageTimes::default()),
            None => {
                let scored =
                    classify(&*self.classifier, excerpt, wait_until(self.wait_max, deadline)).await?;
                let times = scored.times;
                let kept = Arc::new(self.keep(prompt, scored)?);
                if let Some((cache, key)) = key {
                    cache.insert(key, Arc::clone(&kept));
                }
                (kept, false, times)
            }
        };
        let unread = match (&self.languages, kept.language) {
            (Some(languages), Some(detected)) => languages.unread(detected, prompt),
            (None, _) | (_, None) => None,
        };
        let read = Read { kept, unread, cached, times };
        if let Some(unread) = read.unread {
            telemetry::unread(unread.label);
        }
        if let Some(claim) = read.claim() {
            telemetry::claimed(&claim.intent.0);
        }
        Ok(read)
    }

    /// Draws what follows from the scored text alone.
    fn keep(&self, prompt: &Prompt, scored: Scored) -> Result<Kept, ClassifyError> {
        let claim = match &self.intents {
            Some(intents) => intents.claim(scored.finite_embedding()?),
            None => None,
        };
        let language = self.languages.as_ref().map(|_| {
            // Of what the excerpt holds and no more: prompts with the same excerpt share it.
            detect_turns(&Excerpt::user_turns(prompt, &self.describe().input))
        });
        Ok(Kept { scores: scored.scores, claim, language })
    }
}

impl Cache {
    /// Returns an empty one; `None` for no entries.
    fn of(entries: u64) -> Option<Self> {
        let kept = (entries > 0).then(|| moka::sync::Cache::new(entries))?;
        Some(Self { kept, keys: [RandomState::new(), RandomState::new()] })
    }
}

fn examples(config: &Config) -> Vec<Examples> {
    let written = config.intents.iter().enumerate();
    written
        .filter_map(|(place, intent)| Some((place, Arc::clone(&intent.name), intent.examples.clone()?)))
        .collect()
}

fn levels(config: &Config, description: &Description) -> Result<Vec<usize>, RouterError> {
    let mut levels: Vec<usize> = Vec::with_capacity(config.tiers.len());
    for (tier, written) in config.tiers.iter().enumerate() {
        let level = Arc::clone(&written.level);
        let Some(place) = description.levels.iter().position(|known| *known == level) else {
            let known = description.levels.join(", ");
            return Err(RouterError::UnknownLevel { tier, level, known });
        };
        if levels.last().is_some_and(|&before| place < before) {
            return Err(RouterError::LevelOrder { tier, level });
        }
        levels.push(place);
    }
    Ok(levels)
}

/// Every intent that the configuration names is the bundle's or has examples, and never both.
fn check_intents(config: &Config, description: &Description) -> Result<(), RouterError> {
    let of_the_bundle = |name: &Arc<str>| description.intents.iter().any(|known| known.0 == *name);
    let own = |name: &Arc<str>| config.intent_named(name).is_some_and(|intent| intent.examples.is_some());
    for (at, intent) in config.intents.iter().enumerate() {
        if intent.examples.is_some() && of_the_bundle(&intent.name) {
            let (place, intent) = (format!("intents[{at}].name"), Arc::clone(&intent.name));
            return Err(RouterError::IntentTaken { place, intent });
        }
    }
    let rules = config.rules.iter().enumerate().filter_map(|(at, rule)| {
        Some((format!("rules[{at}].intent"), rule.fixes.as_ref()?.intent.as_ref()?, ""))
    });
    let intents = config.intents.iter().enumerate().map(|(at, intent)| {
        let hint = "; with examples it would be one of your own";
        (format!("intents[{at}].name"), &intent.name, hint)
    });
    let checks = config.completion.checks.iter().enumerate().flat_map(|(at, checks)| {
        let place = move |of| format!("completion.checks[{at}].intents[{of}]");
        checks.intents.iter().enumerate().map(move |(of, intent)| (place(of), intent, ""))
    });
    for (place, intent, hint) in rules.chain(intents).chain(checks) {
        if !of_the_bundle(intent) && !own(intent) {
            let known = description.intents.iter().map(|known| &known.0);
            let own = config.intents.iter().map(|intent| &intent.name).filter(|name| own(name));
            let known: Vec<&str> = known.chain(own).map(|name| &**name).collect();
            return Err(RouterError::UnknownIntent {
                place,
                intent: Arc::clone(intent),
                known: known.join(", "),
                hint,
            });
        }
    }
    Ok(())
}

/// Waits for scores until `deadline`; a prompt given up on is skipped by the workers.
async fn classify(
    classifier: &dyn Classifier,
    excerpt: Excerpt,
    deadline: Instant,
) -> Result<Scored, ClassifyError> {
    let asked = Instant::now();
    let receiver = classifier.submit(excerpt, deadline)?;
    match tokio::time::timeout_at(deadline.into(), receiver).await {
        Ok(Ok(outcome)) => outcome,
        // Workers drop a reply without sending when its deadline has passed, or when they end.
        Ok(Err(_)) if Instant::now() < deadline => Err(ClassifyError::Stopped),
        Ok(Err(_)) | Err(_) => Err(ClassifyError::TooLate(asked.elapsed())),
    }
}

/// Returns when to go on without scores: early enough for the answer to reach the caller in time.
fn wait_until(wait_max: Duration, deadline: Option<Instant>) -> Instant {
    // The runtime's timer ticks in milliseconds: one for it, one for the way back.
    const WAY_BACK_MIN: Duration = Duration::from_millis(2);
    let now = Instant::now();
    match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(now);
            now + wait_max.min(left.saturating_sub(WAY_BACK_MIN.max(left / 10)))
        }
        None => now + wait_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::read_text,
        prompt::Draft,
        routing::{admit::admit, classifier::scripted::Scripted},
    };

    #[tokio::test]
    async fn an_embedding_that_is_no_number_fails_only_what_compares_it() {
        let examples = "[[intents]]\nname = \"east\"\nexamples = [\"a\", \"b\"]\n";
        for (intents, expected) in
            [("", Ok(())), (examples, Err(ClassifyError::Failed("output embedding holds NaN".to_owned())))]
        {
            let config = read_text(&format!("rules = []\n{intents}")).unwrap();
            let scripted = Scripted::embedding(|text| match text {
                "broken" => vec![f32::NAN, 0.0],
                _ => vec![1.0, 0.0],
            });
            let reader = Reader::new(&config, Arc::new(scripted)).unwrap();
            let prompt = admit(Draft::from_text("broken"), &config).unwrap();
            assert_eq!(reader.read(&prompt, None).await.map(|_| ()), expected);
        }
    }

    #[tokio::test]
    async fn another_configuration_keeps_what_it_says_nothing_about() {
        const EXAMPLES: &str = "[[intents]]\nname = \"east\"\nexamples = [\"a\", \"b\"]\n";
        let check = async |after: &str, cached: bool, learned: bool| {
            let read = |sections: &str| read_text(&format!("rules = []\n{sections}")).unwrap();
            let (before, after) = (read(EXAMPLES), read(after));
            let scripted = Scripted::embedding(|_| vec![1.0, 0.0]);
            let reader = Reader::new(&before, Arc::new(scripted)).unwrap();
            let prompt = admit(Draft::from_text("hello"), &before).unwrap();
            assert!(!reader.read(&prompt, None).await.unwrap().cached);
            let renewed = reader.under(&after).unwrap();
            assert_eq!(renewed.read(&prompt, None).await.unwrap().cached, cached);
            let same = match (&reader.intents, &renewed.intents) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                _ => false,
            };
            assert_eq!(same, learned);
        };
        check(EXAMPLES, true, true).await;
        check(&format!("[policy]\nquality = 0.5\n{EXAMPLES}"), true, true).await;
        check(&format!("[classifier]\ncache_entries = 7\n{EXAMPLES}"), false, true).await;
        check(&EXAMPLES.replace("\"b\"", "\"c\""), false, false).await;
        check("", false, false).await;
    }
}
