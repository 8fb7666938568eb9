//! Those who answer: one trait, several real implementations, one scripted.
//!
//! A provider makes exactly one call upstream. It never retries, never chooses another target and knows no
//! deadline but that of connecting: the attempt loop owns all of that. Dropping what it returned ends the
//! upstream call at once.

mod anthropic;
mod library;
mod openai;
pub mod scripted;
mod wire;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{future::BoxFuture, stream::BoxStream};

use self::{anthropic::Anthropic, library::Library, openai::OpenAi, scripted::Scripted, wire::WireLimits};
use super::{
    answer::{Answer, Piece},
    attempt::{ErrorKind, ProviderError},
    chat::Chat,
    keys::KeyRing,
};
use crate::config::{Config, Protocol, ProviderConfig, ProviderIndex, TargetConfig};

/// One call of one target.
#[derive(Debug, Clone)]
pub struct Call {
    pub chat: Arc<Chat>,
    /// What the operator set for the target; its `model` goes upstream.
    pub target: Arc<TargetConfig>,
}

/// Pieces of one answer. It ends without an error only after a piece with a finish reason: a stream that ends
/// before is an error of kind `Cut`. Nothing follows an error.
pub type Pieces = BoxStream<'static, Result<Piece, ProviderError>>;

/// A stream that has begun: the provider accepted the request.
pub struct Started {
    pub pieces: Pieces,
    /// See [`Answer::dropped_parameters`].
    pub dropped_parameters: Vec<String>,
}

/// One provider account: endpoint, keys, protocol.
pub trait Provider: Send + Sync {
    /// Asks for the whole answer.
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>>;

    /// Asks for the answer in pieces.
    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>>;

    /// Returns the account's keys, where it takes any: for operators to see how many serve, and for another
    /// implementation of the same account to share.
    fn keys(&self) -> Option<&Arc<KeyRing>> {
        None
    }
}

/// Who answers for each target; `None`: nobody can.
pub type Providers = Vec<Option<Arc<dyn Provider>>>;

/// Returns an error when the conversation cannot be told in OpenAI's form: nothing may be sent then, since an answer
/// to a part of the question would look like a good one.
fn check_convertible(chat: &Chat) -> Result<(), ProviderError> {
    if chat.lost.is_empty() {
        return Ok(());
    }
    let message = format!("messages hold what cannot be sent to this target: {}", chat.lost.join(", "));
    Err(wire::failed_with(ErrorKind::Refused, None, &message))
}

/// Why a provider cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("providers: {name:?}: {problem}")]
pub struct ProviderSetupError {
    pub name: Arc<str>,
    pub problem: String,
}

/// Returns who answers for each target of the configuration, `None` where nobody can.
///
/// Targets of one provider share it, and with it keys and connections; those with a connect timeout of their
/// own share it among themselves.
pub fn set_up(config: &Config) -> Result<Providers, ProviderSetupError> {
    set_up_after(config, config, &[])
}

/// The same, where `made_before` answer for the targets of the configuration before: a provider that it describes in
/// the same words is taken from there, with the state of its keys and with its connections.
pub fn set_up_after(
    config: &Config,
    before: &Config,
    made_before: &[Option<Arc<dyn Provider>>],
) -> Result<Providers, ProviderSetupError> {
    let reuse = |written: &ProviderConfig, limits: WireLimits| {
        before.targets.iter().zip(made_before).find_map(|(target, made)| {
            let same = before.providers[target.provider_index?.0] == *written
                && wire_limits(before, target) == limits;
            made.clone().filter(|_| same)
        })
    };
    let mut made: HashMap<(ProviderIndex, Duration), Arc<dyn Provider>> = HashMap::new();
    let mut providers = Vec::with_capacity(config.targets.len());
    for target in &config.targets {
        let Some(index) = target.provider_index else {
            providers.push(None);
            continue;
        };
        let key = (index, target.timeouts.connect);
        let provider = match made.get(&key) {
            Some(provider) => Arc::clone(provider),
            None => {
                let written = &config.providers[index.0];
                let limits = wire_limits(config, target);
                let provider = match reuse(written, limits) {
                    Some(provider) => provider,
                    None => build(written, limits)
                        .map_err(|problem| ProviderSetupError { name: Arc::clone(&written.name), problem })?,
                };
                made.insert(key, Arc::clone(&provider));
                provider
            }
        };
        providers.push(Some(provider));
    }
    Ok(providers)
}

fn wire_limits(config: &Config, target: &TargetConfig) -> WireLimits {
    WireLimits {
        connect: target.timeouts.connect,
        answer_bytes_max: config.completion.answer_bytes_max,
        line_bytes_max: config.completion.line_bytes_max,
    }
}

fn build(config: &ProviderConfig, limits: WireLimits) -> Result<Arc<dyn Provider>, String> {
    Ok(match config.protocol {
        Protocol::OpenAi => Arc::new(OpenAi::new(config, limits)?),
        Protocol::Anthropic => {
            let converting = Arc::new(Library::new(config, limits)?);
            Arc::new(Anthropic::new(config, limits, converting)?)
        }
        Protocol::Gemini | Protocol::Vertex | Protocol::Bedrock | Protocol::Cohere => {
            Arc::new(Library::new(config, limits)?)
        }
        Protocol::Scripted => Arc::new(Scripted::new(config.script.as_deref())?),
    })
}
