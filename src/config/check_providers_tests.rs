use std::path::PathBuf;

use proptest::{prop_assert, proptest};

use super::*;
use crate::config::{AssistantExtra, Config, DEFAULT_TOML, OutputLimit, read_file, read_text};

/// A value that must not come back in any message.
/// Checks the only problem of a provider that has these keys besides its name, which stands in line 2.
#[track_caller]
fn check(keys: &str, expected: &str) {
    let error = read_text(&format!("[[providers]]\nname = \"a\"\n{keys}")).expect_err(keys);
    let got: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    assert_eq!(got, [expected], "{keys}");
}

/// Returns the only provider that was written, of a kind that needs a URL.
#[track_caller]
fn compatible(keys: &str) -> ProviderConfig {
    let text = format!(
        "[[providers]]\nname = \"a\"\nkind = \"openai_compatible\"\nbase_url = \"https://host/v1\"\n{keys}"
    );
    read_text(&text).unwrap_or_else(|error| panic!("{error}")).providers.swap_remove(0)
}

fn named<'config>(config: &'config Config, target: &str) -> Option<&'config ProviderConfig> {
    config.provider_of(config.target_named(target).unwrap())
}

#[test]
fn the_built_in_targets_have_providers_by_their_names() {
    let config = read_text("").unwrap();
    let names: Vec<&str> = config.providers.iter().map(|provider| &*provider.name).collect();
    assert_eq!(names, ["openai", "anthropic", "google", "groq", "mistral"]);
    assert!(config.targets.iter().all(|target| target.provider_index.is_some()));
    let google = named(&config, "gemini-4-carbon").unwrap();
    assert_eq!((google.protocol, &google.base_url), (Protocol::Gemini, &None));
    assert_eq!(google.keys, [KeySource::Environment("GEMINI_API_KEY".to_owned())]);
    let openai = named(&config, "gpt-6-luna").unwrap();
    assert_eq!(openai.base_url.as_deref(), Some("https://api.openai.com/v1"));
    assert_eq!(openai.key_header, KeyHeader::Bearer);
    assert!(openai.stream_usage && !named(&config, "mistral-large-4-0").unwrap().stream_usage);
}

#[test]
fn a_written_provider_takes_the_place_of_the_well_known_one() {
    let config =
        read_text("[[providers]]\nname = \"openai\"\nbase_url = \"https://proxy.example/v1/\"\nkeys = []\n")
            .unwrap();
    let openai = named(&config, "gpt-6-luna").unwrap();
    assert_eq!(openai.base_url.as_deref(), Some("https://proxy.example/v1"));
    assert_eq!(openai.keys, []);
    assert_eq!(openai.protocol, Protocol::OpenAi);
}

#[test]
fn names_of_nobody_have_no_provider_and_are_no_mistake() {
    for name in ["acme", "scripted", "azure_openai", "openai_compatible", "vertex", "bedrock", "OpenAI"] {
        let text = DEFAULT_TOML.replace("provider = \"groq\"", &format!("provider = \"{name}\""));
        let config = read_text(&text).unwrap();
        assert_eq!(named(&config, "gpt-oss-120b"), None, "{name}");
        assert!(config.providers.iter().all(|provider| *provider.name != *name));
    }
}

