//! The store in etcd, on real servers.

mod cluster;
mod contract;
mod crashes;
mod losses;
mod refusals;
mod server;
mod service;

use std::time::Duration;

use chassis::{BadSettings, settings::Environment};
use e2e::{load::Load, store::etcd};
use persistence_server::{
    EtcdSettings, SequenceName,
    store::{Operations, etcd::EtcdStore},
};
use sequence::{Block, Count, Sequence as _, Store as _};
use tokio::time::timeout;

/// What the coalescer allows for one call.
const ATTEMPT: Duration = Duration::from_secs(2);

/// True where etcd is not installed.
fn missing() -> bool {
    e2e::skip::unless(etcd::Etcd::available())
}

/// One member; none if the test should return at once.
#[track_caller]
fn start() -> Option<etcd::Etcd> {
    (!missing()).then(etcd::Etcd::start)
}

fn settings(endpoints: &str) -> EtcdSettings {
    let environment: Environment = [("ETCD_ENDPOINTS", endpoints)].into_iter().collect();
    environment.read().expect("good settings")
}

/// The sequence `numbers`.
fn store(settings: EtcdSettings) -> EtcdStore {
    store_named("numbers", settings)
}

fn store_named(name: &str, settings: EtcdSettings) -> EtcdStore {
    try_store(name, &settings).expect("settings that go together")
}

fn try_store(name: &str, settings: &EtcdSettings) -> Result<EtcdStore, BadSettings> {
    let name = SequenceName::try_from(name.to_owned()).expect("a good name");
    EtcdStore::open(settings, &name, Operations::default())
}

/// Threads that reserve without pause from the sequence `numbers`.
fn load(threads: u32, server: &etcd::Etcd) -> Load {
    let store = store(settings(&server.endpoints()));
    Load::start(threads, move || store.clone())
}

fn count(n: u32) -> Count {
    Count::new(n).expect("a count in range")
}

/// Reserves as the coalescer does; the error is what people read.
async fn reserve(handle: &EtcdStore, n: u32) -> Result<Block, String> {
    match timeout(ATTEMPT, handle.reserve(count(n))).await {
        Ok(Ok(block)) => Ok(block),
        Ok(Err(error)) => Err(error.chain()),
        Err(_) => Err("abandoned".to_owned()),
    }
}

/// Checks as the readiness does; the error is what people read.
async fn check(handle: &EtcdStore) -> Result<(), String> {
    match timeout(ATTEMPT, handle.check()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.chain()),
        Err(_) => Err("abandoned".to_owned()),
    }
}
