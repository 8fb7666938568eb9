//! The part of the section on listeners that says who may change a running server.

use std::path::{Path, PathBuf};

use super::{
    AdminConfig, AdminTlsConfig, AdminTokenConfig,
    check::beside,
    check_providers::key_source,
    duplicates,
    file::{AdminFile, AdminTlsFile},
    read::SourceText,
};

/// More operators than this have accounts, and certificates, elsewhere.
const TOKENS_MAX: usize = 64;
/// Such a token's changes would look like those of whoever is on this machine, or of nobody.
const TAKEN_NAMES: [&str; 6] = ["local", "rollout", "fleet", "file", "SIGHUP", "unknown"];
/// Names stand in events and log lines.
const NAME_BYTES_MAX: usize = 64;

/// Returns who may use the admin listener; problems are noted in `source`.
pub fn check_admin(file: &AdminFile, folder: Option<&Path>, source: &mut SourceText<'_>) -> AdminConfig {
    AdminConfig {
        tokens: tokens(file, folder, source),
        tls: file.tls.as_ref().and_then(|tls| check_tls(tls, folder, source)),
        allow_plaintext: file.allow_plaintext.unwrap_or(false),
    }
}

fn tokens(file: &AdminFile, folder: Option<&Path>, source: &mut SourceText<'_>) -> Vec<AdminTokenConfig> {
    if file.tokens.len() > TOKENS_MAX {
        let problem = format!("{} tokens, at most {TOKENS_MAX}: give people certificates", file.tokens.len());
        source.problem("server.admin.tokens", problem);
        return Vec::new();
    }
    let names = file.tokens.iter().map(|token| token.name.as_deref().unwrap_or_default());
    for at in duplicates(names) {
        source.problem(format!("server.admin.tokens[{at}].name"), "stands above already");
    }
    let mut tokens = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        let path = format!("server.admin.tokens[{at}]");
        let name = token.name.as_deref().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
            let problem =
                "needs a name of letters, digits and .-_@, at most 64, by which changes are recorded";
            source.problem(format!("{path}.name"), problem);
        } else if TAKEN_NAMES.contains(&name) {
            let problem = format!("{name:?} is how changes without a token are recorded: take another name");
            source.problem(format!("{path}.name"), problem);
        }
        match token.token.as_deref().map(|text| key_source(text, folder)) {
            Some(Ok(from)) => tokens.push(AdminTokenConfig { name: name.into(), from }),
            // Not the text: it may be the token itself.
            Some(Err(_)) => source.problem(
                format!("{path}.token"),
                "is not env:NAME or file:PATH: the token itself never stands in a configuration",
            ),
            None => source.problem(path, "token is missing: env:NAME or file:PATH"),
        }
    }
    tokens
}

fn check_tls(
    file: &AdminTlsFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Option<AdminTlsConfig> {
    let mut place = |written: Option<&str>, key: &str| -> Option<PathBuf> {
        let found = written.filter(|text| !text.is_empty()).map(|text| beside(folder, text));
        if found.is_none() {
            source.problem(format!("server.admin.tls.{key}"), "needs the path of a PEM file");
        }
        found
    };
    let (cert, key) = (place(file.cert.as_deref(), "cert"), place(file.key.as_deref(), "key"));
    let client_ca = match &file.client_ca {
        Some(text) => Some(place(Some(text), "client_ca")?),
        None => None,
    };
    Some(AdminTlsConfig { cert: cert?, key: key?, client_ca })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::read::read_text;

    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let got: Vec<String> = match read_text(&format!("[server]\n{keys}")) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(got.len(), expected.len(), "{keys}: {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.starts_with(expected), "{got}");
        }
    }

    const TOKEN: &str = "[server.admin]\ntokens = [{name = \"alice\", token = \"env:ALICE\"}]\n";
    const TLS: &str = "tls = {cert = \"a.pem\", key = \"a.key\"}\n";
    const OUTSIDE: &str = "admin_listen = \"0.0.0.0:50052\"\n";

    #[test]
    fn loopback_needs_nothing() {
        check("admin_listen = \"[::1]:0\"", &[]);
        check("admin_listen = \"off\"", &[]);
        check(TOKEN, &[]);
    }

    #[test]
    fn elsewhere_everybody_is_asked() {
        let problem =
            "line 2: server.admin_listen: can be reached from other machines, and whoever reaches it";
        check(OUTSIDE, &[problem]);
        check(&format!("{OUTSIDE}[server.admin]\n{TLS}"), &[problem]);
        check(&format!("{OUTSIDE}[server.admin]\nallow_plaintext = true"), &[problem]);
        let mutual = "tls = {cert = \"a.pem\", key = \"a.key\", client_ca = \"ca.pem\"}";
        check(&format!("{OUTSIDE}[server.admin]\n{mutual}"), &[]);
    }

    #[test]
    fn elsewhere_tokens_are_encrypted() {
        let problem =
            "line 2: server.admin_listen: can be reached from other machines, and whoever listens in";
        check(&format!("{OUTSIDE}{TOKEN}"), &[problem]);
        check(&format!("{OUTSIDE}{TOKEN}{TLS}"), &[]);
        check(&format!("{OUTSIDE}{TOKEN}allow_plaintext = true"), &[]);
    }

    #[test]
    fn tokens_have_names_and_places() {
        let token = |token: &str| format!("[server.admin]\ntokens = [{token}]");
        check(
            &token("{name = \"a b\", token = \"env:A\"}"),
            &["line 3: server.admin.tokens[0].name: needs a name"],
        );
        check(&token("{token = \"file:a\"}"), &["line 3: server.admin.tokens[0].name: needs a name"]);
        check(
            &token("{name = \"local\", token = \"env:A\"}"),
            &["line 3: server.admin.tokens[0].name: \"local\""],
        );
        check(
            &token("{name = \"rollout\", token = \"env:A\"}"),
            &["line 3: server.admin.tokens[0].name: \"rollout\" is how changes without a token"],
        );
        check(&token("{name = \"a\"}"), &["line 3: server.admin.tokens[0]: token is missing"]);
        let twice = "{name = \"a\", token = \"env:A\"}, {name = \"a\", token = \"env:B\"}";
        check(&token(twice), &["line 3: server.admin.tokens[1].name: stands above already"]);
    }

    #[test]
    fn a_token_in_the_file_is_refused_and_not_told() {
        for token in ["\"hunter2hunter2hunter2\"", "[\"hunter2hunter2\"]", "{hunter2 = 1}"] {
            let text = format!("[server.admin]\ntokens = [{{name = \"a\", token = {token}}}]");
            let error = read_text(&text).unwrap_err().to_string();
            assert!(error.contains("server.admin.tokens") && !error.contains("hunter2hunter2"), "{error}");
        }
    }

    #[test]
    fn a_certificate_has_its_key() {
        check("[server.admin]\ntls = {cert = \"a.pem\"}", &["line 3: server.admin.tls.key: needs the path"]);
        let config = read_text("[server.admin]\ntls = {cert = \"/a.pem\", key = \"/a.key\"}").unwrap();
        assert_eq!(config.server.admin.tls.unwrap().cert, Path::new("/a.pem"));
    }
}
