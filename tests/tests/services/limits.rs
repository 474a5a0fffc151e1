//! Clients that send nonsense, too much, or too slowly.

use std::{
    io::{ErrorKind, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    http::{self, Connection, Response},
    launch::Launch,
    service::{Builder, Service, binary_path},
    skip::{self, Missing},
    soak::figure,
};

use crate::started::{memory, ready};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[track_caller]
fn is_problem(answer: &Response, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.json()["status"], status);
    assert!(answer.text().contains(words), "{}", answer.text());
    assert!(answer.header("x-served-by").is_some() && answer.header("server").is_some());
}

#[test]
fn a_body_is_read_off_up_to_64_kib_and_refused_beyond() {
    let service = memory();
    let mut connection = Connection::open(service.addr()).unwrap();
    for number in 1..=3 {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n";
        connection
            .send(head.to_owned() + &"b".repeat(65_536))
            .unwrap();
        assert_eq!(
            connection.receive().unwrap().json()["data"]["number"],
            number
        );
    }
    let announced = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n";
    is_problem(
        &http::request(service.addr(), announced).unwrap(),
        413,
        "65536 bytes",
    );

    let mut chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for _ in 0..17 {
        chunked += &format!("1000\r\n{}\r\n", "c".repeat(4096));
    }
    is_problem(
        &http::request(service.addr(), chunked).unwrap(),
        413,
        "65536 bytes",
    );
    let number = &http::get(service.addr(), "/").unwrap().json()["data"]["number"];
    assert_eq!(number, 4, "a refusal takes no number");
}

#[test]
fn a_client_that_dribbles_is_cut_off_wherever_it_dribbles() {
    let service = ready(Service::builder("hello_server").env("REQUEST_TIMEOUT_MS", "500"));
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    for (answers, start) in [
        (0, String::new()),
        (0, format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(20_000))),
        (0, "GET / HTTP/1.1\r\n".to_owned()),
        (1, format!("{good}GET / HTTP/1.1\r\n")),
        (0, body.to_owned()),
        (1, format!("{good}{body}")),
    ] {
        let mut connection = Connection::open(service.addr()).unwrap();
        connection.send(&start).unwrap();
        for _ in 0..answers {
            assert_eq!(connection.receive().unwrap().status, 200);
        }
        // Not cut off, it would go on for ever.
        let end = Instant::now() + Duration::from_secs(60);
        // One byte at a time, far more often than any time limit.
        let cut_off = loop {
            if connection.send("x").is_err() {
                break true;
            }
            connection.set_timeout(Duration::from_millis(50)).unwrap();
            match connection.receive() {
                Ok(answer) => break answer.status == 408,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break true,
            }
            assert!(Instant::now() < end, "still open after {start:?}");
        };
        assert!(cut_off, "{start:?}");
    }
}

#[test]
fn clients_that_keep_the_service_waiting_take_little_memory() {
    let service = ready(
        Service::builder("persistence_server")
            .env("STORE", "memory")
            .env("ACCESS_LOG", "off"),
    );
    let before = service.rss_bytes();
    let client = |bytes: &[u8], times: usize| {
        let mut client = TcpStream::connect(service.addr()).unwrap();
        let quiet = Some(Duration::from_secs(1));
        client.set_write_timeout(quiet).unwrap();
        // Until nothing more is taken.
        let _ = (0..times).try_for_each(|_| client.write_all(bytes));
        client
    };
    // Some read no answers, some send a head without an end.
    let requests = GET.repeat(1000);
    let mut clients: Vec<_> = (0..4).map(|_| client(requests.as_bytes(), 1000)).collect();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(100_000));
    clients.extend((0..100).map(|_| client(head.as_bytes(), 1)));
    assert_eq!(http::get(service.addr(), "/").unwrap().status, 200);
    let grown = service.rss_bytes().saturating_sub(before) as f64 / 1e6;
    figure(format_args!("104 hostile clients: {grown:.1} MB"));
    // As many heads of 100 kB, or decoded requests, as actix-http keeps would take more.
    assert!(grown < 6.0, "{grown} MB");
}

#[test]
fn a_connection_without_a_request_in_hand_is_kept() {
    let service = ready(Service::builder("hello_server").env("REQUEST_TIMEOUT_MS", "300"));
    let mut connection = Connection::open(service.addr()).unwrap();
    for _ in 0..3 {
        // Also one that was opened ahead.
        thread::sleep(Duration::from_secs(3));
        connection.send(GET).unwrap();
        assert_eq!(connection.receive().unwrap().status, 200);
    }
}

