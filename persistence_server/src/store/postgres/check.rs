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

/// What is wrong with the server and with the table, in one row; null where nothing is.
///
/// * The table is the one that the search path finds; `CREATE TABLE IF NOT EXISTS` looks only at
///   the first schema there, and would shadow one in the second.
/// * `indimmediate`: a deferrable constraint cannot decide a conflict.
/// * Of other users' sessions `pg_stat_activity` tells nothing, of this user's it does. A commit
///   of ours that waits for a standby has the row locked, and all others wait for it.
const INSPECT: &str = "\
    SELECT current_setting('full_page_writes') = 'off'
               OR COALESCE(current_setting('data_sync_retry', true), 'off') = 'on' AS is_risky,
           CASE
               WHEN pg_is_in_recovery()
               THEN 'it is a hot standby, which takes no writes'
               WHEN current_setting('transaction_read_only') = 'on'
               THEN 'its transactions are read-only (default_transaction_read_only)'
               WHEN current_setting('fsync') = 'off'
               THEN 'fsync is off, so a crash would repeat numbers; set fsync=on'
               WHEN EXISTS (
                   SELECT FROM pg_stat_activity
                   WHERE usename = current_user AND application_name = $1
                     AND wait_event = 'SyncRep'
                     AND query_start < clock_timestamp() - interval '1 second'
               )
               THEN 'commits wait for a synchronous standby (synchronous_standby_names) that does \
                     not answer'
           END AS server,
           t.oid IS NOT NULL AS exists,
           t.oid IS NOT NULL AND c.oid IS NULL AS is_too_new,
           CASE
               WHEN c.relkind <> 'r'
               THEN 'table numbers is not usable: it is not an ordinary table'
               WHEN c.relpersistence <> 'p'
               THEN 'table numbers is not usable: it is unlogged, so a crash would empty it and \
                     repeat all numbers'
               WHEN (
                   n.atttypid IN ('text'::regtype, 'varchar'::regtype)
                   AND v.atttypid = 'bigint'::regtype
               ) IS NOT TRUE
               THEN 'table numbers is not usable: it needs the columns name (text) and value \
                     (bigint)'
               WHEN NOT EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate
                     AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1
                     AND i.indkey[0] = n.attnum
               )
               THEN 'table numbers is not usable: its column name needs a primary key or a unique \
                     index'
               WHEN (
                   has_table_privilege(c.oid, 'SELECT')
                   AND has_column_privilege(c.oid, n.attnum, 'INSERT')
                   AND has_column_privilege(c.oid, v.attnum, 'INSERT')
                   AND has_column_privilege(c.oid, v.attnum, 'UPDATE')
               ) IS NOT TRUE
               THEN 'permission denied for table numbers: the user needs SELECT, INSERT and UPDATE \
                     on it'
           END AS table
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
    if row.try_get("is_risky")? && !server.warned.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "postgres at {}: full_page_writes is off or data_sync_retry is on; where the file \
             system does not make up for it, a crash may damage the table",
            server.address
        );
    }
    if let Some(why) = row.try_get("server")? {
        return Err(PostgresError::Unfit(why));
    }
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
    if !row.try_get::<_, bool>("exists")? || row.try_get("is_too_new")? {
        return Err(PostgresError::Changed);
    }
    row.try_get::<_, Option<String>>("table")?
        .map_or(Ok(()), |why| Err(PostgresError::Unfit(why)))
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
