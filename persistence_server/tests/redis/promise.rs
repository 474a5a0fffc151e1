//! What every store promises.

use std::{future::poll_fn, task::Poll, time::Duration};

use e2e::{
    Fault, Proxy,
    port::Port,
    store::{Redis, redis::Options},
};
use sequence::{Count, Error, MAX_NUMBER, Marks, Ratchet, Sequence as _, Store as _, contract};
use tokio::time::{sleep, timeout};

use crate::{first, refusal, reserve, server, skipped, start};

#[tokio::test]
async fn the_redis_store_passes_the_contract() {
    let Some(redis) = start() else { return };
    let server = server(redis.port(), &[("REDIS_REQUIRE_DURABLE", "true")]);
    contract::check_new(async || server.clone()).await;
    contract::check_store(async || server.clone()).await;
    let end = redis.cli(&["GET", "sequence:numbers"]);
    assert_eq!(end, MAX_NUMBER.to_string(), "people can read it");
}

#[tokio::test]
async fn the_redis_store_passes_the_contract_with_a_replica_that_confirms() {
    let Some(primary) = start() else { return };
    let replica = Redis::start_with(Options {
        replica_of: Some(primary.addr()),
        ..Options::default()
    });
    let server = server(primary.port(), &[("REDIS_MIN_REPLICAS", "1")]);
    contract::check_new(async || server.clone()).await;
    let there = replica.cli(&["GET", "sequence:numbers"]);
    assert_eq!(there, "5", "it was confirmed, so it is there");
    contract::check_store(async || server.clone()).await;
}

#[tokio::test]
async fn sequences_and_databases_in_one_server_do_not_disturb_each_other() {
    let Some(redis) = start() else { return };
    let one = server(redis.port(), &[("SEQUENCE", "one")]);
    let two = server(redis.port(), &[("SEQUENCE", "two")]);
    let elsewhere = server(redis.port(), &[("SEQUENCE", "one"), ("REDIS_DB", "3")]);
    for number in 1..=3 {
        assert_eq!(first(&one).await, number);
        assert_eq!(first(&two).await, number);
        assert_eq!(first(&elsewhere).await, number);
    }
    assert_eq!(redis.cli(&["GET", "sequence:one"]), "3");
    assert_eq!(redis.cli(&["-n", "3", "GET", "sequence:one"]), "3");
    let nowhere = server(redis.port(), &[("REDIS_DB", "99")]);
    let reason = refusal(&nowhere).await;
    assert!(reason.contains("SELECT 99 was refused: ERR DB index is out of range"));
}

#[tokio::test]
async fn a_value_set_by_hand_is_continued() {
    let Some(redis) = start() else { return };
    redis.cli(&["SET", "sequence:numbers", "41"]);
    assert_eq!(first(&server(redis.port(), &[])).await, 42);
}

#[tokio::test]
async fn handles_that_race_at_the_end_stop_exactly_there() {
    let Some(redis) = start() else { return };
    let server = server(redis.port(), &[]);
    let start = MAX_NUMBER - 1000;
    server.clone().raise_above(start).await.unwrap();
    let racers = (0..8).map(async |_| {
        let (handle, mut taken) = (server.clone(), 0);
        for count in (1..=7).rev().cycle() {
            match handle.reserve(Count::new(count).unwrap()).await {
                Ok(block) => taken += u64::from(block.count().get()),
                Err(Error::Exhausted) if count == 1 => return taken,
                Err(Error::Exhausted) => {}
                Err(error) => panic!("{}", error.chain()),
            }
        }
        taken
    });
    let taken: Vec<u64> = futures_util::future::join_all(racers).await;
    assert_eq!(
        taken.iter().sum::<u64>(),
        1000,
        "each number went to somebody"
    );
    let stored = redis.cli(&["GET", "sequence:numbers"]);
    assert_eq!(stored, MAX_NUMBER.to_string());
}

