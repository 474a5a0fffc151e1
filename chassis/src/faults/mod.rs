//! Faults on demand, to see how the service and its clients behave.
//!
//! With `FAULTS=on` the admin port has `/faults`: GET shows them, PUT replaces them by those in its
//! query, DELETE ends them. Otherwise there is no such path, and nothing here does anything.

mod plan;

use std::{
    collections::{BTreeMap, VecDeque},
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
    web::Query,
};
use humantime::format_rfc3339_millis;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::warn;

use self::plan::{Delay, Plan};
use crate::{problem::Problem, resource::json_answer, settings::Rate};

/// The faults of a process. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<State>>);

#[derive(Debug)]
pub(crate) struct State {
    current: Mutex<Current>,
    /// Counts the plans; what belongs to an old one ends.
    generation: AtomicU64,
    probes: Mutex<VecDeque<Probe>>,
}

struct Current {
    /// As it was written.
    asked: BTreeMap<String, String>,
    plan: Plan,
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
        let Ok(nothing) = Current::of("") else {
            unreachable!("the defaults are valid")
        };
        Self(Some(Arc::new(State {
            current: Mutex::new(nothing),
            generation: AtomicU64::new(0),
            probes: Mutex::default(),
        })))
    }

    /// What `/faults` shows and changes, if they are on.
    pub(crate) fn state(&self) -> Option<&Arc<State>> {
        self.0.as_ref()
    }

    /// In front of a request.
    pub(crate) async fn before_request(&self) -> Result<(), Problem> {
        let Some(state) = &self.0 else {
            return Ok(());
        };
        let (thrown, status) = {
            let Current {
                plan,
                dice: [dice, _],
                ..
            } = &mut *state.lock();
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
            let Current {
                plan,
                dice: [_, dice],
                ..
            } = &mut *state.lock();
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
    /// What a query asks for, or why it cannot be done.
    fn of(query: &str) -> Result<Self, String> {
        let asked = Query::<BTreeMap<_, _>>::from_query(query);
        let Query(asked) = asked.map_err(|error| error.to_string())?;
        let plan = Plan::read(&asked)?;
        Ok(Self {
            asked,
            dice: [(); 2].map(|()| fastrand::Rng::with_seed(plan.seed)),
            memory: vec![1; usize::from(plan.memory_mib) << 20],
            plan,
        })
    }
}

impl State {
    /// Answers `/faults`.
    pub(crate) fn answer(self: &Arc<Self>, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        match *request.method() {
            Method::PUT => self.replace(request.query_string())?,
            Method::DELETE => self.replace("")?,
            _ => {}
        }
        let mut answer = json_answer(StatusCode::OK, format!("{}\n", self.to_json()));
        // The page of the same host may ask for them. A page of another one gets no permission.
        if let Some(origin) = origin_of_same_host(request.headers()) {
            let fields = answer.headers_mut();
            fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let methods = HeaderValue::from_static("PUT, DELETE");
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            fields.insert(VARY, HeaderValue::from_static("Origin"));
        }
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(self: &Arc<Self>, query: &str) -> Result<(), Problem> {
        let next = Current::of(query).map_err(|bad| Problem::new(StatusCode::BAD_REQUEST, bad))?;
        let threads = next.plan.cpu_threads.0;
        warn!(faults = query, "faults were asked for");
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
            "faults": current.asked,
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
