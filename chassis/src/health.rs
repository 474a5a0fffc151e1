//! Readiness that tells the truth: what each dependency said, when, and why not. And the
//! `healthcheck` command, which asks for it, for images that have no shell and no curl.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::LocalBoxFuture;
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{MetricType, gauge::ConstGauge},
};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::{listener::reach, metrics::describe, settings::Common};

/// How often a dependency is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// How long it may take to answer: less than a period, so that a dependency that hangs is down
/// within three of them.
const TIMEOUT: Duration = Duration::from_millis(950);

/// How many checks in a row must fail before a dependency that was up counts as down.
const FAILURES_UNTIL_DOWN: u32 = 2;

/// Asks a dependency whether it is up: a note (mostly empty), or the reason why not.
pub(crate) type Check = Box<dyn Fn() -> LocalBoxFuture<'static, Result<String, String>>>;

/// Something that a service needs, and how to find out whether it is up.
pub(crate) struct Dependency {
    pub(crate) name: &'static str,
    /// What it is and where: `redis at redis:6379`.
    pub(crate) target: String,
    pub(crate) check: Check,
}

/// What is known about this process and its dependencies. A clone shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    listening: AtomicBool,
    draining: AtomicBool,
    dependencies: Mutex<BTreeMap<&'static str, Known>>,
}

/// What is known about a dependency.
#[derive(Clone, Debug, Default)]
struct Known {
    up: bool,
    failures: u32,
    /// What it said last, or why it failed.
    message: String,
    asked: Option<Instant>,
}

impl Health {
    /// Whether the process has been told to stop and is finishing.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) {
        self.0.listening.store(true, Ordering::Relaxed);
    }

    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Makes a dependency known: the process is not ready until its first check passes.
    pub(crate) fn expect(&self, name: &'static str) {
        self.lock().entry(name).or_default();
    }

    /// Asks a dependency every second, for ever.
    pub(crate) async fn watch(self, dependency: Dependency) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.record(dependency.name, ask(&dependency).await);
        }
    }

    fn record(&self, name: &'static str, answer: Result<String, String>) {
        let mut dependencies = self.lock();
        let dependency = dependencies.entry(name).or_default();
        dependency.asked = Some(Instant::now());
        match answer {
            Ok(note) => {
                if !dependency.up {
                    info!(dependency = name, "dependency is up");
                }
                *dependency = Known {
                    up: true,
                    failures: 0,
                    message: note,
                    asked: dependency.asked,
                };
            }
            Err(reason) => {
                dependency.failures = dependency.failures.saturating_add(1);
                let goes_down = dependency.up && dependency.failures >= FAILURES_UNTIL_DOWN;
                let never_up = !dependency.up && dependency.message != reason;
                if goes_down || never_up {
                    warn!(dependency = name, reason, "dependency is down");
                }
                dependency.up &= !goes_down;
                dependency.message = reason;
            }
        }
    }

    /// Whether to send requests here, and the document that `/readyz` answers.
    pub(crate) fn readiness(&self) -> (bool, Value) {
        let dependencies = self.lock().clone();
        let down = dependencies.iter().find(|(_, dependency)| !dependency.up);
        let obstacle = if self.is_draining() {
            Some(("draining", "the process has been told to stop".to_owned()))
        } else if !self.0.listening.load(Ordering::Relaxed) {
            Some(("starting", "the process does not listen yet".to_owned()))
        } else {
            down.map(|(name, dependency)| match dependency.asked {
                None => ("starting", format!("{name} has not been checked yet")),
                Some(_) => ("unavailable", format!("{name}: {}", dependency.message)),
            })
        };
        let checks: BTreeMap<_, _> = dependencies
            .iter()
            .map(|(name, dependency)| (name, dependency.to_json()))
            .collect();
        let document = match &obstacle {
            None => json!({ "status": "ready", "dependencies": checks }),
            Some((status, reason)) => {
                json!({ "status": status, "reason": reason, "dependencies": checks })
            }
        };
        (obstacle.is_none(), document)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Known>> {
        // Entries are replaced whole, so a panic elsewhere cannot have left one half written.
        self.0
            .dependencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (ready, _) = self.readiness();
        for (name, help, is_so) in [
            ("service_ready", "Whether /readyz answers 200", ready),
            (
                "service_draining",
                "Whether the process has been told to stop",
                self.is_draining(),
            ),
        ] {
            describe(&mut encoder, name, help, &ConstGauge::new(i64::from(is_so)))?;
        }
        let dependencies = self.lock().clone();
        if dependencies.is_empty() {
            return Ok(());
        }
        let mut up = encoder.encode_descriptor(
            "dependency_up",
            "Whether a dependency counts as up",
            None,
            MetricType::Gauge,
        )?;
        for (name, dependency) in dependencies {
            up.encode_family(&[("dependency", name)])?
                .encode_gauge(&i64::from(dependency.up))?;
        }
        Ok(())
    }
}

