//! A service as a process.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::Duration;

use e2e::port::Port;
use e2e::process::runs;
use e2e::{Service, Signal, http, run_to_end, wait};

use crate::LIMIT;

fn stand_in() -> Service {
    Service::builder("stand_in").start()
}

fn answer(service: &Service) -> String {
    http::get(service.addr(), "/").unwrap().text()
}

#[test]
fn a_service_is_found_at_the_addresses_that_it_logs() {
    let service = stand_in();
    let pid = service.pid().to_string();
    assert_eq!(answer(&service), pid);
    assert_eq!(http::get(service.admin_addr(), "/").unwrap().text(), pid);
    assert_ne!(service.addr(), service.admin_addr());
    assert_eq!(service.public_url(), format!("http://{}", service.addr()));
    assert!(service.admin_url().starts_with("http://127.0.0.1:"));
}

#[test]
fn both_logs_can_be_read_while_it_runs() {
    let service = Service::builder("stand_in").env("WORD", "xyzzy").start();
    answer(&service);
    let line = service.stdout().wait_for("GET /", LIMIT);
    assert_eq!(line, "GET / HTTP/1.1");
    assert!(service.stderr().contain("the word is xyzzy"));
    assert_eq!(service.stderr().json()[0]["message"], "listening");
}

#[test]
fn a_signal_ends_it_and_the_exit_status_tells() {
    let service = stand_in();
    assert!(service.alive());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(LIMIT).signal(), Some(15));
    assert!(!service.alive());
}

#[test]
fn a_stopped_service_answers_once_it_continues() {
    let service = stand_in();
    service.signal(Signal::STOP);
    let mut connection = http::Connection::open(service.addr()).unwrap();
    connection.set_timeout(Duration::from_millis(200)).unwrap();
    connection.send("GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = connection.receive().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    service.signal(Signal::CONT);
    connection.set_timeout(LIMIT).unwrap();
    assert_eq!(connection.receive().unwrap().status, 200);
}

#[test]
fn a_restarted_service_is_a_new_process_at_the_same_addresses() {
    let mut service = Service::builder("stand_in").env("WORD", "kept").start();
    let (addr, admin, pid) = (service.addr(), service.admin_addr(), service.pid());
    for _ in 0..3 {
        service.restart();
        assert_eq!((service.addr(), service.admin_addr()), (addr, admin));
        assert_ne!(service.pid(), pid);
        assert_eq!(answer(&service), service.pid().to_string());
        assert!(service.stderr().contain("the word is kept"));
    }
}

#[test]
fn while_it_is_down_its_port_refuses_and_is_nobody_elses() {
    let mut service = stand_in();
    service.kill9();
    let error = TcpStream::connect(service.addr()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let others: Vec<_> = (0..200).map(|_| Port::free()).collect();
    assert!(others.iter().all(|port| port.addr() != service.addr()));
    service.restart();
    assert_eq!(answer(&service), service.pid().to_string());
}

#[test]
fn its_work_and_its_memory_can_be_measured() {
    let service = stand_in();
    assert!(service.rss_bytes() > 100_000);
    let before = service.cpu_time();
    wait::until("requests to cost time", LIMIT, || {
        answer(&service);
        (service.cpu_time() > before).then_some(())
    });
}

#[test]
fn dropping_it_kills_it_even_when_it_is_stopped() {
    let service = stand_in();
    let pid = service.pid();
    service.signal(Signal::STOP);
    drop(service);
    assert!(!runs(pid));
}

#[test]
fn one_that_does_not_start_shows_its_log() {
    let start = || Service::builder("stand_in").arg("--fail").start();
    let panic = thread::spawn(start).join().unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("has ended"), "{message}");
    assert!(message.contains("PORT: expected a number"), "{message}");
}

#[test]
fn a_failed_start_can_be_looked_at() {
    let output = run_to_end("stand_in", &[("PORT", "x")], &["--fail"], LIMIT);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stderr, "PORT: expected a number\n");
    assert_eq!(output.stdout, "");
}

#[test]
fn it_outlives_the_thread_that_started_it() {
    let service = thread::spawn(stand_in).join().unwrap();
    // The kernel would kill it at once; a moment is enough to see it.
    thread::sleep(Duration::from_millis(200));
    assert!(service.alive());
}
