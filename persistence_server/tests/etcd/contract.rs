//! What every store does, on etcd.

use std::{thread, time::Duration};

use e2e::{Fault, Proxy, load::Load};
use sequence::{Error, MAX_NUMBER, Sequence as _, Store as _, contract};
use tokio::time::timeout;

use super::{count, load, reserve, settings, start, store, store_named};

#[tokio::test]
async fn the_etcd_store_passes_the_contract() {
    let Some(server) = start() else { return };
    let store = store(settings(&server.endpoints()));
    contract::check_new(async || store.clone()).await;
    contract::check_store(async || store.clone()).await;
    assert_eq!(
        server.ctl(&["get", "sequence/numbers", "--print-value-only"]),
        MAX_NUMBER.to_string()
    );
}

#[tokio::test]
async fn replicas_that_share_nothing_but_the_key_pass_the_contract() {
    let Some(server) = start() else { return };
    let endpoints = server.endpoints();
    contract::check_new(async || store(settings(&endpoints))).await;
    contract::check_store(async || store(settings(&endpoints))).await;
}

#[tokio::test]
async fn two_sequences_in_one_cluster_do_not_disturb_each_other() {
    let Some(server) = start() else { return };
    let one = store_named("one", settings(&server.endpoints()));
    let two = store_named("one-more", settings(&server.endpoints()));
    for round in 0..5_u64 {
        assert_eq!(reserve(&one, 10).await.unwrap().first(), 10 * round + 1);
        assert_eq!(reserve(&two, 1).await.unwrap().first(), round + 1);
    }
}

#[test]
fn eight_handles_at_once_take_every_number_once_and_leave_no_gap() {
    let Some(server) = start() else { return };
    let load = load(8, &server);
    thread::sleep(Duration::from_secs(3));
    let history = load.finish();
    assert_eq!(history.failures, Vec::<String>::new());
    assert_eq!(history.assert_proven().skipped, 0);
    let fair = history.operations.len() / 8;
    assert!(history.fewest > fair / 10, "{} of {fair}", history.fewest);
}

#[test]
fn three_replicas_at_once_take_every_number_once_and_leave_no_gap() {
    let Some(server) = start() else { return };
    let replica = || load(3, &server);
    let loads = [replica(), replica(), replica()];
    thread::sleep(Duration::from_secs(3));
    let history = Load::finish_all(loads);
    assert_eq!(history.failures, Vec::<String>::new());
    assert_eq!(history.assert_proven().skipped, 0);
    let fair = history.operations.len() / 9;
    assert!(history.fewest > fair / 10, "{} of {fair}", history.fewest);
}

#[tokio::test]
async fn a_race_for_the_last_numbers_ends_exactly_at_the_end() {
    let Some(server) = start() else { return };
    let endpoints = server.endpoints();
    let first = store(settings(&endpoints));
    let floor = MAX_NUMBER - 100;
    first.raise_above(floor).await.unwrap();

    let handles: Vec<_> = (0..4).map(|_| store(settings(&endpoints))).collect();
    let races = handles.iter().zip([1, 2, 3, 5]).map(async |(handle, n)| {
        let mut mine = Vec::new();
        loop {
            match handle.reserve(count(n)).await {
                Ok(block) => mine.extend(block.first()..=block.last()),
                Err(Error::Exhausted) => return mine,
                Err(error) => panic!("{}", error.chain()),
            }
        }
    });
    let mut numbers: Vec<u64> = futures_util::future::join_all(races).await.concat();
    numbers.sort_unstable();
    let expected: Vec<u64> = (floor + 1..=MAX_NUMBER).collect();
    assert_eq!(numbers, expected);
    assert!(matches!(
        first.reserve(count(1)).await,
        Err(Error::Exhausted)
    ));
    first.check().await.unwrap();
}

#[tokio::test]
async fn an_end_that_was_seen_is_no_reason_to_refuse_after_the_key_was_set_back() {
    let Some(server) = start() else { return };
    let handle = store(settings(&server.endpoints()));
    handle.raise_above(MAX_NUMBER).await.unwrap();
    assert!(matches!(
        handle.reserve(count(1)).await,
        Err(Error::Exhausted)
    ));
    server.ctl(&["put", "sequence/numbers", "41"]);
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 42);
    server.ctl(&["del", "sequence/numbers"]);
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1);
    server.ctl(&["put", "sequence/numbers", "0"]);
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_gives_up_its_connection_and_repeats_nothing() {
    let Some(server) = start() else { return };
    let proxy = Proxy::start(server.addrs()[0]);
    let slow = store(settings(&format!("http://{}", proxy.addr()))).clone();
    let direct = store(settings(&server.endpoints()));
    assert_eq!(reserve(&slow, 1).await.unwrap().first(), 1);
    let before = proxy.connections();

    for round in 1..=5 {
        proxy.set(Fault::Latency {
            delay: Duration::from_millis(200),
            jitter: Duration::ZERO,
        });
        let abandoned = timeout(Duration::from_millis(50), slow.reserve(count(7))).await;
        assert!(abandoned.is_err(), "the answer was held back");
        let floor = reserve(&direct, 1).await.unwrap().last();
        proxy.set(Fault::Pass);
        let next = reserve(&slow, 7).await.unwrap();
        assert!(next.first() > floor, "{} came after {floor}", next.first());
        assert_eq!(
            proxy.connections(),
            before + round,
            "a connection for each round"
        );
    }
    // Those given up are closed, not leaked.
    let one_left = || (proxy.live_connections() == 1).then_some(());
    e2e::wait::until(
        "the old connections to close",
        Duration::from_secs(5),
        one_left,
    );
}
