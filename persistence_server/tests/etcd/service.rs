//! The whole service on etcd.

use std::time::Duration;

use e2e::{Fault, Proxy, Service, http, wait};

use super::start;

#[test]
fn a_service_that_starts_before_etcd_waits_for_it_and_says_why() {
    let Some(server) = start() else { return };
    let proxy = Proxy::start(server.addrs()[0]);
    proxy.set(Fault::Refuse);
    let url = format!("http://{}", proxy.addr());
    let service = Service::builder("persistence_server")
        .env("STORE", "etcd")
        .env("ETCD_ENDPOINTS", &url)
        .env("WORKERS", "2")
        .start();

    let readiness = || http::get(service.admin_addr(), "/readyz").unwrap();
    let refused = format!("etcd at {url}: connection refused");
    let expected = format!("store: {refused}");
    wait::until(
        "the reason in the readiness",
        Duration::from_secs(5),
        || {
            let answer = readiness();
            (answer.status == 503 && answer.json()["reason"] == expected.as_str()).then_some(())
        },
    );

    proxy.set(Fault::Pass);
    wait::until("readiness", Duration::from_secs(5), || {
        (readiness().status == 200).then_some(())
    });
    for number in 1..=20 {
        let answer = http::get(service.addr(), "/").unwrap();
        assert_eq!(
            answer.text(),
            format!("{{\"data\":{{\"number\":{number}}}}}\n")
        );
    }
    assert!(service.alive());
    let told = service.stderr().all();
    let told = told.iter().filter(|line| line.contains(&refused)).count();
    assert_eq!(told, 1, "the reason is logged once");
    let log = service.stderr().all();
    let begins = |line: &&String| line.contains("a new sequence begins");
    assert_eq!(log.iter().filter(begins).count(), 1, "{log:#?}");
}

#[test]
fn settings_that_do_not_fit_together_stop_the_service_with_a_reason() {
    let run = |settings: &[(&str, &str)]| {
        let mut env = vec![("STORE", "etcd"), ("PORT", "0"), ("ADMIN_PORT", "0")];
        env.extend(settings);
        let output = e2e::run_to_end("persistence_server", &env, &[], Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
        output.stderr
    };
    let line = run(&[("ETCD_PASSWORD", "s3cret")]);
    assert!(
        line.contains("ETCD_USERNAME and ETCD_PASSWORD must be set together"),
        "{line}"
    );
    assert!(!line.contains("s3cret"), "{line}");
    let line = run(&[("ETCD_ENDPOINTS", "localhost:2379")]);
    assert!(
        line.contains("invalid ETCD_ENDPOINTS ") && line.contains("http://HOST:PORT"),
        "{line}"
    );
    let line = run(&[("ETCD_ENDPOINTS", "https://localhost:2379")]);
    assert!(line.contains("ETCD_CA_FILE must be set"), "{line}");
}
