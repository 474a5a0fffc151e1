//! Servers that may lose what they answered.

use std::time::Duration;

use e2e::store::{Redis, redis::Options};
use persistence_server::store::redis::RedisStore;
use sequence::Store as _;
use tokio::time::sleep;

use crate::{first, must_work, redis_without, refusal, reserve, server, skipped, start};

const DURABLE: [(&str, &str); 1] = [("REDIS_REQUIRE_DURABLE", "true")];

const PERIOD: Duration = Duration::from_millis(100);

/// How many checks something may take to show.
const CHECKS: u32 = 100;

async fn until_it_works(store: &RedisStore) {
    let mut checks = 0;
    while let Err(error) = store.check().await {
        checks += 1;
        assert!(checks < CHECKS, "{}", error.chain());
        sleep(PERIOD).await;
    }
}

#[tokio::test]
async fn a_server_that_may_lose_writes_or_the_key_is_refused_where_durability_is_required() {
    let Some(redis) = start() else { return };
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    for (name, bad, good, words) in [
        (
            "appendonly",
            "no",
            "yes",
            "appendonly is \"no\" instead of \"yes\"",
        ),
        (
            "appendfsync",
            "everysec",
            "always",
            "appendfsync is \"everysec\" instead of \"always\"",
        ),
        ("appendfsync", "no", "always", "appendfsync is \"no\""),
        (
            "no-appendfsync-on-rewrite",
            "yes",
            "no",
            "no-appendfsync-on-rewrite is \"yes\"",
        ),
        // Without a limit nothing is evicted, whatever the policy.
        (
            "maxmemory",
            "100mb",
            "0",
            "\"allkeys-lru\", which may evict the key",
        ),
    ] {
        redis.cli(&["CONFIG", "SET", name, bad]);
        let reason = refusal(&server(redis.port(), &DURABLE)).await;
        assert!(reason.contains("REDIS_REQUIRE_DURABLE is on"), "{reason}");
        assert!(reason.contains(words), "{reason}");
        must_work(&server(redis.port(), &[])).await;
        redis.cli(&["CONFIG", "SET", name, good]);
        must_work(&server(redis.port(), &DURABLE)).await;
    }
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    must_work(&server(redis.port(), &DURABLE)).await;
}

#[tokio::test]
async fn a_server_that_tells_nothing_of_its_settings_is_not_trusted() {
    if skipped() {
        return;
    }
    let redis = redis_without("CONFIG");
    must_work(&server(redis.port(), &[])).await;
    let reason = refusal(&server(redis.port(), &DURABLE)).await;
    let expected =
        "the server may lose numbers: its settings are unknown (CONFIG GET was refused: ERR ";
    assert!(reason.contains(expected), "{reason}");
}

#[tokio::test]
async fn durability_that_is_lost_later_stops_every_handle_and_comes_back_without_a_restart() {
    let Some(redis) = start() else { return };
    let server = server(redis.port(), &DURABLE);
    let (watch, worker) = (server.clone(), server.clone());
    watch.check().await.unwrap();
    assert_eq!(first(&worker).await, 1);
    redis.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let noticed = watch.check().await.unwrap_err().chain();
    let refused = reserve(&worker, 1).await.unwrap_err();
    assert!(refused.contains("appendfsync is \"everysec\""), "{refused}");
    assert_eq!(noticed, refused);
    assert_eq!(
        redis.cli(&["GET", "sequence:numbers"]),
        "1",
        "nothing was taken"
    );
    redis.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    watch.check().await.unwrap();
    assert_eq!(first(&worker).await, 2);
}

#[tokio::test]
async fn too_few_replicas_are_named_and_cost_no_numbers() {
    let Some(primary) = start() else { return };
    let store = server(primary.port(), &[("REDIS_MIN_REPLICAS", "1")]);
    let reason = refusal(&store).await;
    let expected = "the replicas that follow are 0, but REDIS_MIN_REPLICAS is 1; ";
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(primary.cli(&["GET", "sequence:numbers"]), "");
    let _replica = Redis::start_with(Options {
        replica_of: Some(primary.addr()),
        ..Options::default()
    });
    must_work(&store).await;
}

#[tokio::test]
async fn a_block_that_the_replica_does_not_confirm_is_thrown_away() {
    let Some(primary) = start() else { return };
    let replica = Redis::start_with(Options {
        replica_of: Some(primary.addr()),
        ..Options::default()
    });
    let store = server(primary.port(), &[("REDIS_MIN_REPLICAS", "1")]);
    assert_eq!(first(&store).await, 1);
    replica.pause();
    let error = reserve(&store, 5).await.unwrap_err();
    let expected = ": 0 of 1 replicas (REDIS_MIN_REPLICAS) confirmed a write within 750 ms; ";
    assert!(error.contains(expected), "{error}");
    let raised = store.raise_above(1000).await.unwrap_err().chain();
    assert!(raised.contains(expected), "{raised}");
    replica.resume();
    until_it_works(&store).await;
    assert_eq!(first(&store).await, 7, "2 to 6 were taken, and thrown away");
}

#[tokio::test]
async fn a_replica_that_falls_silent_is_noticed_by_the_check() {
    let Some(primary) = start() else { return };
    let replica = Redis::start_with(Options {
        replica_of: Some(primary.addr()),
        ..Options::default()
    });
    let store = server(primary.port(), &[("REDIS_MIN_REPLICAS", "1")]);
    must_work(&store).await;
    let taken = primary.cli(&["GET", "sequence:numbers"]);
    replica.pause();
    let mut reason = refusal(&store).await;
    assert!(reason.contains("0 of 1 replicas"), "{reason}");
    let mut checks = 0;
    while !reason.contains("the replicas that follow are 0") {
        checks += 1;
        assert!(checks < CHECKS, "{reason}");
        sleep(PERIOD).await;
        reason = store.check().await.unwrap_err().chain();
    }
    assert_eq!(refusal(&store).await, reason);
    assert_eq!(
        primary.cli(&["GET", "sequence:numbers"]),
        taken,
        "nothing was taken"
    );
    replica.resume();
    until_it_works(&store).await;
    must_work(&store).await;
}
