//! From the environment to a settings struct, with every bad value named.

use std::{collections::BTreeMap, ffi::OsString, fmt};

use serde::de::DeserializeOwned;

use super::{Settings, Variable};

/// Where settings come from: the process's environment, or in tests a list.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Defaults that depend on the program, by upper-case name.
    defaults: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        // `vars_os`, not `vars`: that one panics where any variable is not UTF-8.
        std::env::vars_os().collect()
    }

    /// Replaces the declared default of the variable `name`.
    #[must_use]
    pub fn with_default(mut self, name: &str, default: impl ToString) -> Self {
        self.defaults.insert(name.to_owned(), default.to_string());
        self
    }

    /// The default of a variable, as text.
    pub(crate) fn default_of(&self, variable: &Variable) -> String {
        let declared = || variable.default.to_owned();
        self.defaults
            .get(&variable.name())
            .cloned()
            .unwrap_or_else(declared)
    }

    /// Reads the settings of one struct. An empty variable counts as one that is not set.
    ///
    /// # Errors
    ///
    /// Every variable with a value that it does not accept.
    pub fn read<S: Settings + DeserializeOwned>(&self) -> Result<S, Vec<BadValue>> {
        let variables = S::variables();
        let defaults: BTreeMap<String, String> = variables
            .iter()
            .map(|variable| (variable.name(), self.default_of(variable)))
            .collect();

        // Each value is tried alone among the defaults: envy stops at the first bad one, and for
        // an enum it does not say which variable that was.
        let mut bad = Vec::new();
        let mut values = defaults.clone();
        for variable in &variables {
            let name = variable.name();
            let text = match self.value_of(variable) {
                Ok(None) => continue,
                Ok(Some(text)) => text,
                Err(refusal) => {
                    bad.push(refusal);
                    continue;
                }
            };
            let mut alone = defaults.clone();
            alone.insert(name.clone(), text.clone());
            if !variable.secret && text.trim() != text {
                // Such as the carriage return of a file from Windows.
                bad.push(BadValue::new(
                    variable,
                    &text,
                    "blanks or line ends around it, ",
                ));
            } else if parse::<S>(alone).is_err() {
                bad.push(BadValue::new(variable, &text, ""));
            }
            values.insert(name, text);
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        parse(values).map_err(|error| {
            // Each value parses alone, so this is a default that does not parse: a mistake in
            // the declaration, which every test that reads settings would show.
            vec![BadValue {
                line: format!("the default settings do not parse: {error}"),
            }]
        })
    }
}

impl Environment {
    /// The text of a variable that is set, from the variable itself or, for a secret, a file.
    fn value_of(&self, variable: &Variable) -> Result<Option<String>, BadValue> {
        let direct = self
            .text(&variable.name())
            .map_err(|lossy| BadValue::new(variable, &lossy, "not UTF-8, "))?;
        if !variable.secret {
            return Ok(direct);
        }
        let (name, file_name) = (variable.name(), variable.file_name());
        let path = self
            .text(&file_name)
            .map_err(|lossy| BadValue::invalid(&file_name, &lossy, "not UTF-8"))?;
        let secret = match (direct, path) {
            (Some(_), Some(_)) => {
                return Err(BadValue::together(format!(
                    "{name} and {file_name} are both set: expected only one of them"
                )));
            }
            (direct, None) => direct,
            (None, Some(path)) => Some(std::fs::read_to_string(&path).map_err(|error| {
                let reason = format!("{error}; expected the path of a file that holds {name}");
                BadValue::invalid(&file_name, &path, reason)
            })?),
        };
        // Editors, `echo` and `base64` end a text with a line feed that is not part of the secret.
        Ok(secret.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The text of a variable that is set and not empty; in lossy form if it is not UTF-8.
    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.variables.get(&OsString::from(name)) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(value.to_string_lossy().into_owned()),
            },
        }
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(k, v)| (k.into(), v.into()));
        Self {
            variables: variables.collect(),
            defaults: BTreeMap::new(),
        }
    }
}

fn parse<S: DeserializeOwned>(values: BTreeMap<String, String>) -> envy::Result<S> {
    // An `Option` that has no value must be absent: envy would parse the empty text.
    envy::from_iter(values.into_iter().filter(|(_, value)| !value.is_empty()))
}

/// Both of two results, or the bad values of both.
///
/// # Errors
///
/// Either has bad values.
pub fn both<A, B>(
    first: Result<A, Vec<BadValue>>,
    second: Result<B, Vec<BadValue>>,
) -> Result<(A, B), Vec<BadValue>> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (first, second) => Err([first.err(), second.err()]
            .into_iter()
            .flatten()
            .flatten()
            .collect()),
    }
}

/// A variable whose value is not accepted, in one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    line: String,
}

