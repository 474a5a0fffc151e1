//! How a process connects, and what it says where it may not.

use std::time::Duration;

use sequence::Store as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
};

use super::*;

#[tokio::test]
async fn while_no_connection_is_left_for_a_worker_the_check_fails_although_it_has_one() {
    let Some(server) = start() else { return };
    server.create_user_and_database("numbers", "");
    server.sql("ALTER ROLE numbers CONNECTION LIMIT 2");
    let store = store_as(&server, "numbers");
    let [checker, lucky, unlucky] = [(); 3].map(|()| store.clone());
    checker.check().await.unwrap();
    reserve(&lucky, 1).await;
    for _ in 0..3 {
        let refused = attempt(&unlucky, 1).await.unwrap_err().chain();
        // The others work, which must not hide it.
        reserve(&lucky, 1).await;
        for _ in 0..2 {
            assert_eq!(checker.check().await.unwrap_err().chain(), refused);
        }
        assert!(
            refused.contains(&format!("postgres at 127.0.0.1:{}: ", server.port()))
                && refused.contains("too many connections")
                && refused.contains("WORKERS + 1 connections"),
            "{refused}"
        );
    }
    server.sql("ALTER ROLE numbers CONNECTION LIMIT 3");
    checker.check().await.unwrap();
    // The server may take a moment to notice that the check has closed its second connection.
    let mut waits = 0;
    while let Err(error) = attempt(&unlucky, 1).await {
        waits += 1;
        assert!(waits < 50, "{}", error.chain());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_directory_as_host_means_the_unix_socket_in_it() {
    let Some(server) = start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5433")).unwrap();
    let upstream = server.addr();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(upstream).await.unwrap();
        copy_bidirectional(&mut client, &mut server).await
    });
    // There is no TLS on Unix sockets, so these say nothing.
    let path = folder.path().to_str().unwrap();
    let variables = [("PGHOST", path), ("PGSSLMODE", "require")];
    let handle = store_on(5433, &variables);
    assert_eq!(reserve(&handle, 3).await.first(), 1);
    handle.check().await.unwrap();
}
