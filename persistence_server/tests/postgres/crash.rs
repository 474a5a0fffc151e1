//! No number comes back after the server was killed.

use e2e::{
    load::Load,
    soak::{figure, scaled},
    store::{Postgres, postgres::Options},
};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::*;

/// Another session with an open transaction. It ends when this is dropped.
pub(crate) struct OtherSession {
    pub(crate) client: Client,
    connection: JoinHandle<()>,
}

impl OtherSession {
    /// Connects, and runs a statement in a transaction that stays open.
    pub(crate) async fn begin(server: &Postgres, statement: &str) -> Self {
        let session = Self::open(server).await;
        let begin = format!("BEGIN; {statement}");
        session.client.batch_execute(&begin).await.unwrap();
        session
    }

    async fn open(server: &Postgres) -> Self {
        let config = format!("host=127.0.0.1 port={} user=postgres", server.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { client, connection }
    }
}

impl Drop for OtherSession {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A server that flushes its log only when a commit waits for that, for some seconds at least.
fn lazy_server() -> Postgres {
    Postgres::start_with(Options {
        settings: vec![("wal_writer_delay", "10s".to_owned())],
        ..Options::default()
    })
}

#[tokio::test]
async fn a_crash_with_the_log_of_another_session_pending_repeats_no_number_of_ours_but_those_of_nextval()
 {
    if skipped() {
        return;
    }
    let mut server = lazy_server();
    server.sql("CREATE TABLE other (data text)");
    server.sql("CREATE SEQUENCE naive");
    let store = store(&server);
    let (mut last, mut repeated) = (0, 0);
    let rounds = scaled(50, 3);
    for _ in 0..rounds {
        // It writes to the log and does not commit.
        let pending = "INSERT INTO other VALUES (repeat('x', 1000))";
        let other = OtherSession::begin(&server, pending).await;
        let handle = store.clone();
        for _ in 0..20 {
            let block = reserve(&handle, 3).await;
            assert!(block.first() > last, "{block:?} came again after {last}");
            last = block.last();
        }
        // Our commits flush what was logged before them. So this comes after them: the sequence
        // logs many values ahead, in the name of a transaction that does not commit.
        let ahead = "SELECT nextval('naive') FROM generate_series(1, 40)";
        other.client.batch_execute(ahead).await.unwrap();
        let naive = OtherSession::open(&server).await;
        let mut last_naive: i64 = 0;
        for _ in 0..20 {
            let sql = "SELECT nextval('naive')";
            last_naive = naive.client.query_one(sql, &[]).await.unwrap().get(0);
        }
        server.kill9();
        server.restart();
        let next_naive: i64 = server.sql("SELECT nextval('naive')").parse().unwrap();
        repeated += (last_naive - next_naive + 1).clamp(0, 20);
    }
    let block = reserve(&store.clone(), 1).await;
    assert!(block.first() > last, "{block:?} came again after {last}");
    figure(format_args!(
        "Postgres: {rounds} crashes with the log of another session pending: {repeated} numbers of nextval \
         came again, none of ours"
    ));
    assert!(
        repeated > 0,
        "this test would not see a number that is lost"
    );
}

#[test]
fn a_server_killed_during_reservations_repeats_no_number() {
    let Some(mut server) = start() else { return };
    let store = store(&server);
    let load = Load::start(4, move || store.clone());
    for _ in 0..3 {
        load.wait_for(200);
        server.kill9();
        server.restart();
    }
    load.wait_for(200);
    load.finish().assert_proven();
}
