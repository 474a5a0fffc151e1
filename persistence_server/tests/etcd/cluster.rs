//! Three members, some of which fail.

use std::time::Duration;

use e2e::store::{Etcd as Server, etcd};

use super::{check, load, missing, reserve, settings, store};

fn three() -> Server {
    Server::start_with(etcd::Options {
        members: 3,
        root_password: None,
    })
}

#[test]
fn nothing_repeats_when_the_leader_is_killed_under_load_and_others_take_over() {
    if missing() {
        return;
    }
    let mut cluster = three();
    let load = load(4, &cluster);
    for _ in 0..4 {
        load.wait_for(50);
        let leader = cluster.leader();
        cluster.kill9(leader);
        // The other two go on.
        load.wait_for(50);
        cluster.restart(leader);
        cluster.wait_ready();
    }
    load.finish().assert_proven();
}

#[test]
fn nothing_repeats_when_the_leader_is_paused_under_load_and_resumed() {
    if missing() {
        return;
    }
    let cluster = three();
    let load = load(4, &cluster);
    for _ in 0..3 {
        load.wait_for(50);
        let leader = cluster.leader();
        cluster.pause(leader);
        load.wait_for(50);
        cluster.resume(leader);
    }
    load.wait_for(50);
    load.finish().assert_proven();
}

#[tokio::test]
async fn one_member_that_is_down_or_hangs_costs_no_failed_reservation() {
    if missing() {
        return;
    }
    let cluster = three();
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let store = store(settings(&cluster.endpoints()));
    // Several, for each begins at a member of its own choice.
    let handles: Vec<_> = (0..9).map(|_| store.clone()).collect();
    let mut last = 0;
    for handle in &handles {
        last = reserve(handle, 1).await.unwrap().last();
    }
    cluster.pause(follower);
    for handle in handles
        .iter()
        .chain(&[store.clone(), store.clone(), store.clone()])
    {
        let block = reserve(handle, 1).await.unwrap();
        assert!(block.first() > last);
        last = block.last();
        assert_eq!(check(handle).await, Ok(()));
    }
    cluster.resume(follower);
    cluster.kill9(follower);
    for handle in handles
        .iter()
        .chain(&[store.clone(), store.clone(), store.clone()])
    {
        let block = reserve(handle, 1).await.unwrap();
        assert!(block.first() > last);
        last = block.last();
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_taken_and_the_reason_is_told() {
    if missing() {
        return;
    }
    let mut cluster = three();
    let handle = store(settings(&cluster.endpoints()));
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1);
    let alive = cluster.leader();
    let others = [(alive + 1) % 3, (alive + 2) % 3];
    for member in others {
        cluster.kill9(member);
    }
    // The member that is left notices after its election timeout.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reason = check(&handle).await.unwrap_err();
    assert!(reason.contains("no leader"), "{reason}");
    assert!(reason.contains("connection refused"), "{reason}");
    let reason = reserve(&handle, 1).await.unwrap_err();
    assert!(reason.contains("no leader"), "{reason}");
    for member in others {
        cluster.restart(member);
    }
    cluster.wait_ready();
    assert_eq!(check(&handle).await, Ok(()));
    let next = reserve(&handle, 1).await.unwrap().first();
    assert!(next > 1, "{next}");
}
