//! A cluster that lost writes which it had confirmed.

use std::{collections::BTreeSet, time::Duration};

use persistence_server::store::etcd::EtcdStore;
use sequence::{Count, Error, Marks, Ratchet, Sequence as _, Store as _};

use super::{missing, server::Server, settings, store};

/// A replica with marks of its own, as a process has them.
fn replica(url: &str, marks: &Marks) -> Ratchet<EtcdStore> {
    Ratchet::new(store(settings(url)), marks.clone())
}

/// Takes `n` numbers one by one, and tries again until there is one, as the coalescer does.
async fn take(replica: &Ratchet<EtcdStore>, n: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut failures = 0;
    while numbers.len() < n {
        match replica.reserve(Count::ONE).await {
            Ok(block) => numbers.push(block.first()),
            Err(error) => {
                failures += 1;
                assert!(failures < 100, "{}", error.chain());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    numbers
}

#[tokio::test]
async fn a_cluster_restored_from_a_snapshot_repeats_no_number_also_over_a_replica_that_was_idle() {
    if missing() {
        return;
    }
    let mut server = Server::start("http", &[]);
    let url = format!("http://{}", server.addr());
    let marks = [(); 2].map(|()| Marks::default());
    let [busy, idle] = [&marks[0], &marks[1]].map(|marks| replica(&url, marks));
    let mut numbers = take(&busy, 40).await;
    let snapshot = server.snapshot();
    numbers.extend(take(&busy, 10).await);
    idle.check().await.unwrap();
    numbers.extend(take(&busy, 50).await);

    server.restore(&snapshot);
    // The idle replica knows of the first half only, and asks first.
    numbers.extend(take(&idle, 100).await);
    numbers.extend(take(&busy, 100).await);
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), 300, "{numbers:?}");
    assert_eq!(marks[1].regressions(), 1, "a loss is told once");
    for replica in [&busy, &idle] {
        replica.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_revision_that_goes_back_is_told_once_and_before_any_number_of_the_new_history() {
    if missing() {
        return;
    }
    let mut server = Server::start("http", &[]);
    let url = format!("http://{}", server.addr());
    let store = store(settings(&url));
    let [reserves, checks] = [(); 2].map(|()| store.clone());
    reserves.reserve(Count::ONE).await.unwrap();
    let snapshot = server.snapshot();
    // The sequence itself loses nothing.
    server.ctl(&["put", "other", "1"]).unwrap();
    checks.check().await.unwrap();
    server.restore(&snapshot);
    let lost = loop {
        match reserves.reserve(Count::ONE).await {
            Err(Error::Regressed(cause)) => break cause.to_string(),
            // It has no leader yet.
            Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
    };
    let words = format!("etcd at {url}: it was restored from a backup: its revision is ");
    assert!(lost.starts_with(&words), "{lost}");
    checks.check().await.expect("it is told once");
    assert!(reserves.reserve(Count::ONE).await.is_ok());
}
