//! What is remembered of each conversation: the strongest tier that it has needed, so that it never
//! silently drops below, and who answered it last, so that the provider's prompt cache is used again.
//!
//! Bounded: the least used are forgotten first, idle ones after a while; a session that was forgotten
//! starts anew.

use crate::{
    config::{SessionFloor, SessionsConfig},
    prompt::{Context, TargetId, Tier},
};

/// Tenant and session id: the same id of two tenants is two sessions.
type Key = (String, String);

/// A bounded memory of sessions.
pub struct Sessions {
    /// `None` when there is nothing to remember.
    memory: Option<moka::sync::Cache<Key, Remembered>>,
    keeps_floor: bool,
    keeps_target: bool,
}

/// What is known of one session; of a new one nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The strongest tier that it has needed.
    pub floor: Option<Tier>,
    pub last: Option<LastServed>,
}

/// Who answered a session last. By name, so that it outlives a change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastServed {
    pub target: TargetId,
    /// Length of the conversation then, which the target's provider may have cached.
    pub prompt_tokens: u32,
}

impl Sessions {
    /// Starts an empty memory.
    pub fn new(config: &SessionsConfig) -> Self {
        let keeps_floor = match config.floor {
            SessionFloor::Keep => true,
            SessionFloor::Off => false,
        };
        let keeps_target = config.sticky;
        let memory = (keeps_floor || keeps_target).then(|| {
            moka::sync::Cache::builder().max_capacity(config.sessions_max).time_to_idle(config.idle).build()
        });
        Self { memory, keeps_floor, keeps_target }
    }

    /// Returns what is known of this request's session.
    pub fn recall(&self, context: &Context) -> Remembered {
        match &self.memory {
            Some(memory) if !context.session_id.is_empty() => memory.get(&key(context)).unwrap_or_default(),
            Some(_) | None => Remembered::default(),
        }
    }

    /// Remembers that this request's session needed `tier`.
    pub fn needed(&self, context: &Context, tier: Tier) {
        if self.keeps_floor {
            self.change(context, |session| session.floor = session.floor.max(Some(tier)));
        }
    }

    /// Remembers that `target` answered this request's session, `prompt_tokens` long.
    pub fn served(&self, context: &Context, target: &TargetId, prompt_tokens: u32) {
        if self.keeps_target {
            let last = LastServed { target: target.clone(), prompt_tokens };
            self.change(context, |session| session.last = Some(last));
        }
    }

    fn change(&self, context: &Context, change: impl FnOnce(&mut Remembered)) {
        if let Some(memory) = self.memory.as_ref().filter(|_| !context.session_id.is_empty()) {
            memory.entry(key(context)).and_upsert_with(|old| {
                let mut session = old.map(moka::Entry::into_value).unwrap_or_default();
                change(&mut session);
                session
            });
        }
    }
}

fn key(context: &Context) -> Key {
    (context.tenant.clone(), context.session_id.clone())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn sessions(floor: SessionFloor, sticky: bool) -> Sessions {
        Sessions::new(&SessionsConfig { floor, sticky, idle: Duration::from_secs(3600), sessions_max: 100 })
    }

    fn session(tenant: &str, id: &str) -> Context {
        Context { tenant: tenant.to_owned(), session_id: id.to_owned(), ..Context::default() }
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
            sessions.needed(&context, Tier(2));
            sessions.served(&context, &target("c1"), 40);
            sessions.needed(&context, Tier(1));
            let expected = Remembered {
                floor: (floor == SessionFloor::Keep).then_some(Tier(2)),
                last: sticky.then(|| LastServed { target: target("c1"), prompt_tokens: 40 }),
            };
            assert_eq!(sessions.recall(&context), expected, "{floor:?} {sticky}");
        }
    }

    #[test]
    fn requests_without_a_session_and_other_tenants_share_nothing() {
        let sessions = sessions(SessionFloor::Keep, true);
        sessions.needed(&session("a", ""), Tier(3));
        sessions.served(&session("a", ""), &target("c1"), 40);
        sessions.needed(&session("a", "1"), Tier(2));
        for other in [session("a", ""), session("b", "1"), session("", "1"), session("a", "2")] {
            assert_eq!(sessions.recall(&other), Remembered::default(), "{other:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let sessions = sessions(SessionFloor::Keep, true);
        for at in 0..1000 {
            sessions.served(&session("a", &at.to_string()), &target("c1"), 40);
        }
        let memory = sessions.memory.as_ref().unwrap();
        memory.run_pending_tasks();
        assert!(memory.entry_count() <= 100, "{}", memory.entry_count());
    }
}
