//! What is remembered of each conversation: the strongest tier that it has needed, so that it never
//! silently drops below, and who answered it last, so that the provider's prompt cache is used again.
//!
//! Bounded: the least used are forgotten first, idle ones after a while; a session that was forgotten
//! starts anew.

use std::sync::Arc;

use crate::{
    config::{SessionFloor, SessionsConfig, TierConfig},
    prompt::{Context, TargetId, Tier},
};

/// Tenant and session id: the same id of two tenants is two sessions.
type Key = (String, String);

/// A bounded memory of sessions.
pub struct Sessions {
    memory: moka::sync::Cache<Key, Kept>,
    uses_floor: bool,
    uses_target: bool,
    writes: Writes,
}

/// Whether decisions change what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    Yes,
    No,
}

/// What is kept of one session. By names, so that it outlives a change of the configuration.
#[derive(Debug, Clone, Default)]
struct Kept {
    floor: Option<Arc<str>>,
    last: Option<LastServed>,
}

/// What is known of one session; of a new one nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The strongest tier that it has needed.
    pub floor: Option<Tier>,
    pub last: Option<LastServed>,
}

/// Who answered a session last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastServed {
    pub target: TargetId,
    /// Length of the conversation then, which the target's provider may have cached.
    pub prompt_tokens: u32,
}

impl Sessions {
    /// Starts an empty memory.
    pub fn new(config: &SessionsConfig) -> Self {
        let memory =
            moka::sync::Cache::builder().max_capacity(config.sessions_max).time_to_idle(config.idle).build();
        Self { memory, uses_floor: uses_floor(config), uses_target: config.sticky, writes: Writes::Yes }
    }

    /// Returns the same memory under another configuration. How much it holds and for how long stays what it was.
    #[must_use]
    pub fn under(&self, config: &SessionsConfig) -> Self {
        let memory = self.memory.clone();
        Self { memory, uses_floor: uses_floor(config), uses_target: config.sticky, writes: self.writes }
    }

    /// Returns the same memory for decisions that nobody is told of: they change nothing in it.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let (memory, writes) = (self.memory.clone(), Writes::No);
        Self { memory, uses_floor: self.uses_floor, uses_target: self.uses_target, writes }
    }

    /// Returns what is known of this request's session; a floor that is no tier any more is none.
    pub fn recall(&self, context: &Context, tiers: &[TierConfig]) -> Remembered {
        let is_used = (self.uses_floor || self.uses_target) && !context.session_id.is_empty();
        let Some(kept) = is_used.then(|| self.memory.get(&key(context))).flatten() else {
            return Remembered::default();
        };
        let floor = kept.floor.filter(|_| self.uses_floor).and_then(|name| tier_named(tiers, &name));
        Remembered { floor, last: kept.last.filter(|_| self.uses_target) }
    }

    /// Remembers that this request's session needed `tier`.
    pub fn needed(&self, context: &Context, tier: Tier, tiers: &[TierConfig]) {
        if self.uses_floor {
            self.change(context, |kept| {
                let before = kept.floor.as_ref().and_then(|name| tier_named(tiers, name));
                if before < Some(tier) {
                    kept.floor = Some(Arc::clone(&tiers[tier.0].name));
                }
            });
        }
    }

    /// Remembers that `target` answered this request's session, `prompt_tokens` long.
    pub fn served(&self, context: &Context, target: &TargetId, prompt_tokens: u32) {
        if self.uses_target {
            let last = LastServed { target: target.clone(), prompt_tokens };
            self.change(context, |kept| kept.last = Some(last));
        }
    }

    fn change(&self, context: &Context, change: impl FnOnce(&mut Kept)) {
        if self.writes == Writes::Yes && !context.session_id.is_empty() {
            self.memory.entry(key(context)).and_upsert_with(|old| {
                let mut kept = old.map(moka::Entry::into_value).unwrap_or_default();
                change(&mut kept);
                kept
            });
        }
    }
}

