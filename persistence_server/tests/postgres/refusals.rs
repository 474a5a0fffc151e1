//! Servers and tables that cannot keep the promise are refused, and left as they are.

use e2e::store::{Postgres, postgres::Options};
use sequence::{MAX_NUMBER, Store as _};

use super::*;

#[tokio::test]
async fn a_server_without_fsync_is_refused() {
    if skipped() {
        return;
    }
    let server = Postgres::start_with(Options {
        fsync: false,
        ..Options::default()
    });
    let at = format!("postgres at 127.0.0.1:{}: ", server.port());
    let words = "fsync is off, so a crash would repeat numbers; set fsync=on";
    assert_eq!(refusal(&store(&server)).await, format!("{at}{words}"));
    let table = "SELECT to_regclass('numbers')";
    assert_eq!(server.sql(table), "", "nothing is made there");
}

#[tokio::test]
async fn a_hot_standby_is_refused_until_it_is_promoted() {
    let Some(mut server) = start() else { return };
    let store = store(&server);
    let handle = store.clone();
    reserve(&handle, 10).await;
    // The server's folder is its working directory.
    server.sql("COPY (SELECT) TO PROGRAM 'touch standby.signal'");
    server.stop();
    server.restart();

    let reason = refusal(&store).await;
    let words = "it is a hot standby, which takes no writes";
    assert!(reason.ends_with(words), "{reason}");
    assert!(handle.check().await.is_err());
    assert_eq!(server.sql("SELECT pg_promote()"), "t");
    handle.check().await.unwrap();
    assert_eq!(reserve(&handle, 1).await.first(), 11);
}

#[tokio::test]
async fn read_only_transactions_are_refused_also_when_they_become_so_later() {
    let Some(server) = start() else { return };
    let store = store(&server);
    let handle = store.clone();
    reserve(&handle, 10).await;
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    server.sql("SELECT pg_reload_conf()");
    let words = "its transactions are read-only (default_transaction_read_only)";
    let reason = refusal(&store).await;
    assert!(reason.ends_with(words), "{reason}");
    let reason = attempt(&handle, 1).await.unwrap_err().chain();
    assert!(reason.ends_with(words), "{reason}");

    server.sql("ALTER SYSTEM RESET default_transaction_read_only");
    server.sql("SELECT pg_reload_conf()");
    e2e::wait::until("the new setting", ATTEMPT, || {
        let setting = server.sql("SHOW default_transaction_read_only");
        (setting == "off").then_some(())
    });
    assert_eq!(reserve(&handle, 1).await.first(), 11);
}

#[tokio::test]
async fn a_table_that_is_not_ours_is_refused_and_left_alone() {
    let Some(server) = start() else { return };
    let store = store(&server);
    let is = |table: &str| format!("CREATE {table}");
    for (table, words) in [
        (
            "TABLE numbers (id int PRIMARY KEY, phone text)",
            "it needs the columns name (text) and value (bigint)",
        ),
        (
            "TABLE numbers (name text PRIMARY KEY, value int)",
            "it needs the columns name (text) and value (bigint)",
        ),
        (
            "TABLE numbers (name text, value bigint)",
            "its column name needs a primary key or a unique index",
        ),
        (
            "TABLE numbers (name text, value bigint, PRIMARY KEY (name, value))",
            "its column name needs a primary key or a unique index",
        ),
        (
            "UNLOGGED TABLE numbers (name text PRIMARY KEY, value bigint)",
            "it is unlogged, so a crash would empty it and repeat all numbers",
        ),
        (
            "VIEW numbers AS SELECT 'numbers'::text AS name, 5::bigint AS value",
            "it is not an ordinary table",
        ),
    ] {
        server.sql(&is(table));
        let reason = refusal(&store).await;
        let words = format!("table numbers is not usable: {words}");
        assert!(reason.ends_with(&words), "{table}: {reason}");
        let kind = if table.starts_with("VIEW") {
            "VIEW"
        } else {
            "TABLE"
        };
        server.sql(&format!("DROP {kind} numbers"));
    }
    server.sql(&is(
        "TABLE numbers (value bigint, extra text, name varchar(63) UNIQUE)",
    ));
    assert_eq!(reserve(&store.clone(), 5).await.last(), 5);
}

