//! The store in etcd, on real servers.

mod cluster;
mod contract;
mod crashes;
mod history;
mod refusals;
mod server;
mod service;

use std::time::Duration;

use e2e::store::etcd;
use persistence_server::store::{
    Operations,
    etcd::{Endpoints, Etcd, EtcdSequence, Options},
};
use sequence::{Block, Count, Sequence as _, Store as _};
use tokio::time::timeout;

/// What the coalescer allows for one call.
const ATTEMPT: Duration = Duration::from_secs(2);

/// True where etcd is not installed.
fn missing() -> bool {
    e2e::skip::unless(etcd::Etcd::available())
}

fn options(endpoints: &str) -> Options {
    Options {
        endpoints: Endpoints::try_from(endpoints.to_owned()).expect("good URLs"),
        username: None,
        password: None,
        ca_file: None,
    }
}

/// The sequence `numbers`.
fn store(options: Options) -> Etcd {
    store_named("numbers", options)
}

fn store_named(name: &str, options: Options) -> Etcd {
    Etcd::new(name, options, Operations::default()).expect("good options")
}

fn count(n: u32) -> Count {
    Count::new(n).expect("a count in range")
}

/// Reserves as the coalescer does; the error is what people read.
async fn reserve(handle: &EtcdSequence, n: u32) -> Result<Block, String> {
    match timeout(ATTEMPT, handle.reserve(count(n))).await {
        Ok(Ok(block)) => Ok(block),
        Ok(Err(error)) => Err(error.chain()),
        Err(_) => Err("abandoned".to_owned()),
    }
}

/// Checks as the readiness does; the error is what people read.
async fn check(handle: &EtcdSequence) -> Result<(), String> {
    match timeout(ATTEMPT, handle.check()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.chain()),
        Err(_) => Err("abandoned".to_owned()),
    }
}