fn uses_floor(config: &SessionsConfig) -> bool {
    match config.floor {
        SessionFloor::Keep => true,
        SessionFloor::Off => false,
    }
}

fn tier_named(tiers: &[TierConfig], name: &str) -> Option<Tier> {
    tiers.iter().position(|tier| &*tier.name == name).map(Tier)
}

fn key(context: &Context) -> Key {
    (context.tenant.clone(), context.session_id.clone())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::config::default_config;

    fn sessions(floor: SessionFloor, sticky: bool) -> Sessions {
        Sessions::new(&SessionsConfig { floor, sticky, idle: Duration::from_secs(3600), sessions_max: 100 })
    }

    fn session(tenant: &str, id: &str) -> Context {
        Context { tenant: tenant.to_owned(), session_id: id.to_owned(), ..Context::default() }
    }

    fn tiers() -> Vec<TierConfig> {
        default_config().tiers
    }

    fn target(id: &str) -> TargetId {
        TargetId(Arc::from(id))
    }

    #[test]
    fn floor_and_target_are_remembered_apart() {
        for (floor, sticky) in [(SessionFloor::Keep, true), (SessionFloor::Keep, false)]
            .into_iter()
            .chain([(SessionFloor::Off, true), (SessionFloor::Off, false)])
        {
            let sessions = sessions(floor, sticky);
            let context = session("a", "1");
            sessions.needed(&context, Tier(2), &tiers());
            sessions.served(&context, &target("c1"), 40);
            sessions.needed(&context, Tier(1), &tiers());
            let expected = Remembered {
                floor: (floor == SessionFloor::Keep).then_some(Tier(2)),
                last: sticky.then(|| LastServed { target: target("c1"), prompt_tokens: 40 }),
            };
            assert_eq!(sessions.recall(&context, &tiers()), expected, "{floor:?} {sticky}");
        }
    }

    #[test]
    fn requests_without_a_session_and_other_tenants_share_nothing() {
        let sessions = sessions(SessionFloor::Keep, true);
        sessions.needed(&session("a", ""), Tier(3), &tiers());
        sessions.served(&session("a", ""), &target("c1"), 40);
        sessions.needed(&session("a", "1"), Tier(2), &tiers());
        for other in [session("a", ""), session("b", "1"), session("", "1"), session("a", "2")] {
            assert_eq!(sessions.recall(&other, &tiers()), Remembered::default(), "{other:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let sessions = sessions(SessionFloor::Keep, true);
        for at in 0..1000 {
            sessions.served(&session("a", &at.to_string()), &target("c1"), 40);
        }
        sessions.memory.run_pending_tasks();
        assert!(sessions.memory.entry_count() <= 100, "{}", sessions.memory.entry_count());
    }

    #[test]
    fn the_memory_outlives_its_configuration() {
        let before = sessions(SessionFloor::Keep, true);
        let context = session("a", "1");
        let mut tiers = tiers();
        before.needed(&context, Tier(1), &tiers);
        before.served(&context, &target("c1"), 40);
        let config =
            |floor, sticky| SessionsConfig { floor, sticky, idle: Duration::from_secs(1), sessions_max: 1 };
        let after = before.under(&config(SessionFloor::Off, true));
        assert_eq!(after.recall(&context, &tiers).floor, None);
        let after = after.under(&config(SessionFloor::Keep, true));
        let name = Arc::clone(&tiers[1].name);
        tiers.remove(0);
        assert_eq!(after.recall(&context, &tiers).floor, Some(Tier(0)), "{name} is the first tier now");
        tiers.remove(0);
        assert_eq!(after.recall(&context, &tiers).floor, None, "there is no {name} any more");
        after.read_only().served(&context, &target("c2"), 40);
        assert_eq!(after.recall(&context, &tiers).last.unwrap().target, target("c1"));
    }
}
