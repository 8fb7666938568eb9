//! Why a server did not answer, in words for whoever asked it. Pure.

use tonic::{Code, Status};

/// What is said of a listener for something else.
pub const NO_ADMIN_LISTENER: &str = "this is no admin listener, or that of an older version without this call: `serve` prints its address after the \
     word admin";
const NOBODY: &str = "nobody listens there: is `pointsman serve` running? It prints its admin address; name it with \
                      --admin. Does it ask for TLS? Name its CA with --ca";
const NOT_ACCEPTED: &str = "the server did not accept the client's certificate: name one of a CA that it knows with --cert and --key";
const BROKE: &str = "the connection broke before an answer came";

/// Returns an error's message and those of its causes.
pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(current) = cause {
        texts.push(current.to_string());
        cause = current.source();
    }
    texts
}

/// Returns why no connection came about.
pub fn not_connected(chain: &[String]) -> String {
    if is_own_certificate(chain) {
        return NOT_ACCEPTED.to_owned();
    }
    let find = |parts: &[&str]| chain.iter().find(|text| parts.iter().any(|part| text.contains(part)));
    if let Some(text) = find(&["certificate", "TLS", "tls"]) {
        let hint = match text {
            text if text.contains("UnknownIssuer") => {
                ": name the CA of its certificate with --ca; the certificate itself does where it has signed itself"
            }
            text if text.contains("NotValidForName") => {
                ": ask it with --admin by a name that its certificate has"
            }
            _ => "",
        };
        return format!("no encrypted connection: {text}{hint}");
    }
    if find(&["dns error", "lookup address"]).is_some() {
        return "no machine of that name is known: look at --admin".to_owned();
    }
    NOBODY.to_owned()
}

/// Returns why a call that was made failed: what the server said, or why that was nothing.
pub fn not_answered(status: &Status, encrypted: bool) -> String {
    // Whoever answers sends no cause.
    let causes = std::error::Error::source(status).map(chain);
    if let Some(causes) = causes {
        return match (is_own_certificate(&causes), encrypted) {
            (true, _) => NOT_ACCEPTED.to_owned(),
            // Client certificates are looked at after the connection is there, and not every system tells what was said.
            (false, true) => format!(
                "{BROKE}: a listener that asks for certificates ends it where it does not accept yours: look at --cert \
                 and --key"
            ),
            (false, false) => format!("{BROKE}: does it ask for TLS? Name its CA with --ca"),
        };
    }
    if status.code() == Code::Unimplemented || is_no_grpc(status) {
        return NO_ADMIN_LISTENER.to_owned();
    }
    match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    }
}

/// Whether no answer came, and not because the server would not have its caller: it may have done what was asked for.
pub fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|cause| !is_own_certificate(&chain(cause)))
}

/// What an HTTP server answers is no message: the library wonders about its first byte, or about what it says of itself.
fn is_no_grpc(status: &Status) -> bool {
    let message = status.message();
    message.contains("invalid compression flag") || message.contains("grpc-status header missing")
}

/// Whether the other side said that it refuses the certificate that it was shown, or that it misses one.
fn is_own_certificate(chain: &[String]) -> bool {
    const ALERTS: [&str; 7] = [
        "CertificateRequired",
        "BadCertificate",
        "UnsupportedCertificate",
        "CertificateRevoked",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
    ];
    let is_alert = |text: &String| {
        text.contains("received fatal alert") && ALERTS.iter().any(|alert| text.contains(alert))
    };
    chain.iter().any(is_alert)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(causes: &[&str], expected: &str) {
        let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let said = not_connected(&causes);
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn why_nobody_is_reached_has_its_remedy() {
        check(&["transport error", "tcp connect error", "Connection refused"], "nobody listens there");
        check(&["transport error", "invalid peer certificate: UnknownIssuer"], "UnknownIssuer: name the CA");
        check(
            &["transport error", "invalid peer certificate: certificate not valid: NotValidForName"],
            "by a name",
        );
        check(
            &["transport error", "received fatal alert: CertificateRequired"],
            "did not accept the client's",
        );
        check(
            &["transport error", "dns error", "failed to lookup address information"],
            "no machine of that name",
        );
        check(&["transport error", "invalid TLS record"], "no encrypted connection: invalid TLS record");
    }

    #[test]
    fn what_the_server_says_stands_alone() {
        let refused = Status::failed_precondition("bundle 2 is active");
        assert_eq!(not_answered(&refused, false), "bundle 2 is active");
        assert_eq!(not_answered(&Status::new(Code::NotFound, ""), false), Code::NotFound.to_string());
    }

    #[test]
    fn another_listener_is_told() {
        let flag =
            "protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1)";
        for status in [Status::internal(flag), Status::unimplemented("")] {
            assert_eq!(not_answered(&status, false), NO_ADMIN_LISTENER);
        }
    }

    #[test]
    fn a_connection_that_broke_has_its_remedy() {
        let broken = |cause: &str| Status::from_error(Box::new(std::io::Error::other(cause.to_owned())));
        assert!(not_answered(&broken("broken pipe"), false).contains("--ca"));
        assert!(not_answered(&broken("broken pipe"), true).contains("--cert"));
        let alert = broken("received fatal alert: UnknownCA");
        assert!(not_answered(&alert, true).contains("did not accept the client's certificate"));
    }
}
