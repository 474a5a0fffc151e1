//! The real coalescer in virtual time, under requests that come at random.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use sequence::{Block, Coalescer, Count, Error, Limits, Monitor, Sequence};
use tokio::{
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};

use crate::model::System;

/// What happened in a window of time.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Calls per second that each level made; those of the last are operations on the store.
    pub(crate) calls: Vec<f64>,
    /// How long requests took, in seconds, sorted.
    latencies: Vec<f64>,
}

impl Seen {
    pub(crate) fn mean(&self) -> f64 {
        self.latencies.iter().sum::<f64>() / self.latencies.len() as f64
    }

    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let last = self.latencies.len() - 1;
        self.latencies[(last as f64 * quantile) as usize]
    }
}

/// Watches `system` for ten round trips of its calls, and at least 4000 requests, after half as
/// long to warm up.
pub(crate) fn run(system: &System) -> Seen {
    let window = (10.0 * system.trips()[0]).max(4000.0 / system.rate);
    let running = LocalSet::new();
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(running.run_until(watch(system, window)))
}

async fn watch(system: &System, window: f64) -> Seen {
    let store = Store {
        last: Cell::new(0),
        thread: Turns::default(),
        turn: virtually(system.store.turn),
        trip: virtually(system.store.trip),
    };
    let mut below = vec![Service::Store(Rc::new(store))];
    let mut monitors = Vec::new();
    for level in system.levels.iter().rev() {
        let monitor = Monitor::default();
        let worker = |i: usize| Worker {
            core: Turns::default(),
            cost: virtually(level.cost),
            coalescer: Coalescer::start(
                Call {
                    half_trip: virtually(level.trip / 2.0),
                    service: below[i % below.len()].clone(),
                },
                LIMITS,
                monitor.clone(),
            ),
        };
        let workers = (0..level.workers).map(worker);
        below = workers
            .map(|worker| Service::Worker(Rc::new(worker)))
            .collect();
        monitors.insert(0, monitor);
    }
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let rate = system.rate / below.len() as f64;
    for (seed, worker) in below.into_iter().enumerate() {
        let rng = Rng::with_seed(seed as u64);
        spawn_local(arrive(rate, rng, worker, Rc::clone(&latencies)));
    }

    let calls = || {
        monitors
            .iter()
            .map(|monitor| (Monitor::COUNTERS[0].2)(monitor))
    };
    sleep(virtually(window / 2.0)).await;
    latencies.borrow_mut().clear();
    let before: Vec<u64> = calls().collect();
    sleep(virtually(window)).await;
    let made = calls().zip(before).map(|(after, before)| after - before);
    let mut latencies = latencies.take();
    latencies.sort_by(f64::total_cmp);
    Seen {
        calls: made.map(|calls| calls as f64 / window).collect(),
        latencies,
    }
}

/// Requests that know nothing of each other: the times between them are exponential.
async fn arrive(rate: f64, mut rng: Rng, worker: Service, latencies: Rc<RefCell<Vec<f64>>>) {
    let mut next = Instant::now();
    loop {
        next += virtually(-(1.0 - rng.f64()).ln() / rate);
        sleep_until(next).await;
        let (worker, latencies) = (worker.clone(), Rc::clone(&latencies));
        spawn_local(async move {
            let sent = Instant::now();
            worker
                .reserve(Count::ONE)
                .await
                .expect("nothing fails here");
            let latency = sent.elapsed().as_secs_f64() / STRETCH;
            latencies.borrow_mut().push(latency);
        });
    }
}

/// Tokio's timers round to milliseconds, so a second of its virtual time stands for a
/// microsecond of ours.
const STRETCH: f64 = 1e6;

fn virtually(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * STRETCH)
}

/// Out of the way.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(100_000_000),
    attempt: Duration::from_secs(100_000_000),
    waiting: usize::MAX,
};

/// What a worker calls: one on the level below, or the store.
#[derive(Clone)]
enum Service {
    Worker(Rc<Worker>),
    Store(Rc<Store>),
}

struct Worker {
    core: Turns,
    cost: Duration,
    coalescer: Coalescer,
}

struct Store {
    last: Cell<u64>,
    thread: Turns,
    turn: Duration,
    trip: Duration,
}

#[async_trait(?Send)]
impl Sequence for Service {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        match self {
            Self::Worker(worker) => {
                worker.core.take(worker.cost).await;
                worker.coalescer.reserve(count).await
            }
            Self::Store(store) => {
                store.thread.take(store.turn).await;
                let block = Block::after(store.last.get(), count)?;
                store.last.set(block.last());
                sleep(store.trip).await;
                Ok(block)
            }
        }
    }
}

/// A service, half a trip away.
struct Call {
    half_trip: Duration,
    service: Service,
}

#[async_trait(?Send)]
impl Sequence for Call {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        sleep(self.half_trip).await;
        let block = self.service.reserve(count).await?;
        sleep(self.half_trip).await;
        Ok(block)
    }
}

/// Something that does one thing after another, as a core does.
struct Turns(Cell<Instant>);

impl Default for Turns {
    fn default() -> Self {
        Self(Cell::new(Instant::now()))
    }
}

impl Turns {
    async fn take(&self, cost: Duration) {
        let end = self.0.get().max(Instant::now()) + cost;
        self.0.set(end);
        sleep_until(end).await;
    }
}
