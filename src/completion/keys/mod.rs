//! The keys of one provider: which one is used next, which rest, which are dead.
//!
//! One key is used until it is rate-limited or refused, because providers keep prompt caches by account.
//! The ring decides and is pure; [`KeyRing`] reads sources and counts. A key never stands in a log, an error or
//! a metric: keys are named by their source, for example `env:OPENAI_API_KEY`.

mod blame;
mod ring;
mod source;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use secrecy::SecretString;

use self::{
    blame::is_of_key,
    ring::{Absent, Ring, State},
    source::{Watch, read_source},
};
pub use self::{
    ring::{HeldKey, KeyCounts},
    source::source_name,
};
use super::attempt::{Again, ErrorKind, ProviderError};
use crate::{config::KeySource, telemetry};

/// How long a rate-limited key rests when the provider did not say.
const REST_USUAL: Duration = Duration::from_secs(10);
/// Longest rest of a key, whatever the provider asked for.
const REST_MAX: Duration = Duration::from_secs(300);

/// A key to make one call with.
#[derive(Debug, Clone)]
pub enum Key {
    /// The provider needs none.
    None,
    Held(HeldKey),
}

impl Key {
    /// Returns the key itself, where there is one.
    pub fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::None => None,
            Self::Held(held) => Some(&held.secret),
        }
    }
}

/// No key can be used: all were refused or are absent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no usable key: {}", .0.join(", "))]
pub struct NoKey(
    /// Each source and what is wrong with it.
    pub Vec<String>,
);

impl From<NoKey> for ProviderError {
    fn from(no_key: NoKey) -> Self {
        let mut message = no_key.to_string();
        message.truncate(message.floor_char_boundary(super::attempt::MESSAGE_BYTES_MAX));
        Self { kind: ErrorKind::NoKey, status: None, message, code: None, again: Again::Usual }
    }
}

/// The keys of one provider.
pub struct KeyRing {
    provider: Arc<str>,
    sources: Vec<KeySource>,
    held: Mutex<Held>,
}

/// What changes.
struct Held {
    ring: Ring,
    files: Watch,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Reads every source. One that holds no key is noted, see [`KeyRing::absent`].
    pub fn read(provider: &str, sources: &[KeySource]) -> Self {
        // Looked at before they are read: what is written meanwhile shows the next time.
        let files = Watch::new(sources);
        let ring = Ring::new(sources.iter().map(read_source).collect());
        Self {
            provider: Arc::from(provider),
            sources: sources.to_vec(),
            held: Mutex::new(Held { ring, files }),
        }
    }

    /// Shows in metrics how many serve, from when requests may take them: before that, keys of another provider may serve
    /// under this name.
    pub fn show(&self, now: Instant) {
        let ring = &mut self.lock().ring;
        ring.published = None;
        self.publish(ring, now);
    }

    /// Returns the key to use: the same as before while it serves, else the next. A resting key is returned
    /// only when every other is dead or rests too: limits are often by model, and the attempt loop and the
    /// breaker hold back calls that would fail.
    pub fn next(&self, now: Instant) -> Result<Key, NoKey> {
        if self.sources.is_empty() {
            return Ok(Key::None);
        }
        let mut held = self.lock();
        let Held { ring, files } = &mut *held;
        for slot in files.changed(&self.sources, now) {
            if ring.replace(slot, read_source(&self.sources[slot])) {
                let source = source_name(&self.sources[slot]);
                tracing::info!(provider = %self.provider, key = %source, "read a new key");
            }
        }
        if ring.wants_rereading(now) {
            ring.reread(self.sources.iter().map(read_source).collect(), now);
        }
        let chosen = ring.choose(now).ok_or_else(|| NoKey(self.problems(ring)));
        self.publish(ring, now);
        chosen.map(Key::Held)
    }

    /// Returns what follows a failed call with this key: rests or buries the key as the error says, and sets
    /// [`Again::Now`] where another is ready.
    pub fn settle(&self, key: &Key, mut error: ProviderError, now: Instant) -> ProviderError {
        match error.kind {
            ErrorKind::RateLimited => {
                let rest = match error.again {
                    Again::After(asked) => asked,
                    Again::Usual | Again::Now => REST_USUAL,
                };
                self.rate_limited(key, now + rest.min(REST_MAX));
            }
            ErrorKind::Unauthorized | ErrorKind::Unpaid if is_of_key(&error) => self.refused_at(key, now),
            // The account may not use this model: other targets go on with the key.
            ErrorKind::Unauthorized
            | ErrorKind::Unpaid
            | ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Timeout(_)
            | ErrorKind::NoKey
            | ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::TooLong
            | ErrorKind::Server
            | ErrorKind::Overloaded
            | ErrorKind::Redirect
            | ErrorKind::Malformed
            | ErrorKind::Cut
            | ErrorKind::ErrorEvent
            | ErrorKind::TooLarge => return error,
        }
        if self.another_ready(now) {
            error.again = Again::Now;
        }
        error
    }

