//! Behind a real `PgBouncer`, which lends the connections of the server to many clients.

use std::{fs, os::unix::fs::MetadataExt as _, thread};

use e2e::{Service, http, launch::Launch, port::Port, process::Process, skip::Missing, wait};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::*;

/// How long what is started may take. It is far more than it needs.
const SOON: Duration = Duration::from_secs(20);

struct Pooler {
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Pooler {
    fn start(server: &Postgres, mode: &str) -> Self {
        let port = Port::free();
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {}\n\
             auth_type = any\n\
             pool_mode = {mode}\n\
             default_pool_size = 5\n",
            server.port(),
            port.number()
        );
        let path = folder.path().join("pgbouncer.ini");
        fs::write(&path, settings).unwrap();
        let mut launch = Launch::new("pgbouncer").arg(&path);
        // PgBouncer does not run as root.
        if fs::metadata(&path).unwrap().uid() == 0 {
            let owner = Launch::new("chown")
                .args(["-R", "postgres:"])
                .arg(folder.path());
            owner.run_to_end(SOON).success().unwrap();
            launch = launch.user("postgres");
        }
        let pooler = Self {
            _process: Process::start(&launch),
            port,
            _folder: folder,
        };
        wait::until("PgBouncer to listen", SOON, || {
            std::net::TcpStream::connect(pooler.port.addr()).ok()
        });
        pooler
    }
}

fn available() -> Result<(), Missing> {
    skip::installed("pgbouncer", "pgbouncer")?;
    Postgres::available()
}

fn service(pooler: &Pooler) -> Service {
    let service = Service::builder("persistence_server")
        .env("STORE", "postgres")
        .env("PGPORT", pooler.port.number().to_string())
        .env("WORKERS", "3")
        .start();
    wait::until("readiness", SOON, || {
        http::get(service.admin_addr(), "/readyz")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    service
}

#[test]
fn behind_a_pooler_numbers_are_unique_the_log_is_quiet_and_other_clients_keep_their_settings() {
    if skip::unless(available()) {
        return;
    }
    for mode in ["transaction", "session", "statement"] {
        let server = Postgres::start();
        let pooler = Pooler::start(&server, mode);
        let service = service(&pooler);
        let ask = || {
            let numbers = (0..100).map(|_| {
                let answer = http::get(service.addr(), "/").unwrap();
                answer.json()["data"]["number"].as_u64().expect("a number")
            });
            numbers.collect::<Vec<_>>()
        };
        let mut numbers = thread::scope(|scope| {
            let clients = [(); 4].map(|()| scope.spawn(ask));
            clients.map(|client| client.join().unwrap()).concat()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=400).collect::<Vec<_>>(), "{mode}");

        let log = service.stderr().all();
        let is_bad = |line: &&String| line.contains("WARN") || line.contains("ERROR");
        let bad: Vec<_> = log.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "{mode}: {bad:#?}");
        let begins = log
            .iter()
            .filter(|line| line.contains("a new sequence begins"))
            .count();
        assert_eq!(begins, 1, "{mode}: {log:#?}");

        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let settings = runtime.block_on(settings_of_another_client(&pooler));
        let default = "0 0 on notice read committed";
        assert_eq!(settings, default, "{mode}");
    }
}

/// What some other client of the pool finds set, on every connection that it is lent.
async fn settings_of_another_client(pooler: &Pooler) -> String {
    const SHOW: &str = "SELECT concat_ws(' ', current_setting('statement_timeout'), \
        current_setting('lock_timeout'), current_setting('synchronous_commit'), \
        current_setting('client_min_messages'), current_setting('transaction_isolation'))";
    let config = format!("host=127.0.0.1 port={} user=postgres", pooler.port.number());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut found = Vec::new();
    for _ in 0..50 {
        let messages = client.simple_query(SHOW).await.unwrap();
        found.extend(messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }));
    }
    found.sort();
    found.dedup();
    found.join("; ")
}
