//! The providers of a [`File`](super::file::File) -> [`ProviderConfig`]s: endpoints, where keys come from, headers.
//!
//! A message never repeats what stands where a key, a URL or a header's value belongs: it may hold a secret.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use http::HeaderName;
use reqwest::Url;

use super::{
    KeyHeader, KeySource, Protocol, ProviderConfig, ProviderIndex, TargetConfig,
    check::{beside, name, unique},
    check_drop::check_drop,
    duplicates,
    file_completion::{ProviderFile, ProviderKind},
    provider_kinds::{Endpoint, kind_named, preset},
    read::SourceText,
};

/// The most that the providers may hold.
const PROVIDERS_MAX: usize = 200;
const KEYS_PER_PROVIDER_MAX: usize = 64;
const HEADERS_MAX: usize = 32;
const QUERY_MAX: usize = 16;
/// Beta features that a provider may list, or a caller may ask for.
pub const BETA_MAX: usize = 32;
/// Longest name of a beta feature.
const BETA_BYTES_MAX: usize = 64;
/// Longest base URL, header value or parameter.
const VALUE_BYTES_MAX: usize = 2048;
/// Longest name of a header, a parameter or an environment variable.
const KEY_NAME_BYTES_MAX: usize = 128;

/// Headers that the connection or the protocol sets.
const HEADERS_OF_THE_PROTOCOL: [&str; 14] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Headers and parameters that hold secrets: those come from `keys` alone.
const HEADERS_OF_SECRETS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-auth-token",
];
const PARAMETERS_OF_SECRETS: [&str; 7] =
    ["key", "api_key", "api-key", "apikey", "token", "access_token", "subscription-key"];
/// Ends of a URL that the protocols add themselves.
const LAST_STEPS: [&str; 4] = ["/chat/completions", "/completions", "/messages", "/responses"];

