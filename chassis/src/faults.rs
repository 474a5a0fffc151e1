//! Faults on demand, to see what they do to the service and to whoever depends on it.
//!
//! With `FAULTS=on` the admin port has `/faults`: GET shows them, PUT replaces them by those in its
//! query, DELETE ends them. Otherwise there is no such path, and nothing here does anything.

use std::{
    collections::VecDeque,
    fmt,
    future::pending,
    hint::black_box,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderMap,
            HeaderValue, ORIGIN, VARY,
        },
        uri::Authority,
    },
    web,
};
use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tracing::warn;

use crate::{
    problem::Problem,
    resource::json_answer,
    settings::{A_RATE, BadValue, Environment, Rate, Settings as _},
};

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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct ErrorStatus(StatusCode);

impl TryFrom<u16> for ErrorStatus {
    type Error = &'static str;

    fn try_from(status: u16) -> Result<Self, &'static str> {
        match StatusCode::from_u16(status) {
            Ok(status) if status.is_client_error() || status.is_server_error() => Ok(Self(status)),
            _ => Err("not the status of an error"),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct CpuThreads(u16);

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

impl Delay {
    /// The delay of a call for which the dice show this part of all: that of the first percentile
    /// that is not less, beyond the last one the last.
    fn at(&self, part: f64) -> Duration {
        let reached = |(percentile, _): &&(f64, u32)| part * 100.0 <= *percentile;
        let point = self.0.iter().find(reached).or(self.0.last());
        Duration::from_millis(point.map_or(0, |&(_, delay)| delay.into()))
    }
}

/// The faults of a process. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    current: Mutex<Current>,
    /// Counts the plans; what belongs to an old one ends.
    generation: AtomicU64,
    probes: Mutex<VecDeque<Probe>>,
}

struct Current {
    plan: Plan,
    /// The plan as it was given.
    shown: Map<String, Value>,
    /// For requests, and for calls of dependencies, which checks add to as time passes.
    dice: [fastrand::Rng; 2],
    /// What `memory_mib` has taken.
    memory: Vec<u8>,
}

/// A call of a probe, as `/faults` shows it.
#[derive(Clone, Debug, Serialize)]
struct Probe {
    time: String,
    path: &'static str,
    status: u16,
}

/// How many of them.
const PROBES: usize = 20;

/// What the dice say.
struct Thrown {
    delay: Duration,
    hangs: bool,
    fails: bool,
}

impl Faults {
    /// Nothing goes wrong until it is asked for.
    pub(crate) fn on() -> Self {
        Self(Some(Arc::new(State {
            current: Mutex::new(Current::of(&[]).unwrap_or_else(|_| unreachable!("defaults"))),
            generation: AtomicU64::new(0),
            probes: Mutex::default(),
        })))
    }

    pub(crate) fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// In front of a request.
    pub(crate) async fn before_request(&self) -> Result<(), Problem> {
        let Some(state) = &self.0 else {
            return Ok(());
        };
        let (thrown, status) = {
            let mut current = state.lock();
            let plan = current.plan.clone();
            let [dice, _] = &mut current.dice;
            let thrown = Thrown::by(dice, &plan.delay_ms, plan.hang_rate, plan.error_rate);
            (thrown, plan.error_status)
        };
        match thrown.happen().await {
            true => Err(Problem::new(status.0, ASKED_FOR)),
            false => Ok(()),
        }
    }

    /// In front of a call of a dependency.
    ///
    /// # Errors
    ///
    /// The call is to fail, for this reason.
    pub async fn before_dependency(&self) -> Result<(), &'static str> {
        let Some(state) = &self.0 else {
            return Ok(());
        };
        let thrown = {
            let mut current = state.lock();
            let plan = current.plan.clone();
            let [_, dice] = &mut current.dice;
            Thrown::by(
                dice,
                &plan.dependency_delay_ms,
                plan.dependency_hang_rate,
                plan.dependency_error_rate,
            )
        };
        match thrown.happen().await {
            true => Err(ASKED_FOR),
            false => Ok(()),
        }
    }

