//! Which messages are logged.

use serde::Deserialize;
use tracing_subscriber::filter::Targets;

/// What a setting of the type [`LogLevels`] accepts, in words.
pub(super) const LEVELS: &str = "levels such as info or warn,chassis=debug (error, warn, info, debug, trace; off for modules only)";

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
        // The libraries report every malformed request as an error of theirs, and each step of a
        // start; they are named in RUST_LOG where that is wanted, and the last word counts.
        format!("error,actix_http=off,actix_server=warn,{text}")
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
    use tracing::Level;

    use super::*;

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
