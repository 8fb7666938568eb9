//! Providers that are spoken to through the library `genai`: Gemini, Vertex, Bedrock, Cohere, and Anthropic for
//! callers who speak OpenAI's form.
//!
//! The library shapes requests and reads answers. Where a call goes and with which key is said here, from the
//! configuration alone: the library's own look-ups in the environment are never used, and no field of a
//! request gets into an address or a header. Whole answers are read as streams too, so that one path bounds
//! and understands them.

mod adapter;
mod answer;
mod calls;
mod errors;
mod frames;
mod gemini;
mod messages;
mod request;
mod thinking;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self},
};
use genai::{
    Client, Headers, ModelIden, ServiceTarget,
    chat::{ChatOptions, ChatStream, ChatStreamEvent},
    resolver::{AuthData, Endpoint},
};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use self::{
    adapter::{Adapter, default_base_url},
    answer::{Heading, Reader},
    frames::{Excess, Frames},
    request::{Outgoing, outgoing},
};
use super::{
    Call, Provider, Started, WireLimits, check_convertible,
    wire::{self, Redactor, Said, failed_with},
};
use crate::{
    completion::{
        answer::{Answer, Piece, Raw, View},
        attempt::{ErrorKind, ProviderError},
        keys::{Key, KeyRing},
    },
    config::{KeyHeader, Protocol, ProviderConfig},
};

/// The most computing on one event that is not yet whole. The library copies all of an event with each part
/// that comes, so a line of 10 MiB takes seconds and one without an end would take everything; an event of
/// 4 MiB takes a third of this on a slow machine.
const UNFINISHED_MAX: Duration = Duration::from_secs(3);

/// One account with a provider that the library speaks to.
pub struct Library {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    protocol: Protocol,
    base_url: String,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    key_header: KeyHeader,
    keys: Arc<KeyRing>,
    limits: WireLimits,
}

impl Library {
    /// Sets up the account; the error says what is wrong with its configuration.
    pub fn new(config: &ProviderConfig, limits: WireLimits) -> Result<Self, String> {
        let base_url = match &config.base_url {
            Some(base_url) => base_url.clone(),
            None => default_base_url(config.protocol)?.to_owned(),
        };
        let url = Url::parse(&base_url).map_err(|error| format!("base_url: {error}"))?;
        let keys = Arc::new(KeyRing::read(&config.name, &config.keys));
        keys.check()?;
        let client = Client::builder()
            .with_reqwest(wire::client(limits.connect, &url)?)
            .build()
            .map_err(|_| "the library cannot be set up".to_owned())?;
        let shared = Shared {
            client,
            protocol: config.protocol,
            base_url,
            headers: config.headers.clone(),
            query: config.query.clone(),
            key_header: config.key_header.clone(),
            keys,
            limits,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Provider for Library {
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut running = shared.begin(&call).await?;
            let mut view = View::default();
            while let Some(piece) = running.next().await {
                view.add(&piece?.delta);
            }
            let raw = Raw::OpenAi(running.reader.completion(&view));
            Ok(Answer { raw, view, dropped_parameters: running.dropped })
        }
        .boxed()
    }

    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut running = shared.begin(&call).await?;
            let dropped_parameters = std::mem::take(&mut running.dropped);
            let pieces = stream::unfold(running, |mut running| async move {
                let piece = running.next().await?;
                Some((piece, running))
            });
            Ok(Started { pieces: pieces.boxed(), dropped_parameters })
        }
        .boxed()
    }

    fn keys(&self) -> Option<&Arc<KeyRing>> {
        Some(&self.shared.keys)
    }
}

impl Shared {
    /// Makes the call, and returns when its answer has begun: the library tells no sooner that a request was
    /// accepted.
    async fn begin(self: Arc<Self>, call: &Call) -> Result<Running, ProviderError> {
        check_convertible(&call.chat)?;
        let model = &call.target.model;
        let adapter = Adapter::new(self.protocol, model)
            .map_err(|problem| failed_with(ErrorKind::Refused, None, problem))?;
        let Outgoing { request, mut options, dropped, aliases } =
            outgoing(&call.chat.openai, adapter, &call.target).map_err(|unfit| errors::unfit(&unfit))?;
        let key = self.keys.next(Instant::now())?;
        let redactor = self.redactor(&key);
        let target = self.target(adapter, model, &key)?;
        let frames = Arc::new(Frames::new(
            adapter,
            self.limits.answer_bytes_max.saturating_mul(wire::FRAMING_FACTOR),
            self.limits.line_bytes_max,
        ));
        watch(&mut options, &frames);
        let opened = self.client.exec_chat_stream(target, request, Some(&options)).await;
        let opened = opened.map_err(|error| errors::failed(&error, adapter, &redactor));
        let stream = opened.map_err(|error| self.keys.settle(&key, error, Instant::now()))?.stream;
        let reader = Reader::new(heading(model), adapter, aliases, Arc::clone(&frames));
        let mut running = Running {
            stream,
            reader,
            said: Said::new(self.limits.answer_bytes_max),
            frames,
            unfinished: Unfinished::default(),
            pieces: VecDeque::new(),
            is_over: false,
            dropped,
            adapter,
            redactor,
            shared: self,
            key,
        };
        running.begin().await?;
        Ok(running)
    }