    /// Why this call of `/readyz` is to fail, if it is.
    pub(crate) fn fail_probe(&self) -> Option<&'static str> {
        let mut current = self.0.as_ref()?.lock();
        let left = current.plan.fail_probes;
        current.plan.fail_probes = left.saturating_sub(1);
        (current.plan.unready || left > 0).then_some(ASKED_FOR)
    }

    /// Takes note of how a probe was answered.
    pub(crate) fn note_probe(&self, path: &'static str, status: StatusCode) {
        let Some(state) = &self.0 else {
            return;
        };
        let mut probes = state.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() == PROBES {
            probes.pop_back();
        }
        probes.push_front(Probe {
            time: format_rfc3339_millis(SystemTime::now()).to_string(),
            path,
            status: status.as_u16(),
        });
    }

    /// Answers `/faults`.
    pub(crate) fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        let Some(state) = &self.0 else {
            return Err(Problem::new(StatusCode::NOT_FOUND, "faults are off"));
        };
        match *request.method() {
            Method::PUT => state.replace(request.query_string())?,
            Method::DELETE => state.replace("")?,
            _ => {}
        }
        let mut answer = json_answer(StatusCode::OK, format!("{}\n", state.to_json()));
        // The page of the same host may ask for them. Whoever else does is told nothing.
        if let Some(origin) = origin_of_same_host(request.headers()) {
            let fields = answer.headers_mut();
            fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let methods = HeaderValue::from_static("PUT, DELETE");
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            fields.insert(VARY, HeaderValue::from_static("Origin"));
        }
        Ok(answer)
    }
}

/// The origin that a browser names, if it is another port of the host that was asked.
fn origin_of_same_host(fields: &HeaderMap) -> Option<HeaderValue> {
    let origin = fields.get(ORIGIN)?;
    let page: Uri = origin.to_str().ok()?.parse().ok()?;
    let asked: Authority = fields.get(HOST)?.to_str().ok()?.parse().ok()?;
    (page.host()? == asked.host()).then(|| origin.clone())
}

/// What a fault says of itself.
const ASKED_FOR: &str = "a fault that /faults on the admin port asked for";

impl Thrown {
    /// All are thrown each time, so that a plan's seed stands for one run.
    fn by(dice: &mut fastrand::Rng, delay: &Delay, hangs: Rate, fails: Rate) -> Self {
        Self {
            delay: delay.at(dice.f64()),
            hangs: dice.f64() < hangs.0,
            fails: dice.f64() < fails.0,
        }
    }

    /// Lets it happen; returns whether to fail then.
    async fn happen(self) -> bool {
        // A timer takes a millisecond at least.
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        if self.hangs {
            pending::<()>().await;
        }
        self.fails
    }
}

impl Current {
    fn of(query: &[(String, String)]) -> Result<Self, Vec<BadValue>> {
        let known = Plan::variables();
        let is_known = |name: &String| known.iter().any(|variable| variable.field == name);
        if let Some((unknown, value)) = query.iter().find(|(name, _)| !is_known(name)) {
            let names: Vec<_> = known.iter().map(|variable| variable.field).collect();
            let reason = format!("there is no such fault; expected {}", names.join(", "));
            return Err(vec![BadValue::invalid(unknown, value, reason)]);
        }
        let upper = query
            .iter()
            .map(|(name, value)| (name.to_ascii_uppercase(), value.clone()));
        let plan: Plan = upper.collect::<Environment>().read()?;
        let given = |field| query.iter().rev().find(|(name, _)| name == field);
        Ok(Self {
            shown: known
                .iter()
                .map(|variable| {
                    let value = given(variable.field).map_or(variable.default, |(_, value)| value);
                    (variable.field.to_owned(), Value::from(value))
                })
                .collect(),
            dice: [(); 2].map(|()| fastrand::Rng::with_seed(plan.seed)),
            memory: vec![1; usize::from(plan.memory_mib) << 20],
            plan,
        })
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(self: &Arc<Self>, query: &str) -> Result<(), Problem> {
        let bad = |reason: String| Problem::new(StatusCode::BAD_REQUEST, reason);
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| bad(error.to_string()))?;
        let next = Current::of(&pairs).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            bad(lines.join("; "))
        })?;
        let threads = next.plan.cpu_threads.0;
        let faults = Value::Object(next.shown.clone());
        warn!(%faults, "faults were asked for");
        *self.lock() = next;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        for _ in 0..threads {
            let state = Arc::clone(self);
            thread::spawn(move || {
                let mut sum = 0_u64;
                while state.generation.load(Ordering::Relaxed) == generation {
                    sum = black_box(sum.wrapping_add(1));
                }
            });
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let current = self.lock();
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "faults": current.shown,
            "fail_probes_left": current.plan.fail_probes,
            "probes": *probes,
        })
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("plan", &self.plan)
            .field("memory", &self.memory.len())
            .finish_non_exhaustive()
    }
}
