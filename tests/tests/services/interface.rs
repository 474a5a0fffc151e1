//! The public interface: statuses, headers, bodies.

use e2e::{
    http::{self, Response},
    service::Service,
};

use crate::started::{self, hash, hello, memory};

#[track_caller]
pub(crate) fn send(service: &Service, method: &str, target: &str, headers: &str) -> Response {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    let answer = http::request(service.addr(), request).expect("an answer");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    assert_eq!(
        answer.header("x-served-by"),
        Some(host.trim()),
        "on every answer"
    );
    let server = answer
        .header("server")
        .expect("a Server header on every answer");
    assert!(server.contains("_server/"), "{server}");
    answer
}

#[track_caller]
pub(crate) fn get(service: &Service, target: &str) -> Response {
    send(service, "GET", target, "")
}

#[track_caller]
pub(crate) fn is_problem(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    if !answer.body.is_empty() {
        let json = answer.json();
        assert_eq!(json["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(
                json[member].as_str().is_some_and(|text| !text.is_empty()),
                "{json}"
            );
        }
    }
}

#[test]
fn hello_says_hello_in_plain_text() {
    let answer = get(&hello(), "/");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.text(), "Hello, World!\n");
}

#[test]
fn hello_says_what_it_is_told_to() {
    let service = Service::builder("hello_server")
        .env("MESSAGE", "Grüße, \"Welt\"")
        .start();
    assert_eq!(get(&service, "/").text(), "Grüße, \"Welt\"\n");
}

#[test]
fn persistence_counts_from_1() {
    let service = memory();
    for number in 1..=3 {
        let answer = get(&service, "/");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(
            answer.text(),
            format!("{{\"data\":{{\"number\":{number}}}}}\n")
        );
    }
    let posted = send(&service, "POST", "/", "Content-Length: 0\r\n");
    assert_eq!(posted.text(), "{\"data\":{\"number\":4}}\n");
}

#[test]
fn persistence_hands_out_blocks_of_1_to_65536() {
    let service = memory();
    let json = |answer: Response| answer.json()["data"].clone();
    let block = json(get(&service, "/?count=3"));
    assert_eq!(
        (block["number"].as_u64(), block["count"].as_u64()),
        (Some(1), Some(3))
    );
    let one = json(get(&service, "/?other=x&count=1"));
    assert_eq!(
        (one["number"].as_u64(), one["count"].as_u64()),
        (Some(4), Some(1))
    );
    assert_eq!(json(get(&service, "/?count=65536"))["number"], 5);
    assert_eq!(json(get(&service, "/"))["number"], 65_541);
    assert_eq!(json(get(&service, "/?%63ount=%33"))["count"], 3);
}

#[test]
fn a_bad_count_is_refused_and_takes_no_number() {
    let service = memory();
    for query in [
        "count=0",
        "count=-1",
        "count=65537",
        "count=",
        "count",
        "count=abc",
        "count=1.5",
        "count=+1",
        "count=1e3",
        "count=99999999999999999999999999",
        "count=1&count=1",
        "count=1&count=2",
        "count=1&%63ount=2",
        "count=1%20",
    ] {
        let answer = get(&service, &format!("/?{query}"));
        is_problem(&answer, 400);
        assert!(
            answer.text().contains("count"),
            "{query}: {}",
            answer.text()
        );
    }
    assert_eq!(get(&service, "/").json()["data"]["number"], 1);
}

