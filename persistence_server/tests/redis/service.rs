//! The whole service on a Redis store.

use std::time::Duration;

use e2e::{
    Service, http,
    store::{Redis, redis::Options},
    wait,
};

use crate::skipped;

const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `/readyz` answers with this status: the document.
#[track_caller]
fn readiness(service: &Service, status: u16, words: &str) -> String {
    wait::until(words, LIMIT, || {
        let answer = http::get(service.admin_addr(), "/readyz").ok()?;
        let text = answer.text();
        (answer.status == status && text.contains(words)).then_some(text)
    })
}

#[test]
fn the_service_says_why_it_is_not_ready_and_serves_as_soon_as_the_server_is_mended() {
    if skipped() {
        return;
    }
    let redis = Redis::start_with(Options {
        appendfsync: "everysec",
        password: Some("open sesame".to_owned()),
        ..Options::default()
    });
    let service = Service::builder("persistence_server")
        .env("STORE", "redis")
        .env("REDIS_PORT", redis.port().to_string())
        .env("REDIS_PASSWORD", "open sesame")
        .env("REDIS_REQUIRE_DURABLE", "true")
        .env("REQUEST_TIMEOUT_MS", "300")
        .start();
    readiness(&service, 503, "appendfsync is");
    let answer = http::get(service.addr(), "/").unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        !answer.text().contains("appendfsync"),
        "that is for the log"
    );
    redis.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    readiness(&service, 200, "ready");
    let answer = http::get(service.addr(), "/").unwrap();
    // The check took the first to make sure that reservations work again.
    assert_eq!(answer.text(), "{\"data\":{\"number\":2}}\n");
    redis.kill9();
    let document = readiness(&service, 503, "connection refused");
    let log = service.stderr().all().join("\n");
    assert!(log.contains("appendfsync is"), "{log}");
    assert!(!format!("{document}{log}").contains("sesame"));
    assert!(service.alive());
}

#[test]
fn the_log_says_once_that_numbers_may_be_lost_and_that_the_sequence_is_new() {
    if skipped() {
        return;
    }
    let redis = Redis::start_with(Options {
        appendonly: false,
        ..Options::default()
    });
    let mut service = Service::builder("persistence_server")
        .env("STORE", "redis")
        .env("REDIS_PORT", redis.port().to_string())
        .start();
    readiness(&service, 200, "ready");
    for _ in 0..5 {
        assert_eq!(http::get(service.addr(), "/").unwrap().status, 200);
    }
    std::thread::sleep(Duration::from_millis(2500));
    let log = service.stderr().all();
    for once in ["may lose numbers", "a new sequence begins"] {
        let lines = log.iter().filter(|line| line.contains(once));
        assert_eq!(lines.count(), 1, "{log:?}");
    }
    service.restart();
    readiness(&service, 200, "ready");
    assert!(!service.stderr().contain("a new sequence begins"));
}
