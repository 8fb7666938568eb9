//! The strongest tier that each conversation has needed, so that it never silently drops below.

use crate::{
    config::{SessionFloor, SessionsConfig},
    prompt::{Context, Tier},
};

/// Tenant and session id: the same id of two tenants is two sessions.
type Key = (String, String);

/// A bounded memory of sessions; the least used are forgotten first, idle ones after a while.
pub struct Sessions {
    needed: Option<moka::sync::Cache<Key, Tier>>,
}

impl Sessions {
    /// Starts an empty memory.
    pub fn new(config: &SessionsConfig) -> Self {
        let needed = match config.floor {
            SessionFloor::Off => None,
            SessionFloor::Keep => Some(
                moka::sync::Cache::builder()
                    .max_capacity(config.sessions_max)
                    .time_to_idle(config.idle)
                    .build(),
            ),
        };
        Self { needed }
    }

    /// Returns the tier that this request's session has needed.
    pub fn floor(&self, context: &Context) -> Option<Tier> {
        if context.session_id.is_empty() {
            return None;
        }
        self.needed.as_ref()?.get(&key(context))
    }

    /// Remembers that this request's session needed `tier`.
    pub fn needed(&self, context: &Context, tier: Tier) {
        if context.session_id.is_empty() {
            return;
        }
        if let Some(needed) = &self.needed {
            needed.entry(key(context)).and_upsert_with(|old| match old {
                Some(old) => (*old.value()).max(tier),
                None => tier,
            });
        }
    }
}

fn key(context: &Context) -> Key {
    (context.tenant.clone(), context.session_id.clone())
}
