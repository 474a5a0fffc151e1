//! The life of a process: a late dependency, readiness, drain and stop.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    http::{self, Connection},
    launch::Launch,
    metrics::metric,
    port::Port,
    process::{Process, Signal},
    service::{Service, binary_path},
    soak::{figure, scaled},
    wait,
};
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::started::{
    SOON, file, hash, hello, in_front_of, is_ready, memory, not_ready_because, ready,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_process_without_its_dependency_waits_for_it_quietly() {
    let mut persistence = memory();
    persistence.kill9();
    let hash = in_front_of(&persistence).start();
    let reason = wait::until("a reason", SOON, || {
        not_ready_because(&hash).filter(|reason| reason.contains("refused"))
    });
    let port = persistence.addr().port();
    assert_eq!(
        reason,
        format!("persistence: persistence at 127.0.0.1:{port}: connection refused")
    );
    assert_eq!(http::get(hash.admin_addr(), "/livez").unwrap().status, 200);

    let (before, begin) = (hash.cpu_time(), Instant::now());
    thread::sleep(Duration::from_secs(4));
    let share = (hash.cpu_time() - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    let is_quiet = share < 0.05;
    let share = format!("{:.2} %", share * 100.0);
    figure(format_args!(
        "waiting for a dependency takes {share} of a CPU"
    ));
    assert!(is_quiet, "waiting takes {share} of a CPU");
    let complaints = |line: &String| line.contains("dependency is down");
    assert_eq!(
        hash.stderr()
            .all()
            .iter()
            .filter(|line| complaints(line))
            .count(),
        1,
        "one line"
    );

    persistence.restart();
    let back = Instant::now();
    wait::until("readiness", SOON, || is_ready(&hash).then_some(()));
    assert_eq!(http::get(hash.addr(), "/").unwrap().status, 200);
    let late = back.elapsed();
    figure(format_args!(
        "a dependency that arrives is used after {late:.1?}"
    ));
}

#[test]
fn requests_ride_through_the_restart_of_what_they_need() {
    let (mut persistence, _dir) = file();
    let hash = hash(&persistence);
    persistence.kill9();
    let addr = hash.addr();
    let waiting: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || http::get(addr, "/").unwrap().status))
        .collect();
    thread::sleep(Duration::from_millis(500));
    persistence.restart();
    for request in waiting {
        assert_eq!(request.join().unwrap(), 200);
    }
}

#[test]
fn readiness_follows_the_dependency_and_liveness_does_not() {
    let (mut persistence, _dir) = file();
    let hash = hash(&persistence);
    persistence.kill9();
    wait::until("503", SOON, || (!is_ready(&hash)).then_some(()));
    assert_eq!(http::get(hash.admin_addr(), "/livez").unwrap().status, 200);
    persistence.restart();
    wait::until("200", SOON, || is_ready(&hash).then_some(()));
}

#[test]
fn a_paused_dependency_is_noticed_and_requests_are_answered_at_their_deadline() {
    let persistence = memory();
    let hash = in_front_of(&persistence)
        .env("REQUEST_TIMEOUT_MS", "3000")
        .start();
    wait::until("readiness", SOON, || is_ready(&hash).then_some(()));
    persistence.signal(Signal::STOP);
    let begin = Instant::now();
    let answer = http::get(hash.addr(), "/").unwrap();
    assert_eq!(answer.status, 504, "{}", answer.text());
    let took = begin.elapsed().as_secs_f64();
    assert!(
        (3.0..9.0).contains(&took),
        "{took} s, not the default of 10"
    );
    wait::until("503", SOON, || (!is_ready(&hash)).then_some(()));
    persistence.signal(Signal::CONT);
    wait::until("200", SOON, || is_ready(&hash).then_some(()));
    assert_eq!(http::get(hash.addr(), "/").unwrap().status, 200);
}

#[test]
fn a_draining_service_keeps_serving_and_closes_connections() {
    let service = Service::builder("hello_server")
        .env("DRAIN_SECONDS", "2")
        .start();
    wait::until("readiness", SOON, || is_ready(&service).then_some(()));
    let mut kept = Connection::open(service.addr()).unwrap();
    kept.send(GET).unwrap();
    assert_eq!(kept.receive().unwrap().header("connection"), None);

    service.signal(Signal::TERM);
    let reason = wait::until("the drain", SOON, || not_ready_because(&service));
    assert!(reason.contains("told to stop"), "{reason}");
    kept.send(GET).unwrap();
    let answer = kept.receive().unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(
        http::get(service.addr(), "/").unwrap().status,
        200,
        "new connections are served"
    );
    assert!(service.wait(SOON).success());
}