/// Returns every provider; what is wrong with them is noted in `source`.
pub fn check_providers(
    written: &[ProviderFile],
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Vec<ProviderConfig> {
    if written.len() > PROVIDERS_MAX {
        source.problem("providers", format!("{} providers, at most {PROVIDERS_MAX}", written.len()));
    }
    let providers: Vec<ProviderConfig> = written
        .iter()
        .enumerate()
        .map(|(at, provider)| check_provider(&format!("providers[{at}]"), provider, folder, source))
        .collect();
    unique(providers.iter().map(|provider| &*provider.name), |at| format!("providers[{at}].name"), source);
    providers
}

/// Gives each target its provider: that of the name, else one by the settings of the kind of that name, which
/// is added to `providers`. What the provider's models are not sent, the target is not.
pub fn connect(targets: &mut [TargetConfig], providers: &mut Vec<ProviderConfig>) {
    for target in targets {
        let known = providers.iter().position(|provider| provider.name == target.provider);
        target.provider_index = known.map(ProviderIndex).or_else(|| {
            providers.push(well_known(&target.provider)?);
            Some(ProviderIndex(providers.len() - 1))
        });
        if let Some(ProviderIndex(at)) = target.provider_index {
            let own = std::mem::take(&mut target.drop);
            target.drop.clone_from(&providers[at].drop);
            target.drop.extend(own.into_iter().filter(|name| !providers[at].drop.contains(name)));
        }
    }
}

/// Returns a provider that needs no settings; a scripted one is nobody that a name alone should call.
fn well_known(name: &Arc<str>) -> Option<ProviderConfig> {
    let preset = preset(kind_named(name)?);
    let base_url = match preset.endpoint {
        Endpoint::At(url) => Some(url.to_owned()),
        Endpoint::Library => None,
        Endpoint::Required(_) | Endpoint::None => return None,
    };
    Some(ProviderConfig {
        name: Arc::clone(name),
        protocol: preset.protocol,
        base_url,
        keys: preset.key.map(|key| KeySource::Environment(key.to_owned())).into_iter().collect(),
        key_header: preset.key_header.map_or(KeyHeader::Bearer, |name| KeyHeader::Named(name.to_owned())),
        headers: Vec::new(),
        query: Vec::new(),
        stream_usage: preset.stream_usage,
        beta: Vec::new(),
        output_limit: preset.output_limit,
        replay: preset.replay.to_vec(),
        drop: Vec::new(),
        script: None,
    })
}

fn check_provider(
    prefix: &str,
    written: &ProviderFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> ProviderConfig {
    let path = |key: &str| format!("{prefix}.{key}");
    let name = name(written.name.as_ref(), path("name"), source);
    let kind = written.kind.or_else(|| kind_named(&name));
    if kind.is_none() {
        source.problem(path("kind"), "is missing: say who it is, for example \"openai_compatible\"");
    }
    // Without a kind nothing is taken for granted; the problem above keeps the configuration from use.
    let preset = preset(kind.unwrap_or(ProviderKind::OpenaiCompatible));
    check_fitting(prefix, written, preset.protocol, source);
    let base_url = match (&written.base_url, preset.endpoint) {
        (Some(_), Endpoint::None) => None,
        (Some(text), _) => base_url(text, written.allow_http.unwrap_or(false), &path("base_url"), source),
        (None, Endpoint::At(url)) => Some(url.to_owned()),
        (None, Endpoint::Required(example)) => {
            if kind.is_some() {
                source.problem(path("base_url"), format!("is missing; it looks like {example}"));
            }
            None
        }
        (None, Endpoint::Library | Endpoint::None) => None,
    };
    let key_header = key_header(written, preset.key_header, &path("key_header"), source);
    ProviderConfig {
        name,
        protocol: preset.protocol,
        base_url,
        keys: match &written.keys {
            Some(keys) => check_keys(keys, &path("keys"), folder, source),
            None => preset.key.map(|key| KeySource::Environment(key.to_owned())).into_iter().collect(),
        },
        headers: check_headers(&written.headers, &key_header, prefix, source),
        key_header,
        query: check_query(&written.query, prefix, source),
        stream_usage: written.stream_usage.unwrap_or(preset.stream_usage),
        beta: check_beta(&written.beta, &path("beta"), source),
        output_limit: written.output_limit.unwrap_or(preset.output_limit),
        replay: written.replay.clone().unwrap_or_else(|| preset.replay.to_vec()),
        drop: check_drop(&written.drop, &path("drop"), source),
        script: match &written.script {
            Some(text) if text.trim().is_empty() => {
                source.problem(path("script"), "is empty");
                None
            }
            script => script.as_deref().map(|text| beside(folder, text)),
        },
    }
}

/// Notes settings that the protocol would ignore.
fn check_fitting(prefix: &str, written: &ProviderFile, protocol: Protocol, source: &mut SourceText<'_>) {
    let speaks_openai = protocol == Protocol::OpenAi;
    let scripted = protocol == Protocol::Scripted;
    let speaks_anthropic = protocol == Protocol::Anthropic;
    let leaves_key_open = speaks_openai || speaks_anthropic;
    let not_openai = "is only for kinds that speak OpenAI's protocol";
    let not_open = "is only for kinds that speak OpenAI's protocol and for \"anthropic\"";
    let never_called = "has no use: a scripted provider calls nobody";
    for (key, set, fits, message) in [
        ("key_header", written.key_header.is_some(), leaves_key_open, not_open),
        ("stream_usage", written.stream_usage.is_some(), speaks_openai, not_openai),
        ("beta", !written.beta.is_empty(), speaks_anthropic, "is only for the kind \"anthropic\""),
        ("output_limit", written.output_limit.is_some(), speaks_openai, not_openai),
        ("replay", written.replay.is_some(), speaks_openai, not_openai),
        ("drop", !written.drop.is_empty(), !scripted, never_called),
        ("script", written.script.is_some(), scripted, "is only for the kind \"scripted\""),
        ("base_url", written.base_url.is_some(), !scripted, never_called),
        ("keys", written.keys.is_some(), !scripted, never_called),
        ("headers", !written.headers.is_empty(), !scripted, never_called),
        ("query", !written.query.is_empty(), !scripted, never_called),
    ] {
        if set && !fits {
            source.problem(format!("{prefix}.{key}"), message);
        }
    }
}

/// Returns the URL as it is called: parsed as the HTTP client parses it, without a slash at its end.
fn base_url(text: &str, allow_http: bool, path: &str, source: &mut SourceText<'_>) -> Option<String> {
    let problem = match Url::parse(text) {
        _ if text.len() > VALUE_BYTES_MAX => {
            format!("{} bytes, at most {VALUE_BYTES_MAX}", text.len())
        }
        Ok(url) => match base_url_problem(&url, allow_http) {
            None => return Some(url.as_str().trim_end_matches('/').to_owned()),
            Some(problem) => problem.to_owned(),
        },
        Err(error) => format!("is not a URL such as https://host/v1: {error}"),
    };
    source.problem(path, problem);
    None
}

fn base_url_problem(url: &Url, allow_http: bool) -> Option<&'static str> {
    let plain = url.scheme() == "http";
    if !plain && url.scheme() != "https" {
        return Some("is neither https nor http");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some(
            "holds a user or a password: secrets never stand in the configuration, write keys instead",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some("holds a query or a fragment: parameters belong into query");
    }
    let end = url.path().trim_end_matches('/');
    if LAST_STEPS.iter().any(|step| end.ends_with(step)) {
        return Some("names a method: leave its last step out, it is added to each call");
    }
    if plain && !allow_http && !is_loopback(url) {
        return Some(
            "is plain http to another machine, where keys and prompts can be read on the way: \
             use https, or set allow_http = true",
        );
    }
    None
}

/// Returns whether an address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn check_keys(
    written: &[String],
    path: &str,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Vec<KeySource> {
    if written.len() > KEYS_PER_PROVIDER_MAX {
        source.problem(path, format!("{} keys, at most {KEYS_PER_PROVIDER_MAX}", written.len()));
    }
    for twice in duplicates(written.iter().map(String::as_str)) {
        source.problem(format!("{path}[{twice}]"), "is listed twice");
    }
    let mut keys = Vec::new();
    for (at, text) in written.iter().enumerate() {
        match key_source(text, folder) {
            Ok(key) => keys.push(key),
            Err(message) => source.problem(format!("{path}[{at}]"), message),
        }
    }
    keys
}

/// Returns where a secret is read from, or what is wrong with the text; never anything of the text itself.
pub fn key_source(text: &str, folder: Option<&Path>) -> Result<KeySource, &'static str> {
    if let Some(name) = text.strip_prefix("env:") {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let valid = name.starts_with(letter)
            && name.len() <= KEY_NAME_BYTES_MAX
            && name.chars().all(|c| letter(c) || c.is_ascii_digit());
        return if valid {
            Ok(KeySource::Environment(name.to_owned()))
        } else {
            Err("names no environment variable: letters, digits and _, such as env:OPENAI_API_KEY")
        };
    }
    match text.strip_prefix("file:") {
        Some(file) if file.trim().is_empty() => Err("names no file, such as file:/run/secrets/openai"),
        Some(file) => Ok(KeySource::File(beside(folder, file))),
        None => Err("keys never stand in the configuration: write env:NAME or file:PATH"),
    }
}

fn key_header(
    written: &ProviderFile,
    default: Option<&'static str>,
    path: &str,
    source: &mut SourceText<'_>,
) -> KeyHeader {
    let name = match written.key_header.as_deref() {
        Some("bearer") => return KeyHeader::Bearer,
        Some(text) => match header_name(text) {
            Some(name) if name == "authorization" => {
                source.problem(path, "would lack the word Bearer: write \"bearer\"");
                None
            }
            Some(name) if is_of_the_protocol(&name) || name == "cookie" => {
                source.problem(path, "is a header that the protocol sets");
                None
            }
            Some(name) => Some(name.as_str().to_owned()),
            None => {
                source.problem(path, "is neither \"bearer\" nor the name of a header");
                None
            }
        },
        None => default.map(str::to_owned),
    };
    name.map_or(KeyHeader::Bearer, KeyHeader::Named)
}

/// Returns the features; each is a name, or "*" for all.
fn check_beta(written: &[String], path: &str, source: &mut SourceText<'_>) -> Vec<String> {
    if written.len() > BETA_MAX {
        source.problem(path, format!("{} features, at most {BETA_MAX}", written.len()));
    }
    for (at, feature) in written.iter().enumerate() {
        if feature != "*" && !is_beta(feature) {
            source.problem(
                format!("{path}[{at}]"),
                "is no name of a beta feature such as \"context-management-2025-06-27\", nor \"*\"",
            );
        }
    }
    written.to_vec()
}

/// Returns whether a text can be the name of a beta feature.
pub fn is_beta(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=BETA_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Returns the name in lowercase.
fn header_name(text: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= KEY_NAME_BYTES_MAX)
}

fn is_of_the_protocol(name: &HeaderName) -> bool {
    HEADERS_OF_THE_PROTOCOL.contains(&name.as_str())
}

fn check_headers(
    written: &BTreeMap<String, String>,
    key_header: &KeyHeader,
    prefix: &str,
    source: &mut SourceText<'_>,
) -> Vec<(String, String)> {
    if written.len() > HEADERS_MAX {
        source.problem(
            format!("{prefix}.headers"),
            format!("{} headers, at most {HEADERS_MAX}", written.len()),
        );
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (text, value) in written {
        let path = format!("{prefix}.headers.{text}");
        let Some(name) = header_name(text) else {
            source.problem(path, "is not the name of a header");
            continue;
        };
        let holds_key = matches!(key_header, KeyHeader::Named(key) if *key == name.as_str());
        if holds_key || HEADERS_OF_SECRETS.contains(&name.as_str()) {
            source.problem(path, "holds a secret, which never stands in the configuration: use keys");
        } else if is_of_the_protocol(&name) {
            source.problem(path, "is a header that the protocol sets");
        } else if headers.iter().any(|(before, _)| *before == name.as_str()) {
            source.problem(path, "is given twice: case makes no difference");
        } else if let Some(problem) = value_problem(value) {
            source.problem(path, problem);
        } else {
            headers.push((name.as_str().to_owned(), value.clone()));
        }
    }
    headers
}

fn check_query(
    written: &BTreeMap<String, String>,
    prefix: &str,
    source: &mut SourceText<'_>,
) -> Vec<(String, String)> {
    if written.len() > QUERY_MAX {
        source
            .problem(format!("{prefix}.query"), format!("{} parameters, at most {QUERY_MAX}", written.len()));
    }
    for (name, value) in written {
        let path = format!("{prefix}.query.{name}");
        if PARAMETERS_OF_SECRETS.contains(&name.to_lowercase().as_str()) {
            source.problem(path, "holds a secret, which never stands in the configuration: use keys");
        } else if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || value_problem(name).is_some() {
            source.problem(path, "is not the name of a parameter");
        } else if let Some(problem) = value_problem(value) {
            source.problem(path, problem);
        }
    }
    written.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn value_problem(value: &str) -> Option<&'static str> {
    if value.len() > VALUE_BYTES_MAX {
        return Some("is longer than 2048 bytes");
    }
    let printable = value.chars().all(|c| (' '..='~').contains(&c)) && value.trim() == value;
    (!printable).then_some("holds more than printable ASCII characters, or spaces at its ends")
}

#[cfg(test)]
#[path = "check_providers_tests.rs"]
mod tests;
