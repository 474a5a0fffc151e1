//! What this process is and what it uses, read from `/proc` whenever the metrics are read. The
//! names are those of Prometheus' client libraries.

use std::{fmt, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::process::{Resource, getrlimit};

use crate::metrics::describe;

/// The name of this instance: the host's, which in Kubernetes is the pod's.
pub(crate) fn instance() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The metrics of this process. Other systems than Linux report its age alone.
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
        if let Some(seconds) = cpu_seconds() {
            describe(
                &mut encoder,
                "process_cpu_seconds",
                "CPU time that the process has used, in user and system mode",
                &ConstCounter::new(seconds),
            )?;
        }
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that the process holds",
                resident_bytes(),
            ),
            ("process_open_fds", "Open file descriptors", open_files()),
            (
                "process_max_fds",
                "How many there may be",
                most_open_files(),
            ),
            ("process_threads", "Threads", threads()),
        ] {
            if let Some(value) = value {
                describe(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<i64> {
    let kilobytes: i64 = status("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn threads() -> Option<i64> {
    status("Threads:")?.parse().ok()
}

/// A line of `/proc/self/status`.
fn status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

fn open_files() -> Option<i64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them reads this directory.
    i64::try_from(open).ok()?.checked_sub(1)
}

fn most_open_files() -> Option<i64> {
    i64::try_from(getrlimit(Resource::Nofile).current?).ok()
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
    #[cfg(target_os = "linux")]
    fn a_process_uses_memory_time_files_and_threads() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(threads().is_some_and(|threads| threads >= 1));
        assert!(open_files() < most_open_files() && open_files() > Some(2));
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
