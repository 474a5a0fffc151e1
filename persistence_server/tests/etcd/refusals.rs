//! Servers that are not as they should be, and how that reads.

use std::{io::Write as _, net::TcpListener, thread, time::Duration};

use chassis::BadSettings;
use e2e::{
    Proxy,
    store::{Etcd as Etcds, etcd},
    tls::Tls,
};
use sequence::{MAX_NUMBER, Store as _};

use super::{
    check, crashes::secret, missing, reserve, server::Server, settings, start, store, try_store,
};

#[tokio::test]
async fn a_stored_value_that_is_not_a_number_is_refused_and_left_alone() {
    let Some(server) = start() else { return };
    let handle = store(settings(&server.endpoints()));
    assert_eq!(reserve(&handle, 5).await.unwrap().first(), 1);
    let past = (MAX_NUMBER + 1).to_string();
    for bad in [
        "hello",
        "",
        "-1",
        "1.5",
        "007",
        " 5",
        "5\n",
        &past,
        "99999999999999999999",
    ] {
        server.ctl(&["put", "--", "sequence/numbers", bad]);
        let refused = reserve(&handle, 1).await.unwrap_err();
        let expected = format!(
            "key sequence/numbers holds {:?}, which",
            bad.replace('\n', " ")
        );
        assert!(refused.contains(&expected), "{bad:?}: {refused}");
        assert_eq!(check(&handle).await.unwrap_err(), refused);
        let raised = handle.raise_above(10).await.unwrap_err().chain();
        assert_eq!(raised, refused);
        let kept = server.ctl(&["get", "sequence/numbers", "--print-value-only"]);
        assert_eq!(kept, bad.trim_end(), "it was changed");
    }
    server.ctl(&["put", "sequence/numbers", "5"]);
    assert_eq!(check(&handle).await, Ok(()));
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 6);
}

#[tokio::test]
async fn a_wrong_password_or_missing_rights_are_told_without_the_password() {
    if missing() {
        return;
    }
    let server = Etcds::start_with(etcd::Options {
        members: 1,
        root_password: Some("r00t".to_owned()),
    });
    for command in [
        &["user", "add", "alice", "--new-user-password", "s3cret"][..],
        &["role", "add", "reader"],
        &[
            "role",
            "grant-permission",
            "reader",
            "read",
            "sequence/numbers",
        ],
        &["role", "add", "counter"],
        &[
            "role",
            "grant-permission",
            "counter",
            "readwrite",
            "sequence/numbers",
        ],
    ] {
        server.ctl(command);
    }
    let login = |username: &str, password: &str| {
        let mut settings = settings(&server.endpoints());
        settings.etcd_username = Some(username.to_owned());
        settings.etcd_password = Some(secret(password));
        store(settings)
    };
    let url = server.endpoints();

    let without_login = store(settings(&url));
    let reason = check(&without_login).await.unwrap_err();
    let words = "user name is empty; set ETCD_USERNAME and ETCD_PASSWORD";
    assert_eq!(reason, format!("etcd at {url}: {words}"));

    for (username, password) in [("alice", "wr0ng"), ("nobody", "wr0ng")] {
        let wrong = login(username, password);
        assert!(!format!("{wrong:?}").contains("wr0ng"), "{wrong:?}");
        let handle = wrong.clone();
        let reason = check(&handle).await.unwrap_err();
        assert_eq!(
            reason,
            format!("etcd at {url}: authentication failed, invalid user ID or password")
        );
        assert_eq!(reserve(&handle, 1).await.unwrap_err(), reason);
    }

    let alice = login("alice", "s3cret").clone();
    let words = "permission denied; its user needs to read and write the key";
    let denied = format!("etcd at {url}: {words}");
    for role in [None, Some("reader")] {
        if let Some(role) = role {
            server.ctl(&["user", "grant-role", "alice", role]);
        }
        assert_eq!(check(&alice).await.unwrap_err(), denied);
        assert_eq!(reserve(&alice, 1).await.unwrap_err(), denied);
        assert!(!format!("{alice:?}").contains("s3cret"), "{alice:?}");
    }
    server.ctl(&["user", "grant-role", "alice", "counter"]);
    assert_eq!(check(&alice).await, Ok(()));
    assert_eq!(reserve(&alice, 1).await.unwrap().first(), 1);
}

#[tokio::test]
async fn a_user_is_no_obstacle_where_authentication_is_off() {
    let Some(server) = start() else { return };
    let mut settings = settings(&server.endpoints());
    settings.etcd_username = Some("alice".to_owned());
    settings.etcd_password = Some(secret("s3cret"));
    let handle = store(settings);
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1);
}

