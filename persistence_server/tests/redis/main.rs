//! The Redis store, against real servers.

mod crashes;
mod durability;
mod encryption;
mod login;
mod promise;
mod refusals;
mod service;

use chassis::{
    BadSettings,
    settings::{Environment, Settings as _},
};
use e2e::{
    skip,
    store::{Redis, redis::Options},
};
use persistence_server::{
    Settings, StoreSettings,
    store::{Operations, redis::RedisStore},
};
use sequence::{Block, Count, Sequence, Store};

/// True when the test should return at once.
#[track_caller]
fn skipped() -> bool {
    skip::unless(Redis::available())
}

/// A server with the settings that keep the promise; none if the test should return at once.
#[track_caller]
fn start() -> Option<Redis> {
    (!skipped()).then(Redis::start)
}

/// The store at a port, with further variables.
fn try_server(port: u16, variables: &[(&str, &str)]) -> Result<RedisStore, String> {
    let port = port.to_string();
    let this = [("STORE", "redis"), ("REDIS_PORT", &*port)];
    let environment: Environment = this.iter().chain(variables).copied().collect();
    let settings = Settings::read(&environment).expect("good settings");
    let StoreSettings::Redis(redis) = &settings.store else {
        panic!("{settings:?}");
    };
    RedisStore::open(redis, &settings.sequence, Operations::default()).map_err(
        |BadSettings(bad)| {
            assert_eq!(bad.len(), 1, "{bad:?}");
            bad[0].to_string()
        },
    )
}

/// A server that does not know this command, as managed ones do not know some.
fn redis_without(command: &str) -> Redis {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let line = format!("rename-command {command} \"\"\n");
    std::fs::write(&file, line).expect("a file that can be written");
    let path = file.path().display().to_string();
    Redis::start_with(Options {
        settings: vec![("include", path)],
        ..Options::default()
    })
}

fn server(port: u16, variables: &[(&str, &str)]) -> RedisStore {
    try_server(port, variables).unwrap_or_else(|error| panic!("{error}"))
}

async fn reserve(sequence: &impl Sequence, count: u32) -> Result<Block, String> {
    let count = Count::new(count).expect("a valid count");
    sequence.reserve(count).await.map_err(|error| error.chain())
}

async fn first(sequence: &impl Sequence) -> u64 {
    match reserve(sequence, 1).await {
        Ok(block) => block.first(),
        Err(error) => panic!("{error}"),
    }
}

/// Why the store does not work: what readiness says, and nobody gets a number either.
async fn refusal(store: &impl Store) -> String {
    let reason = match store.check().await {
        Ok(_) => panic!("the check must fail"),
        Err(error) => error.chain(),
    };
    assert_eq!(reason.lines().count(), 1, "{reason:?}");
    let error = reserve(store, 1).await.expect_err("no number");
    assert_eq!(error, reason, "a request fails for the same reason");
    reason
}

async fn must_work(store: &impl Store) {
    if let Err(error) = store.check().await {
        panic!("{}", error.chain());
    }
    first(store).await;
}
