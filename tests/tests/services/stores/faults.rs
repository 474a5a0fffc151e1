//! Every fault of the network at every hop.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use e2e::{
    http,
    proxy::{Fault, Proxy},
    service::Service,
    soak::figure,
    wait,
};

use super::backend::{Backend, Kind};
use crate::{
    proof::{options, proven, under_load},
    started::{in_front_of, memory, ready},
};

super::on_every_store!(every_fault_before_the_store_ends_in_an_answer);

/// How long a request may take in these tests.
const DEADLINE: Duration = Duration::from_secs(3);

const FAULTS: [Fault; 8] = [
    Fault::Latency {
        delay: Duration::from_millis(300),
        jitter: Duration::from_millis(300),
    },
    Fault::Latency {
        delay: Duration::from_secs(30),
        jitter: Duration::ZERO,
    },
    Fault::Bandwidth {
        bytes_per_second: 2000,
    },
    Fault::BlackHole,
    Fault::Refuse,
    Fault::Reset,
    Fault::SlowClose {
        delay: Duration::from_secs(1),
    },
    Fault::Truncate { bytes: 20 },
];

fn every_fault_before_the_store_ends_in_an_answer(kind: Kind) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let proxy = Proxy::start(backend.addr());
    let timeout = DEADLINE.as_millis().to_string();
    let client = backend
        .client_at(proxy.addr())
        .env("REQUEST_TIMEOUT_MS", timeout);
    every_fault_ends_in_an_answer(&format!("{kind:?}"), &proxy, &ready(client));
}

#[test]
fn every_fault_between_the_services_ends_in_an_answer() {
    let persistence = memory();
    let proxy = Proxy::start(persistence.addr());
    let timeout = DEADLINE.as_millis().to_string();
    let hash = in_front_of(&persistence)
        .env("PERSISTENCE_PORT", proxy.port().to_string())
        .env("REQUEST_TIMEOUT_MS", timeout);
    every_fault_ends_in_an_answer("between the services", &proxy, &ready(hash));
}

fn every_fault_ends_in_an_answer(place: &str, proxy: &Proxy, service: &Service) {
    let addr = service.addr();
    let outcome = under_load(options([service], 0), || {
        let before = proxy.requests();
        std::thread::sleep(Duration::from_secs(2));
        let healthy = (proxy.requests() - before) as f64 / 2.0;
        for fault in FAULTS {
            ask(addr, 200);
            proxy.set(fault);
            let begin = Instant::now();
            let before = proxy.requests();
            // Long enough for requests to run into their deadline.
            while begin.elapsed() < DEADLINE + Duration::from_secs(1) {
                answered_in_time(addr, fault);
            }
            let calls = (proxy.requests() - before) as f64 / begin.elapsed().as_secs_f64();
            // Where nobody closes, a slow close is no fault, and the rate is that of the machine.
            assert!(
                calls <= 1.1 * healthy || matches!(fault, Fault::SlowClose { .. }),
                "{fault:?}: {calls}/s calls instead of {healthy}/s"
            );
            proxy.set(Fault::Pass);
            let healed = Instant::now();
            wait::until("an answer after the fault", Duration::from_secs(15), || {
                http::get(addr, "/")
                    .ok()
                    .filter(|answer| answer.status == 200)
            });
            figure(format_args!(
                "{place}: {fault:?}: {calls:.0} calls/s ({healthy:.0} without), served {:.2?} after \
                 it healed",
                healed.elapsed()
            ));
        }
    });
    proven(&outcome);
    let unknown = outcome.failures.keys().map(|failure| failure.to_string());
    let unknown: Vec<String> = unknown
        .filter(|failure| !failure.contains("503") && !failure.contains("504"))
        .collect();
    assert!(unknown.is_empty(), "{place}: {unknown:?}");
    assert!(service.alive());
}

#[track_caller]
fn ask(addr: SocketAddr, status: u16) {
    let answer = http::get(addr, "/").expect("an answer");
    assert_eq!(answer.status, status, "{}", answer.text());
}

/// The answer is a number, or a problem that says when to come back, and it comes in time.
#[track_caller]
fn answered_in_time(addr: SocketAddr, fault: Fault) {
    let begin = Instant::now();
    let answer = http::get(addr, "/").unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    let took = begin.elapsed();
    match answer.status {
        200 => {}
        503 | 504 => {
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
        }
        other => panic!("{fault:?}: {other}: {}", answer.text()),
    }
    // The machine may be busy; a hang would take far longer than this.
    assert!(
        took < DEADLINE.mul_f64(1.1) + Duration::from_secs(1),
        "{fault:?}: {took:?}"
    );
}