#[tokio::test]
async fn the_late_reply_to_a_dropped_call_reaches_nobody() {
    let Some(redis) = start() else { return };
    let proxy = Proxy::start(redis.addr());
    let one = server(proxy.port(), &[]);
    let two = server(redis.port(), &[]);
    assert_eq!(first(&one).await, 1);
    proxy.set(Fault::Latency {
        delay: Duration::from_secs(600),
        jitter: Duration::ZERO,
    });
    let mut call = Box::pin(reserve(&one, 10));
    let pending = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    assert!(
        timeout(Duration::from_millis(200), &mut call)
            .await
            .is_err()
    );
    assert_eq!(
        redis.cli(&["GET", "sequence:numbers"]),
        "11",
        "it was taken"
    );
    drop(call);
    let floor = first(&two).await;
    proxy.set(Fault::Pass);
    let connections = proxy.connections();
    assert_eq!(first(&one).await, floor + 1);
    assert_eq!(proxy.connections(), connections + 1, "on a new connection");
}

#[tokio::test]
async fn a_server_that_comes_later_is_used_when_it_is_there() {
    if skipped() {
        return;
    }
    let nothing = Port::free();
    let proxy = Proxy::start(nothing.addr());
    proxy.set(Fault::Refuse);
    let store = server(proxy.port(), &[]);
    for _ in 0..2 {
        let reason = refusal(&store).await;
        let at = format!("redis at 127.0.0.1:{}", proxy.port());
        let expected = "connection refused; start the server, or correct REDIS_HOST and REDIS_PORT";
        assert_eq!(reason, format!("{at}: {expected}"));
    }
    let redis = Redis::start();
    proxy.redirect(redis.addr());
    proxy.set(Fault::Pass);
    store.check().await.unwrap();
    assert_eq!(first(&store).await, 1);
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up_within_an_attempt() {
    let Some(redis) = start() else { return };
    let store = server(redis.port(), &[]);
    redis.pause();
    let two_seconds = Duration::from_secs(2);
    let checked = timeout(two_seconds, store.check()).await;
    let reason = checked.expect("in time").unwrap_err().chain();
    assert!(reason.contains(": no answer within 950 ms; "), "{reason}");
    redis.resume();
    sleep(Duration::from_millis(10)).await;
    assert_eq!(first(&store).await, 1);
}

#[tokio::test]
async fn a_kept_connection_and_a_new_one_that_hang_are_given_up_within_one_attempt() {
    let Some(redis) = start() else { return };
    let store = server(redis.port(), &[]);
    assert_eq!(first(&store).await, 1);
    redis.pause();
    // From here on time passes only where nothing else happens.
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let reason = reserve(&store, 1).await.unwrap_err();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let at = format!("redis at 127.0.0.1:{}: no answer within ", redis.port());
    assert!(reason.starts_with(&at), "{reason}");
}

#[tokio::test]
async fn a_store_that_lost_all_is_noticed_also_by_a_replica_that_was_idle() {
    let Some(redis) = start() else { return };
    let server = server(redis.port(), &[]);
    // Two processes: each has marks of its own.
    let [busy, idle] = [(); 2].map(|()| Ratchet::new(server.clone(), Marks::default()));
    let mut numbers = Vec::new();
    for _ in 0..200 {
        numbers.push(first(&busy).await);
    }
    idle.check().await.unwrap();
    for lose in [["FLUSHALL"].as_slice(), &["SET", "sequence:numbers", "3"]] {
        redis.cli(lose);
        assert!(reserve(&idle, 1).await.is_err());
        for _ in 0..200 {
            numbers.push(first(&idle).await);
        }
        busy.check().await.unwrap();
        redis.cli(lose);
        let error = busy.check().await.unwrap_err().chain();
        assert!(error.contains("the store lost writes: it holds"), "{error}");
        numbers.push(first(&busy).await);
        idle.check().await.unwrap();
    }
    assert!(numbers.is_sorted_by(|earlier, later| earlier < later));
}