#[tokio::test]
async fn another_cluster_behind_the_same_address_is_refused_and_left_alone() {
    if missing() {
        return;
    }
    let (one, two) = (Etcds::start(), Etcds::start());
    let proxy = Proxy::start(one.addrs()[0]);
    let url = format!("http://{}", proxy.addr());
    let store = store(settings(&url));
    let (handle, other) = (store.clone(), store.clone());
    assert_eq!(reserve(&handle, 10).await.unwrap().first(), 1);

    proxy.redirect(two.addrs()[0]);
    proxy.cut();
    for handle in [&handle, &other] {
        let reason = check(handle).await.unwrap_err();
        assert!(
            reason.starts_with(&format!("etcd at {url}: it belongs to cluster")),
            "{reason}"
        );
        assert_eq!(reserve(handle, 1).await.unwrap_err(), reason);
    }
    assert_eq!(two.ctl(&["get", "sequence/numbers"]), "");

    proxy.redirect(one.addrs()[0]);
    proxy.cut();
    assert_eq!(check(&handle).await, Ok(()));
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 11);
}

#[tokio::test]
async fn a_full_database_is_told_by_the_check_and_nothing_is_taken() {
    if missing() {
        return;
    }
    let server = Server::start("http", &["--quota-backend-bytes", "1000000"]);
    let url = format!("http://{}", server.addr());
    let handle = store(settings(&url));
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 1);
    let junk = "x".repeat(100_000);
    for key in 0..30 {
        // It fails once there is no room.
        let _ = server.ctl(&["put", &format!("junk{key}"), &junk]);
    }
    let reason = check(&handle).await.unwrap_err();
    let words = "mvcc: database space exceeded; compact and defragment it, then etcdctl alarm \
                 disarm, or raise --quota-backend-bytes";
    assert_eq!(reason, format!("etcd at {url}: {words}"));
    assert_eq!(reserve(&handle, 1).await.unwrap_err(), reason);
    let stored = server.ctl(&["get", "sequence/numbers", "--print-value-only"]);
    assert_eq!(stored.unwrap(), "1");

    server.ctl(&["del", "--prefix", "junk"]).unwrap();
    let status = server
        .ctl(&["endpoint", "status", "--write-out", "fields"])
        .unwrap();
    let revision = status
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "));
    server
        .ctl(&["compact", revision.expect("a revision")])
        .unwrap();
    server.ctl(&["defrag"]).unwrap();
    assert_eq!(check(&handle).await.unwrap_err(), reason, "the alarm stays");
    server.ctl(&["alarm", "disarm"]).unwrap();
    assert_eq!(check(&handle).await, Ok(()));
    assert_eq!(reserve(&handle, 1).await.unwrap().first(), 2);
}

#[tokio::test]
async fn something_that_is_not_etcd_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // A client that has hung up already is fine.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            thread::sleep(Duration::from_millis(200));
        }
    });
    let handle = store(settings(&url));
    let reason = check(&handle).await.unwrap_err();
    assert!(reason.starts_with(&format!("etcd at {url}: ")), "{reason}");
    assert!(reserve(&handle, 1).await.is_err());
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let handle = store(settings(&url));
    let reason = check(&handle).await.unwrap_err();
    assert_eq!(reason, format!("etcd at {url}: no answer within 900 ms"));
}

fn encrypted(tls: &Tls) -> Server {
    let (cert, key) = (tls.cert(), tls.key());
    let flags = [
        "--cert-file",
        cert.to_str().unwrap(),
        "--key-file",
        key.to_str().unwrap(),
    ];
    Server::start("https", &flags)
}

fn trusting(url: &str, tls: &Tls) -> persistence_server::store::etcd::EtcdStore {
    let mut settings = settings(url);
    settings.etcd_ca_file = Some(tls.ca());
    store(settings)
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_for_another_server_is_refused() {
    if missing() {
        return;
    }
    for (tls, words) in Tls::refused() {
        let server = encrypted(&tls);
        let url = format!("https://{}", server.addr());
        let reason = check(&trusting(&url, &tls)).await.unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn tls_is_spoken_where_the_url_says_https_and_only_the_right_authority_is_trusted() {
    if missing() {
        return;
    }
    let (tls, other) = (Tls::new(), Tls::new());
    let server = encrypted(&tls);
    let url = format!("https://{}", server.addr());
    let named = format!("https://localhost:{}", server.addr().port());
    assert_eq!(reserve(&trusting(&url, &tls), 1).await.unwrap().first(), 1);
    assert_eq!(
        reserve(&trusting(&named, &tls), 1).await.unwrap().first(),
        2
    );
    let reason = check(&trusting(&url, &other)).await.unwrap_err();
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    let plain = check(&store(settings(&url.replace("https", "http")))).await;
    let reason = plain.unwrap_err();
    assert!(reason.starts_with("etcd at http://"), "{reason}");

    let empty = server.folder().join("empty.pem");
    std::fs::write(&empty, "\n").unwrap();
    let refused = |url: &str, ca_file: Option<std::path::PathBuf>| {
        let mut settings = settings(url);
        settings.etcd_ca_file = ca_file;
        let BadSettings(bad) = try_store("numbers", &settings).unwrap_err();
        bad[0].to_string()
    };
    assert!(refused(&url, None).contains("ETCD_CA_FILE must be set"));
    assert!(refused("http://a:1", Some(tls.ca())).contains("no URL in ETCD_ENDPOINTS"));
    assert!(refused(&url, Some("/nowhere.pem".into())).contains("/nowhere.pem: No such file"));
    assert!(refused(&url, Some(empty)).contains("no certificate"));
}
