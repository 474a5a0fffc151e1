//! The store in etcd: one key that holds the last number taken.
//!
//! A reservation is one transaction: if the key still holds what was last seen there, put that
//! plus the count, else read it; and try again with what was read. The comparison is with the
//! value itself, not with the key's revision: revisions start again lower in a cluster that was
//! restored from a backup, and one that was seen before would then name another value.
//!
//! Nothing rests on leases or locks. After an answer that did not come, the numbers may have been
//! taken; then the next comparison fails, reads the newer value, and leaves a gap.

mod cluster;
mod connection;
mod durability;
mod endpoints;
mod messages;
mod problem;
mod server;
mod transaction;
mod value;
mod version;

use std::{
    cell::Cell,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chassis::BadSettings;
use sequence::{Block, Count, Error, Kept, Sequence, Store};
use tracing::info;

pub use self::endpoints::Endpoints;
use self::{
    cluster::Cluster, connection::Connection, problem::Problem, transaction::Swap, value::Value,
};
use super::Operations;
use crate::{EtcdSettings, SequenceName};

/// How often a reservation tries again because others took numbers in between.
///
/// It tries again at once: whoever just succeeded knows the value too, and one that pauses comes
/// too late. Each round is somebody's success, so this many in a row are bad luck.
const ROUNDS: u32 = 100;

/// A sequence in etcd, from which every thread takes its own handle. A clone is the same one.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    cluster: Arc<Cluster>,
    key: Arc<str>,
    operations: Operations,
}

impl EtcdStore {
    /// The sequence in the cluster that the settings describe. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub fn open(
        settings: &EtcdSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        Ok(Self {
            cluster: Arc::new(Cluster::new(settings)?),
            key: format!("sequence/{}", sequence.as_str()).into(),
            operations,
        })
    }

    /// A handle for one thread, with a connection of its own that it opens when it needs one.
    pub fn handle(&self) -> EtcdSequence {
        // So that not all handles of all replicas sit on the first member.
        let next = fastrand::usize(..self.cluster.size());
        EtcdSequence {
            shared: self.clone(),
            kept: Kept::new(),
            next: Cell::new(next),
        }
    }
}

/// One thread's handle to a sequence in etcd.
#[derive(Debug)]
pub struct EtcdSequence {
    shared: EtcdStore,
    kept: Kept<Connection>,
    /// Which member to connect to next.
    next: Cell<usize>,
}

/// What became of the last number taken.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// It was this, and is now what was wanted.
    From(u64),
    /// As before, but others moved it first. The last round took so long.
    AfterOthersFrom(u64, Duration),
    /// It stays where it is.
    Stays,
}

impl EtcdSequence {
    /// Moves the last number taken to where `target` wants it, given where it is; `None` leaves
    /// it there. Returns where it was, or nothing if it stays there.
    async fn advance(&self, target: impl Fn(u64) -> Option<u64>) -> Result<Option<u64>, Error> {
        let mut turn = self.shared.cluster.turn().await;
        let advance =
            async |connection: &mut Connection| self.advance_on(connection, &target).await;
        match self.call(advance).await? {
            Move::From(last) => Ok(Some(last)),
            Move::AfterOthersFrom(last, round_trip) => {
                turn.let_others_go_first(round_trip);
                Ok(Some(last))
            }
            Move::Stays => Ok(None),
        }
    }

    async fn advance_on(
        &self,
        connection: &mut Connection,
        target: &impl Fn(u64) -> Option<u64>,
    ) -> Result<Move, Problem> {
        let EtcdStore {
            cluster,
            key,
            operations,
        } = &self.shared;
        let mut value = cluster.seen();
        let mut is_current = false;
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let found = match target(value.last()) {
                Some(last) => {
                    operations.add_one();
                    match connection.swap(key, value, last).await? {
                        Swap::Done => {
                            cluster.see(Value::Last(last));
                            if value == Value::Absent {
                                let key = &**key;
                                info!(
                                    key,
                                    "STORE=etcd: the key does not exist yet; a new sequence begins"
                                );
                            }
                            return Ok(match is_current {
                                false => Move::From(value.last()),
                                true => Move::AfterOthersFrom(value.last(), begin.elapsed()),
                            });
                        }
                        Swap::Found(found) => found,
                    }
                }
                None if is_current => return Ok(Move::Stays),
                // What was seen some time ago is no reason to refuse.
                None => connection.probe(key).await?,
            };
            cluster.see(found);
            value = found;
            is_current = true;
        }
        Err(Problem::Contended(ROUNDS))
    }

    /// Calls `call` with a connection, and keeps that for the next call if it is still good.
    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut Connection) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let open = async || self.shared.cluster.connect(&self.next).await;
        let call = async |connection: &mut Connection| {
            let result = async {
                if connection.is_in_doubt() {
                    return Err(Problem::InDoubt);
                }
                connection.require_durability(&self.shared.key).await?;
                call(connection).await
            };
            let result = result.await;
            match result {
                Ok(done) => {
                    connection.confirm();
                    Ok(Ok(done))
                }
                Err(problem) if problem.is_an_answer() => {
                    connection.confirm();
                    Ok(Err(Trouble(vec![connection.server().error(problem)])))
                }
                Err(problem) => Err(Trouble(vec![connection.server().error(problem)])),
            }
        };
        let result = self.kept.call(open, call).await;
        result.flatten().map_err(|trouble| {
            let is_loss = |error: &ServerError| matches!(error.problem, Problem::Restored { .. });
            match trouble.0.iter().any(is_loss) {
                true => Error::regressed(trouble),
                false => Error::unavailable(trouble),
            }
        })
    }
}

#[async_trait(?Send)]
impl Sequence for EtcdSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let target = |last| Block::after(last, count).map(Block::last).ok();
        match self.advance(target).await? {
            Some(last) => Ok(Block::after(last, count)?),
            None => Err(Error::Exhausted),
        }
    }
}

#[async_trait(?Send)]
impl Store for EtcdSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let floor = floor.min(sequence::MAX_NUMBER);
        let target = |last| (last < floor).then_some(floor);
        self.advance(target).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        let probe = async |connection: &mut Connection| connection.probe(&self.shared.key).await;
        Ok(self.call(probe).await?.last())
    }
}

/// A problem, and the server that has it.
#[derive(Debug, thiserror::Error)]
#[error("etcd at {url}: {problem}")]
struct ServerError {
    url: String,
    problem: Problem,
}

/// What kept a call from being done: the problems of all servers that were tried.
#[derive(Debug)]
struct Trouble(Vec<ServerError>);

impl std::error::Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