impl BadValue {
    fn new(variable: &Variable, value: &str, why: &str) -> Self {
        let (name, accepts) = (variable.name(), variable.accepts);
        let mut reason = format!("{why}expected {accepts}");
        if value.starts_with("tcp://") || value.starts_with("udp://") {
            reason.push_str(
                " (Kubernetes sets such variables for its Services: \
                 put `enableServiceLinks: false` into the pod's spec)",
            );
        }
        match variable.secret {
            true => Self::together(format!("invalid {name} (not shown): {reason}")),
            false => Self::invalid(&name, value, reason),
        }
    }

    /// The value of one setting, in one line that names it with the reason.
    ///
    /// The value is not shown where it may hold a password, as a URL in the place of a host may.
    pub fn invalid(name: &str, value: &str, reason: impl fmt::Display) -> Self {
        Self::together(match value.contains(['@', '?']) {
            true => format!("invalid {name} (not shown, it may hold a password): {reason}"),
            false => format!("invalid {name} {value:?}: {reason}"),
        })
    }

    /// A complaint about several settings together, in one line that names them.
    pub fn together(line: impl Into<String>) -> Self {
        Self { line: line.into() }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::settings::{Common, LogFormat, Secret, Switch};

    fn read(variables: &[(&str, &str)]) -> Result<Common, Vec<String>> {
        let environment: Environment = variables.iter().copied().collect();
        lines(environment)
    }

    fn lines(environment: Environment) -> Result<Common, Vec<String>> {
        environment
            .with_default("PORT", 8080)
            .with_default("ADMIN_PORT", 9080)
            .read()
            .map_err(|bad| bad.iter().map(BadValue::to_string).collect())
    }

    #[test]
    fn without_variables_the_defaults_hold() {
        let common = read(&[]).unwrap();
        assert_eq!((common.port, common.admin_port), (8080, 9080));
        assert_eq!(common.host.as_str(), "127.0.0.1");
        assert_eq!(common.workers, None);
        assert_eq!(common.access_log, Switch::On);
        assert_eq!(common.request_timeout().as_secs(), 10);
        assert_eq!(
            (common.drain_seconds, common.shutdown_timeout_seconds),
            (0, 15)
        );
    }

    #[test]
    fn variables_replace_defaults_and_empty_ones_do_not() {
        let common = read(&[("PORT", "1234"), ("LOG_FORMAT", "json"), ("HOST", "")]).unwrap();
        assert_eq!(common.port, 1234);
        assert_eq!(common.log_format, Some(LogFormat::Json));
        assert_eq!(common.host.as_str(), "127.0.0.1");
    }

    #[test]
    fn every_bad_value_is_named_with_what_it_accepts() {
        let bad = read(&[
            ("PORT", "http"),
            ("LOG_FORMAT", "xml"),
            ("WORKERS", "0"),
            ("ACCESS_LOG", "maybe"),
            ("HOST", "a b"),
            ("RUST_LOG", "warning"),
            ("REQUEST_TIMEOUT_MS", "0"),
            ("DRAIN_SECONDS", "-1"),
            ("MAX_IN_FLIGHT", "many"),
            ("ADMIN_PORT", "65536"),
        ])
        .unwrap_err();
        for (line, start) in bad.iter().zip([
            "invalid HOST \"a b\": expected a host name or an IP address",
            "invalid PORT \"http\": expected a port",
            "invalid ADMIN_PORT \"65536\": ",
            "invalid WORKERS \"0\": expected a number from 1 to 512",
            "invalid LOG_FORMAT \"xml\": expected text or json",
            "invalid RUST_LOG \"warning\": expected levels such as info",
            "invalid ACCESS_LOG \"maybe\": expected on or off",
            "invalid DRAIN_SECONDS \"-1\": ",
            "invalid REQUEST_TIMEOUT_MS \"0\": ",
            "invalid MAX_IN_FLIGHT \"many\": ",
        ]) {
            assert!(line.starts_with(start), "{line}");
        }
        assert_eq!(bad.len(), 10);
    }

    crate::settings! {
        struct Login {
            /// Who.
            user: String = "nobody", "any text";
            /// The proof.
            pin: Option<Secret> = "", "any text" (secret);
        }
    }

    fn login(variables: &[(&str, &str)]) -> Result<Login, String> {
        let environment: Environment = variables.iter().copied().collect();
        environment.read().map_err(|bad| bad[0].to_string())
    }

    #[test]
    fn a_secret_is_read_from_its_variable_or_from_a_file() {
        let file = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::write(&file, "hush\n").unwrap();
        let path = file.to_str().unwrap();
        for variables in [("PIN", "hush"), ("PIN", "hush\r\n"), ("PIN_FILE", path)] {
            let login = login(&[variables]).unwrap();
            assert_eq!(login.pin.as_ref().map(Secret::reveal), Some("hush"));
            assert!(!format!("{login:?}").contains("hush"));
            assert_eq!(login.user, "nobody");
        }
        let both = login(&[("PIN", "hush"), ("PIN_FILE", path)]).unwrap_err();
        assert_eq!(
            both,
            "PIN and PIN_FILE are both set: expected only one of them"
        );
        std::fs::remove_file(&file).unwrap();
        let missing = login(&[("PIN_FILE", path)]).unwrap_err();
        assert!(
            missing.starts_with("invalid PIN_FILE \"") && missing.contains("No such file"),
            "{missing}"
        );
    }

    #[test]
    fn a_bad_secret_is_not_shown() {
        let secret = OsString::from_vec(b"hush\xff".to_vec());
        let environment: Environment = [(OsString::from("PIN"), secret)].into_iter().collect();
        let bad = environment.read::<Login>().unwrap_err()[0].to_string();
        assert!(
            bad.starts_with("invalid PIN (not shown): not UTF-8, expected")
                && !bad.contains("hush"),
            "{bad}"
        );
    }

    #[test]
    fn a_service_link_of_kubernetes_is_recognised() {
        let bad = read(&[("PORT", "tcp://10.0.0.1:80")]).unwrap_err();
        assert!(bad[0].contains("enableServiceLinks: false"), "{bad:?}");
    }

    #[test]
    fn a_value_that_is_not_utf8_is_an_error_only_where_it_is_read() {
        let text = || OsString::from_vec(vec![b'a', 0xff]);
        let environment: Environment = [(OsString::from("OF_ANOTHER_PROGRAM"), text())]
            .into_iter()
            .collect();
        assert!(lines(environment).is_ok());
        let environment: Environment = [(OsString::from("HOST"), text())].into_iter().collect();
        let bad = lines(environment).unwrap_err();
        assert!(
            bad[0].starts_with("invalid HOST ") && bad[0].contains("not UTF-8"),
            "{bad:?}"
        );
    }

    #[test]
    fn blanks_and_line_ends_around_a_value_are_refused_and_shown_escaped() {
        for (name, value, shown) in [
            ("PORT", "8080\r", r#"invalid PORT "8080\r": "#),
            ("HOST", " h", r#"invalid HOST " h": "#),
            ("RUST_LOG", "info\n", r#"invalid RUST_LOG "info\n": "#),
            ("LOG_FORMAT", "json\t", r#"invalid LOG_FORMAT "json\t": "#),
        ] {
            let bad = read(&[(name, value)]).unwrap_err();
            let expected = format!("{shown}blanks or line ends around it, expected ");
            assert!(bad[0].starts_with(&expected), "{bad:?}");
        }
        let bad = login(&[("USER", "me\n")]).unwrap_err();
        assert!(bad.starts_with(r#"invalid USER "me\n": "#), "{bad}");
    }

    #[test]
    fn a_value_that_may_hold_a_password_is_not_shown() {
        for url in ["redis://:hush@h", "http://h/?token=hush", "me:hush@h"] {
            let bad = read(&[("HOST", url)]).unwrap_err();
            assert!(bad[0].starts_with("invalid HOST (not shown"), "{bad:?}");
            assert!(!bad[0].contains("hush"), "{bad:?}");
        }
    }

    #[test]
    fn the_two_ports_differ_unless_both_are_free_ones() {
        let ports = |port, admin_port| {
            let common = read(&[("PORT", port), ("ADMIN_PORT", admin_port)]).unwrap();
            common.consistent().map_err(|bad| bad[0].to_string())
        };
        assert!(ports("8080", "8081").is_ok() && ports("0", "0").is_ok());
        let bad = ports("8080", "8080").unwrap_err();
        assert!(
            bad.starts_with("invalid ADMIN_PORT \"8080\": it is the same as PORT"),
            "{bad}"
        );
    }

    #[test]
    fn a_bad_value_on_several_lines_is_reported_on_one() {
        let bad = read(&[("PORT", "80\n81")]).unwrap_err();
        assert_eq!(bad[0].lines().count(), 1, "{bad:?}");
    }

    proptest! {
        #[test]
        fn whatever_a_variable_holds_is_read_or_refused_by_its_name(
            variable in prop::sample::select(<Common as Settings>::variables()),
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                "[-+0-9.e:/a-z \\[\\]]{0,12}".prop_map(String::into_bytes),
            ],
        ) {
            let name = variable.name();
            let set = (OsString::from(&name), OsString::from_vec(value));
            if let Err(bad) = lines([set].into_iter().collect()) {
                prop_assert!(bad.len() == 1 && bad[0].starts_with(&format!("invalid {name} ")), "{bad:?}");
            }
        }
    }
}
