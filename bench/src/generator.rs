//! The programs that make requests, and what they say of the answers.

use std::time::Duration;

use e2e::launch::Launch;
use serde::Deserialize;

/// What a generator saw in one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// What one round of `wrk` asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wrk {
    pub(crate) url: String,
    pub(crate) connections: u32,
    /// Which core it runs on; on any, if none.
    pub(crate) core: Option<u32>,
}

/// Makes `wrk` print what it knows as JSON.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nDONE {"requests":%d,"microseconds":%d,"p50":%f,"p99":%f,"bad_status":%d,"bad_connection":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"#;

impl Wrk {
    /// Makes requests for some seconds.
    ///
    /// # Errors
    ///
    /// If any request was not answered with 2xx: a figure of failures is none.
    pub(crate) fn run(&self, seconds: u32) -> Result<Seen, String> {
        #[derive(Deserialize)]
        struct Done {
            requests: f64,
            microseconds: f64,
            p50: f64,
            p99: f64,
            bad_status: u64,
            bad_connection: u64,
        }

        let script = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        std::fs::write(script.path(), SCRIPT).map_err(|e| e.to_string())?;
        let wrk = Launch::new("wrk")
            .args(["--threads", "1", "--timeout", "10s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{seconds}s")])
            .arg("--script")
            .arg(script.path());
        let output = on(wrk.arg(&self.url), self.core);
        let text = output.try_run_to_end(limit(seconds))?.success()?;
        let done = text.lines().find_map(|line| line.strip_prefix("DONE "));
        let done = done.ok_or_else(|| format!("wrk said: {text}"))?;
        let done: Done = serde_json::from_str(done).map_err(|e| format!("{e}: {done}"))?;
        let (status, broken) = (done.bad_status, done.bad_connection);
        if status + broken > 0 {
            let url = &self.url;
            return Err(format!(
                "{url}: {status} bad statuses, {broken} broken connections"
            ));
        }
        Ok(Seen {
            requests: done.requests,
            seconds: done.microseconds / 1e6,
            p50_us: done.p50,
            p99_us: done.p99,
        })
    }
}

/// `redis-benchmark INCR` without pipelining.
pub(crate) fn redis_benchmark(port: u16, connections: u32, requests: u32) -> Result<Seen, String> {
    let (port, connections) = (port.to_string(), connections.to_string());
    let begin = std::time::Instant::now();
    Launch::new("redis-benchmark")
        .args(["-p", &port, "-t", "incr", "-c", &connections])
        .args(["-n", &requests.to_string(), "-q"])
        .try_run_to_end(limit(60))?
        .success()?;
    Ok(Seen {
        requests: requests.into(),
        seconds: begin.elapsed().as_secs_f64(),
        ..Seen::default()
    })
}

/// `pgbench` with one statement, prepared.
pub(crate) fn pgbench(
    port: u16,
    statement: &str,
    clients: u32,
    seconds: u32,
) -> Result<Seen, String> {
    let script = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(script.path(), format!("{statement};\n")).map_err(|e| e.to_string())?;
    let text = Launch::new("pgbench")
        .args(["--no-vacuum", "--protocol", "prepared"])
        .args([
            "--client",
            &clients.to_string(),
            "--time",
            &seconds.to_string(),
        ])
        .arg("--file")
        .arg(script.path())
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
        .try_run_to_end(limit(seconds))?
        .success()?;
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps: Option<f64> = tps.and_then(|tps| tps.split(' ').next()?.parse().ok());
    let tps = tps.ok_or_else(|| format!("pgbench said: {text}"))?;
    Ok(Seen {
        requests: tps * f64::from(seconds),
        seconds: f64::from(seconds),
        ..Seen::default()
    })
}

/// On one core, or wherever the kernel likes.
pub(crate) fn on(launch: Launch, core: Option<u32>) -> Launch {
    match core {
        Some(core) => launch.under(taskset(core)),
        None => launch,
    }
}

/// The command that keeps what follows it on one core.
pub(crate) fn taskset(core: u32) -> [String; 3] {
    ["taskset", "-c", &core.to_string()].map(str::to_owned)
}

fn limit(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds) + 30)
}
