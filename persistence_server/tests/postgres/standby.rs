//! With a synchronous standby configured, no answer comes before its disk has the number.

use sequence::Store as _;

use super::*;

#[tokio::test]
async fn a_commit_that_did_not_wait_for_its_standby_gives_no_number() {
    let Some(server) = start() else { return };
    let store = store(&server);
    let (handle, checker) = (store.clone(), store.clone());
    reserve(&handle, 1).await;
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.sql("SELECT pg_reload_conf()");
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

    // A kept connection would be replaced, and the call repeated, within the attempt.
    let fresh = store.clone();
    // The server reports such a commit as a success, and adds a warning.
    let cancel = async {
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                      WHERE wait_event = 'SyncRep'";
        let deadline = tokio::time::Instant::now() + ATTEMPT;
        while server.sql(cancel).is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (cancelled, ()) = tokio::join!(attempt(&fresh, 1), cancel);
    let reason = cancelled.expect_err("no number").chain();
    assert!(
        reason.contains("canceling wait for synchronous replication"),
        "{reason}"
    );

    assert!(matches!(attempt(&handle, 1).await, Err(Error::TimedOut)));
    assert!(!server.sql(waiting).is_empty(), "it waits in our place");
    let reason = checker.check().await.unwrap_err().chain();
    let words = "commits wait for a synchronous standby (synchronous_standby_names) that does \
                 not answer";
    assert!(reason.ends_with(words), "{reason}");

    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    e2e::wait::until("the commit to go on", ATTEMPT, || {
        server.sql(waiting).is_empty().then_some(())
    });
    checker.check().await.unwrap();
    assert_eq!(reserve(&handle, 1).await.first(), 4, "two were lost");
}
