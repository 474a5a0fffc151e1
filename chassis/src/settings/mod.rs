//! Settings: environment variables, read once at start.
//!
//! A service declares its variables with [`settings!`](crate::settings!); the declaration is also
//! what `--help` prints and what an error message quotes, so the three cannot disagree.

mod common;
mod read;
mod types;

pub use self::{
    common::{Common, LogFormat, Workers},
    read::{BadValue, Environment, both},
    types::{A_HOST, Host, LogLevels, ON_OR_OFF, Secret, Switch},
};

/// Settings that are read from the environment: a struct that [`settings!`](crate::settings!)
/// declared, or several of which some depend on what others say.
pub trait Settings: Sized {
    /// Every variable that may be read, in the order of `--help`.
    fn variables() -> Vec<Variable>;

    /// Reads those that are in use.
    ///
    /// # Errors
    ///
    /// Every variable in use with a value that it does not accept.
    fn read(environment: &Environment) -> Result<Self, Vec<BadValue>>;
}

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The name in lower case, as in the struct.
    pub field: &'static str,
    /// The value, as text, when the variable is not set; empty for none.
    pub default: &'static str,
    /// Which values it takes, in words.
    pub accepts: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Whether its value must never be shown. It can also be read from the file that a variable
    /// with `_FILE` at the end of its name points to.
    pub secret: bool,
}

impl Variable {
    /// The name in the environment.
    pub fn name(&self) -> String {
        self.field.to_ascii_uppercase()
    }

    /// The name of the variable that points to a file with the value, for a secret.
    pub fn file_name(&self) -> String {
        self.name() + "_FILE"
    }
}

/// Declares a settings struct with one environment variable a field.
///
/// Each field has a doc comment, a type that `serde` reads, its default as the text that the
/// variable would hold (`""` for an `Option` means none), and the values it accepts, in words or
/// as the name of a constant; `(secret)` after them marks a value that must not be shown.
///
/// ```
/// chassis::settings! {
///     /// Settings of a service that greets.
///     pub struct Settings {
///         /// Text of the greeting.
///         message: String = "Hello", "any text";
///         /// How often to greet.
///         times: u8 = "1", "a number from 0 to 255";
///     }
/// }
/// ```
#[macro_export]
macro_rules! settings {
    (@secret) => { false };
    (@secret secret) => { true };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                #[doc = $help:literal]
                $field:ident: $type:ty = $default:literal, $accepts:tt $(($secret:ident))?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, $crate::serde::Deserialize)]
        #[serde(crate = "chassis::serde")]
        $vis struct $name {
            $(
                #[doc = $help]
                pub $field: $type,
            )*
        }

        impl $crate::settings::Settings for $name {
            fn variables() -> Vec<$crate::settings::Variable> {
                vec![
                    $(
                        $crate::settings::Variable {
                            field: stringify!($field),
                            default: $default,
                            accepts: $accepts,
                            help: $help,
                            secret: $crate::settings!(@secret $($secret)?),
                        },
                    )*
                ]
            }

            fn read(
                environment: &$crate::settings::Environment,
            ) -> Result<Self, Vec<$crate::settings::BadValue>> {
                environment.read()
            }
        }
    };
}
