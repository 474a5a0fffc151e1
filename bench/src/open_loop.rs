//! Latency under a load that does not wait for the answers: requests are sent at a fixed rate, and
//! their time counts from when each was due.
//!
//! The rates are shares of what the pair of server and generator can do, which is found out first,
//! without a fixed rate. The generator is our own, on the checker's client, because the programs
//! that do this are in no distribution and take minutes to compile.

use std::{
    num::NonZero,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use checker::{
    Target,
    client::{Client, Clock},
};
use e2e::service::Service;
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use tokio::{
    sync::{Mutex, mpsc},
    task::{LocalSet, spawn_local},
};

use crate::{
    Plan,
    candidate::OTHERS,
    results::{Paced, Results},
    spread::{Spread, quantile},
};

const CONNECTIONS: u32 = 64;

/// Shares of the capacity, in percent.
const LOADS: [u32; 2] = [50, 80];

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Measures these services.
pub(crate) fn measure(
    services: &[(&str, &Service)],
    plan: Plan,
    results: &mut Results,
) -> Result<(), String> {
    let mut capacities = vec![Vec::new(); services.len()];
    for _ in 0..plan.rounds {
        for ((_, service), capacities) in services.iter().zip(&mut capacities) {
            capacities.push(generate(service, None, plan.seconds)?.per_second);
        }
    }
    for round in 0..plan.rounds {
        for ((name, service), capacities) in services.iter().zip(&capacities) {
            let capacity = Spread::of(capacities).map_or(0.0, |spread| spread.median);
            for load in LOADS {
                let asked = (capacity * f64::from(load) / 100.0).round();
                let made = generate(service, Some(asked), plan.seconds)?;
                results.paced.push(Paced {
                    candidate: (*name).to_owned(),
                    load,
                    round,
                    asked,
                    per_second: made.per_second,
                    percentiles_us: [0.5, 0.9, 0.99, 0.999].map(|p| quantile(&made.times_us, p)),
                });
            }
        }
    }
    Ok(())
}

/// What came of some requests.
struct Made {
    per_second: f64,
    /// From when each request was due to its answer, in order of size.
    times_us: Vec<f64>,
}

/// Makes requests at a rate, or without one as fast as answers come, on the core of generators.
///
/// # Errors
///
/// If any request was not answered with 200.
fn generate(service: &Service, rate: Option<f64>, seconds: f64) -> Result<Made, String> {
    let url = service.public_url();
    let target: Target = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let generator = thread::spawn(move || {
        let mut cores = CpuSet::new();
        let core = OTHERS.and_then(|core| core.parse().ok());
        cores.set(core.expect("a number"));
        sched_setaffinity(None, &cores).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        LocalSet::new().block_on(&runtime, requests(target, rate, seconds))
    });
    let made = generator.join().expect("the generator does not panic");
    made.map_err(|error| format!("{url}: {error}"))
}

async fn requests(target: Target, rate: Option<f64>, seconds: f64) -> Result<Made, String> {
    let clock = Clock::start();
    let end = (seconds * 1e9) as u64;
    let (schedule, due) = mpsc::unbounded_channel();
    let due = Rc::new(Mutex::new(due));
    let connection = |_| {
        let (due, target) = (Rc::clone(&due), target.clone());
        spawn_local(async move {
            let mut client = Client::new(target, 1, TIMEOUT, clock);
            let mut times_us = Vec::new();
            loop {
                let due = match rate {
                    Some(_) => due.lock().await.recv().await,
                    None => Some(clock.now()).filter(|now| *now < end),
                };
                let Some(due) = due else {
                    return Ok(times_us);
                };
                let reply = client.exchange().await.map_err(|error| error.to_string())?;
                if reply.status != 200 {
                    return Err(reply.status.to_string());
                }
                times_us.push((reply.received - due) as f64 / 1e3);
            }
        })
    };
    let begin = Instant::now();
    let connections: Vec<_> = (0..CONNECTIONS).map(connection).collect();
    if let Some(rate) = rate {
        // In a thread of its own, because tokio's timer knows only whole milliseconds.
        thread::spawn(move || {
            let _ = set_current_timer_slack(NonZero::new(1));
            for request in 0..(rate * seconds) as u32 {
                let at = (f64::from(request) * 1e9 / rate) as u64;
                thread::sleep(Duration::from_nanos(at.saturating_sub(clock.now())));
                // Fails where all connections have failed.
                let _ = schedule.send(at);
            }
        });
    }
    let mut times_us = Vec::new();
    for connection in connections {
        let times: Result<Vec<f64>, String> = connection.await.map_err(|e| e.to_string())?;
        times_us.extend(times?);
    }
    let per_second = times_us.len() as f64 / begin.elapsed().as_secs_f64();
    times_us.sort_by(f64::total_cmp);
    Ok(Made {
        per_second,
        times_us,
    })
}
