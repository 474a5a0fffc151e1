//! A row in a PostgreSQL database.
//!
//! One statement takes a block: it adds to the row's value and returns the sum. The row's lock
//! puts all replicas in line, and with `synchronous_commit = on` the answer comes after the
//! commit is on the disk. As each update waits for the commit before it, and commits are flushed
//! in order, a number that was answered cannot be lost without losing all later ones.
//!
//! It is not a PostgreSQL sequence: `nextval` in an autocommitted `SELECT` often writes nothing
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

pub use self::tls::SslMode;
use self::{
    fitness::{ensure, stored},
    problem::{PostgresError, Problem},
    session::Session,
    target::Target,
};
use super::Operations;
use crate::Settings;

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
    /// The sequence that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `PGSSLMODE` and `PGSSLROOTCERT` do not go together, or the file cannot be read.
    pub fn new(settings: &Settings, operations: Operations) -> Result<Self, BadSettings> {
        Ok(Self {
            target: Arc::new(Target::new(settings)?),
            name: settings.sequence.as_str().into(),
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

/// A sequence in a PostgreSQL database, over one connection that is kept between calls.
#[derive(Debug)]
pub struct PostgresSequence {
    store: PostgresStore,
    kept: Kept<Session>,
}

/// What a call over a good connection came to.
enum Outcome {
    /// The value that is now stored.
    Written(u64),
    Exhausted,
    Refused(Problem),
}

impl PostgresSequence {
    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut Session) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let open = async || Session::open(&self.store.target).await;
        let result = self.kept.call(open, call).await;
        result.map_err(|problem| self.unavailable(problem))
    }

    /// A call that writes; a problem that leaves the connection good is an outcome.
    async fn write(
        &self,
        call: impl AsyncFn(&mut Session) -> Result<Outcome, Problem>,
    ) -> Result<u64, Error> {
        let call = async |session: &mut Session| match call(session).await {
            Err(problem) if problem.keeps_connection() => Ok(Outcome::Refused(problem)),
            outcome => outcome,
        };
        match self.call(call).await? {
            Outcome::Written(value) => Ok(value),
            Outcome::Exhausted => Err(Error::Exhausted),
            Outcome::Refused(problem) => Err(self.unavailable(problem)),
        }
    }

    async fn reserve_over(&self, session: &mut Session, count: Count) -> Result<Outcome, Problem> {
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
            return Ok(Outcome::Written(durable_value(&row)?));
        }
        match stored(session, name).await? {
            Some(value) if Block::after(value, count).is_err() => Ok(Outcome::Exhausted),
            _ => Ok(Outcome::Refused(Problem::Changed)),
        }
    }

    async fn raise_over(&self, session: &mut Session, floor: u64) -> Result<Outcome, Problem> {
        let name = &*self.store.name;
        ensure(session, &self.store.target, name).await?;
        let statement = session.prepare(RAISE).await?;
        let floor = i64::try_from(floor.min(MAX_NUMBER)).unwrap_or(MAX_VALUE);
        self.store.operations.add_one();
        let row = session
            .write(&statement, &[&name, &floor, &MAX_VALUE])
            .await?;
        match row {
            Some(row) => Ok(Outcome::Written(durable_value(&row)?)),
            None => {
                stored(session, name).await?;
                Ok(Outcome::Refused(Problem::Changed))
            }
        }
    }

    fn unavailable(&self, problem: Problem) -> Error {
        Error::unavailable(PostgresError {
            address: Arc::clone(&self.store.target.address),
            problem,
        })
    }
}

/// The value that was written, if the commit waited until it was durable.
fn durable_value(row: &Row) -> Result<u64, Problem> {
    let (value, commit, fsync): (i64, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !matches!(commit, "on" | "remote_apply") {
        return Err(Problem::NotSynchronous(commit.to_owned()));
    }
    if fsync != "on" {
        return Err(Problem::NoFsync);
    }
    u64::try_from(value).map_err(|_| Problem::Strange(format!("the value is now {value}")))
}

#[async_trait(?Send)]
impl Sequence for PostgresSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let last = self
            .write(async |session| self.reserve_over(session, count).await)
            .await?;
        let first = (last + 1).checked_sub(count.get().into());
        let block = first.and_then(|first| Block::new(first, count).ok());
        block.ok_or_else(|| {
            // A trigger may have changed what was written; whatever it is, it is not ours.
            self.kept.give_up();
            self.unavailable(Problem::Strange(format!("the value is now {last}")))
        })
    }
}

#[async_trait(?Send)]
impl Store for PostgresSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.write(async |session| self.raise_over(session, floor).await)
            .await
            .map(drop)
    }

    async fn check(&self) -> Result<(), Error> {
        let (target, name) = (&self.store.target, &*self.store.name);
        self.call(async |session| ensure(session, target, name).await)
            .await
    }
}
