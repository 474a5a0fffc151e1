//! What the logs say of a request, and how they are changed while the service runs.

use e2e::{Service, http};

use crate::started::{SOON, hello};

#[test]
fn a_request_has_the_name_that_its_client_gave_it() {
    let hello = hello();
    for (given, named) in [
        ("order-17", true),
        ("two words", false),
        (&"x".repeat(129), false),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {given}\r\n\r\n");
        let answer = http::request(hello.addr(), request).unwrap();
        assert_eq!(answer.header("x-request-id"), named.then_some(given));
    }
    let line = hello.stdout().wait_for("order-17", SOON);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["request_id"], "order-17");
    assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(line["bytes"], 14);
    assert!(line["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
}

fn log(service: &Service, method: &str, query: &str) -> http::Response {
    let request = format!("{method} /log{query} HTTP/1.1\r\nHost: a\r\n\r\n");
    http::request(service.admin_addr(), request).unwrap()
}

#[test]
fn what_is_logged_can_be_changed_without_a_restart() {
    let hello = hello();
    let before = log(&hello, "GET", "").json();
    let changed = log(&hello, "PUT", "?levels=warn,actix_http=trace");
    assert_eq!(changed.status, 200);
    assert_ne!(changed.json(), before);
    http::get(hello.addr(), "/").unwrap();
    hello.stderr().wait_for("\"TRACE\"", SOON);
    for bad in ["", "?levels=", "?levels=warning", "?level=info"] {
        let answer = log(&hello, "PUT", bad);
        assert_eq!(answer.status, 400, "{bad}");
        assert!(
            answer.text().contains("levels such as"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(log(&hello, "GET", "").json(), changed.json());
}
