//! Who may use the server, and what is said about it.

use e2e::store::{Redis, redis::Options};
use sequence::Store as _;

use crate::{must_work, redis_without, refusal, server, skipped, start};

fn with_password(password: &str) -> Redis {
    Redis::start_with(Options {
        password: Some(password.to_owned()),
        ..Options::default()
    })
}

#[tokio::test]
async fn the_right_password_is_accepted() {
    if skipped() {
        return;
    }
    let redis = with_password("open sesame");
    must_work(&server(redis.port(), &[("REDIS_PASSWORD", "open sesame")])).await;
    let named = [
        ("REDIS_USERNAME", "default"),
        ("REDIS_PASSWORD", "open sesame"),
        ("REDIS_DB", "1"),
    ];
    must_work(&server(redis.port(), &named)).await;
}

#[tokio::test]
async fn a_wrong_password_is_named_as_the_reason_and_never_shown() {
    if skipped() {
        return;
    }
    let redis = with_password("open sesame");
    let server = server(redis.port(), &[("REDIS_PASSWORD", "swordfish")]);
    let store = server.clone();
    let reason = refusal(&store).await;
    let expected = "the user name or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD)";
    assert!(reason.ends_with(expected), "{reason}");
    let error = store.check().await.unwrap_err();
    for shown in [reason, format!("{store:?} {server:?} {error:?} {error}")] {
        assert!(!shown.contains("swordfish"), "{shown}");
    }
}

#[tokio::test]
async fn a_password_that_is_missing_or_not_wanted_is_told_apart() {
    if skipped() {
        return;
    }
    let redis = with_password("open sesame");
    let reason = refusal(&server(redis.port(), &[])).await;
    assert!(
        reason.ends_with("a password is required (REDIS_PASSWORD)"),
        "{reason}"
    );

    let open = Redis::start();
    let reason = refusal(&server(open.port(), &[("REDIS_PASSWORD", "swordfish")])).await;
    assert!(
        reason.contains("the server has no password for its default user"),
        "{reason}"
    );
    assert!(!reason.contains("swordfish"), "{reason}");
}

#[tokio::test]
async fn a_server_that_quotes_the_login_back_is_not_quoted() {
    if skipped() {
        return;
    }
    // Without that command it answers: unknown command, with args beginning with the password.
    let redis = redis_without("AUTH");
    let reason = refusal(&server(redis.port(), &[("REDIS_PASSWORD", "swordfish")])).await;
    assert!(reason.contains("the login was refused"), "{reason}");
    assert!(!reason.contains("swordfish"), "{reason}");
}

/// What a user needs, as the documentation says.
const RIGHTS: [&str; 9] = [
    "~sequence:*",
    "+info",
    "+config|get",
    "+pttl",
    "+eval",
    "+get",
    "+incrby",
    "+wait",
    "+select",
];

fn add_user(redis: &Redis, rights: &[&str]) {
    let user = ["ACL", "SETUSER", "counter", "reset", "on", ">swordfish"];
    redis.cli(&[&user, rights].concat());
}

const COUNTER: [(&str, &str); 3] = [
    ("REDIS_USERNAME", "counter"),
    ("REDIS_PASSWORD", "swordfish"),
    ("REDIS_REQUIRE_DURABLE", "true"),
];

#[tokio::test]
async fn a_user_needs_no_more_than_the_documented_rights() {
    let Some(redis) = start() else { return };
    add_user(&redis, &RIGHTS);
    let store = server(redis.port(), &COUNTER);
    must_work(&store).await;
    store.raise_above(100).await.unwrap();
    must_work(&server(
        redis.port(),
        &[&COUNTER[..], &[("REDIS_DB", "1")]].concat(),
    ))
    .await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let Some(redis) = start() else { return };
    for (missing, named) in [
        ("+info", "INFO was refused: NOPERM"),
        ("+pttl", "PTTL was refused: NOPERM"),
        ("+eval", "EVAL was refused: NOPERM"),
        ("+get", "EVAL was refused: "),
        ("+incrby", "; the user needs the rights ~sequence:* +info "),
        ("+config|get", "its settings are unknown"),
        ("~sequence:*", "NOPERM"),
    ] {
        let rights: Vec<_> = RIGHTS
            .into_iter()
            .filter(|right| *right != missing)
            .collect();
        add_user(&redis, &rights);
        let store = server(redis.port(), &COUNTER);
        let reason = refusal(&store).await;
        assert!(reason.contains(named), "{missing}: {reason}");
        add_user(&redis, &RIGHTS);
        must_work(&store).await;
    }
}
