//! A server that lost writes which it had confirmed.

use std::collections::BTreeSet;

use sequence::{Error, Marks, Ratchet, Sequence as _, Store as _};

use super::*;

/// Takes `n` numbers one by one, and tries again after a loss as the coalescer does.
async fn take(replica: &Ratchet<PostgresStore>, n: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut losses = 0;
    while numbers.len() < n {
        match replica.reserve(Count::ONE).await {
            Ok(block) => numbers.push(block.first()),
            Err(Error::Regressed(_)) if losses == 0 => losses += 1,
            Err(error) => panic!("{}", error.chain()),
        }
    }
    numbers
}

#[tokio::test]
async fn no_number_is_repeated_after_a_loss_also_by_a_replica_that_was_idle() {
    let Some(server) = start() else { return };
    for loss in [
        "TRUNCATE numbers",
        "DROP TABLE numbers",
        "DELETE FROM numbers",
        "UPDATE numbers SET value = 40",
    ] {
        // Each with marks of its own, as processes have them.
        let marks = [(); 2].map(|()| Marks::default());
        let replica = |marks: &Marks| Ratchet::new(store(&server), marks.clone());
        let [busy, idle] = [&marks[0], &marks[1]].map(replica);
        let mut numbers = take(&busy, 50).await;
        idle.check().await.unwrap();
        numbers.extend(take(&busy, 50).await);

        server.sql(loss);
        // The idle replica knows of the first half only, and asks first.
        numbers.extend(take(&idle, 100).await);
        numbers.extend(take(&busy, 100).await);
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), 300, "{loss}: {numbers:?}");
        let losses: u64 = marks.iter().map(Marks::regressions).sum();
        assert_eq!(losses, 1, "{loss}: a loss is told once");
        for replica in [&busy, &idle] {
            replica.check().await.unwrap();
        }
        server.sql("DROP TABLE numbers");
    }
}

#[tokio::test]
async fn a_row_that_is_gone_is_a_loss_also_before_the_first_number_is_known() {
    let Some(server) = start() else { return };
    let [busy, idle] = [(); 2].map(|()| store(&server));
    assert_eq!(idle.check().await.unwrap(), 0);
    reserve(&busy, 5).await;
    server.sql("DELETE FROM numbers");
    let lost = attempt(&idle, 1).await.unwrap_err();
    assert!(matches!(lost, Error::Regressed(_)), "{lost}");
    let reason = lost.chain();
    let words = "the row of \"numbers\" in table numbers was gone";
    assert!(reason.contains(&server.port().to_string()), "{reason}");
    assert!(reason.ends_with(words), "{reason}");
    idle.check().await.expect("it is told once");
}