#[tokio::test]
async fn a_table_that_another_transaction_is_making_is_not_waited_for_for_long() {
    let Some(server) = start() else { return };
    let making = "CREATE TABLE numbers (name text PRIMARY KEY, value bigint)";
    let other = crash::OtherSession::begin(&server, making).await;
    let handle = store(&server);
    let reason = handle.check().await.unwrap_err().chain();
    assert!(
        reason.contains("there is no table numbers, and it cannot be created: ")
            && reason.contains("another transaction holds"),
        "{reason}"
    );
    drop(other);
    assert_eq!(reserve(&handle, 1).await.first(), 1);
}

#[tokio::test]
async fn a_table_in_a_later_schema_of_the_search_path_is_not_shadowed() {
    let Some(server) = start() else { return };
    let store = store(&server);
    reserve(&store.clone(), 100).await;
    server.sql("CREATE SCHEMA postgres");
    assert_eq!(reserve(&store.clone(), 1).await.first(), 101);
}

#[tokio::test]
async fn a_stored_value_that_is_not_a_number_of_ours_is_refused_and_left_alone() {
    let Some(server) = start() else { return };
    server.sql("CREATE TABLE numbers (name text PRIMARY KEY, value bigint)");
    server.sql("INSERT INTO numbers VALUES ('numbers', 1)");
    let store = store(&server);
    let handle = store.clone();
    reserve(&handle, 1).await;
    let past = (MAX_NUMBER + 1).to_string();
    let most = i64::MAX.to_string();
    for value in ["-1", "null", &past, &most, &i64::MIN.to_string()] {
        server.sql(&format!("UPDATE numbers SET value = {value}"));
        let words = format!(
            "the value of \"numbers\" in table numbers is {value}, not a number from 0 to 2^53-1"
        );
        let reason = refusal(&store).await;
        assert!(reason.ends_with(&words), "{reason}");
        let reason = attempt(&handle, 1).await.unwrap_err().chain();
        assert!(reason.ends_with(&words), "{reason}");
        let left = server.sql("SELECT coalesce(value::text, 'null') FROM numbers");
        assert_eq!(left, value);
    }
    server.sql("UPDATE numbers SET value = 7");
    assert_eq!(reserve(&handle, 1).await.first(), 8);
}

#[tokio::test]
async fn an_answer_whose_commit_was_not_synchronous_is_not_used() {
    let Some(server) = start() else { return };
    let handle = store(&server);
    reserve(&handle, 1).await;
    // It stands for whatever changes the setting behind our back.
    server.sql(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM set_config('synchronous_commit', 'off', true); RETURN NEW; END $$",
    );
    server.sql("CREATE TRIGGER spoil BEFORE UPDATE ON numbers EXECUTE FUNCTION spoil()");
    let reason = attempt(&handle, 1).await.unwrap_err().chain();
    assert!(
        reason.contains("synchronous_commit is off in spite of our setting"),
        "{reason}"
    );
    server.sql("DROP TRIGGER spoil ON numbers");
    assert!(reserve(&handle, 1).await.first() > 1);
}

#[tokio::test]
async fn a_trigger_that_refuses_the_write_is_told_by_the_check_as_well() {
    let Some(server) = start() else { return };
    let store = store(&server);
    reserve(&store.clone(), 1).await;
    server.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE 'not on Sundays'; END $$",
    );
    for trigger in [
        "TRIGGER refuse BEFORE UPDATE ON numbers FOR EACH ROW",
        "CONSTRAINT TRIGGER refuse AFTER UPDATE ON numbers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
    ] {
        server.sql(&format!("CREATE {trigger} EXECUTE FUNCTION refuse()"));
        let reason = refusal(&store).await;
        let words = "not on Sundays; a trigger on table numbers refuses the write";
        assert!(reason.ends_with(words), "{reason}");
        server.sql("DROP TRIGGER refuse ON numbers");
    }
    assert_eq!(store.clone().check().await.unwrap(), 1);
}
