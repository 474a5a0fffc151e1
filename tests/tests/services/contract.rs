//! The sequence that is served over HTTP passes the same contract as those that are not.

use hash_server::upstream::HttpSequence;
use sequence::{Count, Sequence as _, contract};

use crate::started::{file, memory};

#[tokio::test]
async fn the_sequence_over_http_passes_the_contract() {
    let persistence = memory();
    let port = persistence.addr().port();
    let open = async || HttpSequence::new("127.0.0.1", port);
    contract::check_new(open).await;
    contract::check(open).await;
}

#[tokio::test]
async fn a_kept_connection_that_a_restart_has_closed_is_replaced_within_the_call() {
    let (mut persistence, _dir) = file();
    let sequence = HttpSequence::new("127.0.0.1", persistence.addr().port());
    let before = sequence.reserve(Count::ONE).await.unwrap();
    persistence.restart();
    let after = sequence.reserve(Count::ONE).await.unwrap();
    assert!(after.first() > before.last());
}
