//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use checker::Target;
use checker::load::Options;
use checker::summary::Gaps;
use clap::Parser;
use clap::builder::FalseyValueParser;

/// Requests to make if neither `--requests` nor `--duration` says how many.
const REQUESTS: u64 = 100_000;

const EXIT_CODES: &str = "\
Exit codes:
  0  proven
  1  violation, wrong answer, or more failures than --max-failures
  2  bad arguments, or a file that cannot be read or written
  3  gave up, or nothing was answered

Ctrl-C stops the load and proves what there is; a second one leaves unanswered requests alone.";

/// Drives load at a service that hands out numbers, and proves that no number came twice or out
/// of order, or names the two answers that break it.
///
/// Hashes are recomputed where the service sends them. A lost connection is an operation without
/// a result: it is counted, left out of the proof, and the request is made again.
#[derive(Debug, Parser)]
#[command(version = version(), max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Where the requests go, such as <http://localhost:8081>. Several, by repetition or with
    /// commas, share the connections, and are proven together as one sequence
    #[arg(long = "url", env = "CHECKER_URL", value_name = "URL")]
    #[arg(value_delimiter = ',', required_unless_present = "verify")]
    urls: Vec<Target>,

    /// Kept-alive connections, each with one request at a time
    #[arg(
        long,
        env = "CHECKER_CONNECTIONS",
        value_name = "N",
        default_value_t = 64
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// End after N answered requests; failed ones are made again and do not count [default:
    /// 100000, or no limit with --duration]
    #[arg(long, env = "CHECKER_REQUESTS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// End after this time
    #[arg(long, env = "CHECKER_DURATION", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Numbers to ask for in one request: 1 to 65536, of a service that hands out blocks
    #[arg(long, env = "CHECKER_COUNT", value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    count: u32,

    /// Threads that share the connections
    #[arg(long, env = "CHECKER_THREADS", value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// How long to wait for a connection, and for each answer
    #[arg(
        long,
        env = "CHECKER_TIMEOUT",
        value_name = "SECONDS",
        default_value = "15"
    )]
    #[arg(value_parser = seconds)]
    timeout: Duration,

    /// Give up after this long without a successful response
    #[arg(
        long,
        env = "CHECKER_KEEP_TRYING",
        value_name = "SECONDS",
        default_value = "10"
    )]
    #[arg(value_parser = seconds)]
    keep_trying: Duration,

    /// Stop, and exit with 1, when more than N requests failed [default: no limit]
    #[arg(long, env = "CHECKER_MAX_FAILURES", value_name = "N")]
    max_failures: Option<u64>,

    /// Make skipped numbers a violation: right if nothing fails and nothing else sends requests
    #[arg(long, env = "CHECKER_NO_GAPS", value_parser = FalseyValueParser::new())]
    no_gaps: bool,

    /// Write the history to a file, as CSV: when sent and received, in nanoseconds since 1970, the
    /// first number, how many, and the connection
    #[arg(long, env = "CHECKER_HISTORY", value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,

    /// Send nothing; prove recorded histories together as one. They must come from one machine
    /// whose clock was not set in between
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["urls", "history"])]
    pub(crate) verify: Vec<PathBuf>,

    /// Print the summary as one JSON object
    #[arg(long, env = "CHECKER_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

impl Args {
    pub(crate) fn options(&self) -> Options {
        Options {
            targets: self.urls.clone(),
            connections: self.connections,
            threads: self.threads,
            requests: match (self.requests, self.duration) {
                (None, None) => Some(REQUESTS),
                (requests, _) => requests,
            },
            duration: self.duration,
            count: self.count,
            timeout: self.timeout,
            keep_trying: self.keep_trying,
            max_failures: self.max_failures,
        }
    }

    pub(crate) fn gaps(&self) -> Gaps {
        if self.no_gaps {
            Gaps::Forbidden
        } else {
            Gaps::Allowed
        }
    }
}

/// The version, with the commit where the build was told.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("REVISION") {
        None | Some("") => version.to_owned(),
        Some(revision) => format!("{version} (revision {revision})"),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0, such as 10 or 0.5".to_owned())
}