#[test]
fn hash_answers_a_number_and_its_sha256() {
    let persistence = memory();
    let service = hash(&persistence);
    let answer = get(&service, "/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("vary"), Some("Accept"));
    // echo -n 1 | sha256sum
    assert_eq!(
        answer.text(),
        "{\"data\":{\"number\":1,\"hash\":\
         \"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\"}}\n"
    );
    assert_eq!(get(&service, "/").json()["data"]["number"], 2);
    assert_eq!(get(&persistence, "/").json()["data"]["number"], 3);
}

#[test]
fn other_paths_are_not_found_on_the_public_port() {
    let persistence = memory();
    for service in [&hello(), &persistence, &hash(&persistence)] {
        let targets = [
            "/x",
            "//",
            "/index.html",
            "/livez",
            "/readyz",
            "/metrics",
            "/%2e",
            "/\"quoted\"",
        ];
        for target in targets {
            is_problem(&get(service, target), 404);
        }
        is_problem(&send(service, "POST", "/x", "Content-Length: 0\r\n"), 404);
    }
}

#[test]
fn a_client_that_accepts_something_else_is_told_what_there_is() {
    let persistence = memory();
    let hash = hash(&persistence);
    for (service, media_type) in [
        (&hello(), "text/plain"),
        (&persistence, "application/json"),
        (&hash, "application/json"),
    ] {
        let refused = send(service, "GET", "/", "Accept: image/png, audio/*;q=0.5\r\n");
        is_problem(&refused, 406);
        assert!(refused.text().contains(media_type), "{}", refused.text());
        let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
        assert_eq!(send(service, "GET", "/", browser).status, 200);
        let exact = format!("Accept: {media_type}\r\n");
        assert_eq!(send(service, "GET", "/", &exact).status, 200);
    }
    assert_eq!(
        get(&persistence, "/").json()["data"]["number"],
        4,
        "a refusal takes no number, and neither does the page"
    );
}

#[test]
fn the_sequence_ends_at_2_to_the_53_minus_1() {
    let dir = tempfile::tempdir().unwrap();
    near_the_end(&dir);
    let persistence = started::ready(started::on_file(&dir));
    let hash = hash(&persistence);
    let max = 9_007_199_254_740_991_u64;
    let exhausted = |answer: &Response| {
        is_problem(answer, 503);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.json()["title"], "sequence exhausted");
    };
    exhausted(&get(&persistence, "/?count=4"));
    assert_eq!(get(&persistence, "/").json()["data"]["number"], max - 2);
    assert_eq!(get(&hash, "/").json()["data"]["number"], max - 1);
    exhausted(&get(&persistence, "/?count=2"));
    assert_eq!(get(&persistence, "/").json()["data"]["number"], max);
    for _ in 0..3 {
        exhausted(&get(&persistence, "/"));
        exhausted(&get(&hash, "/"));
    }
}

/// Writes a file in which all numbers but the last three are taken.
fn near_the_end(dir: &tempfile::TempDir) {
    use sha2::{Digest as _, Sha256};

    let mut file = Vec::new();
    for (generation, last) in [(0, 0), (1, 9_007_199_254_740_988_u64)] {
        let line = format!("sequence v1 generation {generation} last {last}");
        let hash = Sha256::digest(line.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("{line} sha256 {hash}\n");
        file.extend_from_slice(format!("{line:4096}").as_bytes());
    }
    std::fs::write(dir.path().join("numbers.sequence"), file).unwrap();
}

#[test]
fn a_cause_stays_in_the_log_and_out_of_the_answer() {
    let persistence = memory();
    let hash = started::in_front_of(&persistence).env("REQUEST_TIMEOUT_MS", "300");
    let hash = started::ready(hash);
    let port = persistence.addr().port().to_string();
    persistence.kill9();
    let answer = get(&hash, "/");
    is_problem(&answer, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let text = answer.text();
    assert!(!text.contains(&port) && !text.contains("refused"), "{text}");
    let logged = hash.stderr().wait_for("reservation failed", started::SOON);
    assert!(
        logged.contains(&port) && logged.contains("refused"),
        "{logged}"
    );
}

#[test]
fn the_admin_port_serves_probes_and_metrics_and_nothing_else() {
    let service = hello();
    let admin = |path: &str| http::get(service.admin_addr(), path).unwrap();
    assert_eq!(admin("/livez").status, 200);
    assert_eq!(admin("/readyz").json()["status"], "ready");
    is_problem(&admin("/"), 404);
    get(&service, "/");
    get(&service, "/nowhere");
    for (accept, media_type, only_there) in [
        (
            "*/*",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE http_requests_total counter",
        ),
        (
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF",
        ),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        let metrics = http::request(service.admin_addr(), request).unwrap();
        assert_eq!(metrics.header("content-type"), Some(media_type));
        for line in [
            "http_requests_total{method=\"GET\",route=\"/\",status=\"200\"} 1",
            "http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
            "http_request_duration_seconds_count{method=\"GET\",route=\"/\",status=\"200\"} 1",
            "http_requests_in_flight 0",
            "service_ready 1",
            "service_draining 0",
            only_there,
        ] {
            assert!(
                metrics.text().lines().any(|have| have == line),
                "{line}: {}",
                metrics.text()
            );
        }
    }
}
