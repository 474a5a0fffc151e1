//! How far the server is verified.

use chassis::BadSettings;
use e2e::{
    store::{Postgres, postgres::Options},
    tls::Tls,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::*;

const PASSWORD: &str = "s3cret";

fn server_with_tls(tls: &Tls) -> Postgres {
    Postgres::start_with(Options {
        tls: Some(tls.clone()),
        password: Some(PASSWORD.to_owned()),
        ..Options::default()
    })
}

/// What comes of a mode with these authorities: nothing said, or the reason.
async fn outcome(host: &str, port: u16, mode: &str, root_cert: Option<&str>) -> String {
    let mut variables = vec![
        ("PGHOST", host),
        ("PGSSLMODE", mode),
        ("PGPASSWORD", PASSWORD),
    ];
    variables.extend(root_cert.map(|path| ("PGSSLROOTCERT", path)));
    match attempt(&store_on(port, &variables), 1).await {
        Ok(_) => String::new(),
        Err(error) => error.chain(),
    }
}

#[tokio::test]
async fn each_mode_verifies_as_much_as_it_says() {
    if skipped() {
        return;
    }
    let (tls, other) = (Tls::new(), Tls::new());
    let server = server_with_tls(&tls);
    let (good, wrong) = (tls.ca(), other.ca());
    let (good, wrong) = (good.to_str(), wrong.to_str());
    let unknown = "error performing TLS handshake: invalid peer certificate";
    let plain = "no pg_hba.conf entry for host \"127.0.0.1\"";
    for (mode, root_cert, words) in [
        ("disable", None, plain),
        ("prefer", None, ""),
        ("prefer", good, ""),
        ("prefer", wrong, unknown),
        ("require", None, ""),
        ("require", good, ""),
        ("require", wrong, unknown),
        ("verify-ca", good, ""),
        ("verify-ca", wrong, unknown),
        ("verify-full", good, ""),
        ("verify-full", wrong, unknown),
    ] {
        for host in ["127.0.0.1", "localhost"] {
            let said = outcome(host, server.port(), mode, root_cert).await;
            assert!(
                said.is_empty() == words.is_empty() && said.contains(words),
                "{mode} at {host}: {said:?} instead of {words:?}"
            );
        }
    }
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'persistence_server'";
    let kept = store_on(
        server.port(),
        &[("PGSSLMODE", "prefer"), ("PGPASSWORD", PASSWORD)],
    );
    let kept = kept.clone();
    reserve(&kept, 1).await;
    assert_eq!(server.sql(encrypted), "t");
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_for_another_server_is_refused() {
    if skipped() {
        return;
    }
    for (tls, words) in Tls::refused() {
        let server = server_with_tls(&tls);
        let ca = tls.ca();
        let said = outcome("localhost", server.port(), "verify-full", ca.to_str()).await;
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn only_verify_full_minds_another_name() {
    if skipped() {
        return;
    }
    let tls = Tls::new();
    let server = server_with_tls(&tls);
    let ca = tls.ca();
    // The server under an address that its certificate does not name.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = server.addr();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(upstream).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    for mode in ["prefer", "require", "verify-ca"] {
        assert_eq!(outcome("127.0.0.2", port, mode, ca.to_str()).await, "");
    }
    let said = outcome("127.0.0.2", port, "verify-full", ca.to_str()).await;
    assert!(said.contains("certificate not valid for name"), "{said}");
    assert!(!said.contains('\n'), "{said}");
}

#[tokio::test]
async fn a_server_without_tls_is_used_with_prefer_and_refused_with_more() {
    let Some(server) = start() else { return };
    let ca = Tls::new();
    let path = ca.ca();
    for mode in ["disable", "prefer"] {
        assert_eq!(outcome("127.0.0.1", server.port(), mode, None).await, "");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let said = outcome("127.0.0.1", server.port(), mode, path.to_str()).await;
        assert!(said.ends_with("server does not support TLS"), "{said}");
    }
}

fn refused(variables: &[(&str, &str)]) -> String {
    let Err(BadSettings(lines)) = try_open(variables) else {
        panic!("{variables:?} must be refused");
    };
    assert_eq!(lines.len(), 1);
    lines[0].to_string()
}

#[test]
fn modes_and_authorities_that_do_not_go_together_are_refused_at_start() {
    for mode in ["verify-ca", "verify-full"] {
        let line = refused(&[("PGSSLMODE", mode)]);
        assert!(line.contains("without PGSSLROOTCERT"), "{line}");
    }
    for mode in ["disable", "prefer", "require", "verify-ca"] {
        let line = refused(&[("PGSSLMODE", mode), ("PGSSLROOTCERT", "system")]);
        assert!(line.contains("without PGSSLMODE=verify-full"), "{line}");
    }
    let cert = ("PGSSLROOTCERT", "/ca.pem");
    for plain in [("PGSSLMODE", "disable"), ("PGHOST", "/run/postgresql")] {
        let line = refused(&[plain, cert]);
        assert!(line.contains("not encrypted"), "{line}");
    }
    let line = refused(&[("PGSSLMODE", "require"), ("PGSSLROOTCERT", "/missing")]);
    let words = "invalid PGSSLROOTCERT \"/missing\": No such file or directory";
    assert!(line.starts_with(words), "{line}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    let line = refused(&[("PGSSLMODE", "require"), ("PGSSLROOTCERT", path)]);
    assert!(line.contains("it holds no certificate"), "{line}");
}
