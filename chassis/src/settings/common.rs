//! The settings that every service has.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    thread::available_parallelism,
    time::Duration,
};

use serde::Deserialize;

use super::{A_HOST, BadValue, Host, LogLevels, ON_OR_OFF, Switch, types::LEVELS};

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
        // 512 is the most that actix-server takes.
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
