//! Whether a refusal is about the key or about what was asked with it. Pure.
//!
//! A 403 mostly says that this account may not use this model: its key goes on serving every other target.

use std::sync::LazyLock;

use regex::Regex;

use crate::completion::attempt::{ErrorKind, ProviderError};

/// The status of a key that is known and may not do this.
const FORBIDDEN: u16 = 403;

/// Words for a key near words for what is wrong with it. "Your API key does not have permission to use the
/// specified resource" has none of the latter.
static BAD_KEY: LazyLock<Regex> = LazyLock::new(|| {
    const KEY: &str = r"(?:api[ _-]?keys?|(?:bearer|access|security|auth) token|credentials?)";
    const FAULT: &str = r"(?:invalid|incorrect|not valid|expired|revoked|disabled|deactivated|blocked|deleted|leaked|suspended|unknown|not found)";
    Regex::new(&format!(r"(?i)\b{KEY}\b[^.]{{0,60}}\b{FAULT}\b|\b{FAULT} {KEY}\b"))
        .expect("the pattern is fixed and tested")
});

/// Returns whether an error tells that the key itself, or its account, will not do.
pub(super) fn is_of_key(error: &ProviderError) -> bool {
    error.kind == ErrorKind::Unpaid
        || (error.kind == ErrorKind::Unauthorized && (error.status != Some(FORBIDDEN) || names_key(error)))
}

fn names_key(error: &ProviderError) -> bool {
    matches!(
        error.code.as_deref(),
        Some("invalid_api_key" | "account_deactivated" | "API_KEY_INVALID" | "authentication_error")
    ) || BAD_KEY.is_match(&error.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::attempt::Again;

    #[test]
    fn a_403_is_of_the_key_only_where_it_says_so() {
        let check = |status: u16, code: Option<&str>, message: &str, expected: bool| {
            let error = ProviderError {
                kind: ErrorKind::Unauthorized,
                status: Some(status),
                message: message.to_owned(),
                code: code.map(str::to_owned),
                again: Again::Usual,
            };
            assert_eq!(is_of_key(&error), expected, "{status} {message}");
        };
        check(401, None, "no", true);
        check(403, None, "Forbidden", false);
        check(403, None, "Project `proj_1` does not have access to model `gpt-6`", false);
        check(403, None, "Your API key does not have permission to use the specified resource.", false);
        check(403, None, "You don't have access to the model with the specified model ID.", false);
        check(403, None, "The caller does not have permission", false);
        check(403, Some("invalid_api_key"), "no", true);
        check(403, Some("model_terms_required"), "accept the terms first", false);
        check(403, None, "Your API key was reported as leaked. Please use another API key.", true);
        check(403, None, "The security token included in the request is expired", true);
        check(403, None, "Incorrect API key provided", true);
        check(403, None, "Bearer Token has expired", true);
    }
}
