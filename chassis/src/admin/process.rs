//! Metrics of the process itself, under the names that Prometheus's client libraries use.

use std::{fmt, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Memory, CPU and age of this process, read from `/proc` when somebody asks.
#[derive(Debug)]
pub(crate) struct ProcessCollector {
    started: f64,
}

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: since_epoch.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        describe(
            &mut encoder,
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            &ConstGauge::new(self.started),
        )?;
        if let Some(bytes) = resident_bytes() {
            describe(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory that the process holds",
                &ConstGauge::new(bytes),
            )?;
        }
        if let Some(seconds) = cpu_seconds() {
            describe(
                &mut encoder,
                "process_cpu_seconds",
                "CPU time that the process has used, in user and system mode",
                &ConstCounter::new(seconds),
            )?;
        }
        Ok(())
    }
}

fn describe(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses, and may hold spaces (proc(5)).
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some((user + system) as f64 / ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
