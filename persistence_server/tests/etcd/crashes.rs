//! One server that dies and comes back.

use std::{thread, time::Duration};

use chassis::settings::Environment;
use e2e::store::{Etcd as Server, etcd};
use sequence::Store as _;

use super::{check, load, missing, reserve, settings, start, store};

#[tokio::test]
async fn nothing_repeats_after_the_server_was_killed_and_restarted_between_reservations() {
    let Some(mut server) = start() else { return };
    let handle = store(settings(&server.endpoints()));
    let mut last = 0;
    for n in [1, 1000, 7] {
        let block = reserve(&handle, n).await.unwrap();
        assert_eq!(block.first(), last + 1);
        last = block.last();
        server.kill9(0);
        let refused = reserve(&handle, 1).await.unwrap_err();
        let url = server.endpoints();
        assert_eq!(refused, format!("etcd at {url}: connection refused"));
        server.restart(0);
        server.wait_ready();
        assert_eq!(reserve(&handle, 1).await.unwrap().first(), last + 1);
        last += 1;
    }
    handle.raise_above(1_000_000).await.unwrap();
    server.restart(0);
    server.wait_ready();
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1_000_001);
}

#[test]
fn nothing_repeats_when_the_server_is_killed_under_load() {
    let Some(mut server) = start() else { return };
    let load = load(4, &server);
    for _ in 0..4 {
        load.wait_for(50);
        server.kill9(0);
        thread::sleep(Duration::from_millis(100));
        server.restart(0);
        server.wait_ready();
    }
    load.wait_for(50);
    let history = load.finish();
    history.assert_proven();

    // Whatever was answered is in the store.
    let stored = server.ctl(&["get", "sequence/numbers", "--print-value-only"]);
    let stored: u64 = stored.parse().unwrap();
    assert!(stored >= history.last(), "{stored} < {}", history.last());
}

#[tokio::test]
async fn a_restarted_server_has_forgotten_the_token_and_the_handle_gets_a_new_one() {
    if missing() {
        return;
    }
    let mut server = Server::start_with(etcd::Options {
        members: 1,
        root_password: Some("s3cret".to_owned()),
    });
    let mut settings = settings(&server.endpoints());
    settings.etcd_username = Some("root".to_owned());
    settings.etcd_password = Some(secret("s3cret"));
    let handle = store(settings);
    for last in 0..3 {
        assert_eq!(reserve(&handle, 1).await.unwrap().first(), 2 * last + 1);
        server.restart(0);
        server.wait_ready();
        assert_eq!(check(&handle).await, Ok(()));
        assert_eq!(reserve(&handle, 1).await.unwrap().first(), 2 * last + 2);
        // Any change of users or rights makes older tokens useless, too.
        server.ctl(&["role", "add", &format!("role{last}")]);
    }
}

/// A secret can only be made by reading it.
pub(crate) fn secret(text: &str) -> chassis::settings::Secret {
    let environment: Environment = [("ETCD_PASSWORD", text)].into_iter().collect();
    let settings: persistence_server::EtcdSettings = environment.read().expect("good settings");
    settings.etcd_password.expect("it was set")
}
