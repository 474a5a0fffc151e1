//! Operations on what stands behind a service, per number that it hands out.

use std::time::Duration;

use checker::load;
use e2e::{Fault, Proxy, http, metrics::metric, proof::options, service::Service, wait};

use crate::built::builder;

const CONNECTIONS: u16 = 64;
const REQUESTS: u64 = 6_400;

/// With answers of the back end this far away, the other costs of a round do not matter, on
/// however slow a machine.
const FAR: Duration = Duration::from_millis(20);

/// While one reservation is away, all the other connections' requests gather: so two rounds serve
/// each connection once.
pub(crate) fn check() {
    let persistence = builder("persistence_server").env("STORE", "memory").start();
    let proxy = Proxy::start(persistence.addr());
    let port = proxy.port().to_string();
    let hash = builder("hash_server").env("PERSISTENCE_PORT", port).start();
    wait::until("a number", Duration::from_secs(20), || {
        http::get(hash.addr(), "/")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    proxy.set(Fault::Latency {
        delay: FAR,
        jitter: Duration::ZERO,
    });

    let before = counts(&hash);
    let mut options = options([&hash], REQUESTS);
    options.connections = CONNECTIONS;
    let outcome = load::run(&options).expect("a load");
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    let [batches, numbers] = counts(&hash);
    let (batches, numbers) = (batches - before[0], numbers - before[1]);

    assert_eq!(numbers, REQUESTS);
    let shared = f64::from(CONNECTIONS) / 3.0;
    assert!(
        batches as f64 * shared < numbers as f64,
        "{batches} reservations for {numbers} numbers over {CONNECTIONS} connections"
    );
}

fn counts(service: &Service) -> [u64; 2] {
    ["sequence_batches_total", "sequence_numbers_total"]
        .map(|name| metric(service.admin_addr(), name))
}