#[test]
fn every_kind_has_its_defaults() {
    use Protocol::{Anthropic, Bedrock, Cohere, Gemini, OpenAi, Scripted, Vertex};
    for (kind, protocol, url, key) in [
        ("openai", OpenAi, "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("mistral", OpenAi, "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("groq", OpenAi, "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ("deepseek", OpenAi, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        ("xai", OpenAi, "https://api.x.ai/v1", "XAI_API_KEY"),
        ("together", OpenAi, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        ("fireworks", OpenAi, "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
        ("openrouter", OpenAi, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("ollama", OpenAi, "http://127.0.0.1:11434/v1", ""),
        ("vllm", OpenAi, "http://127.0.0.1:8000/v1", ""),
        ("anthropic", Anthropic, "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("gemini", Gemini, "", "GEMINI_API_KEY"),
        ("cohere", Cohere, "", "COHERE_API_KEY"),
        ("scripted", Scripted, "", ""),
    ] {
        let config = read_text(&format!("[[providers]]\nname = \"mine\"\nkind = \"{kind}\"")).unwrap();
        let provider = &config.providers[0];
        assert_eq!(provider.protocol, protocol, "{kind}");
        assert_eq!(provider.base_url.as_deref().unwrap_or_default(), url, "{kind}");
        let keys: Vec<String> = provider.keys.iter().map(ToString::to_string).collect();
        let expected = if key.is_empty() { vec![] } else { vec![format!("env:{key}")] };
        assert_eq!(keys, expected, "{kind}");
    }
    for (kind, protocol, key, url) in [
        ("azure_openai", OpenAi, "AZURE_OPENAI_API_KEY", "https://NAME.openai.azure.com/openai/v1"),
        ("openai_compatible", OpenAi, "", "https://HOST/v1"),
        (
            "vertex",
            Vertex,
            "VERTEX_API_KEY",
            "https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION",
        ),
        ("bedrock", Bedrock, "AWS_BEARER_TOKEN_BEDROCK", "https://bedrock-runtime.REGION.amazonaws.com"),
    ] {
        check(
            &format!("kind = \"{kind}\""),
            &format!("line 1: providers[0].base_url: is missing; it looks like {url}"),
        );
        let text = format!("[[providers]]\nname = \"mine\"\nkind = \"{kind}\"\nbase_url = \"https://host\"");
        let provider = &read_text(&text).unwrap().providers[0];
        assert_eq!((provider.protocol, provider.base_url.as_deref()), (protocol, Some("https://host")));
        let keys: String = provider.keys.iter().map(ToString::to_string).collect();
        assert_eq!(keys.trim_start_matches("env:"), key, "{kind}");
        let named = KeyHeader::Named("api-key".to_owned());
        assert_eq!(provider.key_header == named, kind == "azure_openai", "{kind}");
        let own = KeyHeader::Named("x-api-key".to_owned());
        assert_eq!(provider.key_header == own, kind == "anthropic", "{kind}");
    }
}

#[test]
fn settings_are_taken_over() {
    let provider = compatible(
        "keys = [\"env:A_1\", \"file:/run/b\"]\nkey_header = \"X-Our-Key\"\nstream_usage = false\n\
         headers = { X-Team = \"search, ranking\" }\nquery = { api-version = \"2026-10-01\" }\n",
    );
    let keys = [KeySource::Environment("A_1".to_owned()), KeySource::File(PathBuf::from("/run/b"))];
    assert_eq!(provider.keys, keys);
    assert_eq!(provider.key_header, KeyHeader::Named("x-our-key".to_owned()));
    assert_eq!(provider.headers, [("x-team".to_owned(), "search, ranking".to_owned())]);
    assert_eq!(provider.query, [("api-version".to_owned(), "2026-10-01".to_owned())]);
    assert!(!provider.stream_usage);
    assert_eq!(compatible("").keys, []);
}

#[test]
fn files_are_looked_for_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pointsman.toml");
    let text = "[[providers]]\nname = \"a\"\nkind = \"scripted\"\nscript = \"a.toml\"\n\
                [[providers]]\nname = \"openai\"\nkeys = [\"file:key\", \"file:/run/key\"]\n\
                [spend]\nfile = \"spend.json\"\n";
    std::fs::write(&path, text).unwrap();
    let config = read_file(&path).unwrap();
    assert_eq!(config.providers[0].script, Some(folder.path().join("a.toml")));
    assert_eq!(config.providers[1].keys[0], KeySource::File(folder.path().join("key")));
    assert_eq!(config.providers[1].keys[1], KeySource::File(PathBuf::from("/run/key")));
    assert_eq!(config.spend_file, Some(folder.path().join("spend.json")));
}

#[test]
fn each_mistake_has_its_place() {
    check("", "line 1: providers[0].kind: is missing: say who it is, for example \"openai_compatible\"");
    check(
        "kind = \"openai\"\nscript = \"x\"",
        "line 4: providers[0].script: is only for the kind \"scripted\"",
    );
    check("kind = \"scripted\"\nscript = \" \"", "line 4: providers[0].script: is empty");
    let never_called = "has no use: a scripted provider calls nobody";
    check("kind = \"scripted\"\nkeys = []", &format!("line 4: providers[0].keys: {never_called}"));
    check(
        "kind = \"scripted\"\nbase_url = \"https://host\"",
        &format!("line 4: providers[0].base_url: {never_called}"),
    );
    check(
        "kind = \"gemini\"\nkey_header = \"bearer\"",
        "line 4: providers[0].key_header: is only for kinds that speak OpenAI's protocol and for \"anthropic\"",
    );
    check(
        "kind = \"gemini\"\nstream_usage = true",
        "line 4: providers[0].stream_usage: is only for kinds that speak OpenAI's protocol",
    );
    check(
        "kind = \"openai\"\n[[providers]]\nname = \"a\"\nkind = \"groq\"",
        "line 5: providers[1].name: \"a\" is taken by an earlier entry",
    );
    check("kind = \"openai\"\n[[providers]]\nkind = \"groq\"", "line 4: providers[1].name: is missing");
    let many: String =
        (0..200).map(|at| format!("[[providers]]\nname = \"{at}\"\nkind = \"groq\"\n")).collect();
    check(&format!("kind = \"groq\"\n{many}"), "line 1: providers: 201 providers, at most 200");
}

#[test]
fn unknown_kinds_and_keys_of_a_provider_are_named() {
    for (keys, expected) in [
        (
            "kind = \"opanai\"",
            "line 3: providers[0].kind: unknown variant `opanai`, expected one of `openai`",
        ),
        ("kind = \"openai\"\napi_key = \"x\"", "line 4: providers[0].api_key: unknown field `api_key`"),
    ] {
        let error = read_text(&format!("[[providers]]\nname = \"a\"\n{keys}")).expect_err(keys);
        assert!(error.problems[0].to_string().starts_with(expected), "{error}");
        assert_eq!(error.problems.len(), 1, "{error}");
    }
}

#[test]
fn keys_are_named_and_never_written() {
    let inline = "keys never stand in the configuration: write env:NAME or file:PATH";
    let variable = "names no environment variable: letters, digits and _, such as env:OPENAI_API_KEY";
    for (key, message) in [
        ("sk-proj-4f9a", inline),
        ("OPENAI_API_KEY", inline),
        ("ENV:OPENAI_API_KEY", inline),
        ("", inline),
        ("env:", variable),
        ("env:sk-proj-4f9a", variable),
        ("env:1A", variable),
        ("env:A B", variable),
        ("file:", "names no file, such as file:/run/secrets/openai"),
    ] {
        check(
            &format!("kind = \"openai\"\nkeys = [\"env:A\", \"{key}\"]"),
            &format!("line 4: providers[0].keys[1]: {message}"),
        );
    }
    check(
        "kind = \"openai\"\nkeys = [\"env:A\", \"env:A\"]",
        "line 4: providers[0].keys[1]: is listed twice",
    );
    let keys: Vec<String> = (0..65).map(|at| format!("env:KEY_{at}")).collect();
    check(&format!("kind = \"openai\"\nkeys = {keys:?}"), "line 4: providers[0].keys: 65 keys, at most 64");
}

#[test]
fn urls_are_plain_places() {
    let plain = "is plain http to another machine, where keys and prompts can be read on the way: \
                 use https, or set allow_http = true";
    let secret = "holds a user or a password: secrets never stand in the configuration, write keys instead";
    let query = "holds a query or a fragment: parameters belong into query";
    let step = "names a method: leave its last step out, it is added to each call";
    for (url, message) in [
        ("ftp://host/v1", "is neither https nor http"),
        ("file:///etc/passwd", "is neither https nor http"),
        ("https://sk-proj-4f9a@host/v1", secret),
        ("https://user:sk-proj-4f9a@host/v1", secret),
        ("https://host/v1?key=sk-proj-4f9a", query),
        ("https://host/v1?", query),
        ("https://host/v1#a", query),
        ("https://host/v1/chat/completions", step),
        ("https://host/v1/messages/", step),
        ("http://host/v1", plain),
        ("http://10.0.0.1/v1", plain),
        ("http://127.0.0.1.example.com/v1", plain),
        ("http://localhost.example.com/v1", plain),
        ("host/v1", "is not a URL such as https://host/v1: relative URL without a base"),
        ("https://", "is not a URL such as https://host/v1: empty host"),
        ("", "is not a URL such as https://host/v1: relative URL without a base"),
    ] {
        check(
            &format!("kind = \"openai\"\nbase_url = \"{url}\""),
            &format!("line 4: providers[0].base_url: {message}"),
        );
    }
    check(
        &format!("kind = \"openai\"\nbase_url = \"https://host/{}\"", "a".repeat(2100)),
        "line 4: providers[0].base_url: 2113 bytes, at most 2048",
    );
    for (keys, url) in [
        ("base_url = \"https://host/v1///\"", "https://host/v1"),
        ("base_url = \"https://HOST:443/a/../v1\"", "https://host/v1"),
        ("base_url = \"https://host\"", "https://host"),
        ("base_url = \"http://localhost:8000/v1\"", "http://localhost:8000/v1"),
        ("base_url = \"http://127.9.9.9/v1\"", "http://127.9.9.9/v1"),
        ("base_url = \"http://[::1]:8000/v1\"", "http://[::1]:8000/v1"),
        ("base_url = \"http://ollama:11434/v1\"\nallow_http = true", "http://ollama:11434/v1"),
    ] {
        let config = read_text(&format!("[[providers]]\nname = \"a\"\nkind = \"vllm\"\n{keys}")).unwrap();
        assert_eq!(config.providers[0].base_url.as_deref(), Some(url), "{keys}");
    }
}

#[test]
fn headers_and_parameters_hold_no_secrets_and_leave_the_protocol_alone() {
    let secret = "holds a secret, which never stands in the configuration: use keys";
    let protocol = "is a header that the protocol sets";
    let printable = "holds more than printable ASCII characters, or spaces at its ends";
    for (keys, path, message) in [
        ("headers = { Authorization = \"Bearer sk-proj-4f9a\" }", "headers.Authorization", secret),
        ("headers = { x-api-key = \"sk-proj-4f9a\" }", "headers.x-api-key", secret),
        ("headers = { Cookie = \"a\" }", "headers.Cookie", secret),
        ("key_header = \"x-ours\"\nheaders = { X-Ours = \"sk-proj-4f9a\" }", "headers.X-Ours", secret),
        ("headers = { host = \"elsewhere\" }", "headers.host", protocol),
        ("headers = { Content-Length = \"1\" }", "headers.Content-Length", protocol),
        ("headers = { transfer-encoding = \"chunked\" }", "headers.transfer-encoding", protocol),
        ("headers = { \"a b\" = \"1\" }", "headers.a b", "is not the name of a header"),
        ("headers = { a = \"sk-proj-4f9a\\r\\nb: c\" }", "headers.a", printable),
        ("headers = { a = \"é\" }", "headers.a", printable),
        ("headers = { a = \"1\", A = \"2\" }", "headers.a", "is given twice: case makes no difference"),
        ("query = { Key = \"sk-proj-4f9a\" }", "query.Key", secret),
        ("query = { api-version = \"a\\u0000\" }", "query.api-version", printable),
        ("key_header = \"authorization\"", "key_header", "would lack the word Bearer: write \"bearer\""),
        ("key_header = \"Host\"", "key_header", protocol),
        ("key_header = \"a b\"", "key_header", "is neither \"bearer\" nor the name of a header"),
    ] {
        let text = format!("[[providers]]\nname = \"a\"\nkind = \"openai\"\n{keys}");
        let error = read_text(&text).expect_err(keys);
        assert_eq!(error.problems.len(), 1, "{error}");
        assert_eq!(error.problems[0].path, format!("providers[0].{path}"), "{error}");
        assert_eq!(error.problems[0].message, message, "{error}");
    }
    let many: Vec<String> = (0..33).map(|at| format!("h{at} = \"1\"")).collect();
    check(
        &format!("kind = \"openai\"\nheaders = {{ {} }}", many.join(", ")),
        "line 4: providers[0].headers: 33 headers, at most 32",
    );
    check(
        &format!("kind = \"openai\"\nquery = {{ {} }}", many.join(", ")),
        "line 4: providers[0].query: 33 parameters, at most 16",
    );
}

#[test]
fn a_secret_in_the_wrong_place_or_form_is_never_repeated() {
    for keys in [
        "keys = \"sk-proj-4f9a\"",
        "keys = [[\"sk-proj-4f9a\"]]",
        "keys = [sk-proj-4f9a]",
        "keys = [\"sk-proj-4f9a]",
        "keys = sk-proj-4f9a",
        "keys = { openai = \"sk-proj-4f9a\" }",
        "api_key = \"sk-proj-4f9a\"",
        "headers = \"authorization: sk-proj-4f9a\"",
        "headers = [\"authorization: sk-proj-4f9a\"]",
        "headers = { authorization = [\"sk-proj-4f9a\"] }",
        "query = \"key=sk-proj-4f9a\"",
        "allow_http = \"sk-proj-4f9a\"",
        "base_url = \"https://:sk-proj-4f9a@\"",
        "key_header = \"sk-proj-4f9a é\"",
    ] {
        let error =
            read_text(&format!("[[providers]]\nname = \"a\"\nkind = \"openai\"\n{keys}")).expect_err(keys);
        assert!(!error.to_string().contains("4f9a"), "{keys}: {error}");
        assert!(!error.to_string().contains("None"), "{keys}: {error}");
    }
    let error = read_text("providers = \"sk-proj-4f9a\"").expect_err("no list");
    assert!(!error.to_string().contains("4f9a"), "{error}");
}

#[test]
fn the_demo_answers_for_every_target_and_keeps_no_spend() {
    let config = read_text("[spend]\nfile = \"spend.json\"\n").unwrap().with_demo_providers();
    assert_eq!(config.providers, [ProviderConfig::demo()]);
    assert!(config.targets.iter().all(|target| target.provider_index == Some(ProviderIndex(0))));
    assert_eq!(config.spend_file, None);
}

proptest! {
    #[test]
    fn a_key_that_is_taken_is_a_name_or_a_path(text in "(env:|file:|)[A-Za-z0-9_ /:-]{0,12}") {
        if let Ok(key) = key_source(&text, None) {
            prop_assert!(key.to_string() == text);
        }
    }

    #[test]
    fn a_url_that_is_taken_goes_where_it_says(text in "https?://[a-z@:.\\[\\]/?#%0-9-]{0,24}") {
        let written = format!("[[providers]]\nname = \"a\"\nkind = \"openai\"\nbase_url = \"{text}\"");
        if let Ok(config) = read_text(&written) {
            let url = config.providers[0].base_url.clone().unwrap();
            let parsed = Url::parse(&url).unwrap();
            prop_assert!(parsed.username().is_empty() && parsed.password().is_none());
            prop_assert!(parsed.query().is_none() && parsed.fragment().is_none());
            prop_assert!(parsed.scheme() == "https" || is_loopback(&parsed));
            prop_assert!(!url.ends_with('/'));
        }
    }
}

#[test]
fn anthropics_kind_takes_another_key_header_and_beta_features() {
    let read = |keys: &str| {
        let text = format!("[[providers]]\nname = \"a\"\nkind = \"anthropic\"\n{keys}");
        read_text(&text).unwrap_or_else(|error| panic!("{error}")).providers.swap_remove(0)
    };
    assert_eq!(read("").key_header, KeyHeader::Named("x-api-key".to_owned()));
    assert_eq!(read("key_header = \"bearer\"").key_header, KeyHeader::Bearer);
    assert_eq!(read("key_header = \"X-Ours\"").key_header, KeyHeader::Named("x-ours".to_owned()));
    assert_eq!(read("beta = [\"context-1m-2025-08-07\"]").beta, ["context-1m-2025-08-07"]);
    assert_eq!(read("beta = [\"*\"]").beta, ["*"]);
    check(
        "kind = \"anthropic\"\nbeta = [\"a, b\"]",
        "line 4: providers[0].beta[0]: is no name of a beta feature such as \"context-management-2025-06-27\", \
         nor \"*\"",
    );
    check(
        "kind = \"openai\"\nbeta = [\"a\"]",
        "line 4: providers[0].beta: is only for the kind \"anthropic\"",
    );
}

#[test]
fn kinds_differ_in_what_their_servers_take() {
    use AssistantExtra::{ExtraContent, ReasoningContent};
    for (kind, limit, replay) in [
        ("openai", OutputLimit::MaxCompletionTokens, &[][..]),
        ("azure_openai", OutputLimit::MaxCompletionTokens, &[]),
        ("mistral", OutputLimit::MaxTokens, &[]),
        ("groq", OutputLimit::MaxTokens, &[]),
        ("deepseek", OutputLimit::MaxTokens, &[ReasoningContent]),
        ("openrouter", OutputLimit::MaxTokens, &[ReasoningContent]),
        ("vllm", OutputLimit::MaxTokens, &[ReasoningContent]),
        ("openai_compatible", OutputLimit::MaxTokens, &[ReasoningContent, ExtraContent]),
    ] {
        let text =
            format!("[[providers]]\nname = \"a\"\nkind = \"{kind}\"\nbase_url = \"https://host/v1\"\n");
        let provider = &read_text(&text).unwrap().providers[0];
        assert_eq!((provider.output_limit, &*provider.replay), (limit, replay), "{kind}");
        let text = format!("{text}output_limit = \"max_tokens\"\nreplay = [\"thinking_blocks\"]");
        let provider = &read_text(&text).unwrap().providers[0];
        assert_eq!(provider.output_limit, OutputLimit::MaxTokens, "{kind}");
        assert_eq!(provider.replay, [AssistantExtra::ThinkingBlocks], "{kind}");
    }
    let not_openai = "is only for kinds that speak OpenAI's protocol";
    check("kind = \"gemini\"\nreplay = []", &format!("line 4: providers[0].replay: {not_openai}"));
    check(
        "kind = \"anthropic\"\noutput_limit = \"max_tokens\"",
        &format!("line 4: providers[0].output_limit: {not_openai}"),
    );
}

#[test]
fn a_target_is_not_sent_what_it_or_its_provider_drops() {
    let text = DEFAULT_TOML.replacen(
        "provider = \"groq\"",
        "provider = \"groq\"\ndrop = [\"temperature\", \"reasoning_effort\"]",
        1,
    );
    let config =
        read_text(&format!("{text}\n[[providers]]\nname = \"groq\"\ndrop = [\"user\", \"temperature\"]\n"))
            .unwrap();
    let dropped = |provider: &str| {
        let target = config.targets.iter().find(|target| &*target.provider == provider).unwrap();
        target.drop.clone()
    };
    assert_eq!(dropped("groq"), ["user", "temperature", "reasoning_effort"]);
    assert_eq!(dropped("openai"), Vec::<String>::new());
    let line = "line 4: providers[0].drop";
    check(
        "kind = \"groq\"\ndrop = [\"messages\"]",
        &format!("{line}[0]: \"messages\" is part of every call"),
    );
    check("kind = \"groq\"\ndrop = [\"a\", \"a\"]", &format!("{line}[1]: is listed twice"));
    for bad in ["", "a b", "a.b"] {
        let keys = format!("kind = \"groq\"\ndrop = [\"{bad}\"]");
        check(&keys, &format!("{line}[0]: is not the name of a request's field"));
    }
    let many: Vec<String> = (0..65).map(|at| format!("f{at}")).collect();
    check(&format!("kind = \"groq\"\ndrop = {many:?}"), &format!("{line}: 65 fields, at most 64"));
}