#[test]
fn an_idle_connection_is_closed_after_the_time_that_is_set() {
    let service = ready(Service::builder("hello_server").env("KEEP_ALIVE_SECONDS", "1"));
    let mut connection = Connection::open(service.addr()).unwrap();
    connection.send(GET).unwrap();
    connection.receive().unwrap();
    // Far less than the default.
    connection.set_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(connection.receive_rest().unwrap(), b"");
}

#[test]
fn more_clients_than_the_soft_limit_of_open_files_are_served() {
    let service = ready(with_open_files("256:1024"));
    let mut clients = answered(&service, 400, || {});
    for client in &mut clients {
        client.send(GET).unwrap();
        assert_eq!(client.receive().unwrap().status, 200);
    }
}

#[test]
fn the_longest_idle_connections_make_room_for_new_ones_and_never_take_the_probes() {
    let service = ready(with_open_files("256:256"));
    let mut used = answered(&service, 1, || {}).remove(0);
    let idle = answered(&service, 200, || {
        used.send(GET).unwrap();
        assert_eq!(used.receive().unwrap().status, 200);
    });
    let livez = http::get(service.admin_addr(), "/livez").unwrap();
    assert_eq!(livez.status, 200);
    // Those were closed that were opened first; and the limit is on the process.
    let closed: Vec<_> = idle.iter().map(Connection::is_closed).collect();
    let count = closed.iter().filter(|&&closed| closed).count();
    assert!(closed.is_sorted_by(|earlier, later| earlier >= later));
    assert!((44..150).contains(&count), "{count} of 201 were closed");
}

fn with_open_files(limit: &str) -> Builder {
    let prlimit = ["prlimit".to_owned(), format!("--nofile={limit}")];
    Service::builder("hello_server")
        .env("WORKERS", "1")
        .under(prlimit)
}

/// So many connections, each of which has had an answer; `then` is called after each.
fn answered(service: &Service, count: usize, mut then: impl FnMut()) -> Vec<Connection> {
    let one = |_| {
        let mut connection = Connection::open(service.addr()).unwrap();
        connection.send(GET).unwrap();
        assert_eq!(connection.receive().unwrap().status, 200);
        then();
        connection
    };
    (0..count).map(one).collect()
}

#[test]
fn all_addresses_are_ipv4_addresses_too_whatever_the_kernel_defaults_to() {
    // In a network of its own, where that default can be another one.
    let script = r#"
        echo 1 > /proc/sys/net/ipv6/bindv6only && ip link set lo up || exit 77
        timeout 60 "$0" & trap 'kill $!' EXIT
        until "$0" healthcheck; do kill -0 $! && sleep 0.1 || exit 1; done"#;
    let output = Launch::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .arg(binary_path("hello_server"))
        .env("HOST", "::")
        .run_to_end(Duration::from_secs(90));
    let permitted = match output.status.code() {
        Some(0) => Ok(()),
        _ if output.stderr.contains("hello_server") => panic!("{}", output.stderr),
        _ => Err(Missing::elsewhere(
            "unshare --net",
            "namespaces and iproute2",
        )),
    };
    skip::unless(permitted);
}

#[test]
fn more_requests_than_may_wait_are_refused_at_once() {
    let hash = Service::builder("hash_server")
        .env("PERSISTENCE_PORT", "1")
        .env("WORKERS", "1")
        .env("MAX_IN_FLIGHT", "2")
        .env("REQUEST_TIMEOUT_MS", "5000")
        .start();
    let addr = hash.addr();
    let waiting: Vec<_> = (0..2)
        .map(|_| thread::spawn(move || http::get(addr, "/").unwrap()))
        .collect();
    thread::sleep(Duration::from_millis(500));
    let refused = http::get(addr, "/").unwrap();
    assert!(waiting.iter().all(|one| !one.is_finished()));
    is_problem(&refused, 503, "too many requests");
    assert!(refused.header("retry-after").is_some());
    for one in waiting {
        is_problem(&one.join().unwrap(), 503, "at the moment");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_they_carry() {
    let service = memory();
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let mut number = 0;
    for request in [
        GET.to_owned(),
        format!("\r\n\r\n{GET}"),
        format!("{post}Content-Length: 0\r\n\r\n"),
        // Longer than what is read at once, and looking like requests.
        format!(
            "{post}Content-Length: 30000\r\n\r\n{}",
            &GET.repeat(2000)[..30_000]
        ),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n3\r\n\n\n\n\r\n0\r\nA: b\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(service.addr()).unwrap();
        connection.send(request.repeat(40)).unwrap();
        for _ in 0..40 {
            number += 1;
            let answer = connection.receive().unwrap();
            assert_eq!(answer.json()["data"]["number"], number);
        }
    }
}
