//! TLS with an authority of one's own.

use e2e::{
    store::{Redis, redis::Options},
    tls::Tls,
};

use crate::{must_work, refusal, server, skipped, try_server};

fn encrypted(tls: &Tls) -> Redis {
    Redis::start_with(Options {
        tls: Some(tls.clone()),
        ..Options::default()
    })
}

#[tokio::test]
async fn a_server_that_the_authority_vouches_for_is_used() {
    if skipped() {
        return;
    }
    let tls = Tls::new();
    let redis = encrypted(&tls);
    let ca = tls.ca().display().to_string();
    for host in ["127.0.0.1", "localhost"] {
        let variables = [
            ("REDIS_HOST", host),
            ("REDIS_TLS", "on"),
            ("REDIS_TLS_CA_FILE", &ca),
            ("REDIS_DB", "1"),
        ];
        must_work(&server(redis.port(), &variables)).await;
    }
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_is_refused() {
    if skipped() {
        return;
    }
    let redis = encrypted(&Tls::new());
    let another = Tls::new();
    let other = another.ca().display().to_string();
    let variables = [("REDIS_TLS", "on"), ("REDIS_TLS_CA_FILE", &*other)];
    let reason = refusal(&server(redis.port(), &variables)).await;
    assert!(
        reason.contains("the TLS handshake failed: invalid peer certificate"),
        "{reason}"
    );
    let reason = refusal(&server(redis.port(), &[("REDIS_TLS", "on")])).await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_is_for_another_server_is_refused() {
    if skipped() {
        return;
    }
    for (tls, words) in Tls::refused() {
        let redis = encrypted(&tls);
        let ca = tls.ca().display().to_string();
        let variables = [("REDIS_TLS", "on"), ("REDIS_TLS_CA_FILE", &*ca)];
        let reason = refusal(&server(redis.port(), &variables)).await;
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn encryption_on_one_side_only_is_an_error_with_a_reason() {
    if skipped() {
        return;
    }
    let redis = encrypted(&Tls::new());
    let reason = refusal(&server(redis.port(), &[])).await;
    assert!(
        reason.contains("the server may want TLS (REDIS_TLS=on)"),
        "{reason}"
    );

    let plain = Redis::start();
    let reason = refusal(&server(plain.port(), &[("REDIS_TLS", "on")])).await;
    assert!(reason.ends_with("the server may not speak TLS"), "{reason}");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_stops_the_start_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let file = path.display().to_string();
    let on = [("REDIS_TLS", "on"), ("REDIS_TLS_CA_FILE", &*file)];
    for (content, words) in [
        (None, "No such file"),
        (Some("hello"), "it holds no certificate"),
        (
            Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            "it is not PEM",
        ),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = try_server(6379, &on).unwrap_err();
        let expected = format!("invalid REDIS_TLS_CA_FILE {file:?}: ");
        assert!(
            error.starts_with(&expected) && error.contains(words),
            "{error}"
        );
    }
    let error = try_server(6379, &on[1..]).unwrap_err();
    assert!(error.contains("REDIS_TLS is off"), "{error}");
    let zone = [("REDIS_TLS", "on"), ("REDIS_HOST", "fe80::1%eth0")];
    let error = try_server(6379, &zone).unwrap_err();
    assert!(
        error.starts_with("invalid REDIS_HOST \"fe80::1%eth0\""),
        "{error}"
    );
}