    /// Lets the key rest until then.
    pub fn rate_limited(&self, key: &Key, until: Instant) {
        if let Key::Held(held) = key {
            let ring = &mut self.lock().ring;
            ring.rest(held, until);
            self.publish(ring, Instant::now());
        }
    }

    /// Marks the key dead, because the provider refused it, unless its source holds another one by now.
    pub fn refused(&self, key: &Key) {
        self.refused_at(key, Instant::now());
    }

    fn refused_at(&self, key: &Key, now: Instant) {
        let Key::Held(held) = key else { return };
        let ring = &mut self.lock().ring;
        // At most once for each key that dies: a late refusal of an old key reads nothing.
        let rotated = ring.is_live(held) && ring.replace(held.slot, read_source(&self.sources[held.slot]));
        if !rotated && ring.bury(held, now) {
            let source = source_name(&self.sources[held.slot]);
            tracing::error!(provider = %self.provider, key = %source, "the provider refuses this key");
        }
        self.publish(ring, now);
    }

    /// Returns whether a key is there that is neither dead nor resting.
    pub fn another_ready(&self, now: Instant) -> bool {
        self.lock().ring.is_ready(now)
    }

    /// Returns how many keys serve, rest and are dead; `None` where the provider takes none.
    pub fn counts(&self, now: Instant) -> Option<KeyCounts> {
        (!self.sources.is_empty()).then(|| self.lock().ring.counts(now))
    }

    /// Returns each source that holds no usable key, and why; never the key.
    pub fn absent(&self) -> Vec<String> {
        let held = self.lock();
        let names = self.sources.iter().map(source_name).zip(&held.ring.slots);
        names
            .filter_map(|(name, slot)| match &slot.state {
                State::Absent(absent) => Some(format!("{name} {absent}")),
                State::Live { .. } | State::Dead { .. } => None,
            })
            .collect()
    }

    /// Returns an error for a key that can never be sent, because a header cannot hold it.
    pub fn check(&self) -> Result<(), String> {
        let held = self.lock();
        let mut slots = self.sources.iter().zip(&held.ring.slots);
        let unsendable = slots.find(|(_, slot)| matches!(slot.state, State::Absent(Absent::Unsendable)));
        match unsendable {
            Some((source, _)) => Err(format!("{} {}", source_name(source), Absent::Unsendable)),
            None => Ok(()),
        }
    }

    fn problems(&self, ring: &Ring) -> Vec<String> {
        let names = self.sources.iter().map(source_name).zip(&ring.slots);
        names
            .map(|(name, slot)| match &slot.state {
                State::Absent(absent) => format!("{name} {absent}"),
                State::Dead { .. } => format!("{name} was refused by the provider"),
                State::Live { .. } => format!("{name} is live"),
            })
            .collect()
    }

    fn publish(&self, ring: &mut Ring, now: Instant) {
        let counts = ring.counts(now);
        if ring.published != Some(counts) && !self.sources.is_empty() {
            ring.published = Some(counts);
            telemetry::provider_keys(&self.provider, counts.live, counts.resting, counts.dead);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing under the lock panics; should it, the states are still whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::{ring::RETRY_REFUSED_AFTER, source::LOOK_EVERY, *};

    fn error(kind: ErrorKind, again: Again) -> ProviderError {
        ProviderError { kind, status: None, message: String::new(), code: None, again }
    }

    fn files(keys: &[&str]) -> (tempfile::TempDir, Vec<KeySource>) {
        let folder = tempfile::tempdir().unwrap();
        let sources = keys
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let path = folder.path().join(format!("key-{at}"));
                std::fs::write(&path, key).unwrap();
                KeySource::File(path)
            })
            .collect();
        (folder, sources)
    }

    fn text(key: &Key) -> &str {
        key.secret().map_or("none", ExposeSecret::expose_secret)
    }

    #[test]
    fn a_provider_without_sources_needs_no_key() {
        let keys = KeyRing::read("local", &[]);
        assert!(matches!(keys.next(Instant::now()), Ok(Key::None)));
        let refused = error(ErrorKind::Unauthorized, Again::Usual);
        assert_eq!(keys.settle(&Key::None, refused, Instant::now()).again, Again::Usual);
        assert!(matches!(keys.next(Instant::now()), Ok(Key::None)));
    }

