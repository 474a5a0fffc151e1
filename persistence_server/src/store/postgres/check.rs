//! The check of the server and its table: whether they can keep our promise.

use std::sync::atomic::Ordering;

use sequence::MAX_NUMBER;
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

use super::{
    APPLICATION, PostgresServer,
    session::{PostgresError, Session},
};

/// The table: one row for each sequence, with the last number that is taken. Another transaction
/// that makes it, and stays open, is not waited for by one session after the other.
const CREATE: &str = "\
    SET LOCAL lock_timeout = 600;
    CREATE TABLE IF NOT EXISTS numbers (
        name text PRIMARY KEY,
        value bigint NOT NULL CHECK (value BETWEEN 0 AND 9007199254740991)
    )";

/// Everything about the server and the table, in one row.
///
/// * The table is the one that the search path finds; `CREATE TABLE IF NOT EXISTS` looks only at
///   the first schema there, and would shadow one in the second.
/// * `indimmediate`: a deferrable constraint cannot decide a conflict.
/// * Of other users' sessions `pg_stat_activity` tells nothing, of this user's it does. A commit
///   of ours that waits for a standby has the row locked, and all others wait for it.
const INSPECT: &str = "\
    SELECT pg_is_in_recovery() AS in_recovery,
           current_setting('transaction_read_only') = 'on' AS read_only,
           current_setting('fsync') = 'on' AS fsync,
           current_setting('full_page_writes') = 'on' AS full_page_writes,
           COALESCE(current_setting('data_sync_retry', true), 'off') = 'on' AS data_sync_retry,
           EXISTS (
               SELECT FROM pg_stat_activity
               WHERE usename = current_user AND application_name = $1 AND wait_event = 'SyncRep'
                 AND query_start < clock_timestamp() - interval '1 second'
           ) AS no_standby,
           t.oid IS NOT NULL AS exists,
           t.oid IS NOT NULL AND c.oid IS NULL AS is_too_new,
           c.relkind = 'r' AS is_table,
           c.relpersistence = 'p' AS is_logged,
           COALESCE(n.atttypid IN ('text'::regtype, 'varchar'::regtype), false)
               AND COALESCE(v.atttypid = 'bigint'::regtype, false) AS has_columns,
           EXISTS (
               SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                 AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = n.attnum
           ) AS is_unique,
           COALESCE(
               has_table_privilege(c.oid, 'SELECT')
               AND has_column_privilege(c.oid, n.attnum, 'INSERT')
               AND has_column_privilege(c.oid, v.attnum, 'INSERT')
               AND has_column_privilege(c.oid, v.attnum, 'UPDATE'), false
           ) AS has_rights
    FROM (SELECT to_regclass('numbers') AS oid) t
    LEFT JOIN pg_class c ON c.oid = t.oid
    LEFT JOIN pg_attribute n ON n.attrelid = c.oid AND n.attname = 'name' AND NOT n.attisdropped
    LEFT JOIN pg_attribute v ON v.attrelid = c.oid AND v.attname = 'value' AND NOT v.attisdropped";

/// Checks that the table can be written to, and makes it if it is missing.
pub(super) async fn ensure(
    session: &mut Session,
    server: &PostgresServer,
) -> Result<(), PostgresError> {
    let mut row = inspect(session).await?;
    check_server(&row, server)?;
    if !row.try_get::<_, bool>("exists")? {
        let created = session
            .run(async |client| client.batch_execute(CREATE).await)
            .await;
        match created {
            Err(error @ PostgresError::Server { .. }) if !error.is_creation_race() => {
                return Err(PostgresError::NoTable(error.to_string()));
            }
            Err(error) if !error.is_creation_race() => return Err(error),
            // The session that was first has made the same table.
            _ => {}
        }
        row = inspect(session).await?;
    }
    check_table(&row)
}

/// The last number that is taken; none if the sequence is new.
///
/// # Errors
///
/// Also if what is stored is not such a number.
pub(super) async fn stored(
    session: &mut Session,
    name: &str,
) -> Result<Option<u64>, PostgresError> {
    const SQL: &str = "SELECT value FROM numbers WHERE name = $1";
    let row = session
        .run(async |client| client.query_typed_opt(SQL, &[(&name, Type::TEXT)]).await)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let value: Option<i64> = row.try_get(0)?;
    let number = value.and_then(|value| u64::try_from(value).ok());
    match number.filter(|number| *number <= MAX_NUMBER) {
        Some(number) => Ok(Some(number)),
        None => Err(PostgresError::NotANumber {
            name: name.to_owned(),
            value: value.map_or("null".to_owned(), |value| value.to_string()),
        }),
    }
}

async fn inspect(session: &mut Session) -> Result<Row, PostgresError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&APPLICATION, Type::TEXT)];
    let look = async |client: &Client| client.query_typed_one(INSPECT, &parameters).await;
    let row = session.run(look).await?;
    if row.try_get("is_too_new")? {
        // The search path leads to what is there now, everything else is as at the start of the
        // statement; the table came in between.
        return session.run(look).await;
    }
    Ok(row)
}

fn check_server(row: &Row, server: &PostgresServer) -> Result<(), PostgresError> {
    let is = |column: &str| row.try_get::<_, bool>(column);
    if is("in_recovery")? {
        return Err(PostgresError::InRecovery);
    }
    if is("read_only")? {
        return Err(PostgresError::ReadOnly);
    }
    if !is("fsync")? {
        return Err(PostgresError::NoFsync);
    }
    let risky = !is("full_page_writes")? || is("data_sync_retry")?;
    if risky && !server.warned.swap(true, Ordering::Relaxed) {
        let address = &*server.address;
        tracing::warn!(
            "postgres at {address}: full_page_writes is off or data_sync_retry is on; where the \
             file system does not make up for it, a crash may damage the table"
        );
    }
    if is("no_standby")? {
        return Err(PostgresError::NoStandby);
    }
    Ok(())
}

fn check_table(row: &Row) -> Result<(), PostgresError> {
    // Everything about a table that is not there is null.
    let is = |column: &str| {
        row.try_get::<_, Option<bool>>(column)
            .map(Option::unwrap_or_default)
    };
    let error = if !is("exists")? || is("is_too_new")? {
        PostgresError::Changed
    } else if !is("is_table")? {
        PostgresError::WrongTable("it is not an ordinary table")
    } else if !is("is_logged")? {
        PostgresError::WrongTable(
            "it is unlogged, so a crash would empty it and repeat all numbers",
        )
    } else if !is("has_columns")? {
        PostgresError::WrongTable("it needs the columns name (text) and value (bigint)")
    } else if !is("is_unique")? {
        PostgresError::WrongTable("its column name needs a primary key or a unique index")
    } else if !is("has_rights")? {
        PostgresError::NoRights
    } else {
        return Ok(());
    };
    Err(error)
}
