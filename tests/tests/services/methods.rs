//! The methods besides those that take something.

use e2e::{
    http::{self, Connection},
    process::Signal,
    service::{Builder, Service},
    wait,
};

use crate::{
    interface::{get, is_problem, send},
    started::{self, hash, hello, memory, not_ready_because, ready},
};

#[test]
fn head_is_get_without_a_body_where_get_takes_nothing() {
    let service = hello();
    for (addr, path) in [
        (service.addr(), "/"),
        (service.addr(), "/nowhere"),
        (service.admin_addr(), "/livez"),
        (service.admin_addr(), "/readyz"),
        (service.admin_addr(), "/metrics"),
    ] {
        let mut connection = Connection::open(addr).unwrap();
        let [head, get] = ["HEAD", "GET"].map(|method| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            connection.send(request).unwrap();
            let answer = match method {
                "HEAD" => connection.receive_head(),
                _ => connection.receive(),
            };
            let answer = answer.expect("an answer that begins where the one before ends");
            let mut headers = answer.headers;
            for (name, value) in &mut headers {
                let changes = name == "content-length" && ["/readyz", "/metrics"].contains(&path);
                if changes || name == "date" {
                    value.clear();
                }
            }
            headers.sort();
            (answer.status, headers)
        });
        assert_eq!(head, get, "{path}");
    }
}

#[test]
fn other_methods_are_refused_with_those_that_work_and_take_no_number() {
    let persistence = memory();
    let hash = hash(&persistence);
    let hello = hello();
    for (service, allowed) in [
        (&hello, "GET, HEAD, OPTIONS"),
        (&persistence, "GET, POST, OPTIONS"),
        (&hash, "GET, OPTIONS"),
    ] {
        for method in ["HEAD", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "POST"] {
            if allowed.contains(method) {
                continue;
            }
            let answer = send(service, method, "/", "");
            is_problem(&answer, 405);
            assert_eq!(answer.header("allow"), Some(allowed), "{method}");
        }
    }
    assert_eq!(get(&persistence, "/").json()["data"]["number"], 1);
}

#[test]
fn options_says_what_a_ready_service_allows_and_takes_no_number() {
    let persistence = memory();
    let hash = hash(&persistence);
    let hello = hello();
    for (service, allowed) in [
        (&hello, "GET, HEAD, OPTIONS"),
        (&persistence, "GET, POST, OPTIONS"),
        (&hash, "GET, OPTIONS"),
    ] {
        let answer = send(service, "OPTIONS", "/", "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some(allowed))
        );
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(send(service, "OPTIONS", "*", "").status, 204);
        is_problem(&send(service, "OPTIONS", "/nowhere", ""), 404);
        // The default check of HAProxy.
        let old = http::request(service.addr(), "OPTIONS / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(old.status, 204);
    }
    assert_eq!(get(&persistence, "/").json()["data"]["number"], 1);

    let counted = "http_requests_total{method=\"OPTIONS\",route=\"/\",status=\"204\"} 2";
    let metrics = http::get(hello.admin_addr(), "/metrics").unwrap().text();
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    hello
        .stdout()
        .wait_for("\"method\":\"OPTIONS\"", started::SOON);
}

#[test]
fn options_tells_a_balancer_that_a_service_is_not_ready_or_draining() {
    let persistence = memory();
    let waiting = started::in_front_of(&persistence)
        .env("PERSISTENCE_PORT", "1")
        .start();
    let draining = ready(Service::builder("hello_server").env("DRAIN_SECONDS", "60"));
    draining.signal(Signal::TERM);
    wait::until("the drain", started::SOON, || not_ready_because(&draining));
    for service in [&waiting, &draining] {
        for target in ["/", "*"] {
            let answer = send(service, "OPTIONS", target, "");
            is_problem(&answer, 503);
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        let request = "OPTIONS /livez HTTP/1.1\r\nHost: a\r\n\r\n";
        let admin = http::request(service.admin_addr(), request).unwrap();
        assert_eq!(
            (admin.status, admin.header("allow")),
            (204, Some("GET, HEAD, OPTIONS"))
        );
    }
}

#[test]
fn an_upgrade_is_ignored_and_connect_is_refused_without_waiting_for_more() {
    // The client's own timeout ends a wait for a body.
    let start = |builder: Builder| ready(builder.env("REQUEST_TIMEOUT_MS", "600000"));
    let hello = start(Service::builder("hello_server"));
    let persistence = start(Service::builder("persistence_server").env("STORE", "memory"));
    for headers in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 3\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: websocket\r\n",
    ] {
        for service in [&hello, &persistence] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            let mut connection = Connection::open(service.addr()).unwrap();
            connection.send(request).unwrap();
            let answer = connection.receive().expect(headers);
            assert_eq!(
                (answer.status, answer.header("connection")),
                (200, Some("close")),
                "{headers}"
            );
            assert_eq!(answer.header("upgrade"), None);
            assert!(connection.receive_rest().unwrap().is_empty());
        }
    }
    assert_eq!(get(&persistence, "/").json()["data"]["number"], 5);

    for target in ["example.com:443", "/"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        for addr in [hello.addr(), persistence.addr(), hello.admin_addr()] {
            let answer = http::request(addr, &request).expect(target);
            is_problem(&answer, 405);
            assert!(answer.header("allow").is_some());
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
}
