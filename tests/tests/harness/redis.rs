//! Redis as a process.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use e2e::process::runs;
use e2e::store::Redis;
use e2e::store::redis::Options;
use e2e::tls::Tls;
use e2e::{Signal, skip, wait};

use crate::LIMIT;

/// Sends `PING` and reads what comes within `limit`.
fn ping(stream: &mut TcpStream, limit: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 100];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[test]
fn redis_keeps_its_data_when_it_is_killed_and_started_again() {
    if skip::unless(Redis::available()) {
        return;
    }
    let mut redis = Redis::start();
    let (addr, pid) = (redis.addr(), redis.process().pid());
    assert_eq!(redis.cli(&["INCRBY", "n", "7"]), "7");
    redis.kill9();
    assert!(!runs(pid));
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    redis.restart();
    assert_eq!(redis.addr(), addr);
    assert_eq!(redis.cli(&["INCRBY", "n", "1"]), "8");
    redis.stop();
    redis.restart();
    assert_eq!(redis.cli(&["GET", "n"]), "8");
}

#[test]
fn redis_without_its_log_forgets() {
    if skip::unless(Redis::available()) {
        return;
    }
    let mut redis = Redis::start_with(Options {
        appendonly: false,
        ..Options::default()
    });
    redis.cli(&["SET", "n", "7"]);
    redis.restart();
    assert_eq!(redis.cli(&["GET", "n"]), "");
}

#[test]
fn a_paused_redis_is_silent_and_goes_on_later() {
    if skip::unless(Redis::available()) {
        return;
    }
    let redis = Redis::start();
    let mut client = TcpStream::connect(redis.addr()).unwrap();
    assert_eq!(ping(&mut client, LIMIT).unwrap(), "+PONG\r\n");
    redis.pause();
    let error = ping(&mut client, Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    redis.resume();
    assert!(ping(&mut client, LIMIT).unwrap().starts_with("+PONG\r\n"));
}

#[test]
fn a_replica_follows_and_can_be_promoted() {
    if skip::unless(Redis::available()) {
        return;
    }
    let password = Some("secret".to_owned());
    let primary = Redis::start_with(Options {
        password: password.clone(),
        ..Options::default()
    });
    primary.cli(&["SET", "n", "1"]);
    let mut replica = Redis::start_with(Options {
        replica_of: Some(primary.addr()),
        password,
        ..Options::default()
    });
    assert_eq!(replica.cli(&["GET", "n"]), "1");
    let error = replica.try_cli(&["SET", "n", "2"]).unwrap_err();
    assert!(error.contains("READONLY"), "{error}");
    primary.cli(&["SET", "n", "3"]);
    wait::until("the replica to follow", LIMIT, || {
        (replica.cli(&["GET", "n"]) == "3").then_some(())
    });
    primary.kill9();
    replica.promote();
    assert_eq!(replica.cli(&["INCR", "n"]), "4");
    replica.restart();
    assert_eq!(replica.cli(&["INCR", "n"]), "5");
}

#[test]
fn redis_with_a_password_wants_it() {
    if skip::unless(Redis::available()) {
        return;
    }
    let redis = Redis::start_with(Options {
        password: Some("secret".to_owned()),
        ..Options::default()
    });
    let mut stranger = TcpStream::connect(redis.addr()).unwrap();
    assert!(ping(&mut stranger, LIMIT).unwrap().starts_with("-NOAUTH"));
    assert_eq!(redis.cli(&["PING"]), "PONG");
}

#[test]
fn redis_with_certificates_speaks_nothing_but_tls_and_so_do_its_replicas() {
    if skip::unless(Redis::available()) {
        return;
    }
    let tls = Some(Tls::new());
    let primary = Redis::start_with(Options {
        tls: tls.clone(),
        ..Options::default()
    });
    primary.cli(&["SET", "n", "1"]);
    let mut plain = TcpStream::connect(primary.addr()).unwrap();
    let answer = ping(&mut plain, LIMIT).unwrap_or_default();
    assert!(!answer.contains("PONG"));
    let replica = Redis::start_with(Options {
        tls,
        replica_of: Some(primary.addr()),
        ..Options::default()
    });
    assert_eq!(replica.cli(&["GET", "n"]), "1");
}

#[test]
fn settings_of_the_tests_own_reach_redis() {
    if skip::unless(Redis::available()) {
        return;
    }
    let redis = Redis::start_with(Options {
        appendfsync: "everysec",
        settings: vec![("min-replicas-to-write", "1".to_owned())],
        ..Options::default()
    });
    let setting = redis.cli(&["CONFIG", "GET", "appendfsync"]);
    assert!(setting.contains("everysec"), "{setting}");
    let error = redis.try_cli(&["SET", "n", "1"]).unwrap_err();
    assert!(error.contains("NOREPLICAS"), "{error}");
}

#[test]
fn a_signal_reaches_the_server_itself() {
    if skip::unless(Redis::available()) {
        return;
    }
    let redis = Redis::start();
    let info = redis.cli(&["INFO", "server"]);
    let mut lines = info.lines();
    let pid = lines.find_map(|line| line.strip_prefix("process_id:"));
    assert_eq!(pid.unwrap().trim(), redis.process().pid().to_string());
    redis.process().signal(Signal::TERM);
    assert!(redis.process().wait(LIMIT).success());
}