#[test]
fn requests_in_flight_are_finished_at_a_stop() {
    let (mut persistence, _dir) = file();
    let hash = hash(&persistence);
    persistence.kill9();
    let addr = hash.addr();
    let waiting = thread::spawn(move || http::get(addr, "/").unwrap().status);
    thread::sleep(Duration::from_millis(300));
    hash.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    assert!(http::get(addr, "/").is_err(), "it does not listen any more");
    persistence.restart();
    assert_eq!(waiting.join().unwrap(), 200);
    assert!(hash.wait(SOON).success());
}

#[test]
fn a_stop_loses_no_request_on_a_connection_that_was_kept() {
    // A request every 8 ms on each connection, until an answer says that it ends.
    let client = |addr| {
        let mut connection = Connection::open(addr).unwrap();
        loop {
            thread::sleep(Duration::from_millis(8));
            if connection.is_closed() || connection.send(GET).is_err() {
                return 0;
            }
            match connection.receive() {
                Ok(answer) if answer.header("connection") == Some("close") => return 0,
                Ok(_) => {}
                Err(_) => return 1,
            }
        }
    };
    assert_no_loss(32, client);
}

#[test]
fn a_stop_loses_no_request_on_a_connection_that_was_accepted() {
    // A connection for each request, until they are refused.
    let client = |addr| {
        while let Ok(mut connection) = Connection::open(addr) {
            if connection.send(GET).and(connection.receive()).is_err() {
                return 1;
            }
        }
        0
    };
    assert_no_loss(8, client);
}

/// Stops services under load, each while so many clients send requests. A client says how many of
/// its own were sent and not answered.
#[track_caller]
fn assert_no_loss(clients: usize, client: impl Fn(SocketAddr) -> usize + Sync) {
    let lost_at_a_stop = || {
        let service = hello();
        let lost = thread::scope(|scope| {
            let start = |_| scope.spawn(|| client(service.addr()));
            let clients: Vec<_> = (0..clients).map(start).collect();
            thread::sleep(Duration::from_millis(300));
            service.signal(Signal::TERM);
            let lost = clients.into_iter().map(|client| client.join().unwrap());
            lost.sum::<usize>()
        });
        assert!(service.wait(SOON).success());
        lost
    };
    let lost: Vec<_> = (0..scaled(40, 5)).map(|_| lost_at_a_stop()).collect();
    figure(format_args!("requests lost at stops: {lost:?}"));
    assert_eq!(lost.iter().sum::<usize>(), 0, "lost at each stop: {lost:?}");
}

#[test]
fn idle_connections_do_not_hold_up_the_stop() {
    let service = Service::builder("hello_server").env("SHUTDOWN_TIMEOUT_SECONDS", "60");
    let service = ready(service.env("REQUEST_TIMEOUT_MS", "60000"));
    // Some of these send before the service looks at them.
    let _idle = [(); 20].map(|()| {
        let mut idle = Connection::open(service.addr()).unwrap();
        idle.send(GET).unwrap();
        idle.receive().unwrap();
        idle
    });
    let _silent = Connection::open(service.addr()).unwrap();
    let mut unfinished = Connection::open(service.addr()).unwrap();
    unfinished.send("GET / HTTP/1.1\r\n").unwrap();
    let begin = Instant::now();
    service.signal(Signal::TERM);
    assert!(service.wait(Duration::from_secs(90)).success());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: as if in flight");
}

#[test]
fn both_signals_stop_every_service_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (persistence, _dir) = file();
        for service in [hash(&persistence), hello(), persistence] {
            service.signal(signal);
            assert!(service.wait(SOON).success(), "{signal:?}");
            service.stderr().wait_for("stopped", SOON);
        }
    }
}

#[test]
fn a_second_signal_means_at_once() {
    // SIGTERM may be a repetition for a second.
    let repeated = Duration::from_secs(1);
    for (first, pause, second) in [
        (Signal::TERM, repeated, Signal::TERM),
        (Signal::TERM, Duration::ZERO, Signal::INT),
        (Signal::INT, Duration::ZERO, Signal::INT),
    ] {
        let service = Service::builder("hello_server")
            .env("DRAIN_SECONDS", "600")
            .start();
        service.signal(first);
        service.stderr().wait_for("stopping", SOON);
        thread::sleep(pause);
        service.signal(second);
        assert_eq!(service.wait(SOON).code(), Some(1), "{first:?}, {second:?}");
        assert!(service.stderr().contain("second signal"));
    }
}

