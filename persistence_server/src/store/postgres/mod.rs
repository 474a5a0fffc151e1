//! A row in a Postgres database.
//!
//! One statement takes a block: it adds to the row's value and returns the sum. The row's lock
//! puts all replicas in line, and with `synchronous_commit = on` the answer comes after the
//! commit is on the disk. As each update waits for the commit before it, and commits are flushed
//! in order, a number that was answered cannot be lost without losing all later ones.
//!
//! It is not a Postgres sequence: `nextval` in an autocommitted `SELECT` often writes nothing
//! by itself, so it waits for no disk, and after a crash the same value came again.

mod fitness;
mod problem;
mod session;
mod target;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use chassis::BadSettings;
use sequence::{Block, Count, Error, Kept, MAX_NUMBER, Sequence, Store};
use tokio_postgres::Row;

use self::{
    fitness::{ensure, stored},
    problem::{PostgresError, Problem},
    session::Session,
    target::Target,
};
pub use self::{target::PgHost, tls::SslMode};
use super::Operations;
use crate::{PostgresSettings, SequenceName};

/// What the sessions call themselves, in `pg_stat_activity`.
const APPLICATION: &str = env!("CARGO_PKG_NAME");

/// Takes `$2` numbers unless the value is past `$3`. No row comes back if it is, or if it is no
/// number of ours; nothing is taken then.
///
/// The settings come back with it, from the transaction that commits it: they could have been
/// changed behind our back.
const RESERVE: &str = "\
    INSERT INTO numbers AS stored (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = stored.value + excluded.value
    WHERE stored.value BETWEEN 0 AND $3
    RETURNING value, current_setting('synchronous_commit'), current_setting('fsync')";

/// Moves the value up to `$2`, and never back. Also where it changes nothing it is a write that
/// is flushed, and with it all that was read.
const RAISE: &str = "\
    INSERT INTO numbers AS stored (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = GREATEST(stored.value, excluded.value)
    WHERE stored.value BETWEEN 0 AND $3
    RETURNING value, current_setting('synchronous_commit'), current_setting('fsync')";

/// The largest value, as the database has it.
const MAX_VALUE: i64 = MAX_NUMBER as i64;

/// Where the sequence is, from which every thread takes its own handle.
#[derive(Clone)]
pub struct PostgresStore {
    target: Arc<Target>,
    name: Arc<str>,
    operations: Operations,
}

impl PostgresStore {
    /// The sequence in the database that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `PGSSLMODE` and `PGSSLROOTCERT` do not go together, or the file cannot be read.
    pub fn open(
        settings: &PostgresSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        Ok(Self {
            target: Arc::new(Target::new(settings)?),
            name: sequence.as_str().into(),
            operations,
        })
    }

    /// A handle for one thread; it connects at its first call.
    pub fn handle(&self) -> PostgresSequence {
        PostgresSequence {
            store: self.clone(),
            kept: Kept::new(),
        }
    }
}

/// Neither the password nor anything else that the client library keeps.
impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.target.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A sequence in a Postgres database, over one connection that is kept between calls.
#[derive(Debug)]
pub struct PostgresSequence {
    store: PostgresStore,
    kept: Kept<Session>,
}

impl PostgresSequence {
    /// Makes a call over the kept connection, or a new one.
    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut Session) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let open = async || Session::open(&self.store.target).await;
        let call = async |session: &mut Session| match call(session).await {
            Err(problem) if problem.keeps_connection() => Ok(Err(problem)),
            result => result.map(Ok),
        };
        let result = self.kept.call(open, call).await;
        result.flatten().map_err(|problem| {
            Error::unavailable(PostgresError {
                address: Arc::clone(&self.store.target.address),
                problem,
            })
        })
    }

    /// Takes a block; none if the sequence ends before it does.
    async fn reserve_over(
        &self,
        session: &mut Session,
        count: Count,
    ) -> Result<Option<Block>, Problem> {
        let name = &*self.store.name;
        let statement = match &session.reserve {
            Some(prepared) => prepared.clone(),
            None => {
                ensure(session, &self.store.target, name).await?;
                let prepared = session.prepare(RESERVE).await?;
                session.reserve.insert(prepared).clone()
            }
        };
        let wanted = i64::from(count.get());
        self.store.operations.add_one();
        let row = session
            .write(&statement, &[&name, &wanted, &(MAX_VALUE - wanted)])
            .await?;
        if let Some(row) = row {
            let value = durable_value(&row)?;
            let before = u64::try_from(value - wanted).ok();
            let block = before.and_then(|before| Block::after(before, count).ok());
            // A trigger may have changed what was written; whatever it is, it is not ours.
            return block.map(Some).ok_or(Problem::Strange(value));
        }
        match stored(session, name).await? {
            Some(value) if Block::after(value, count).is_err() => Ok(None),
            _ => Err(Problem::Changed),
        }
    }

    async fn raise_over(&self, session: &mut Session, floor: u64) -> Result<(), Problem> {
        let name = &*self.store.name;
        ensure(session, &self.store.target, name).await?;
        let statement = session.prepare(RAISE).await?;
        let floor = i64::try_from(floor).map_or(MAX_VALUE, |floor| floor.min(MAX_VALUE));
        self.store.operations.add_one();
        let row = session
            .write(&statement, &[&name, &floor, &MAX_VALUE])
            .await?
            .ok_or(Problem::Changed)?;
        let value = durable_value(&row)?;
        (value >= floor)
            .then_some(())
            .ok_or(Problem::Strange(value))
    }
}

/// The value that was written, if the commit waited until it was durable.
fn durable_value(row: &Row) -> Result<i64, Problem> {
    let (value, commit, fsync): (i64, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !matches!(commit, "on" | "remote_apply") {
        return Err(Problem::NotSynchronous(commit.to_owned()));
    }
    if fsync != "on" {
        return Err(Problem::NoFsync);
    }
    Ok(value)
}

#[async_trait(?Send)]
impl Sequence for PostgresSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let block = self
            .call(async |session| self.reserve_over(session, count).await)
            .await?;
        block.ok_or(Error::Exhausted)
    }
}

#[async_trait(?Send)]
impl Store for PostgresSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.call(async |session| self.raise_over(session, floor).await)
            .await
    }

    async fn check(&self) -> Result<u64, Error> {
        let (target, name) = (&self.store.target, &*self.store.name);
        self.call(async |session| {
            ensure(session, target, name).await?;
            Ok(stored(session, name).await?.unwrap_or(0))
        })
        .await
    }
}
