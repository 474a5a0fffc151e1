//! A secret stays one, whatever a service prints or answers.

use e2e::{
    http,
    port::Port,
    service::{Builder, Service, run_to_end},
    skip,
    store::{Etcd, Postgres, Redis, etcd, postgres, redis},
    wait,
};

use crate::started::{SOON, in_front_of};

const SECRET: &str = "swordfish";

/// Each store's password, with what else is needed for it to be read.
const PASSWORDS: [(&str, [(&str, &str); 2]); 3] = [
    (
        "redis",
        [("REDIS_USERNAME", "default"), ("REDIS_PASSWORD", SECRET)],
    ),
    ("postgres", [("PGUSER", "postgres"), ("PGPASSWORD", SECRET)]),
    (
        "etcd",
        [("ETCD_USERNAME", "root"), ("ETCD_PASSWORD", SECRET)],
    ),
];

fn with_secret(store: &str, port: u16) -> Builder {
    let (_, login) = PASSWORDS
        .into_iter()
        .find(|(name, _)| *name == store)
        .unwrap();
    let mut service = Service::builder("persistence_server")
        .env("STORE", store)
        .env("RUST_LOG", "trace")
        .env("REQUEST_TIMEOUT_MS", "3000")
        .env("REDIS_PORT", port.to_string())
        .env("PGPORT", port.to_string())
        .env("ETCD_ENDPOINTS", format!("http://127.0.0.1:{port}"));
    for (name, value) in login {
        service = service.env(name, value);
    }
    service
}

#[track_caller]
fn keeps_it(service: Builder, store_accepts_it: bool) {
    let persistence = service.start();
    let hash = in_front_of(&persistence)
        .env("RUST_LOG", "trace")
        .env("REQUEST_TIMEOUT_MS", "3000")
        .start();
    let mut said = String::new();
    wait::until("the service to know its store", SOON, || {
        let ready = http::get(persistence.admin_addr(), "/readyz").unwrap();
        let is_checked = !ready.text().contains("has not been checked yet");
        let known = (ready.status == 200) == store_accepts_it && is_checked;
        said += &ready.text();
        known.then_some(())
    });
    for service in [&persistence, &hash] {
        for path in ["/livez", "/readyz", "/metrics"] {
            said += &http::get(service.admin_addr(), path).unwrap().text();
        }
        let answer = http::get(service.addr(), "/").unwrap();
        assert_eq!(answer.status == 200, store_accepts_it, "{}", answer.text());
        said += &answer.text();
        for lines in [service.stdout(), service.stderr()] {
            said += &lines.all().join("\n");
        }
    }
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn no_secret_is_printed_or_answered_by_what_runs_without_its_store() {
    for (store, _) in PASSWORDS {
        keeps_it(with_secret(store, Port::free().addr().port()), false);
    }
}

#[test]
fn no_secret_is_printed_or_answered_by_what_logs_in_to_redis() {
    if skip::unless(Redis::available()) {
        return;
    }
    for (password, accepted) in [(SECRET, true), ("another", false)] {
        let password = Some(password.to_owned());
        let server = Redis::start_with(redis::Options {
            password,
            ..redis::Options::default()
        });
        keeps_it(with_secret("redis", server.port()), accepted);
    }
}

#[test]
fn no_secret_is_printed_or_answered_by_what_logs_in_to_postgres() {
    if skip::unless(Postgres::available()) {
        return;
    }
    for (password, accepted) in [(SECRET, true), ("another", false)] {
        let password = Some(password.to_owned());
        let server = Postgres::start_with(postgres::Options {
            password,
            ..postgres::Options::default()
        });
        keeps_it(with_secret("postgres", server.port()), accepted);
    }
}

#[test]
fn no_secret_is_printed_or_answered_by_what_logs_in_to_etcd() {
    if skip::unless(Etcd::available()) {
        return;
    }
    for (password, accepted) in [(SECRET, true), ("another", false)] {
        let server = Etcd::start_with(etcd::Options {
            root_password: Some(password.to_owned()),
            ..etcd::Options::default()
        });
        keeps_it(with_secret("etcd", server.addrs()[0].port()), accepted);
    }
}

#[test]
fn no_secret_is_printed_by_a_start_that_fails_or_by_help() {
    let url = format!("http://{SECRET}:{SECRET}@host:1/{SECRET}");
    for ((store, login), host) in PASSWORDS
        .iter()
        .zip(["REDIS_HOST", "PGHOST", "ETCD_ENDPOINTS"])
    {
        let both = format!("{}_FILE", login[1].0);
        for wrong in [("PORT", "x"), (host, &*url), (&*both, "/nowhere")] {
            let settings = [&login[..], &[("STORE", store), wrong]].concat();
            for (args, succeeds) in [(&[][..], false), (&["--help"], true)] {
                let output = run_to_end("persistence_server", &settings, args, SOON);
                assert_eq!(output.status.success(), succeeds, "{wrong:?}");
                let said = output.stdout + &output.stderr;
                assert!(!said.contains(SECRET), "{said}");
            }
        }
    }
}