impl Known {
    fn to_json(&self) -> Value {
        let age = self
            .asked
            .map(|asked| (asked.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        let status = match (self.up, self.asked) {
            (true, _) => "ok",
            (false, None) => "unknown",
            (false, Some(_)) => "failed",
        };
        let mut json = json!({ "status": status, "age_seconds": age });
        if !self.message.is_empty() {
            // A dependency that is up may have failed its latest check: one may fail.
            let key = if self.failures == 0 { "note" } else { "reason" };
            json[key] = Value::from(self.message.as_str());
        }
        json
    }
}

async fn ask(dependency: &Dependency) -> Result<String, String> {
    let answer = timeout(TIMEOUT, (dependency.check)()).await;
    answer.unwrap_or_else(|_| {
        let (target, limit) = (&dependency.target, TIMEOUT.as_millis());
        Err(format!(
            "{target}: no answer within {limit} ms; check that it runs, is not overloaded, and \
             that no firewall drops the connection"
        ))
    })
}

/// How long the service may take to connect, and then to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks the service that runs with the same settings whether it is ready.
///
/// # Errors
///
/// A sentence that says why it is not, or why it could not be asked.
pub(crate) fn healthcheck(common: &Common) -> Result<(), String> {
    let unreachable =
        |error: io::Error| format!("cannot ask port {} for /readyz: {error}", common.admin_port);
    let answer = fetch(common).map_err(unreachable)?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return Err(unreachable(io::Error::other("the answer is not HTTP"))),
    };
    match head.code {
        Some(200) => Ok(()),
        _ => Err(reason(&answer[length..])),
    }
}

/// The reason in the document that `/readyz` answers; of any other answer, the first line.
fn reason(body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    match document
        .as_ref()
        .and_then(|document| document["reason"].as_str())
    {
        Some(reason) => reason.to_owned(),
        None => {
            let text = String::from_utf8_lossy(body);
            text.trim().lines().next().unwrap_or("not ready").to_owned()
        }
    }
}

fn fetch(common: &Common) -> io::Result<Vec<u8>> {
    let address = reach(&common.host, common.admin_port)?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // What answers there may be another program: it does not get to fill the memory.
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok() -> Result<String, String> {
        Ok(String::new())
    }

    fn refused() -> Result<String, String> {
        Err("connection refused".to_owned())
    }

    fn started() -> Health {
        let health = Health::default();
        health.started();
        health.expect("store");
        health
    }

    #[test]
    fn a_process_is_not_ready_before_its_first_check_passes() {
        let health = started();
        let (ready, document) = health.readiness();
        assert!(!ready);
        assert_eq!(document["status"], "starting");
        health.record("store", refused());
        let (ready, document) = health.readiness();
        assert!(!ready);
        assert_eq!(document["reason"], "store: connection refused");
        health.record("store", ok());
        assert!(health.readiness().0);
    }

    #[test]
    fn two_failures_take_it_down_and_one_success_brings_it_back() {
        let health = started();
        health.record("store", ok());
        health.record("store", refused());
        let (ready, document) = health.readiness();
        assert!(ready, "one failure may be an accident");
        assert_eq!(
            document["dependencies"]["store"]["reason"],
            "connection refused"
        );
        health.record("store", refused());
        assert!(!health.readiness().0);
        health.record("store", ok());
        assert!(health.readiness().0);
    }

    #[test]
    fn a_draining_process_is_not_ready_whatever_its_dependencies_say() {
        let health = started();
        health.record("store", ok());
        health.drain();
        let (ready, document) = health.readiness();
        assert!(!ready);
        assert_eq!(document["status"], "draining");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_a_failure_that_names_what_hangs() {
        let hanging = Dependency {
            name: "store",
            target: "redis at cache:6379".to_owned(),
            check: Box::new(|| Box::pin(std::future::pending())),
        };
        let reason = ask(&hanging).await.unwrap_err();
        assert!(
            reason.starts_with("redis at cache:6379: no answer within 950 ms; "),
            "{reason}"
        );
    }
}
