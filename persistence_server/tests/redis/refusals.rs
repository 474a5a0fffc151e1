//! Servers and values that are not what they should be.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    thread,
    time::Duration,
};

use e2e::{
    Fault, Proxy,
    store::{Redis, redis::Options},
    wait,
};
use sequence::Store as _;

use crate::{first, must_work, refusal, reserve, server, skipped, start};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stored_value_that_is_not_a_number_of_the_sequence_is_refused_and_left_alone() {
    let Some(redis) = start() else { return };
    for bad in [
        "abc",
        "",
        "-1",
        "+5",
        "007",
        " 1",
        "1.5",
        "1e3",
        "0x10",
        "9007199254740992",
        "9223372036854775807",
        "99999999999999999999999",
    ] {
        redis.cli(&["SET", "sequence:numbers", bad]);
        let store = server(redis.port(), &[]);
        let reason = refusal(&store).await;
        let expected = format!(
            "the value of the key sequence:numbers is {bad:?}, \
             not a number from 0 to 9007199254740991; "
        );
        assert!(reason.contains(&expected), "{reason}");
        assert!(store.raise_above(10).await.is_err());
        assert_eq!(redis.cli(&["GET", "sequence:numbers"]), bad.trim_end());
    }
    redis.cli(&["DEL", "sequence:numbers"]);
    redis.cli(&["RPUSH", "sequence:numbers", "1"]);
    let reason = refusal(&server(redis.port(), &[])).await;
    assert!(
        reason.contains("sequence:numbers is of another type"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_value_that_is_spoilt_later_stops_a_handle_that_worked() {
    let Some(redis) = start() else { return };
    let store = server(redis.port(), &[]);
    assert_eq!(first(&store).await, 1);
    for bad in ["abc", "007", "-3", "9007199254740993"] {
        redis.cli(&["SET", "sequence:numbers", bad]);
        let error = reserve(&store, 1).await.unwrap_err();
        assert!(
            error.contains(&format!("sequence:numbers is {bad:?}, not")),
            "{error}"
        );
        redis.cli(&["SET", "sequence:numbers", "7"]);
        assert_eq!(first(&store).await, 8);
    }
}

#[tokio::test]
async fn a_key_with_an_expiry_is_refused() {
    let Some(redis) = start() else { return };
    let store = server(redis.port(), &[]);
    first(&store).await;
    redis.cli(&["EXPIRE", "sequence:numbers", "1000"]);
    let reason = refusal(&store).await;
    assert!(
        reason.contains("the key sequence:numbers has an expiry"),
        "{reason}"
    );
    redis.cli(&["PERSIST", "sequence:numbers"]);
    assert_eq!(first(&store).await, 2);
}

#[tokio::test]
async fn a_replica_that_would_take_writes_and_a_node_of_a_cluster_are_refused() {
    let Some(primary) = start() else { return };
    for (replica_of, setting, words) in [
        (
            Some(primary.addr()),
            ("replica-read-only", "no"),
            "it is a replica",
        ),
        (
            None,
            ("cluster-enabled", "yes"),
            "it is a node of a Redis Cluster, which is not supported (CLUSTERDOWN ",
        ),
    ] {
        let other = Redis::start_with(Options {
            replica_of,
            settings: vec![(setting.0, setting.1.to_owned())],
            ..Options::default()
        });
        let reason = refusal(&server(other.port(), &[])).await;
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn a_primary_that_is_demoted_under_a_connection_is_refused() {
    if skipped() {
        return;
    }
    let (other, primary) = (Redis::start(), Redis::start());
    let store = server(primary.port(), &[]);
    assert_eq!(first(&store).await, 1);
    let port = other.port().to_string();
    primary.cli(&["REPLICAOF", "127.0.0.1", &port]);
    let error = reserve(&store, 1).await.unwrap_err();
    assert!(error.contains("it is a replica"), "{error}");
}

#[tokio::test]
async fn a_sentinel_is_refused() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = e2e::port::Port::free();
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, format!("port {}\nbind 127.0.0.1\n", port.number())).unwrap();
    let launch = e2e::launch::Launch::new("redis-server")
        .arg(&file)
        .arg("--sentinel");
    let _sentinel = e2e::process::Process::start(&launch);
    let store = server(port.number(), &[]);
    let reason = e2e::wait::until("the sentinel", std::time::Duration::from_secs(10), || {
        std::net::TcpStream::connect(port.addr()).ok()
    });
    drop(reason);
    let reason = refusal(&store).await;
    assert!(reason.contains("it is a Sentinel"), "{reason}");
}

#[tokio::test]
async fn something_that_is_not_redis_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let reason = refusal(&server(port, &[])).await;
    assert!(reason.ends_with("may not be Redis"), "{reason}");
}

#[tokio::test]
async fn a_server_that_reads_and_refuses_writes_is_down_until_it_takes_them() {
    let Some(redis) = start() else { return };
    let store = server(redis.port(), &[]);
    assert_eq!(first(&store).await, 1);
    let set = |name: &str, value: &str| drop(redis.cli(&["CONFIG", "SET", name, value]));
    // Where its snapshot should be is a directory, so that it cannot be written.
    let folder = redis.cli(&["CONFIG", "GET", "dir"]);
    let obstacle = Path::new(folder.lines().last().unwrap()).join("dump.rdb");
    let save = |outcome: &str| {
        redis.cli(&["BGSAVE"]);
        wait::until("a snapshot", LIMIT, || {
            let info = redis.cli(&["INFO", "persistence"]);
            let ended = info.contains("rdb_bgsave_in_progress:0");
            (ended && info.contains(&format!("rdb_last_bgsave_status:{outcome}"))).then_some(())
        });
    };

    for (what, remedy) in [
        ("OOM", "; raise maxmemory, or free memory"),
        ("NOREPLICAS", "; start or repair replicas, or lower min-"),
        ("MISCONF", "; make its disk writable again"),
    ] {
        let before = redis.cli(&["GET", "sequence:numbers"]);
        match what {
            "OOM" => set("maxmemory", "1"),
            "NOREPLICAS" => set("min-replicas-to-write", "1"),
            _ => {
                std::fs::create_dir_all(obstacle.join("full")).unwrap();
                set("save", "3600 1");
                save("err");
            }
        }
        let reason = refusal(&store).await;
        let expected = format!(
            "redis at 127.0.0.1:{}: EVAL was refused: {what}",
            redis.port()
        );
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(reason.contains(remedy), "{reason}");
        assert_eq!(redis.cli(&["GET", "sequence:numbers"]), before);
        match what {
            "OOM" => set("maxmemory", "0"),
            "NOREPLICAS" => set("min-replicas-to-write", "0"),
            _ => {
                std::fs::remove_dir_all(&obstacle).unwrap();
                save("ok");
            }
        }
        must_work(&store).await;
    }
    assert_eq!(first(&store).await, 5, "no check took a number");
}

#[tokio::test]
async fn a_server_that_spoke_plainly_before_is_not_said_to_want_tls() {
    let Some(redis) = start() else { return };
    let proxy = Proxy::start(redis.addr());
    let store = server(proxy.port(), &[]);
    assert_eq!(first(&store).await, 1);
    proxy.set(Fault::Truncate { bytes: 0 });
    let reason = refusal(&store).await;
    assert!(
        reason.contains("before the answer was complete"),
        "{reason}"
    );
    let other = server(proxy.port(), &[]);
    let reason = refusal(&other).await;
    assert!(reason.contains("may want TLS"), "{reason}");
}
