//! Which faults are asked for, such as `error_rate=0.1` and `delay_ms=p50:0,p99:800`.

use std::{collections::BTreeMap, time::Duration};

use actix_web::http::StatusCode;
use serde::Deserialize;

use crate::settings::{A_RATE, BadValue, Environment, Rate, Settings as _};

crate::settings! {
    /// The faults that are asked for.
    pub(crate) struct Plan {
        /// Milliseconds that each request waits, or how many at which percentile.
        delay_ms: Delay = "0", A_DELAY;
        /// The part of requests that fail.
        error_rate: Rate = "0", A_RATE;
        /// The status of those.
        error_status: ErrorStatus = "500", "a number from 400 to 599";
        /// The part of requests that are never answered.
        hang_rate: Rate = "0", A_RATE;
        /// The same for each call of a dependency, checks included.
        dependency_delay_ms: Delay = "0", A_DELAY;
        /// The part of those calls that fail; with 1 the dependency is down.
        dependency_error_rate: Rate = "0", A_RATE;
        /// The part of those calls that hang.
        dependency_hang_rate: Rate = "0", A_RATE;
        /// How many of the next calls of /readyz fail.
        fail_probes: u32 = "0", "a number from 0 to 4294967295";
        /// Whether /readyz says that the service is not ready.
        unready: bool = "false", "true or false";
        /// Threads that compute for nothing.
        cpu_threads: CpuThreads = "0", "a number from 0 to 64";
        /// Memory that is taken, in MiB.
        memory_mib: u16 = "0", "a number from 0 to 65535";
        /// Where the dice begin, so that a run can be repeated.
        seed: u64 = "0", "a number from 0 to 18446744073709551615";
    }
}

const A_DELAY: &str = "milliseconds such as 200, or percentiles such as p50:10,p99:800";

/// The status of an error: 400 to 599.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct ErrorStatus(pub(crate) StatusCode);

impl TryFrom<u16> for ErrorStatus {
    type Error = &'static str;

    fn try_from(status: u16) -> Result<Self, &'static str> {
        match StatusCode::from_u16(status) {
            Ok(status) if status.is_client_error() || status.is_server_error() => Ok(Self(status)),
            _ => Err("not the status of an error"),
        }
    }
}

/// A number of threads: 0 to 64.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct CpuThreads(pub(crate) u16);

impl TryFrom<u16> for CpuThreads {
    type Error = &'static str;

    fn try_from(threads: u16) -> Result<Self, &'static str> {
        (threads <= 64).then_some(Self(threads)).ok_or("too many")
    }
}

/// A delay: percentiles in ascending order, each with milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Delay(Vec<(f64, u32)>);

impl TryFrom<String> for Delay {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if let Ok(fixed) = text.parse() {
            return Ok(Self(vec![(100.0, fixed)]));
        }
        let point = |part: &str| -> Option<(f64, u32)> {
            let (percentile, delay) = part.strip_prefix('p')?.split_once(':')?;
            Some((percentile.parse().ok()?, delay.parse().ok()?))
        };
        let points: Option<Vec<_>> = text.split(',').map(point).collect();
        let points = points.ok_or("not a delay")?;
        let ascend = points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let are_percentiles = points
            .iter()
            .all(|(percentile, _)| (0.0..=100.0).contains(percentile));
        (ascend && are_percentiles)
            .then_some(Self(points))
            .ok_or("not a delay")
    }
}

impl Plan {
    /// Reads what was asked for, as settings are read.
    ///
    /// # Errors
    ///
    /// A line that names what is wrong and what is expected.
    pub(crate) fn read(asked: &BTreeMap<String, String>) -> Result<Self, String> {
        let known: Vec<_> = Self::variables().iter().map(|fault| fault.field).collect();
        if let Some(unknown) = asked.keys().find(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(format!("there is no fault {unknown:?}; expected {known}"));
        }
        let upper = asked.iter();
        let upper = upper.map(|(name, value)| (name.to_ascii_uppercase(), value));
        let plan = upper.collect::<Environment>().read();
        plan.map_err(|bad: Vec<BadValue>| {
            let lines: Vec<_> = bad.iter().map(ToString::to_string).collect();
            lines.join("; ")
        })
    }
}

impl Delay {
    /// The delay of a call for which the dice show this part of all: that of the first percentile
    /// that is not less, beyond the last one the last.
    pub(crate) fn at(&self, part: f64) -> Duration {
        let reached = |(percentile, _): &&(f64, u32)| part * 100.0 <= *percentile;
        let point = self.0.iter().find(reached).or(self.0.last());
        Duration::from_millis(point.map_or(0, |&(_, delay)| delay.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_that_of_the_percentile_that_the_dice_show() {
        let delay = |text: &str| Delay::try_from(text.to_owned());
        let at = |text, part| delay(text).unwrap().at(part).as_millis();
        assert_eq!((at("200", 0.0), at("200", 1.0)), (200, 200));
        let percentiles = "p50:10,p99:800";
        assert_eq!((at(percentiles, 0.5), at(percentiles, 0.51)), (10, 800));
        assert_eq!(at(percentiles, 0.999), 800);
        for bad in [
            "",
            "fast",
            "p50",
            "p50:x",
            "p101:1",
            "pNaN:1",
            "p50:9,p40:10",
            "p1:9,p2:8",
        ] {
            assert!(delay(bad).is_err(), "{bad}");
        }
    }
}
