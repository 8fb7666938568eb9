//! Who signed a manifest: minisign's signatures beside it, verified against the configured public keys. Pure.
//!
//! A manifest holds the SHA-256 of every file, so its signature covers them all.

use minisign_verify::{Error, PublicKey, Signature};

use super::contents::shown;

/// Characters of a public key that tell it from others: those of its number.
const KEY_NAME_CHARS: usize = 13;

/// The keys that may sign, and whether one of them must.
#[derive(Debug, Clone)]
pub struct Keys {
    keys: Vec<(String, PublicKey)>,
    required: bool,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// How its public key begins.
    pub key: String,
    /// What the signer said with it: minisign writes time and file.
    pub comment: String,
}

/// Why a signature does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    #[error(
        "is not signed, and bundles.require_signature is set: `minisign -Sm manifest.json` in its folder signs it"
    )]
    Missing,
    #[error("manifest.json.minisig: is no signature of minisign")]
    Unreadable,
    #[error("manifest.json.minisig: is of an old kind: sign it again with minisign 0.10 or newer")]
    Legacy,
    #[error("manifest.json.minisig: is by none of bundles.public_keys")]
    UnknownKey,
    #[error("manifest.json.minisig: is of another manifest.json: it was changed after it was signed")]
    Altered,
}

impl Keys {
    /// Takes keys that the configuration has checked; `None`: one of them is none.
    pub fn new(public_keys: &[String], required: bool) -> Option<Self> {
        let read = |text: &String| {
            let key = PublicKey::from_base64(text).ok()?;
            Some((text.chars().take(KEY_NAME_CHARS).collect(), key))
        };
        Some(Self { keys: public_keys.iter().map(read).collect::<Option<_>>()?, required })
    }

    /// Returns who signed a manifest; `None`: nobody, or nobody known, and nobody has to.
    ///
    /// A signature by a known key that does not fit is an error also where none is required: somebody changed what
    /// was signed.
    pub fn signer(
        &self,
        manifest: &[u8],
        signature: Option<&str>,
    ) -> Result<Option<Signer>, SignatureProblem> {
        let lenient = |problem| if self.required { Err(problem) } else { Ok(None) };
        let Some(text) = signature else { return lenient(SignatureProblem::Missing) };
        if self.keys.is_empty() {
            return lenient(SignatureProblem::UnknownKey);
        }
        let signature = Signature::decode(text).map_err(|_| SignatureProblem::Unreadable)?;
        let mut problem = None;
        for (name, key) in &self.keys {
            match key.verify(manifest, &signature, false) {
                Ok(()) => {
                    let comment = shown(signature.trusted_comment());
                    return Ok(Some(Signer { key: name.clone(), comment }));
                }
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm | Error::UnsupportedLegacyMode) => {
                    problem = Some(SignatureProblem::Legacy);
                }
                Err(
                    Error::InvalidSignature
                    | Error::InvalidEncoding
                    | Error::IoError(_)
                    | Error::UnsupportedAlgorithm,
                ) => problem = Some(SignatureProblem::Altered),
            }
        }
        problem.map_or_else(|| lenient(SignatureProblem::UnknownKey), Err)
    }

    /// Returns whether there is any key to verify with.
    pub fn are_there(&self) -> bool {
        !self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use minisign::KeyPair;

    use super::*;

    const MANIFEST: &[u8] = br#"{"version": "1"}"#;

    fn keys(pairs: &[&KeyPair], required: bool) -> Keys {
        let texts: Vec<String> = pairs.iter().map(|pair| pair.pk.to_base64()).collect();
        Keys::new(&texts, required).unwrap()
    }

    fn sign(pair: &KeyPair, what: &[u8]) -> String {
        let comment = Some("timestamp:1\tfile:manifest.json");
        minisign::sign(None, &pair.sk, Cursor::new(what), comment, None).unwrap().into_string()
    }

    #[test]
    fn a_signature_is_of_a_known_key_over_this_manifest() {
        let [ours, other] = [(); 2].map(|()| KeyPair::generate_unencrypted_keypair().unwrap());
        let signed = sign(&ours, MANIFEST);
        for required in [true, false] {
            let check = |keys: &Keys, manifest: &[u8], signature: Option<&str>, expected| {
                let got = keys.signer(manifest, signature).map(|signer| signer.is_some());
                assert_eq!(got, expected, "required {required}");
            };
            let of = |problem: SignatureProblem| if required { Err(problem) } else { Ok(false) };
            let known = keys(&[&other, &ours], required);
            check(&known, MANIFEST, Some(&signed), Ok(true));
            check(&known, b"{}", Some(&signed), Err(SignatureProblem::Altered));
            check(&known, MANIFEST, None, of(SignatureProblem::Missing));
            check(&known, MANIFEST, Some("hello"), Err(SignatureProblem::Unreadable));
            check(&keys(&[&other], required), MANIFEST, Some(&signed), of(SignatureProblem::UnknownKey));
            check(&keys(&[], required), MANIFEST, Some(&signed), of(SignatureProblem::UnknownKey));
        }
        let signer = keys(&[&ours], true).signer(MANIFEST, Some(&signed)).unwrap().unwrap();
        assert!(ours.pk.to_base64().starts_with(&signer.key) && signer.key.len() == KEY_NAME_CHARS);
        assert_eq!(signer.comment, "timestamp:1\u{fffd}file:manifest.json");
    }

    #[test]
    fn a_changed_comment_is_no_longer_signed() {
        let ours = KeyPair::generate_unencrypted_keypair().unwrap();
        let signed = sign(&ours, MANIFEST).replace("timestamp:1", "timestamp:2");
        let problem = keys(&[&ours], false).signer(MANIFEST, Some(&signed)).unwrap_err();
        assert_eq!(problem, SignatureProblem::Altered);
    }
}