#[test]
fn a_second_sigterm_within_a_second_is_the_same_request() {
    let stops_as_asked = || {
        let service = Service::builder("hello_server")
            .env("DRAIN_SECONDS", "2")
            .start();
        let first = Instant::now();
        service.signal(Signal::TERM);
        service.stderr().wait_for("stopping", SOON);
        service.signal(Signal::TERM);
        let within = first.elapsed() < Duration::from_millis(500);
        // On a machine that is too busy for that the two were two requests.
        let ended = service.wait(SOON);
        within.then(|| assert!(ended.success(), "{ended}"))
    };
    wait::until("two signals within a second", 6 * SOON, stops_as_asked);
}

#[test]
fn the_log_begins_with_what_runs_and_where() {
    let (persistence, dir) = file();
    let log = persistence.stderr().json();
    let line = log.iter().find(|line| line["message"] == "listening");
    let line = line.expect("it listens");
    assert_eq!(line["name"], "persistence_server");
    assert!(line["version"].is_string());
    assert!(line["workers"].as_u64().unwrap() > 0);
    assert_eq!(line["public"], persistence.addr().to_string());
    assert_eq!(line["admin"], persistence.admin_addr().to_string());
    let store = format!("file store in {}", dir.path().display());
    assert_eq!(line["backend"], store);
}

#[test]
fn a_reader_of_the_log_that_stalls_stops_neither_requests_nor_the_end() {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
        }
    }

    let mut command = Command::new(binary_path("hello_server"));
    command
        .env_clear()
        .envs([("PORT", "0"), ("ADMIN_PORT", "0"), ("LOG_FORMAT", "json")])
        .envs([
            ("RUST_LOG", "trace,actix_http=trace"),
            ("ACCESS_LOG", "off"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut service = Killed(command.spawn().unwrap());
    // It is read up to this line, and then no more.
    let mut log = BufReader::new(service.0.stderr.take().unwrap()).lines();
    let start = log.find_map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        (line["message"] == "listening").then_some(line)
    });
    let start = start.expect("it listens");
    let addr = |port: &str| -> SocketAddr { start[port].as_str().unwrap().parse().unwrap() };

    let mut connection = Connection::open(addr("public")).unwrap();
    let dropped = wait::until("dropped lines", 6 * SOON, || {
        for _ in 0..200 {
            connection.send(GET).unwrap();
            assert_eq!(connection.receive().unwrap().status, 200);
        }
        Some(metric(addr("admin"), "log_dropped_lines_total")).filter(|&dropped| dropped > 0)
    });
    figure(format_args!("{dropped} lines of the log were dropped"));
    kill_process(Pid::from_child(&service.0), Signal::TERM).unwrap();
    let ended = wait::until("the end", SOON, || service.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    let stdout = std::io::read_to_string(service.0.stdout.take().unwrap());
    assert_eq!(stdout.unwrap(), "", "the access log is off");
}

#[test]
fn the_access_log_names_the_instance_and_is_complete_after_a_stop() {
    let service = hello();
    for _ in 0..50 {
        http::get(service.addr(), "/?q=%22").unwrap();
    }
    service.signal(Signal::TERM);
    service.wait(SOON);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let lines = wait::until("the log", SOON, || {
        let lines = service.stdout().json();
        (lines.len() >= 50).then_some(lines)
    });
    assert_eq!(lines.len(), 50);
    for line in lines {
        assert_eq!(line["instance"], host.trim());
        assert_eq!(
            (&line["method"], &line["path"]),
            (&"GET".into(), &"/?q=%22".into())
        );
        assert_eq!(line["status"], 200);
    }
}

#[test]
fn the_access_log_can_be_turned_off_and_be_text() {
    let quiet = ready(Service::builder("hello_server").env("ACCESS_LOG", "off"));
    let port = Port::free();
    let text = Launch::new(binary_path("hello_server"))
        .env("PORT", port.number().to_string())
        .env("ADMIN_PORT", "0")
        .env("LOG_FORMAT", "text");
    let text = Process::start(&text);
    wait::until("an answer", SOON, || http::get(port.addr(), "/?x").ok());
    let line = text.stdout().wait_for(" 200 GET /?x ", SOON);
    assert!(line.contains(" hello_server@") && line.contains(" from 127.0.0.1:"));
    http::get(quiet.addr(), "/").unwrap();
    assert!(quiet.stdout().is_empty());
}
