//! Who may log in, and what is said to those who may not.

use e2e::store::{Postgres, postgres::Options};
use sequence::Store as _;

use super::*;

const PASSWORD: &str = "correct horse";

fn server_with_password() -> Postgres {
    Postgres::start_with(Options {
        password: Some(PASSWORD.to_owned()),
        ..Options::default()
    })
}

#[tokio::test]
async fn a_login_that_fails_says_why_and_never_shows_the_password() {
    if skipped() {
        return;
    }
    let server = server_with_password();
    let port = server.port();
    let at = format!("postgres at 127.0.0.1:{port}: ");
    let wrong = "wr0ng-s3cret";

    let store = store_on(port, &[("PGPASSWORD", wrong)]);
    let reason = refusal(&store).await;
    let words = "password authentication failed for user \"postgres\"";
    assert_eq!(reason, format!("{at}{words}"));
    let handle = store.clone();
    let error = attempt(&handle, 1).await.unwrap_err();
    for shown in [
        format!("{store:?}"),
        format!("{handle:?}"),
        format!("{error:?}"),
        format!("{:?}", settings(&[("PGPASSWORD", wrong)])),
    ] {
        assert!(!shown.contains(wrong), "{shown}");
    }

    let reason = refusal(&store_on(port, &[])).await;
    let words = "the server asks for a password, and PGPASSWORD is not set";
    assert_eq!(reason, format!("{at}{words}"));

    let nowhere = [("PGPASSWORD", PASSWORD), ("PGDATABASE", "nowhere")];
    let reason = refusal(&store_on(port, &nowhere)).await;
    assert_eq!(reason, format!("{at}database \"nowhere\" does not exist"));

    let nobody = [("PGPASSWORD", PASSWORD), ("PGUSER", "nobody")];
    let reason = refusal(&store_on(port, &nobody)).await;
    let words = "password authentication failed for user \"nobody\"";
    assert_eq!(reason, format!("{at}{words}"));

    store_on(port, &[("PGPASSWORD", PASSWORD)])
        .clone()
        .check()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_password_may_come_from_a_file_and_the_database_has_the_name_of_the_user() {
    if skipped() {
        return;
    }
    let server = server_with_password();
    server.create_user_and_database("owner", "it's mine");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "it's mine\n").unwrap();
    let path = file.path().to_str().unwrap();
    let variables = [("PGUSER", "owner"), ("PGPASSWORD_FILE", path)];
    let store = store_on(server.port(), &variables);
    assert_eq!(reserve(&store.clone(), 1).await.first(), 1);
    let table = "SELECT to_regclass('numbers')";
    assert_eq!(server.sql(table), "", "it is in the other database");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_are_missing() {
    let Some(server) = start() else { return };
    server.sql("CREATE ROLE guest LOGIN");
    let in_common = [("PGUSER", "guest"), ("PGDATABASE", "postgres")];
    let store = store_on(server.port(), &in_common);

    let reason = refusal(&store).await;
    let words = "there is no table numbers, and it cannot be created: \
                 permission denied for schema public";
    assert!(reason.ends_with(words), "{reason}");

    super::store(&server).check().await.unwrap();
    for (grant, is_enough) in [
        ("SELECT", false),
        ("INSERT", false),
        ("UPDATE (value)", true),
    ] {
        let reason = refusal(&store).await;
        let words = "permission denied for table numbers: \
                     the user needs SELECT, INSERT and UPDATE on it";
        assert!(reason.ends_with(words), "{reason}");
        server.sql(&format!("GRANT {grant} ON numbers TO guest"));
        assert_eq!(store.clone().check().await.is_ok(), is_enough, "{grant}");
    }
    assert_eq!(reserve(&store.clone(), 1).await.first(), 1);
}
