//! What the services that answer HTTP requests with numbers have in common.

use std::time::Duration;

use chassis::{Counter, Service, problem::Problem, settings::Common};

use crate::{Error, Limits, Monitor, wire::EXHAUSTED};

/// How long one attempt at a dependency may take.
const ATTEMPT: Duration = Duration::from_secs(2);

impl Limits {
    /// The limits of one worker's coalescer under the settings of a service.
    pub fn from_settings(common: &Common) -> Self {
        Self {
            deadline: common.request_timeout(),
            attempt: ATTEMPT,
            waiting: common.in_flight_per_worker(),
        }
    }
}

/// The answer to a request that gets no number. The cause stays here: it belongs in the log.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use chassis::problem::StatusCode;

        match error {
            Error::Exhausted => Problem::unavailable("the last number has been handed out", 3600)
                .typed(EXHAUSTED, "sequence exhausted"),
            Error::Overloaded => {
                Problem::unavailable("too many requests are waiting; try again later", 1)
            }
            Error::TimedOut => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "no number could be reserved in time; try again",
            ),
            Error::Unavailable(_) | Error::Regressed(_) | Error::Failed(_) => {
                Problem::unavailable("no number can be reserved at the moment; try again", 1)
            }
        }
    }
}

/// Adds what the coalescers of a service count to its metrics.
pub fn with_metrics(service: Service, monitor: &Monitor) -> Service {
    let [batches, numbers, failures] = [monitor.clone(), monitor.clone(), monitor.clone()];
    service.metrics(|registry| {
        registry.register(
            "sequence_batches",
            "Reservations that succeeded, each for all requests that were waiting",
            Counter::new(move || batches.batches()),
        );
        registry.register(
            "sequence_numbers",
            "Numbers reserved",
            Counter::new(move || numbers.numbers()),
        );
        registry.register(
            "sequence_failed_batches",
            "Reservations that failed or were abandoned",
            Counter::new(move || failures.failures()),
        );
    })
}
