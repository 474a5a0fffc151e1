//! What every answer has in its head, and what none has.

use std::net::SocketAddr;

use e2e::{
    http::{Connection, Response},
    service::{Builder, Service},
};

use crate::started::{hash, hello, in_front_of, memory, ready};

/// Requests of every kind that a port may get, with the status of the answer.
const REQUESTS: &[(&str, &str, u16)] = &[
    ("GET /nowhere HTTP/1.1", "", 404),
    ("HEAD /nowhere HTTP/1.1", "", 404),
    ("OPTIONS /nowhere HTTP/1.1", "", 404),
    ("OPTIONS * HTTP/1.1", "", 204),
    ("CONNECT a:1 HTTP/1.1", "", 405),
    ("POST / HTTP/1.1", "Content-Length: 65537\r\n", 413),
    ("POST / HTTP/1.1", "Content-Length: 9\r\n", 408),
    (
        "POST / HTTP/1.1",
        "Expect: 100-continue\r\nContent-Length: 65537\r\n",
        413,
    ),
    (
        "POST / HTTP/1.1",
        "Transfer-Encoding: chunked\r\n\r\nx",
        400,
    ),
    // These never reach a handler.
    ("GET / HTTP/1.1", "Content-Length: x\r\n", 400),
    ("garbage", "", 400),
];

/// Sends a request from a page of another origin.
#[track_caller]
fn answer(addr: SocketAddr, line: &str, fields: &str) -> Response {
    let request = format!(
        "{line}\r\nHost: a\r\nOrigin: https://evil.example\r\n\
         Access-Control-Request-Method: PUT\r\n{fields}\r\n"
    );
    let mut connection = Connection::open(addr).unwrap();
    connection.send(&request).unwrap();
    let mut receive = || match line.starts_with("HEAD ") {
        true => connection.receive_head().expect(&request),
        false => connection.receive().expect(&request),
    };
    let answer = receive();
    if answer.status != 100 {
        return answer;
    }
    receive()
}

/// Whatever a browser finds here, it neither keeps it, nor guesses what it is, nor gives it to a
/// page of another origin.
#[track_caller]
fn is_closed_to_browsers(answer: &Response) {
    let count = |name: &str| {
        let named = |(header, _): &&(String, String)| header.eq_ignore_ascii_case(name);
        answer.headers.iter().filter(named).count()
    };
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
        assert_eq!(count(name), 1, "{answer:?}");
    }
    assert_eq!(
        (count("server"), count("x-served-by")),
        (1, 1),
        "{answer:?}"
    );
    let shared = |(name, _): &(String, String)| name.starts_with("access-control-");
    assert!(!answer.headers.iter().any(shared), "{answer:?}");
}

#[test]
fn no_answer_is_kept_or_guessed_at_or_open_to_other_origins() {
    let start = |builder: Builder| ready(builder.env("REQUEST_TIMEOUT_MS", "300"));
    let hello = start(Service::builder("hello_server"));
    let persistence = start(Service::builder("persistence_server").env("STORE", "memory"));
    let hash = start(in_front_of(&persistence));
    let waiting = in_front_of(&persistence)
        .env("PERSISTENCE_PORT", "1")
        .env("REQUEST_TIMEOUT_MS", "300")
        .start();
    let long_head = format!("X: {}\r\n", "x".repeat(70_000));
    let many_fields = "X: y\r\n".repeat(100);
    let check = |addr, line: &str, fields: &str, status| {
        let answer = answer(addr, line, fields);
        assert_eq!(answer.status, status, "{line}, {fields:.60}: {answer:?}");
        is_closed_to_browsers(&answer);
    };
    for service in [&hello, &persistence, &hash] {
        for addr in [service.addr(), service.admin_addr()] {
            for &(line, fields, status) in REQUESTS {
                check(addr, line, fields, status);
            }
            check(addr, "GET / HTTP/1.1", &long_head, 431);
            check(addr, "GET / HTTP/1.1", &many_fields, 431);
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            let check = |method, status| {
                check(
                    service.admin_addr(),
                    &format!("{method} {path} HTTP/1.1"),
                    "",
                    status,
                );
            };
            check("GET", 200);
            check("HEAD", 200);
            check("OPTIONS", 204);
            check("PUT", 405);
        }
        check(service.addr(), "GET / HTTP/1.1", "", 200);
        check(service.addr(), "GET / HTTP/1.0", "", 200);
        check(service.addr(), "OPTIONS / HTTP/1.1", "", 204);
        check(service.addr(), "DELETE / HTTP/1.1", "", 405);
        check(
            service.addr(),
            "GET / HTTP/1.1",
            "Accept: image/png\r\n",
            406,
        );
    }
    check(persistence.addr(), "GET /?count=0 HTTP/1.1", "", 400);
    check(waiting.addr(), "GET / HTTP/1.1", "", 503);
    check(waiting.addr(), "OPTIONS / HTTP/1.1", "", 503);
    check(waiting.admin_addr(), "GET /readyz HTTP/1.1", "", 503);
}

#[test]
fn what_a_client_sends_comes_back_as_a_json_string_or_not_at_all() {
    let mark = "<script>'%22\"\\x</script>";
    // The worst that may be in a path.
    let in_path = "script\"'%22%5C&{x}";
    let persistence = memory();
    for service in [&hello(), &persistence, &hash(&persistence)] {
        for addr in [service.addr(), service.admin_addr()] {
            let mut echoed = 0;
            // The target, the method and each field hold the mark, once each.
            for (line, fields) in [
                (format!("GET /{mark} HTTP/1.1"), String::new()),
                (format!("GET /{in_path} HTTP/1.1"), String::new()),
                (format!("GET /x?{mark} HTTP/1.1"), String::new()),
                (format!("GET /?count={mark} HTTP/1.1"), String::new()),
                (format!("GET http://{mark}/ HTTP/1.1"), String::new()),
                (format!("CONNECT {mark} HTTP/1.1"), String::new()),
                (format!("{mark} / HTTP/1.1"), String::new()),
                ("EVIL%22 / HTTP/1.1".to_owned(), String::new()),
                (
                    "GET / HTTP/1.1".to_owned(),
                    format!("Accept: {mark}\r\nX: {mark}\r\nX-Forwarded-Host: {mark}\r\n"),
                ),
                (
                    "GET / HTTP/1.1".to_owned(),
                    format!("Transfer-Encoding: {mark}\r\n"),
                ),
                ("GET / HTTP/1.1".to_owned(), format!("Expect: {mark}\r\n")),
            ] {
                let answer = answer(addr, &line, &fields);
                for (_, value) in &answer.headers {
                    assert!(
                        !value.contains("script") && !value.contains("evil"),
                        "{answer:?}"
                    );
                }
                let text = answer.text();
                if !text.to_lowercase().contains("script") {
                    continue;
                }
                // The raw mark has a quotation mark in it, which would end the string early.
                let media_type = answer.header("content-type");
                assert_eq!(
                    media_type,
                    Some("application/problem+json"),
                    "{line}: {text}"
                );
                let detail = &answer.json()["detail"];
                assert_eq!(detail, &format!("there is nothing at /{in_path}"), "{line}");
                echoed += 1;
            }
            assert_eq!(echoed, 1, "only the path of what is not there");
        }
    }
}
