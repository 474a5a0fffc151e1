//! Postgres as a process.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use e2e::store::Postgres;
use e2e::store::postgres::{Options, SUPERUSER};
use e2e::tls::Tls;
use e2e::{skip, wait};

use crate::LIMIT;

#[test]
fn postgres_keeps_its_data_when_it_crashes_and_starts_again() {
    if skip::unless(Postgres::available()) {
        return;
    }
    let mut postgres = Postgres::start();
    let addr = postgres.addr();
    assert_eq!(postgres.sql("SHOW fsync"), "on");
    postgres.sql("CREATE TABLE t AS SELECT 7 AS n");
    thread::scope(|scope| {
        // Somebody is in the middle of something: that backend must go too.
        let sleeper = scope.spawn(|| postgres.try_sql("SELECT pg_sleep(60)"));
        let at_work = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait::until("somebody to be at work", LIMIT, || {
            (postgres.sql(at_work) == "1").then_some(())
        });
        postgres.kill9();
        assert!(sleeper.join().unwrap().is_err());
    });
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    postgres.restart();
    assert_eq!(postgres.addr(), addr);
    assert_eq!(postgres.sql("UPDATE t SET n = n + 1 RETURNING n"), "8");
    postgres.stop();
    postgres.restart();
    assert_eq!(postgres.sql("SELECT n FROM t"), "8");
}

#[test]
fn a_paused_postgres_is_silent_and_goes_on_later() {
    if skip::unless(Postgres::available()) {
        return;
    }
    let postgres = Postgres::start();
    postgres.pause();
    thread::scope(|scope| {
        let query = scope.spawn(|| postgres.sql("SELECT 42"));
        thread::sleep(Duration::from_millis(300));
        assert!(!query.is_finished());
        postgres.resume();
        assert_eq!(query.join().unwrap(), "42");
    });
}

#[test]
fn postgres_with_a_password_wants_it() {
    if skip::unless(Postgres::available()) {
        return;
    }
    let postgres = Postgres::start_with(Options {
        password: Some("secret".to_owned()),
        ..Options::default()
    });
    let wrong = postgres.try_sql_as(SUPERUSER, Some("wrong"), "SELECT 1");
    let error = wrong.unwrap_err();
    assert!(error.contains("authentication failed"), "{error}");
    let none = postgres.try_sql_as(SUPERUSER, None, "SELECT 1");
    assert!(none.is_err());

    postgres.create_user_and_database("app", "it's");
    let user = postgres.try_sql_as("app", Some("it's"), "SELECT current_user");
    assert_eq!(user.unwrap(), "app");
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'";
    assert_eq!(postgres.sql(owner), "app");
    let stored = "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'app'";
    assert_eq!(postgres.sql(stored), "t");
}

#[test]
fn postgres_with_certificates_wants_tls_and_proves_who_it_is() {
    if skip::unless(Postgres::available()) {
        return;
    }
    let postgres = Postgres::start_with(Options {
        tls: Some(Tls::new()),
        ..Options::default()
    });
    // The harness's own psql checks the certificate against the authority and the address.
    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(postgres.sql(ssl), "t");
    let rules = postgres.sql("SELECT DISTINCT type FROM pg_hba_file_rules");
    assert_eq!(rules, "hostssl");
}

#[test]
fn settings_of_the_tests_own_reach_postgres() {
    if skip::unless(Postgres::available()) {
        return;
    }
    let postgres = Postgres::start_with(Options {
        fsync: false,
        settings: vec![("max_connections", "13".to_owned())],
        ..Options::default()
    });
    assert_eq!(postgres.sql("SHOW fsync"), "off");
    assert_eq!(postgres.sql("SHOW max_connections"), "13");
}
