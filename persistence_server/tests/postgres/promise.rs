//! What every store promises, on a server that works.

use std::{collections::BTreeSet, time::Duration};

use e2e::{Fault, Proxy};
use futures_util::future::join_all;
use sequence::{Error, MAX_NUMBER, Sequence as _, Store as _, contract};
use tokio::time::{sleep, timeout};

use super::*;

#[tokio::test]
async fn it_passes_the_contract() {
    let Some(server) = start() else { return };
    let store = store(&server);
    contract::check_new(async || store.clone()).await;
    contract::check_store(async || store.clone()).await;
}

#[tokio::test]
async fn it_passes_the_contract_whatever_the_defaults_of_the_role_are() {
    let Some(server) = start() else { return };
    server.create_user_and_database("careless", "");
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
        "client_min_messages = error",
        "search_path = \"$user\", public",
    ] {
        server.sql(&format!("ALTER ROLE careless SET {setting}"));
    }
    let store = store_as(&server, "careless");
    contract::check_new(async || store.clone()).await;
    contract::check_store(async || store.clone()).await;
}

#[tokio::test]
async fn two_sequences_in_one_database_do_not_disturb_each_other() {
    let Some(server) = start() else { return };
    let named = |name| store_on(server.port(), &[("SEQUENCE", name)]);
    let (one, two) = (named("one"), named("two"));
    for round in 1..=5 {
        assert_eq!(reserve(&one, 1).await.first(), round);
        assert_eq!(reserve(&two, 10).await.last(), 10 * round);
    }
    one.raise_above(MAX_NUMBER).await.unwrap();
    assert!(matches!(attempt(&one, 1).await, Err(Error::Exhausted)));
    assert_eq!(reserve(&two, 1).await.first(), 51);
}

#[tokio::test]
async fn handles_at_once_take_every_number_once_up_to_the_last() {
    let Some(server) = start() else { return };
    let store = store(&server);
    let first = MAX_NUMBER - 999;
    store.clone().raise_above(first - 1).await.unwrap();
    let taken = join_all((0..8).map(async |_| {
        let handle = store.clone();
        let mut mine = Vec::new();
        loop {
            match attempt(&handle, 3).await {
                Ok(block) => mine.extend(block.first()..=block.last()),
                Err(Error::Exhausted) => break,
                Err(error) => panic!("{}", error.chain()),
            }
        }
        // One number is left: 1000 is not a multiple of 3.
        mine.extend(attempt(&handle, 1).await.ok().map(|block| block.first()));
        mine
    }))
    .await;
    let all: Vec<u64> = taken.into_iter().flatten().collect();
    assert_eq!(all.len(), 1000);
    let distinct: BTreeSet<u64> = all.into_iter().collect();
    assert_eq!(distinct, (first..=MAX_NUMBER).collect());
    let value = server.sql("SELECT value FROM numbers");
    assert_eq!(value, MAX_NUMBER.to_string());
}

#[tokio::test]
async fn replicas_that_start_together_make_one_table() {
    let Some(server) = start() else { return };
    for round in 0..8 {
        let user = format!("replicas{round}");
        server.create_user_and_database(&user, "");
        let store = store_as(&server, &user);
        let replicas: Vec<_> = (0..8).map(|_| store.clone()).collect();
        let firsts = join_all(replicas.iter().map(async |replica| {
            if let Err(error) = replica.check().await {
                panic!("{}", error.chain());
            }
            reserve(replica, 1).await.first()
        }))
        .await;
        let firsts: BTreeSet<u64> = firsts.into_iter().collect();
        assert_eq!(firsts, (1..=8).collect());
    }
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let Some(server) = start() else { return };
    let proxy = Proxy::start(server.addr());
    proxy.set(Fault::Refuse);
    let store = store_on(proxy.port(), &[]);
    let reason = format!("postgres at 127.0.0.1:{}: connection refused", proxy.port());
    assert_eq!(refusal(&store).await, reason);

    let handle = store.clone();
    assert!(handle.check().await.is_err());
    proxy.set(Fault::Pass);
    handle.check().await.unwrap();
    assert_eq!(reserve(&handle, 1).await.first(), 1);
    assert_eq!(proxy.connections(), 1, "one connection for both");

    proxy.cut();
    assert_eq!(reserve(&handle, 1).await.first(), 2);
}

#[tokio::test]
async fn cancelled_calls_repeat_nothing_and_leave_no_session_behind() {
    let Some(server) = start() else { return };
    let proxy = Proxy::start(server.addr());
    let through_proxy = store_on(proxy.port(), &[]);
    let direct = store(&server);
    let mut last = 0;
    for round in 0..40 {
        let (delay, jitter) = (Duration::from_millis(2), Duration::from_millis(8));
        proxy.set(Fault::Latency { delay, jitter });
        let limit = Duration::from_millis(round);
        // Whether it got there or not, no caller may see these numbers later.
        if let Ok(Ok(block)) = timeout(limit, through_proxy.reserve(count(7))).await {
            assert!(block.first() > last);
            last = block.last();
        }
        proxy.set(Fault::Pass);
        for handle in [&direct, &through_proxy] {
            let block = reserve(handle, 7).await;
            assert!(block.first() > last, "{block:?} came after {last}");
            last = block.last();
        }
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(proxy.live_connections(), 1);
    let sessions = "SELECT count(*) FROM pg_stat_activity \
                    WHERE application_name = 'persistence_server'";
    assert_eq!(server.sql(sessions), "2");
}

#[tokio::test]
async fn a_row_that_another_transaction_holds_is_told_as_that_by_the_check_as_well() {
    let Some(server) = start() else { return };
    let proxy = Proxy::start(server.addr());
    let store = store_on(proxy.port(), &[]);
    let handle = store.clone();
    reserve(&handle, 1).await;
    let other = crash::OtherSession::begin(&server, "SELECT FROM numbers FOR UPDATE").await;

    // As the chassis allows it.
    let checked = timeout(Duration::from_millis(950), handle.check()).await;
    let reason = checked.expect("in time").unwrap_err().chain();
    for _ in 0..2 {
        let refused = attempt(&handle, 1).await.unwrap_err().chain();
        assert_eq!(refused, reason);
        assert!(
            refused.starts_with(&format!("postgres at 127.0.0.1:{}: ", proxy.port()))
                && refused.contains("another transaction holds the row"),
            "{refused}"
        );
    }
    assert_eq!(proxy.connections(), 1, "the connection is still good");
    drop(other);
    assert_eq!(reserve(&handle, 1).await.first(), 2);
    assert_eq!(handle.check().await.unwrap(), 2, "a check takes no number");
}
