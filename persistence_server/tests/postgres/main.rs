//! The Postgres store keeps its promise on a real server, and says why where it cannot.

mod connections;
mod crash;
mod login;
mod losses;
mod pooler;
mod promise;
mod refusals;
mod standby;
mod tls;

use std::time::Duration;

use chassis::{
    BadSettings,
    settings::{Environment, Settings as _},
};
use e2e::{skip, store::Postgres};
use persistence_server::{
    Settings, StoreSettings,
    store::{Operations, postgres::PostgresStore},
};
use sequence::{Block, Count, Error, Sequence as _, Store as _};
use tokio::time::timeout;

/// As long as the coalescer waits for one attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// True when the test should return at once: no server is installed.
#[track_caller]
fn skipped() -> bool {
    skip::unless(Postgres::available())
}

/// A server; none if the test should return at once.
#[track_caller]
fn start() -> Option<Postgres> {
    (!skipped()).then(Postgres::start)
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    let environment: Environment = variables
        .iter()
        .chain(&[("STORE", "postgres")])
        .copied()
        .collect();
    Settings::read(&environment).expect("good settings")
}

fn try_open(variables: &[(&str, &str)]) -> Result<PostgresStore, BadSettings> {
    let settings = settings(variables);
    let StoreSettings::Postgres(postgres) = &settings.store else {
        panic!("{settings:?}");
    };
    PostgresStore::open(postgres, &settings.sequence, Operations::default())
}

/// The store on a port of 127.0.0.1, with further variables.
fn store_on(port: u16, variables: &[(&str, &str)]) -> PostgresStore {
    let port = port.to_string();
    let mut all = vec![("PGPORT", &*port)];
    all.extend(variables);
    try_open(&all).expect("settings that go together")
}

fn store(server: &Postgres) -> PostgresStore {
    store_on(server.port(), &[])
}

/// The store as a user who owns a database of the same name.
fn store_as(server: &Postgres, user: &str) -> PostgresStore {
    store_on(server.port(), &[("PGUSER", user)])
}

fn count(count: u32) -> Count {
    Count::new(count).expect("a valid count")
}

async fn reserve(sequence: &PostgresStore, size: u32) -> Block {
    match attempt(sequence, size).await {
        Ok(block) => block,
        Err(error) => panic!("a reservation failed: {}", error.chain()),
    }
}

/// One reservation as the coalescer makes it.
async fn attempt(sequence: &PostgresStore, size: u32) -> Result<Block, Error> {
    let reserved = timeout(ATTEMPT, sequence.reserve(count(size))).await;
    reserved.unwrap_or(Err(Error::TimedOut))
}

/// What readiness and the log say of a store that must not work, which are the same words.
async fn refusal(store: &PostgresStore) -> String {
    let handle = store.clone();
    let checked = timeout(ATTEMPT, handle.check()).await.expect("in time");
    let checked = checked.expect_err("the check must fail").chain();
    let reserved = attempt(&handle, 1).await.expect_err("no number").chain();
    assert_eq!(checked, reserved);
    let raised = handle.raise_above(5).await.expect_err("no change").chain();
    assert_eq!(checked, raised);
    checked
}