    #[test]
    fn a_rate_limited_key_gives_way_and_its_follower_stays() {
        let (_folder, sources) = files(&["first-key\n", "second-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let first = keys.next(now).unwrap();
        assert_eq!(text(&first), "first-key");
        let again = keys.settle(&first, error(ErrorKind::RateLimited, Again::Usual), now).again;
        assert_eq!(again, Again::Now);
        assert_eq!(text(&keys.next(now).unwrap()), "second-key");
        assert_eq!(text(&keys.next(now + REST_MAX).unwrap()), "second-key");
    }

    #[test]
    fn an_only_key_is_used_although_it_rests_and_what_the_provider_asked_stays() {
        let (_folder, sources) = files(&["only-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let key = keys.next(now).unwrap();
        let asked = Again::After(Duration::from_secs(7));
        assert_eq!(keys.settle(&key, error(ErrorKind::RateLimited, asked), now).again, asked);
        assert!(!keys.another_ready(now));
        assert!(keys.another_ready(now + Duration::from_secs(7)));
        assert_eq!(text(&keys.next(now).unwrap()), "only-key");
    }

    #[test]
    fn a_rotated_file_revives_and_a_late_refusal_of_the_old_key_does_not_count() {
        let (folder, sources) = files(&["old-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let old = keys.next(now).unwrap();
        keys.settle(&old, error(ErrorKind::Unauthorized, Again::Usual), now);
        let refusal = keys.next(now).unwrap_err().to_string();
        assert!(refusal.ends_with("key-0 was refused by the provider"), "{refusal}");

        std::fs::write(folder.path().join("key-0"), "newer-key").unwrap();
        assert!(keys.next(now + LOOK_EVERY / 2).is_err(), "looked again too soon");
        let later = now + LOOK_EVERY;
        assert_eq!(text(&keys.next(later).unwrap()), "newer-key");
        keys.settle(&old, error(ErrorKind::Unauthorized, Again::Usual), later);
        assert_eq!(text(&keys.next(later).unwrap()), "newer-key");
    }

    #[test]
    fn a_rotated_file_is_read_while_its_key_serves() {
        let (folder, sources) = files(&["old-key", "other-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        assert_eq!(text(&keys.next(now).unwrap()), "old-key");
        std::fs::write(folder.path().join("key-0"), "newer-key").unwrap();
        assert_eq!(text(&keys.next(now + LOOK_EVERY / 2).unwrap()), "old-key");
        assert_eq!(text(&keys.next(now + LOOK_EVERY).unwrap()), "newer-key");
        // Between the old file and the new one there may be none.
        std::fs::remove_file(folder.path().join("key-0")).unwrap();
        assert_eq!(text(&keys.next(now + LOOK_EVERY * 2).unwrap()), "newer-key");
    }

    #[test]
    fn a_refused_key_is_read_again_before_it_is_buried() {
        let (folder, sources) = files(&["old-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let old = keys.next(now).unwrap();
        std::fs::write(folder.path().join("key-0"), "newer-key").unwrap();
        let refused = error(ErrorKind::Unauthorized, Again::Usual);
        assert_eq!(keys.settle(&old, refused.clone(), now).again, Again::Now);
        let newer = keys.next(now).unwrap();
        assert_eq!(text(&newer), "newer-key");
        assert_eq!(keys.settle(&newer, refused, now).again, Again::Usual);
        assert!(keys.next(now).is_err());
    }

    #[test]
    fn a_key_that_may_not_use_one_model_serves_the_others() {
        let (_folder, sources) = files(&["only-key"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let key = keys.next(now).unwrap();
        let forbidden = ProviderError {
            status: Some(403),
            message: "Project `p` does not have access to model `m`".to_owned(),
            ..error(ErrorKind::Unauthorized, Again::Usual)
        };
        assert_eq!(keys.settle(&key, forbidden.clone(), now), forbidden);
        assert_eq!(text(&keys.next(now).unwrap()), "only-key");
        let named = ProviderError { message: "This API key is disabled".to_owned(), ..forbidden };
        keys.settle(&key, named, now);
        assert!(keys.next(now).is_err());
    }

    #[test]
    fn a_refused_key_is_tried_again_after_a_while() {
        let (_folder, sources) = files(&["key-of-an-empty-account"]);
        let keys = KeyRing::read("p", &sources);
        let now = Instant::now();
        let key = keys.next(now).unwrap();
        keys.settle(&key, error(ErrorKind::Unpaid, Again::Usual), now);
        assert!(keys.next(now + RETRY_REFUSED_AFTER / 2).is_err());
        assert!(keys.next(now + RETRY_REFUSED_AFTER * 2).is_ok());
    }

    #[test]
    fn absent_keys_are_named_by_their_source() {
        let (folder, mut sources) = files(&["", "two\nlines", &"x".repeat(20_000)]);
        sources.push(KeySource::Environment("POINTSMAN_TEST_NO_SUCH_KEY".to_owned()));
        sources.push(KeySource::File(folder.path().to_owned()));
        let keys = KeyRing::read("p", &sources);
        let absent = keys.absent();
        let wanted = ["is empty", "holds characters", "is too long", "is not set", "cannot be read"];
        assert_eq!(absent.len(), wanted.len());
        for (line, wanted) in absent.iter().zip(wanted) {
            assert!(line.contains(wanted), "{line}");
        }
        assert!(absent[3].starts_with("env:POINTSMAN_TEST_NO_SUCH_KEY "));
        let refused = keys.check().unwrap_err();
        assert!(refused.contains("key-1 ") && !refused.contains("lines"), "{refused}");
        assert_eq!(ProviderError::from(keys.next(Instant::now()).unwrap_err()).kind, ErrorKind::NoKey);
    }

    #[test]
    fn a_key_never_shows() {
        let (_folder, sources) = files(&["very-secret-key"]);
        let keys = KeyRing::read("p", &sources);
        let key = keys.next(Instant::now()).unwrap();
        assert!(!format!("{keys:?} {key:?}").contains("very-secret-key"));
    }
}
