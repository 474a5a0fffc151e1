//! Faults on demand.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    Service,
    http::{self, Connection, Response},
    wait,
};
use serde_json::Value;

use crate::started::{SOON, hello, in_front_of, is_ready, memory, not_ready_because, ready};

fn with_faults() -> Service {
    ready(Service::builder("hello_server").env("FAULTS", "on"))
}

fn ask(service: &Service, method: &str, query: &str) -> Response {
    let request = format!("{method} /faults{query} HTTP/1.1\r\nHost: a\r\n\r\n");
    http::request(service.admin_addr(), request).unwrap()
}

#[track_caller]
fn put(service: &Service, query: &str) -> Value {
    let answer = ask(service, "PUT", &format!("?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn statuses(service: &Service, count: usize) -> Vec<u16> {
    let get = |_| http::get(service.addr(), "/").unwrap().status;
    (0..count).map(get).collect()
}

#[test]
fn there_are_none_unless_they_are_switched_on() {
    let hello = hello();
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(ask(&hello, method, "").status, 404);
    }
}

#[test]
fn requests_are_delayed_and_fail_as_often_as_asked_and_a_seed_repeats_it() {
    let hello = with_faults();
    put(&hello, "delay_ms=200");
    let begin = Instant::now();
    assert_eq!(statuses(&hello, 1), [200]);
    assert!(begin.elapsed() >= Duration::from_millis(200));

    put(&hello, "delay_ms=p50:0,p100:60");
    let mut delays = BTreeSet::new();
    for _ in 0..40 {
        let begin = Instant::now();
        statuses(&hello, 1);
        delays.insert(begin.elapsed() >= Duration::from_millis(60));
    }
    assert_eq!(delays.len(), 2, "some are delayed and some are not");

    let plan = "error_rate=0.5&error_status=418&seed=7";
    put(&hello, plan);
    let first = statuses(&hello, 50);
    assert!(first.contains(&200) && first.contains(&418), "{first:?}");
    put(&hello, plan);
    assert_eq!(statuses(&hello, 50), first);
    ask(&hello, "DELETE", "");
    assert_eq!(statuses(&hello, 50), [200; 50]);
}

#[test]
fn a_request_that_hangs_has_no_answer_and_probes_have_one() {
    let hello = with_faults();
    put(&hello, "hang_rate=1");
    let mut connection = Connection::open(hello.addr()).unwrap();
    connection.set_timeout(Duration::from_millis(500)).unwrap();
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(connection.receive().is_err());
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(http::get(hello.admin_addr(), path).unwrap().status, 200);
    }
}

#[test]
fn probes_fail_as_asked_and_the_last_calls_are_shown() {
    let hello = with_faults();
    put(&hello, "fail_probes=2");
    let probe = || http::get(hello.admin_addr(), "/readyz").unwrap().status;
    assert_eq!([probe(), probe(), probe()], [503, 503, 200]);
    put(&hello, "unready=true");
    assert!(not_ready_because(&hello).unwrap().contains("/faults"));
    assert_eq!(http::get(hello.admin_addr(), "/livez").unwrap().status, 200);
    for _ in 0..30 {
        probe();
    }
    let shown = ask(&hello, "GET", "").json();
    let probes = shown["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 20);
    assert_eq!(
        (&probes[0]["path"], &probes[0]["status"]),
        (&"/readyz".into(), &503.into())
    );
    assert_eq!(shown["faults"]["unready"], "true");
    ask(&hello, "DELETE", "");
    assert!(is_ready(&hello));
}

#[test]
fn a_dependency_is_slow_or_down_or_hangs() {
    let persistence = memory();
    let limit = "REQUEST_TIMEOUT_MS";
    let front = ready(
        in_front_of(&persistence)
            .env("FAULTS", "on")
            .env(limit, "1000"),
    );
    let store = ready(
        Service::builder("persistence_server")
            .env("STORE", "memory")
            .env("FAULTS", "on")
            .env(limit, "1000"),
    );
    for service in [&front, &store] {
        put(service, "dependency_delay_ms=300");
        let begin = Instant::now();
        assert_eq!(statuses(service, 1), [200]);
        assert!(begin.elapsed() >= Duration::from_millis(300));
        for (plan, status) in [
            ("dependency_error_rate=1", 503),
            ("dependency_hang_rate=1", 504),
        ] {
            put(service, plan);
            assert_eq!(statuses(service, 1), [status], "{plan}");
            wait::until("it to be not ready", SOON, || not_ready_because(service));
            ask(service, "DELETE", "");
            wait::until("it to be ready", SOON, || is_ready(service).then_some(()));
        }
    }
}

#[test]
fn load_is_made_and_ends() {
    let hello = with_faults();
    let busy = || {
        let begin = hello.cpu_time();
        thread::sleep(Duration::from_millis(500));
        hello.cpu_time() - begin > Duration::from_millis(100)
    };
    assert!(!busy());
    let before = hello.rss_bytes();
    put(&hello, "cpu_threads=1&memory_mib=64");
    assert!(busy());
    assert!(hello.rss_bytes() > before + (60 << 20));
    ask(&hello, "DELETE", "");
    assert!(hello.rss_bytes() < before + (60 << 20));
    assert!(!busy());
}

#[test]
fn a_bad_plan_is_refused_by_name_and_changes_nothing() {
    let hello = with_faults();
    put(&hello, "error_rate=1");
    for (query, named) in [
        ("error_rate=2", "ERROR_RATE"),
        ("error_status=200", "ERROR_STATUS"),
        ("delay_ms=p99:10,p50:20", "DELAY_MS"),
        ("delay_ms=-1", "DELAY_MS"),
        ("cpu_threads=65", "CPU_THREADS"),
        ("latency=3", "latency"),
    ] {
        let answer = ask(&hello, "PUT", &format!("?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        let text = answer.text();
        assert!(text.contains(named) && text.contains("expected"), "{text}");
    }
    assert_eq!(statuses(&hello, 3), [500; 3]);
}

#[test]
fn only_a_page_of_the_same_host_may_ask_for_faults() {
    let hello = with_faults();
    let allowed = |method: &str, origin: &str| {
        let request = format!(
            "{method} /faults HTTP/1.1\r\nHost: localhost:9080\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: PUT\r\n\r\n"
        );
        let answer = http::request(hello.admin_addr(), request).unwrap();
        let field = |name| answer.header(name).map(str::to_owned);
        (
            field("access-control-allow-origin"),
            field("access-control-allow-methods"),
        )
    };
    for method in ["OPTIONS", "PUT"] {
        let page = "http://localhost:8080";
        let may = (Some(page.to_owned()), Some("PUT, DELETE".to_owned()));
        assert_eq!(allowed(method, page), may);
        for other in [
            "http://evil.example",
            "http://localhost.evil.example",
            "null",
        ] {
            assert_eq!(allowed(method, other), (None, None), "{other}");
        }
    }
}
