//! A secret from where the configuration says it is. Never shows it: what is wrong is told in words of our own.

use std::{fs, io::Read};

use secrecy::SecretString;

use super::KeySource;

/// Longest secret that is read; addresses and keys are far shorter.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// Reads a secret, without white space at its ends; what is wrong follows the source's name in a sentence.
pub fn read_secret(source: &KeySource) -> Result<SecretString, &'static str> {
    let text = match source {
        KeySource::Environment(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => "is not set",
            std::env::VarError::NotUnicode(_) => "is not UTF-8",
        })?,
        KeySource::File(path) => {
            // Opening a pipe would wait for its writer.
            if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
                return Err("is no file that can be read");
            }
            let mut bytes = Vec::new();
            fs::File::open(path)
                .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
                .map_err(|_| "is no file that can be read")?;
            String::from_utf8(bytes).map_err(|_| "is not UTF-8")?
        }
    };
    match text.trim() {
        "" => Err("is empty"),
        secret if secret.len() as u64 > SECRET_BYTES_MAX => Err("is longer than 16 KiB"),
        secret => Ok(SecretString::from(secret)),
    }
}
