//! The sequence that is served over HTTP passes the same contract as those that are not.

use hash_server::HttpSequence;
use sequence::{Count, Sequence as _, contract};

use crate::started::{file, memory};

fn sequence(port: u16) -> HttpSequence {
    let host = "127.0.0.1".to_owned().try_into().expect("a host");
    HttpSequence::new(&host, port.try_into().expect("a port"))
}

#[tokio::test]
async fn the_sequence_over_http_passes_the_contract() {
    let persistence = memory();
    let port = persistence.addr().port();
    let open = async || sequence(port);
    contract::check_new(open).await;
    contract::check(open).await;
}

#[tokio::test]
async fn a_kept_connection_that_a_restart_has_closed_is_replaced_within_the_call() {
    let (mut persistence, _dir) = file();
    let sequence = sequence(persistence.addr().port());
    let before = sequence.reserve(Count::ONE).await.unwrap();
    persistence.restart();
    let after = sequence.reserve(Count::ONE).await.unwrap();
    assert!(after.first() > before.last());
}
