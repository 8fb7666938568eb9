//! The operators' tokens. Keeps their hashes alone, and compares in constant time.

use std::sync::Arc;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::AuthError;
use crate::config::{AdminTokenConfig, read_secret};

/// Shorter tokens can be found by trying, or are passwords that somebody made up. Nothing else holds back who tries: at
/// a million tries a second, 24 random digits of 4 bits each last some 10^15 years.
const TOKEN_BYTES_MIN: usize = 24;

/// Tokens that let in, by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

#[derive(PartialEq, Eq)]
struct Token {
    name: Arc<str>,
    /// SHA-256: all are equally long, so that comparing tells nothing of their lengths.
    hash: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Token").field(&self.name).finish()
    }
}

impl Tokens {
    /// Reads every token; one that is missing, short or another's is an error.
    pub fn read(configured: &[AdminTokenConfig]) -> Result<Self, AuthError> {
        let (tokens, problems) = Self::try_each(configured);
        problems.into_iter().next().map_or(Ok(tokens), Err)
    }

    /// Returns what is wrong with each token.
    pub fn problems(configured: &[AdminTokenConfig]) -> Vec<AuthError> {
        Self::try_each(configured).1
    }

    /// Returns those that can be had, and what is wrong with each of the others.
    pub fn try_each(configured: &[AdminTokenConfig]) -> (Self, Vec<AuthError>) {
        let (mut tokens, mut problems) = (Self(Vec::new()), Vec::new());
        for (at, token) in configured.iter().enumerate() {
            match tokens.one(at, token) {
                Ok(token) => tokens.0.push(token),
                Err(problem) => problems.push(problem),
            }
        }
        (tokens, problems)
    }

    /// Reads one that is none of those that are there.
    fn one(&self, at: usize, token: &AdminTokenConfig) -> Result<Token, AuthError> {
        let refused =
            |why| AuthError::Token { at, name: token.name.to_string(), from: token.from.to_string(), why };
        let secret = read_secret(&token.from).map_err(refused)?;
        if secret.expose_secret().len() < TOKEN_BYTES_MIN {
            return Err(refused("is shorter than 24 bytes: take for example 32 random ones in base64"));
        }
        let hash = hash(secret.expose_secret().as_bytes());
        if let Some(other) = self.0.iter().find(|other| other.hash == hash) {
            let (name, other) = (token.name.to_string(), other.name.to_string());
            return Err(AuthError::Shared { at, name, other });
        }
        Ok(Token { name: Arc::clone(&token.name), hash })
    }

    /// Returns whose token this is. Takes as long for a wrong one as for any right one.
    pub fn name_of(&self, shown: &[u8]) -> Option<&Arc<str>> {
        let hash = hash(shown);
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (at, token) in (0_u64..).zip(&self.0) {
            let same = token.hash.ct_eq(&hash);
            found |= same;
            place.conditional_assign(&at, same);
        }
        bool::from(found).then(|| &self.0[place as usize].name)
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeySource;

    fn read(tokens: &[&str]) -> Result<Tokens, AuthError> {
        let folder = tempfile::tempdir().unwrap();
        let configured: Vec<AdminTokenConfig> = (0..)
            .zip(tokens)
            .map(|(at, token)| {
                let file = folder.path().join(at.to_string());
                std::fs::write(&file, token).unwrap();
                AdminTokenConfig { name: format!("person-{at}").into(), from: KeySource::File(file) }
            })
            .collect();
        Tokens::read(&configured)
    }

    #[test]
    fn each_token_has_its_name() {
        let tokens = read(&["0123456789abcdef01234567", " fedcba9876543210fedcba98\n"]).unwrap();
        assert_eq!(tokens.name_of(b"0123456789abcdef01234567").map(|name| &**name), Some("person-0"));
        assert_eq!(tokens.name_of(b"fedcba9876543210fedcba98").map(|name| &**name), Some("person-1"));
        assert_eq!(tokens.name_of(b"fedcba9876543210fedcba9"), None);
        assert_eq!(tokens.name_of(b""), None);
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn tokens_that_do_not_do_are_errors_that_do_not_tell_them() {
        for (tokens, expected) in [
            (&["0123-short"][..], "is shorter than 24 bytes"),
            (&[" \n"], "is empty"),
            (
                &["0123456789abcdef01234567", "0123456789abcdef01234567"],
                "is the same token as that of person-0",
            ),
        ] {
            let error = read(tokens).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains(tokens[0]), "{error}");
        }
        let missing = KeySource::Environment("POINTSMAN_TEST_NO_SUCH_TOKEN".to_owned());
        let missing = AdminTokenConfig { name: "alice".into(), from: missing };
        let error = Tokens::read(&[missing]).unwrap_err().to_string();
        assert_eq!(error, "server.admin.tokens[0] (alice): env:POINTSMAN_TEST_NO_SUCH_TOKEN is not set");
    }
}
