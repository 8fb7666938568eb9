//! Keys, tokens and passwords: formats that a vendor publishes, and what is assigned to a name that says "secret".

use std::ops::Range;

use super::{Candidate, Kind, Pattern, always, checks};

/// In the order in which they claim places.
pub(super) const PATTERNS: &[Pattern] = &[
    // A private key in PEM armour, to its end or, when that was cut off, as far as it looks like one.
    Pattern {
        kind: Kind::Key,
        gate: "-----BEGIN ",
        expression: r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
        check: private_key,
    },
    // JSON Web Token: two objects in base64, and a signature that may be cut off or empty.
    Pattern {
        kind: Kind::Token,
        gate: r"eyJ[A-Za-z0-9_-]",
        expression: r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4}",
        check: web_token,
    },
    // OpenAI, Anthropic, OpenRouter, DeepSeek and others who took over the form.
    Pattern {
        kind: Kind::Key,
        gate: r"sk-[A-Za-z0-9]",
        expression: r"(?-u:\b)sk-[A-Za-z0-9_-]{20,}",
        check: checks::random,
    },
    // Groq, xAI, Perplexity, NVIDIA, Replicate, Fireworks, Cerebras.
    Pattern {
        kind: Kind::Key,
        gate: r"gsk_|xai-|pplx-|nvapi-|r8_|fw_|csk-",
        expression: r"(?-u:\b)(?:gsk_|xai-|pplx-|nvapi-|r8_|fw_|csk-)[A-Za-z0-9_-]{20,}",
        check: checks::random,
    },
    // Access key ids of AWS.
    Pattern {
        kind: Kind::Key,
        gate: r"A(?:KIA|SIA|GPA|IDA|ROA|NPA|NVA)[A-Z2-7]",
        expression: r"(?-u:\b)(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA)[A-Z0-9]{16}(?-u:\b)",
        check: always,
    },
    // Stripe's keys and secrets of webhooks.
    Pattern {
        kind: Kind::Key,
        gate: r"[srp]k_(?:live|test)_|whsec_",
        expression: r"(?-u:\b)(?:[srp]k_(?:live|test)_|whsec_)[A-Za-z0-9+/=]{16,}",
        check: always,
    },
    // Google: API keys, OAuth client secrets.
    Pattern {
        kind: Kind::Key,
        gate: "AIza|GOCSPX-",
        expression: r"(?-u:\b)(?:AIza[A-Za-z0-9_-]{35,}|GOCSPX-[A-Za-z0-9_-]{20,})",
        check: always,
    },
    // Twilio, SendGrid, Mailgun, Telegram's bots, DigitalOcean, Databricks, Shopify, age.
    Pattern {
        kind: Kind::Key,
        gate: r"SK[0-9a-f]|AC[0-9a-f]",
        expression: r"(?-u:\b)(?:SK|AC)[0-9a-f]{32}(?-u:\b)",
        check: always,
    },
    Pattern {
        kind: Kind::Key,
        gate: r"SG\.|key-[0-9a-f]|AGE-SECRET-KEY-1",
        expression: r"(?-u:\b)(?:SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}|key-[0-9a-f]{32}|AGE-SECRET-KEY-1[0-9A-Z]{58})",
        check: always,
    },
    Pattern {
        kind: Kind::Token,
        gate: r"[0-9]:AA",
        expression: r"(?-u:\b)[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}",
        check: always,
    },
    // GitHub, GitLab, Slack, Hugging Face, npm, PyPI, DigitalOcean, Databricks, Shopify, Google OAuth, Linear, Notion.
    Pattern {
        kind: Kind::Token,
        gate: r"gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox[a-z]-|xapp-|hf_|npm_|pypi-AgE|do[opr]_v1_|dapi[0-9a-f]|shp[a-z]{2}_|ya29\.|lin_api_|ntn_",
        expression: concat!(
            r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}",
            r"|gl(?:pat|ptt|dt|rt|cbt|ft|agent|oas|soat)-[A-Za-z0-9_.-]{20,}",
            r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}",
            r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36,}|pypi-AgE[A-Za-z0-9_-]{50,}",
            r"|do[opr]_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
            r"|ya29\.[A-Za-z0-9_-]{20,}|lin_api_[A-Za-z0-9]{40,}|ntn_[A-Za-z0-9]{40,})",
        ),
        check: always,
    },
    // Slack's webhooks: who knows the path may post.
    Pattern {
        kind: Kind::Token,
        gate: r"hooks\.slack\.com/",
        expression: r"hooks\.slack\.com/(?:services|workflows)/(T[A-Za-z0-9_/]{20,})",
        check: always,
    },
    // Azure: keys of accounts in connection strings, signatures of shared access.
    Pattern {
        kind: Kind::Key,
        gate: r"(?i)AccessKey=|AccountKey=|[?&]sig=",
        expression: r"(?i-u:(?:Shared)?(?:AccessKey|AccountKey)=|[?&]sig=)([A-Za-z0-9+/%=_-]{20,})",
        check: always,
    },
    // What a client sends to prove who it is.
    Pattern {
        kind: Kind::Token,
        gate: r"(?i)bearer |authorization: ?basic",
        expression: r"(?i-u:\bbearer|authorization: ?basic) {1,4}([A-Za-z0-9._~+/-]{16,}={0,2})",
        check: checks::random,
    },
    // User and password in an address.
    Pattern {
        kind: Kind::Password,
        gate: "://",
        expression: r#"[a-z]://([!-~&&[^/?\#@:"'<>]]*:[!-~&&[^/@"'<>]]+)@"#,
        check: url_credentials,
    },
    // A key, a token, a password that is assigned to a name.
    Pattern {
        kind: Kind::Key,
        gate: r"(?i)api[_ -]?key|access[_ -]?key|private[_ -]?key|account[_ -]?key|subscription[_ -]?key|schlüssel|clé|clave|chiave",
        expression: concat!(
            r"(?i:(?:api|access|private|account|subscription)[_ -]?key(?:[_ -]?id)?|(?:api[ -]?|zugangs)schl[üu]ssel",
            r"|cl[ée] (?:d['’])?(?:api|acc[èe]s)|clave (?:de )?api|chiave api)",
            r#"(?:\\{0,8}["'`])?(?:\s{0,3}(?:=>|:=|[:=])|\s{1,3}(?:is|ist|lautet|est|es|è))\s{0,3}(?:\\{0,8}["'`])?([^\s"'`,;<>])"#,
        ),
        check: checks::assigned,
    },
    Pattern {
        kind: Kind::Token,
        gate: r"(?i)token|jeton|cookie|session_?id",
        expression: concat!(
            r"(?i:token|jeton|sessionid|session_id)",
            r#"(?:\\{0,8}["'`])?(?:\s{0,3}(?:=>|:=|[:=])|\s{1,3}(?:is|ist|lautet|est|es|è))\s{0,3}(?:\\{0,8}["'`])?([^\s"'`,;<>])"#,
        ),
        check: checks::assigned,
    },
    // Cookies that tell who it is, as a header or an option of a client.
    Pattern {
        kind: Kind::Token,
        gate: r"(?i)cookie",
        expression: r#"(?i-u:\bcookie)(?:\\{0,8}["'`])?(?:\s{0,3}[:=]\s{0,3}|\s{1,3})(?:\\{0,8}["'`])?([A-Za-z0-9_.-]{1,64}=)"#,
        check: cookies,
    },
    Pattern {
        kind: Kind::Password,
        gate: r"(?i)pass|pwd|secret|kennwort|contrase|clave|senha|geheim|credential",
        expression: concat!(
            r"(?i:passw(?:or)?[dt]e?|passphrase|passwd|pwd|pass|secret(?:[_ -]?(?:access[_ -]?)?key)?|kennwort",
            r"|mot de passe|contrase(?:ñ|n)a|clave|senha|geheimnis|credentials?)",
            r#"(?:\\{0,8}["'`])?(?:\s{0,3}(?:=>|:=|[:=])|\s{1,3}(?:is|ist|lautet|est|es|è|é))\s{0,3}(?:\\{0,8}["'`])?([^\s"'`,;<>])"#,
        ),
        check: checks::assigned,
    },
];

