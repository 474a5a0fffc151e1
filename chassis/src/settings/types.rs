//! Types of settings that more than one service has.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use actix_web::http::Uri;
use serde::Deserialize;
use tracing_subscriber::filter::Targets;

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

/// What a setting of the type [`HttpUrl`] accepts, in words.
pub const A_URL: &str = "a URL such as http://otel-collector:4318 (https is not supported)";

/// A URL with a host, of plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(Uri);

impl TryFrom<String> for HttpUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let url: Uri = text.parse().map_err(|_| "not a URL")?;
        match (url.scheme_str(), url.host()) {
            (Some("http"), Some(host)) if !host.is_empty() => Ok(Self(url)),
            _ => Err("not a URL of http"),
        }
    }
}

/// What a setting of the type [`Rate`] accepts, in words.
pub const A_RATE: &str = "a number from 0 to 1";

/// A part of all: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Rate(pub f64);

impl TryFrom<f64> for Rate {
    type Error = &'static str;

    fn try_from(rate: f64) -> Result<Self, &'static str> {
        let is_part = (0.0..=1.0).contains(&rate);
        is_part.then_some(Self(rate)).ok_or("not a part of all")
    }
}

/// What a setting of the type [`Switch`] accepts, in words.
pub const ON_OR_OFF: &str = "on or off (or true/false, yes/no, 1/0)";

/// On or off, in any of the usual words and in any case: YAML turns an unquoted `off` into
/// `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl TryFrom<String> for Switch {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(Self::On),
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            _ => Err("neither on nor off"),
        }
    }
}

/// A password or the like: it can be used, but it does not print.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// What a setting of the type [`LogLevels`] accepts, in words.
pub(crate) const LEVELS: &str = "levels such as info or warn,chassis=debug (error, warn, info, debug, trace; off for modules only)";

/// Which messages are logged, by level and module.
///
/// The syntax is that of `tracing`, but strict: `warning`, a blank or a quote would be the name of
/// a module there, and everything else would be silent. Errors are logged unless a module is off.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevels(Targets);

impl LogLevels {
    pub(crate) fn targets(&self) -> Targets {
        self.0.clone()
    }
}

impl TryFrom<String> for LogLevels {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if !text.split(',').all(is_directive) {
            return Err("not levels");
        }
        // The library reports every malformed request as an error of its own; it is named in
        // RUST_LOG where that is wanted, and the last word counts.
        format!("error,actix_http=off,{text}")
            .parse()
            .map(Self)
            .map_err(|_| "not levels")
    }
}

fn is_directive(text: &str) -> bool {
    let is_level = |level: &str| {
        ["error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(level))
    };
    match text.split_once('=') {
        None => is_level(text),
        Some((module, level)) => {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
            !module.is_empty()
                && module.chars().all(is_name)
                && (is_level(level) || level.eq_ignore_ascii_case("off"))
        }
    }
}

#[cfg(test)]
mod tests {
    mod host {
        use super::super::*;

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

    mod switch {
        use super::super::*;

        #[test]
        fn the_usual_words_are_taken_in_any_case_and_nothing_else_is() {
            let switch = |text: &str| Switch::try_from(text.to_owned());
            for on in ["on", "ON", "true", "True", "yes", "Yes", "1"] {
                assert_eq!(switch(on), Ok(Switch::On), "{on}");
            }
            for off in ["off", "Off", "false", "FALSE", "no", "NO", "0"] {
                assert_eq!(switch(off), Ok(Switch::Off), "{off}");
            }
            for bad in ["", "2", "y", "enabled", "\"on\"", "on "] {
                assert!(switch(bad).is_err(), "{bad:?}");
            }
        }
    }

    mod log_levels {
        use tracing::Level;

        use super::super::*;

        fn levels(text: &str) -> Result<Targets, &'static str> {
            LogLevels::try_from(text.to_owned()).map(|levels| levels.targets())
        }

        #[test]
        fn levels_hold_for_everything_or_for_a_module() {
            let targets = levels("chassis=debug,WARN,quiet=off").unwrap();
            assert!(targets.would_enable("chassis::life", &Level::DEBUG));
            assert!(targets.would_enable("other", &Level::WARN));
            assert!(!targets.would_enable("other", &Level::INFO));
            assert!(!targets.would_enable("quiet", &Level::ERROR));
            assert!(!targets.would_enable("actix_http", &Level::ERROR));
            let targets = levels("actix_http=trace,info").unwrap();
            assert!(targets.would_enable("actix_http", &Level::TRACE));
        }

        #[test]
        fn errors_are_logged_where_only_one_module_is_named() {
            let targets = levels("chassis=debug").unwrap();
            assert!(targets.would_enable("other", &Level::ERROR));
            assert!(!targets.would_enable("other", &Level::WARN));
        }

        #[test]
        fn what_would_silence_everything_is_refused() {
            for bad in [
                "",
                "off",
                "OFF",
                "info,off",
                "warning",
                "0",
                "chassis",
                "\"info\"",
                "'info'",
                " info",
                "info ",
                "info, warn",
                "info,",
                "info\r",
                "a=b=c",
                "chassis=",
                "=info",
                "chassis=warning",
                "[span]=info",
                "a{b}=info",
            ] {
                assert!(levels(bad).is_err(), "{bad:?}");
            }
        }
    }
}