    /// Knows the key, and what an operator sends in headers of his own, which may be a credential too.
    fn redactor(&self, key: &Key) -> Redactor {
        let headers = self.headers.iter().map(|(_, value)| SecretString::from(value.as_str()));
        Redactor::new(key.secret().cloned().into_iter().chain(headers))
    }

    /// Returns where and as whom the library posts. Given so, it asks neither resolvers nor the environment.
    fn target(&self, adapter: Adapter, model: &str, key: &Key) -> Result<ServiceTarget, ProviderError> {
        let refused = |message: &str| failed_with(ErrorKind::Refused, None, message);
        let mut url = Url::parse(&adapter.url(&self.base_url, model))
            .map_err(|_| refused("no address for this model"))?;
        let query = adapter.query().iter().map(|(name, value)| (*name, *value));
        let query = query.chain(self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let query: Vec<_> = query.collect();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let secret = key.secret().map(ExposeSecret::expose_secret);
        if secret.is_some_and(|secret| secret.starts_with('{')) {
            let message = "the key is a service account: give an access token made with it";
            return Err(failed_with(ErrorKind::NoKey, None, message));
        }
        // The key comes last, so that nothing configured takes its place.
        let headers: Vec<_> = adapter
            .headers()
            .into_iter()
            .chain(self.headers.clone())
            .chain(secret.map(|key| adapter.key_header(key, &self.key_header)))
            .collect();
        Ok(ServiceTarget {
            endpoint: Endpoint::from_owned(self.base_url.as_str()),
            auth: AuthData::RequestOverride { url: url.into(), headers: Headers::from(headers) },
            model: ModelIden::new(adapter.kind(), model.to_owned()),
        })
    }
}

/// Lets the frames see what the library reads.
fn watch(options: &mut ChatOptions, frames: &Arc<Frames>) {
    let frames = Arc::clone(frames);
    options.raw_frame_sink = Some(frames);
}

fn heading(model: &str) -> Heading {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Heading { id: format!("chatcmpl-{}", Uuid::now_v7().simple()), model: model.to_owned(), created }
}

/// One answer while it comes.
struct Running {
    stream: ChatStream,
    reader: Reader,
    said: Said,
    frames: Arc<Frames>,
    unfinished: Unfinished,
    /// Read and not yet handed out.
    pieces: VecDeque<Piece>,
    /// Nothing more is read: the answer ended or failed.
    is_over: bool,
    dropped: Vec<String>,
    adapter: Adapter,
    redactor: Redactor,
    shared: Arc<Shared>,
    key: Key,
}

impl Running {
    /// Waits for the first sign that the request was accepted: an event, or a frame that makes none.
    async fn begin(&mut self) -> Result<(), ProviderError> {
        while !self.is_over && self.pieces.is_empty() && self.frames.is_empty() {
            let event = poll_fn(|context| match self.poll_event(context) {
                Poll::Pending if !self.frames.is_empty() => Poll::Ready(None),
                polled => polled.map(Some),
            });
            if let Some(event) = event.await {
                self.take(event)?;
            }
        }
        Ok(())
    }

    /// Returns the next piece; `None` after the last, and after an error.
    async fn next(&mut self) -> Option<Result<Piece, ProviderError>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            if self.is_over {
                return None;
            }
            let event = poll_fn(|context| self.poll_event(context)).await;
            if let Err(error) = self.take(event) {
                return Some(Err(error));
            }
        }
    }

    /// Reads one event.
    fn take(&mut self, event: Result<Option<ChatStreamEvent>, ProviderError>) -> Result<(), ProviderError> {
        let read = match event {
            Ok(Some(event)) => self.reader.event(event),
            Ok(None) => Err(self.reader.broken_off()),
            Err(error) => self.reader.blocked().ok_or(error),
        };
        self.is_over = read.is_err() || self.reader.has_ended();
        let pieces = read.map_err(|error| self.shared.keys.settle(&self.key, error, Instant::now()))?;
        for piece in &pieces {
            if let Err(error) = self.said.add(piece.delta.bytes()) {
                self.is_over = true;
                return Err(error);
            }
        }
        self.pieces.extend(pieces);
        Ok(())
    }

    /// Polls the library's next event. What it reads without telling is bounded here too.
    fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<ChatStreamEvent>, ProviderError>> {
        let started = Instant::now();
        let polled = self.stream.poll_next_unpin(context);
        let is_long = self.unfinished.is_too_long(self.frames.count(), started.elapsed());
        let excess = self.frames.excess().or(is_long.then_some(Excess::Unfinished));
        if let Some(excess) = excess {
            return Poll::Ready(Err(errors::too_large(excess, self.shared.limits)));
        }
        if self.frames.has_unnamed() {
            return Poll::Ready(Err(errors::unnamed()));
        }
        polled.map(|event| {
            event.transpose().map_err(|error| errors::failed(&error, self.adapter, &self.redactor))
        })
    }
}

/// How long the library has computed on the frame that it is reading.
#[derive(Debug, Default)]
struct Unfinished {
    /// Frames before it.
    frames: usize,
    took: Duration,
}

impl Unfinished {
    fn is_too_long(&mut self, frames: usize, took: Duration) -> bool {
        if frames == self.frames {
            self.took += took;
        } else {
            *self = Self { frames, took: Duration::ZERO };
        }
        self.took > UNFINISHED_MAX
    }
}

#[cfg(test)]
mod tests;
