//! Services that are started and ready.

use std::time::Duration;

use e2e::{
    http,
    service::{Builder, Service},
    wait,
};
use tempfile::TempDir;

/// How long a service may take to become ready. It is far more than it needs.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn hello() -> Service {
    ready(Service::builder("hello_server"))
}

/// A persistence server that keeps its numbers in memory.
pub(crate) fn memory() -> Service {
    ready(Service::builder("persistence_server").env("STORE", "memory"))
}

/// A persistence server that keeps its numbers in a directory, which must outlive it.
pub(crate) fn file() -> (Service, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    (ready(on_file(&dir)), dir)
}

pub(crate) fn on_file(dir: &TempDir) -> Builder {
    Service::builder("persistence_server").env("DATA_DIR", dir.path())
}

/// A hash server in front of a persistence server.
pub(crate) fn hash(persistence: &Service) -> Service {
    ready(in_front_of(persistence))
}

pub(crate) fn in_front_of(persistence: &Service) -> Builder {
    let port = persistence.addr().port().to_string();
    Service::builder("hash_server").env("PERSISTENCE_PORT", port)
}

#[track_caller]
pub(crate) fn ready(builder: Builder) -> Service {
    let service = builder.start();
    wait::until("a service to become ready", SOON, || {
        is_ready(&service).then_some(())
    });
    service
}

pub(crate) fn is_ready(service: &Service) -> bool {
    http::get(service.admin_addr(), "/readyz").is_ok_and(|answer| answer.status == 200)
}

/// The reason that a service gives for not being ready; none if it is.
pub(crate) fn not_ready_because(service: &Service) -> Option<String> {
    let answer = http::get(service.admin_addr(), "/readyz").ok()?;
    let reason = answer.json()["reason"].as_str().map(str::to_owned);
    if answer.status == 503 { reason } else { None }
}
