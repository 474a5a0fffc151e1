//! Settings that are on or off.

use serde::Deserialize;

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

#[cfg(test)]
mod tests {
    use super::*;

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
