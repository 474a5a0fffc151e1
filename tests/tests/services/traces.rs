//! Traces: one from the client through the services to the store, at a collector.

use std::{thread, time::Duration};

use e2e::{
    Service, Signal,
    collector::{Collector, Span},
    http::{self, Response},
    run_to_end, skip,
    store::redis::Redis,
};

use crate::started::{SOON, hash, hello, in_front_of, memory, ready};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A request that a client has begun a trace for, which it has sampled (`01`) or not (`00`).
fn get(service: &Service, flags: &str) -> Response {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\n\
         traceparent: 00-{TRACE}-b7ad6b7169203331-{flags}\r\ntracestate: a=b\r\n\r\n"
    );
    http::request(service.addr(), request).unwrap()
}

fn endpoint(collector: &Collector) -> (&'static str, String) {
    ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
}

fn named<'a>(spans: &'a [Span], service: &str, name: &str) -> Vec<&'a Span> {
    let is_it = |span: &&Span| span.resource["service.name"] == service && span.name == name;
    spans.iter().filter(is_it).collect()
}

#[test]
fn one_trace_leads_from_the_client_through_both_services_to_the_store() {
    if skip::unless(Redis::available()) {
        return;
    }
    let (collector, redis) = (Collector::start(), Redis::start());
    let (name, url) = endpoint(&collector);
    let persistence = ready(
        Service::builder("persistence_server")
            .env("STORE", "redis")
            .env("REDIS_PORT", redis.port().to_string())
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=numbers,team=a")
            .env(name, &url),
    );
    let hash = ready(
        in_front_of(&persistence)
            .env("OTEL_SERVICE_NAME", "front")
            .env(name, &url),
    );
    assert_eq!(get(&hash, "01").status, 200);
    // Sent at the stop, which comes before they are due.
    for service in [&hash, &persistence] {
        service.signal(Signal::TERM);
        assert!(service.wait(SOON).success());
    }

    let spans = collector.spans();
    let path = [
        ("front", "GET /"),
        ("front", "reserve"),
        ("front", "GET"),
        ("numbers", "GET /"),
        ("numbers", "reserve"),
        ("numbers", "reserve redis"),
    ];
    let mut parent = "b7ad6b7169203331";
    for (service, name) in path {
        let [span] = named(&spans, service, name)[..] else {
            panic!("{name} of {service} in {spans:#?}")
        };
        assert_eq!(
            (&*span.trace_id, &*span.parent),
            (TRACE, parent),
            "{span:?}"
        );
        parent = &span.span_id;
    }
    let request = named(&spans, "front", "GET /")[0];
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/"),
        ("url.path", "/"),
        ("http.response.status_code", "200"),
        ("user_agent.original", "test"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(request.attributes[name], value);
    }
    let store = named(&spans, "numbers", "reserve redis")[0];
    assert_eq!(store.attributes["db.system.name"], "redis");
    assert_eq!(store.resource["team"], "a");
    assert_eq!(store.resource["service.version"], env!("CARGO_PKG_VERSION"));
    for service in [&hash, &persistence] {
        let line = service.stdout().wait_for(TRACE, SOON);
        assert!(line.contains("\"trace_id\":\""), "{line}");
    }
}

#[test]
fn a_reservation_is_linked_with_all_requests_that_share_it() {
    let (collector, persistence) = (Collector::start(), memory());
    let (name, url) = endpoint(&collector);
    let hash = ready(in_front_of(&persistence).env("WORKERS", "1").env(name, url));
    persistence.signal(Signal::STOP);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| http::get(hash.addr(), "/").unwrap());
        }
        thread::sleep(Duration::from_millis(300));
        persistence.signal(Signal::CONT);
    });
    let spans = collector.wait_for("the spans of three requests", |spans| {
        named(spans, "hash_server", "GET /").len() == 3
    });
    let requests = named(&spans, "hash_server", "GET /");
    let mut sharing: Vec<&str> = named(&spans, "hash_server", "reserve")
        .into_iter()
        .filter(|span| !span.failed)
        .flat_map(|span| span.links.iter().chain([&span.parent]))
        .map(String::as_str)
        .collect();
    let mut answered: Vec<&str> = requests.iter().map(|span| &*span.span_id).collect();
    sharing.sort_unstable();
    answered.sort_unstable();
    assert_eq!(sharing, answered);
    assert!(
        spans.iter().any(|span| !span.links.is_empty()),
        "{spans:#?}"
    );
}

#[test]
fn the_client_decides_what_is_sampled_and_an_error_is_one() {
    let collector = Collector::start();
    let (name, url) = endpoint(&collector);
    let hello = ready(
        Service::builder("hello_server")
            .env("FAULTS", "on")
            .env(name, &url),
    );
    assert_eq!(get(&hello, "00").status, 200);
    let faults = "PUT /faults?error_rate=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    http::request(hello.admin_addr(), faults).unwrap();
    let failed = get(&hello, "01");
    assert_eq!(failed.status, 500);
    assert_eq!(failed.header("x-request-id"), Some(TRACE));
    let spans = collector.wait_for("a span", |spans| !spans.is_empty());
    let [span] = &spans[..] else {
        panic!("{spans:#?}")
    };
    assert!(
        span.failed && span.attributes["error.type"] == "500",
        "{span:?}"
    );

    let request =
        "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n";
    let metrics = http::request(hello.admin_addr(), request).unwrap().text();
    let exemplar = format!("status=\"500\"}} 1 # {{trace_id=\"{TRACE}\"}}");
    assert!(metrics.contains(&exemplar), "{metrics}");
    let text = http::get(hello.admin_addr(), "/metrics").unwrap().text();
    assert!(!text.contains(TRACE), "the older format has no exemplars");
}

#[test]
fn a_collector_that_is_away_costs_one_message_and_no_time() {
    let hello = ready(
        Service::builder("hello_server")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env("OTEL_BSP_SCHEDULE_DELAY", "10"),
    );
    for _ in 0..20 {
        assert_eq!(get(&hello, "01").status, 200);
        thread::sleep(Duration::from_millis(50));
    }
    hello.signal(Signal::TERM);
    assert!(hello.wait(Duration::from_secs(5)).success());
    let log = hello.stderr().all().join("\n");
    assert_eq!(log.matches("traces are lost").count(), 1, "{log}");
    assert_eq!(log.matches("ERROR").count(), 0, "{log}");
}

#[test]
fn what_cannot_be_traced_is_refused_at_the_start() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ] {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            (name, value),
        ];
        let output = run_to_end("hello_server", &env, &[], SOON);
        assert_eq!(output.status.code(), Some(2), "{value}");
        assert!(output.stderr.contains(name), "{}", output.stderr);
    }
}

#[test]
fn without_a_collector_a_trace_of_the_client_is_logged() {
    let hello = hello();
    assert_eq!(get(&hello, "01").status, 200);
    hello.stdout().wait_for(TRACE, SOON);
    let persistence = memory();
    assert_eq!(get(&hash(&persistence), "01").status, 200);
}
