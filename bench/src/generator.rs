//! The programs that make requests, and what they say of the answers.

use std::time::Duration;

use e2e::launch::Launch;
use serde::Deserialize;

/// The cores that a program is kept on, as `taskset` wants them; any, if none.
pub(crate) type Cores = Option<&'static str>;

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
    /// Whether each request has a connection of its own.
    pub(crate) closing: bool,
    pub(crate) cores: Cores,
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
    pub(crate) fn run(&self, seconds: f64) -> Result<Seen, String> {
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
        let mut wrk = Launch::new("wrk")
            .args(["--threads", "1", "--timeout", "10s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}s", seconds.ceil() + 1.0)])
            .arg("--script")
            .arg(script.path());
        if self.closing {
            wrk = wrk.args(["--header", "Connection: close"]);
        }
        // It knows whole seconds alone; interrupted, it reports as at its end.
        let interrupt = ["timeout", "--preserve-status", "--signal", "INT"].map(str::to_owned);
        let wrk = wrk
            .arg(&self.url)
            .under(interrupt.into_iter().chain([seconds.to_string()]));
        let output = on(wrk, self.cores);
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
        .try_run_to_end(limit(60.0))?
        .success()?;
    Ok(Seen {
        requests: requests.into(),
        seconds: begin.elapsed().as_secs_f64(),
        ..Seen::default()
    })
}

/// `pgbench` with one statement, prepared, for at least these seconds: it knows whole ones alone.
pub(crate) fn pgbench(
    port: u16,
    statement: &str,
    clients: u32,
    seconds: f64,
) -> Result<Seen, String> {
    let seconds = seconds.ceil();
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
        requests: tps * seconds,
        seconds,
        ..Seen::default()
    })
}

/// On these cores, or wherever the kernel likes.
pub(crate) fn on(launch: Launch, cores: Cores) -> Launch {
    match cores {
        Some(cores) => launch.under(taskset(cores)),
        None => launch,
    }
}

/// The command that keeps what follows it on these cores.
pub(crate) fn taskset(cores: &str) -> [String; 3] {
    ["taskset", "-c", cores].map(str::to_owned)
}

/// How long a generator may take.
pub(crate) fn limit(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds + 30.0)
}
