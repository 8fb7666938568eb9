//! Which names a caller on this machine may call the listener by. Pure.
//!
//! A page of a foreign site may point its own name at this machine's loopback address: the browser then takes
//! what listens here for a part of that site. The name that it calls tells.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header::HOST, uri::Authority};

use super::errors::{Problem, What};

/// The names that one listener answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// It is open to other machines, and who is in front of it knows the names.
    Any,
    /// Loopback addresses, "localhost" and these, in lower case.
    Loopback(Vec<String>),
}

impl Hosts {
    /// Returns what a listener at this address answers to.
    pub fn of(address: SocketAddr, configured: &[String]) -> Self {
        if address.ip().is_loopback() { Self::Loopback(configured.to_vec()) } else { Self::Any }
    }

    /// Refuses a request that calls another name. One that calls none comes from no browser.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Self::Loopback(configured) = self else { return Ok(()) };
        let in_headers = headers.get_all(HOST).iter();
        let is_ours = in_headers
            .map(|value| Authority::try_from(value.as_bytes()).ok())
            .all(|found| found.is_some_and(|found| is_local(&found, configured)));
        if is_ours && uri.authority().is_none_or(|found| is_local(found, configured)) {
            return Ok(());
        }
        let message =
            "host: this listener is called by localhost, a loopback address or a name of server.hosts";
        Err(Problem::new(What::ForeignHost, message))
    }
}

fn is_local(authority: &Authority, configured: &[String]) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || configured.iter().any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_loopback_names_and_configured_ones_are_answered() {
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap(), &["gateway.internal".to_owned()]);
        let check = |names: &[&str], uri: &'static str, is_answered: bool| {
            let values = names.iter().map(|name| (HOST, HeaderValue::from_str(name).unwrap()));
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(name, value);
            }
            let answered = hosts.check(&Uri::from_static(uri), &headers).is_ok();
            assert_eq!(answered, is_answered, "{names:?} {uri}");
        };
        check(&["localhost"], "/", true);
        check(&["LocalHost:8080"], "/", true);
        check(&["127.0.0.1:8080"], "/", true);
        check(&["127.1.2.3"], "/", true);
        check(&["[::1]:8080"], "/", true);
        check(&["Gateway.internal:80"], "/", true);
        check(&[], "/", true);
        check(&[], "http://localhost:8080/", true);
        check(&[], "http://evil.example/", false);
        check(&["localhost"], "http://evil.example/", false);
        check(&["evil.example"], "/", false);
        check(&["evil.example:8080"], "/", false);
        check(&["localhost.evil.example"], "/", false);
        check(&["127.0.0.1.evil.example"], "/", false);
        check(&["localhost", "evil.example"], "/", false);
        check(&["192.168.0.7:8080"], "/", false);
        check(&["0.0.0.0:8080"], "/", false);
        check(&[""], "/", false);
        check(&["a b"], "/", false);
    }

    #[test]
    fn a_listener_that_is_open_to_others_asks_no_name() {
        let hosts = Hosts::of("0.0.0.0:8080".parse().unwrap(), &[]);
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("gateway.example"))]);
        assert!(hosts.check(&Uri::from_static("/"), &headers).is_ok());
    }
}
