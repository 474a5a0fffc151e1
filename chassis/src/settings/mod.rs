//! Settings: environment variables, read once at start.
//!
//! A service declares its variables with [`settings!`](crate::settings!); the declaration is also
//! what `--help` prints and what an error message quotes, so the three cannot disagree.

mod read;
mod types;

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    thread::available_parallelism,
    time::Duration,
};

use serde::Deserialize;

pub(crate) use self::types::LEVELS;
pub use self::{
    read::{BadValue, Environment, both},
    types::{A_HOST, A_RATE, A_URL, Host, HttpUrl, LogLevels, ON_OR_OFF, Rate, Secret, Switch},
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

crate::settings! {
    /// The settings that every service has.
    pub struct Common {
        /// Address to listen on; `::` and `0.0.0.0` mean all.
        host: Host = "127.0.0.1", A_HOST;
        /// Port of the service.
        port: u16 = "", "a port: a number from 0 to 65535 (0 takes a free one)";
        /// Port for probes and metrics.
        admin_port: u16 = "", "a port: a number from 0 to 65535 (0 takes a free one)";
        /// Threads that serve requests.
        workers: Option<Workers> = "", "a number from 1 to 512";
        /// Form of the logs; text on a terminal and json elsewhere when not set.
        log_format: Option<LogFormat> = "", "text or json";
        /// What to log, by level and module.
        rust_log: LogLevels = "info", LEVELS;
        /// Whether each request is logged, on standard output.
        access_log: Switch = "on", ON_OR_OFF;
        /// Seconds to keep serving, and to report not ready, after a signal to stop.
        drain_seconds: u16 = "0", "seconds: a number from 0 to 65535";
        /// Seconds that requests in flight get to finish once the service has stopped listening.
        shutdown_timeout_seconds: u16 = "15", "seconds: a number from 0 to 65535";
        /// Milliseconds until a request is answered with an error.
        request_timeout_ms: NonZeroU32 = "10000", "milliseconds: a number from 1 to 4294967295";
        /// Seconds that a connection without a request is kept.
        keep_alive_seconds: NonZeroU16 = "620", "seconds: a number from 1 to 65535";
        /// Requests that may wait at the same time; one more is answered with 503 at once.
        max_in_flight: NonZeroU32 = "10000", "a number from 1 to 4294967295";
        /// Whether `/faults` on the admin port lets things go wrong on demand.
        faults: Switch = "off", ON_OR_OFF;
        /// Where traces are sent, by OTLP over HTTP; other `OTEL_` variables are understood then.
        otel_exporter_otlp_endpoint: Option<HttpUrl> = "", A_URL;
        /// How they are sent.
        otel_exporter_otlp_protocol: Protocol = "http/protobuf", "http/protobuf";
        /// Name of the service in traces; that of the program when not set.
        otel_service_name: Option<String> = "", "any text without blanks around it";
        /// Which traces are sent.
        otel_traces_sampler: Sampler = "parentbased_always_on", A_SAMPLER;
        /// Which part of them, for traceidratio.
        otel_traces_sampler_arg: Rate = "1", A_RATE;
    }
}

impl Common {
    /// Refuses settings that do not go together.
    pub(crate) fn consistent(self) -> Result<Self, Vec<BadValue>> {
        // 0 takes a free port each time.
        if self.port == self.admin_port && self.port != 0 {
            let port = self.port.to_string();
            let reason = "it is the same as PORT; expected a port of its own";
            return Err(vec![BadValue::invalid("ADMIN_PORT", &port, reason)]);
        }
        Ok(self)
    }

    /// How many threads serve requests.
    pub fn worker_threads(&self) -> usize {
        match &self.workers {
            Some(workers) => usize::from(workers.0),
            // Respects the CPU quota of a container.
            None => available_parallelism()
                .map_or(1, NonZeroUsize::get)
                .min(512),
        }
    }

    /// Each worker's share of `max_in_flight`, at least one.
    pub fn in_flight_per_worker(&self) -> usize {
        let all = usize::try_from(self.max_in_flight.get()).unwrap_or(usize::MAX);
        (all / self.worker_threads()).max(1)
    }

    /// How long a request may take until it is answered with an error.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.get().into())
    }

    /// How long a connection without a request is kept.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_seconds.get().into())
    }

    /// The port where faults are asked for, if they are on.
    pub fn faults_port(&self) -> Option<u16> {
        (self.faults == Switch::On).then_some(self.admin_port)
    }

    /// How long to keep serving after a signal to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }
}

/// A number of worker threads: 1 to 512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct Workers(u16);

impl TryFrom<u16> for Workers {
    type Error = &'static str;

    fn try_from(workers: u16) -> Result<Self, &'static str> {
        // Each is a thread; more than that is a slip.
        (1..=512)
            .contains(&workers)
            .then_some(Self(workers))
            .ok_or("not a number of workers from 1 to 512")
    }
}

/// The form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// A protocol for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Protobuf over HTTP.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

const A_SAMPLER: &str = "always_on, always_off, traceidratio, or one of these after parentbased_";

/// A sampler of OpenTelemetry, which the libraries read for themselves: they would take another
/// one for a word that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// The part that `OTEL_TRACES_SAMPLER_ARG` says, from 0 to 1.
    Traceidratio,
    /// As the client has decided, otherwise all.
    ParentbasedAlwaysOn,
    /// As the client has decided, otherwise none.
    ParentbasedAlwaysOff,
    /// As the client has decided, otherwise that part.
    ParentbasedTraceidratio,
}
