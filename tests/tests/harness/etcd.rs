//! etcd as a cluster of processes.

use e2e::store::Etcd;
use e2e::store::etcd::Options;
use e2e::{skip, wait};

use crate::LIMIT;

fn value(etcd: &Etcd) -> String {
    etcd.ctl(&["get", "n", "--print-value-only"])
}

#[test]
fn etcd_keeps_its_data_when_it_is_killed_and_started_again() {
    if skip::unless(Etcd::available()) {
        return;
    }
    let mut etcd = Etcd::start();
    let addrs = etcd.addrs();
    assert_eq!(addrs.len(), 1);
    assert_eq!(etcd.leader(), 0);
    etcd.ctl(&["put", "n", "7"]);
    etcd.kill9(0);
    assert!(etcd.try_ctl(&["get", "n"]).is_err());
    etcd.restart(0);
    etcd.wait_ready();
    assert_eq!(etcd.addrs(), addrs);
    assert_eq!(value(&etcd), "7");
    etcd.stop(0);
    etcd.restart(0);
    etcd.wait_ready();
    assert_eq!(value(&etcd), "7");
}

#[test]
fn three_members_survive_the_loss_of_their_leader() {
    if skip::unless(Etcd::available()) {
        return;
    }
    let mut etcd = Etcd::start_with(Options {
        members: 3,
        ..Options::default()
    });
    etcd.ctl(&["put", "n", "1"]);
    let first = etcd.leader();
    etcd.kill9(first);
    let second = etcd.leader();
    assert_ne!(second, first);
    etcd.wait_ready();
    etcd.ctl(&["put", "n", "2"]);

    etcd.restart(first);
    etcd.wait_ready();
    assert_eq!(value(&etcd), "2");
}

#[test]
fn three_members_survive_a_leader_that_is_paused() {
    if skip::unless(Etcd::available()) {
        return;
    }
    let etcd = Etcd::start_with(Options {
        members: 3,
        ..Options::default()
    });
    let first = etcd.leader();
    etcd.pause(first);
    wait::until("another leader than the paused one", LIMIT, || {
        (etcd.leader() != first).then_some(())
    });
    etcd.resume(first);
    etcd.wait_ready();
    etcd.ctl(&["put", "n", "1"]);
}

#[test]
fn etcd_with_a_password_wants_it() {
    if skip::unless(Etcd::available()) {
        return;
    }
    let etcd = Etcd::start_with(Options {
        root_password: Some("secret".to_owned()),
        ..Options::default()
    });
    etcd.ctl(&["put", "n", "1"]);
    let error = etcd
        .try_ctl(&["get", "n", "--user", "root:wrong"])
        .unwrap_err();
    assert!(error.contains("authentication failed"), "{error}");
    etcd.wait_ready();
    assert_eq!(etcd.leader(), 0);
}
