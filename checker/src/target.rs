//! Where the requests go.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// A service, as a URL names it: `http://host[:port][/path][?query]`.
///
/// The host is a name, an IPv4 address or an IPv6 address in brackets. A name is looked up again
/// for each new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Why a URL cannot be a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is not a URL at all.
    #[error("this is not a URL; expected http://HOST[:PORT][/PATH]")]
    Malformed,
    /// It asks for TLS.
    #[error("https is not supported; ask the service behind the TLS endpoint, over http")]
    Tls,
    /// It asks for another protocol, or for none.
    #[error("the URL must begin with http://")]
    Scheme,
    /// It holds a user name.
    #[error("a user name in the URL is not supported")]
    User,
}

impl Target {
    /// The host without brackets, and the port: what is looked up and connected to.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What to request for `count` numbers. A single number needs no parameter, which every
    /// service understands.
    pub(crate) fn path(&self, count: u32) -> String {
        match (count, self.path.contains('?')) {
            (1, _) => self.path.clone(),
            (_, false) => format!("{}?count={count}", self.path),
            (_, true) => format!("{}&count={count}", self.path),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Malformed)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(TargetError::Tls),
            _ => return Err(TargetError::Scheme),
        }
        let authority = uri.authority().ok_or(TargetError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::User);
        }
        let host = authority.host();
        // What follows the host is nothing, or a colon and a port that fits.
        let port = match &authority.as_str()[host.len()..] {
            "" => 80,
            _ => authority.port_u16().ok_or(TargetError::Malformed)?,
        };
        if host.is_empty() {
            return Err(TargetError::Malformed);
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_kinds_are_understood() {
        for (url, host, port, authority) in [
            ("http://localhost:8081", "localhost", 8081, "localhost:8081"),
            ("http://persistence", "persistence", 80, "persistence"),
            ("http://[::1]:8081/", "::1", 8081, "[::1]:8081"),
            ("http://[::1]", "::1", 80, "[::1]"),
            ("http://127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(target.address(), (host, port), "{url}");
            assert_eq!(target.authority(), authority, "{url}");
            assert_eq!(target.path(1), "/", "{url}");
        }
    }

    #[test]
    fn the_count_is_added_to_whatever_path_the_url_has() {
        let path = |url: &str| url.parse::<Target>().unwrap().path(5);
        assert_eq!(path("http://host"), "/?count=5");
        assert_eq!(path("http://host/numbers/"), "/numbers/?count=5");
        assert_eq!(path("http://host/?a=b"), "/?a=b&count=5");
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_with_the_reason() {
        for (url, error) in [
            ("https://host", TargetError::Tls),
            ("ftp://host", TargetError::Scheme),
            ("localhost:8081", TargetError::Scheme),
            ("localhost", TargetError::Scheme),
            ("http://user:secret@host", TargetError::User),
            ("http://", TargetError::Malformed),
            ("", TargetError::Malformed),
            ("http://host:99999", TargetError::Malformed),
        ] {
            assert_eq!(url.parse::<Target>(), Err(error), "{url}");
        }
    }
}
