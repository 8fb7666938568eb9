//! The name on a client's certificate, which TLS has verified before.

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::*};

/// Longest name that is recorded, characters.
const NAME_CHARS_MAX: usize = 128;

/// Returns "CN=..." or, where the certificate has none, its first other name as "SAN=...".
pub fn name(certificate: &CertificateDer<'_>) -> String {
    let found = X509Certificate::from_der(certificate).ok().and_then(|(_, parsed)| name_in(&parsed));
    // Quoted nowhere but in lines of a log and cells of a table: nothing may break them.
    let name: String = found.unwrap_or_else(|| "without a name".to_owned());
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

fn name_in(certificate: &X509Certificate<'_>) -> Option<String> {
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    if let Some(common) = common.filter(|name| !name.is_empty()) {
        return Some(format!("CN={common}"));
    }
    let others = certificate.subject_alternative_name().ok().flatten()?;
    let other = others.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some(*name),
        _ => None,
    });
    other.map(|name| format!("SAN={name}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[track_caller]
    fn check(common: Option<&str>, others: &[&str], expected: &str) {
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(others).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(name(certificate.der()), expected);
    }

    #[test]
    fn the_common_name_counts_first() {
        check(Some("alice"), &["a.example"], "CN=alice");
        check(None, &["a.example", "b.example"], "SAN=a.example");
        check(None, &[], "without a name");
        check(Some("a\nb"), &[], "CN=ab");
        check(Some(&"a".repeat(60)), &[], &format!("CN={}", "a".repeat(60)));
        assert_eq!(name(&CertificateDer::from(vec![1, 2, 3])), "without a name");
    }
}