/// Extends the find from the first line of a private key to the end of the key.
fn private_key(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    const END_BYTES_MAX: usize = 64;
    /// Four times the longest RSA key in use.
    const KEY_BYTES_MAX: usize = 16 << 10;
    let rest = candidate.after();
    let near = &rest[..rest.floor_char_boundary(KEY_BYTES_MAX)];
    let end = match near.find("-----END ") {
        Some(at) => {
            let last_line = &rest[at..];
            let head =
                last_line.char_indices().nth(END_BYTES_MAX).map_or(last_line, |(to, _)| &last_line[..to]);
            let open = "-----END ".len();
            at + head[open..].find("-----").map_or(open, |closing| open + closing + "-----".len())
        }
        None => rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=\\:,-\r\n\t ".contains(c)))
            .unwrap_or(rest.len()),
    };
    Some(candidate.range.start..candidate.range.end + end)
}

/// From the first cookie that looks like a secret to the last one that does: what stands between them is no text either.
fn cookies(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    /// More are no header: servers refuse them.
    const COOKIES_MAX: usize = 100;
    const SECRET_NAMES: [&str; 7] = ["sid", "sess", "auth", "token", "jwt", "csrf", "key"];
    const BYTES_MIN: usize = 4;
    const RANDOM_BYTES_MIN: usize = 12;
    let ends = |c: char| c.is_whitespace() || matches!(c, ';' | ',' | '"' | '\'' | '`' | '<' | '>' | '\\');
    let mut secrets: Option<Range<usize>> = None;
    let mut at = candidate.range.start;
    for _ in 0..COOKIES_MAX {
        let rest = &candidate.text[at..];
        let pair = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let Some((name, value)) = pair.split_once('=') else { break };
        let name = name.to_ascii_lowercase();
        let digit = value.contains(|c: char| c.is_ascii_digit());
        let named = SECRET_NAMES.iter().any(|secret| name.contains(secret));
        let end = at + pair.len();
        let range = end - value.len()..end;
        let looks_random =
            || checks::random(&Candidate { text: candidate.text, range: range.clone() }).is_some();
        if value.len() >= BYTES_MIN && named && digit || value.len() >= RANDOM_BYTES_MIN && looks_random() {
            secrets = Some(secrets.map_or(range.start, |found| found.start)..range.end);
        }
        let after = candidate.text[end..].trim_start_matches(' ');
        let Some(next) = after.strip_prefix(';') else { break };
        at = candidate.text.len() - next.trim_start_matches(' ').len();
    }
    secrets
}

/// Extends the find to the end of the token: the rest of its second part, and its signature.
fn web_token(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let part = |text: &str| {
        text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).count()
    };
    let mut end = candidate.range.end + part(candidate.after());
    if candidate.text[end..].starts_with('.') {
        end += 1 + part(&candidate.text[end + 1..]);
    }
    Some(candidate.range.start..end)
}

/// A template such as `user:password@` or `${USER}:${PASSWORD}@` gives nothing away.
fn url_credentials(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let (user, password) = candidate.as_str().split_once(':')?;
    let template = password.starts_with(['$', '{', '<', '*', '%'])
        || ["password", "pass", "pwd", "secret", "passwort", "token"]
            .contains(&password.to_lowercase().as_str())
        || (user, password) == ("user", "user");
    let Range { start, end } = candidate.range;
    let start = if user.is_empty() { end - password.len() } else { start };
    (!template).then_some(start..end)
}
