//! Where something is, without a port.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

/// What a setting of the type [`Host`] accepts, in words.
pub const A_HOST: &str = "a host name or an IP address, without a port";

/// A host name or an IP address.
///
/// `[::1]` is taken for `::1`. What can never be a host (a URL, a port in it, quotes, blanks) is
/// refused, so that it is an error at start and not a name that never resolves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(String);

impl Host {
    /// The host as resolvers and TLS take it: an IPv6 address has no brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port as messages and URLs have them: `db.example:5432`, `[::1]:5432`.
    pub fn with_port(&self, port: u16) -> String {
        let host = &self.0;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let in_brackets = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let good = match in_brackets {
            Some(address) => is_ipv6(address),
            None => is_ipv6(&text) || is_name_or_ipv4(&text),
        };
        match good {
            true => Ok(Self(in_brackets.unwrap_or(&text).to_owned())),
            false => Err("not a host"),
        }
    }
}

/// Whether it is an address such as `::1` or, with the zone that a link-local one needs,
/// `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "eth0"));
    address.parse::<Ipv6Addr>().is_ok() && is_label(zone)
}

fn is_name_or_ipv4(text: &str) -> bool {
    // With a dot at the end it is absolute: no search domain is tried.
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_number = |label: &&str| label.bytes().all(|byte| byte.is_ascii_digit());
    match labels.last().is_some_and(is_number) {
        // No top-level domain is a number.
        true => text.parse::<Ipv4Addr>().is_ok(),
        false => text.len() <= 254 && labels.into_iter().all(is_label),
    }
}

/// Whether it may stand between two dots of a name. The underscore is in no host name by the
/// rules, but in names that compose gives.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<Host, &'static str> {
        Host::try_from(text.to_owned())
    }

    #[test]
    fn names_and_addresses_are_hosts_and_brackets_are_taken_off() {
        for (text, shown) in [
            ("localhost", "localhost:80"),
            ("db-1.example.com.", "db-1.example.com.:80"),
            ("hash_server", "hash_server:80"),
            ("3com.example", "3com.example:80"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:80"),
        ] {
            assert_eq!(host(text).unwrap().with_port(80), shown);
        }
        assert_eq!(host("[::]"), host("::"));
        assert_eq!(host("[::]").unwrap().as_str(), "::");
    }

    #[test]
    fn what_can_never_be_a_host_is_refused() {
        for bad in [
            "",
            "http://h",
            "redis://:hush@h",
            "h:6379",
            "127.0.0.1:80",
            "[::1]:80",
            "[h]",
            "[::1",
            "::1]",
            "\"h\"",
            "'h'",
            " h",
            "h ",
            "a b",
            "a,b",
            "h\r",
            "h\n",
            "h\0",
            "/run/x",
            "user@h",
            "a..b",
            ".a",
            "10.0.0.256",
            "1.2.3",
            "fe80::1%",
            "h%eth0",
            "ä.example",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }
}
