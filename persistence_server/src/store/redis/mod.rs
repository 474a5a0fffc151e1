//! The store in a Redis server.
//!
//! The sequence `numbers` is the key `sequence:numbers`, whose value is the last number taken as
//! plain decimal digits. A block is taken with `INCRBY`, inside a script that stops at the end of
//! the sequence.
//!
//! `INCRBY` alone does not keep the promise: a number that was answered comes back when the
//! server loses the write, in a crash without `appendfsync always` or in a fail-over to a replica
//! that did not have it yet. So each connection is inspected before it is used, again whenever
//! the readiness check finds an error, and with `REDIS_MIN_REPLICAS=k` a block that `k`
//! replicas did not confirm is thrown away.

mod connection;
mod failure;
mod inspection;
mod script;
mod server;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use chassis::BadSettings;
use redis::{Pipeline, Value};
use sequence::{Block, Count, Error, Kept, MAX_NUMBER, Sequence, Store};

use self::server::Server;
use self::{
    connection::Connection,
    failure::Failure,
    script::{RAISE, Reply, TAKE},
};
use super::Operations;
use crate::{RedisSettings, SequenceName};

/// How long the replicas get to confirm a write, in milliseconds. It leaves room for the rest of
/// a readiness check, which has 950 in all.
const CONFIRMATION_MS: u32 = 750;

/// A sequence in a Redis server, from which every thread takes its own handle.
#[derive(Clone, Debug)]
pub struct RedisStore(Arc<Server>);

impl RedisStore {
    /// The sequence in the server that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub fn open(
        settings: &RedisSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        let server = Server::new(settings, sequence, operations)?;
        Ok(Self(Arc::new(server)))
    }

    /// A handle for one thread, with a connection of its own; it connects at the first call.
    pub fn handle(&self) -> RedisSequence {
        RedisSequence {
            server: Arc::clone(&self.0),
            kept: Kept::new(),
        }
    }
}

/// One thread's handle of a sequence in a Redis server.
#[derive(Debug)]
pub struct RedisSequence {
    server: Arc<Server>,
    /// Owned by this handle alone, and closed with the call that fails or is dropped: replies
    /// carry no number of what they answer, so a late one must not meet another call.
    kept: Kept<Connection>,
}

impl RedisSequence {
    /// Asks over a connection that has been inspected since the last error.
    ///
    /// A refusal that came over a connection in good order is inside the result, so that the
    /// connection is kept and the same is not tried again at once.
    async fn ask<T>(
        &self,
        question: impl AsyncFn(&mut Connection) -> Result<Result<T, Error>, Failure>,
    ) -> Result<T, Error> {
        let open = async || Connection::open(&self.server).await;
        let call = async |connection: &mut Connection| {
            if connection.inspected != Some(self.server.suspicions())
                && let Err(refused) = self.inspect(connection).await?
            {
                return Ok(Err(refused));
            }
            question(connection).await
        };
        let answer = self.kept.call(open, call).await;
        answer.unwrap_or_else(|failure| Err(self.server.unavailable(failure)))
    }

    /// Makes sure that the server keeps the promise and takes writes. Returns the last number
    /// taken, and takes none.
    async fn inspect(&self, connection: &mut Connection) -> Result<Result<u64, Error>, Failure> {
        let now = self.server.suspicions();
        inspection::inspect(&self.server, connection).await?;
        let last = self.raise(connection, 0).await?;
        if last.is_ok() {
            connection.inspected = Some(now);
        }
        Ok(last)
    }

    /// Makes `floor` the last number taken if it is larger. Returns the last number taken.
    async fn raise(
        &self,
        connection: &mut Connection,
        floor: u64,
    ) -> Result<Result<u64, Error>, Failure> {
        let reply = self.write(connection, RAISE, floor).await?;
        Ok(reply.and_then(|reply| match reply {
            Reply::Last(last) => Ok(last),
            Reply::Stored(text) => Err(self.not_a_number(&text)),
        }))
    }

    /// Runs a script that writes, and waits for the replicas.
    async fn write(
        &self,
        connection: &mut Connection,
        script: &str,
        argument: u64,
    ) -> Result<Result<Reply, Error>, Failure> {
        let Server { key, rules, .. } = &*self.server;
        let mut commands = Pipeline::with_capacity(2);
        script::add(&mut commands, script, key, argument);
        if rules.replicas > 0 {
            // In the same breath: WAIT counts the writes of its own connection only.
            commands
                .cmd("WAIT")
                .arg(rules.replicas)
                .arg(CONFIRMATION_MS);
        }
        let mut replies = connection.exchange(&commands).await?.into_iter();
        let reply = Reply::read(key, replies.next())?;
        if rules.replicas > 0 {
            let confirmed = match replies.next() {
                Some(Value::Int(confirmed)) => confirmed,
                other => return Err(Failure::reply("WAIT", other)),
            };
            if confirmed < i64::from(rules.replicas) {
                // A replica that is promoted in a fail-over may not know of it, so no caller may
                // have it. The inspection before the next call takes no numbers.
                self.server.suspect();
                return Ok(Err(self.server.unavailable(Failure::Unconfirmed {
                    confirmed,
                    wanted: rules.replicas,
                    milliseconds: CONFIRMATION_MS,
                })));
            }
        }
        Ok(Ok(reply))
    }

    fn not_a_number(&self, stored: &str) -> Error {
        self.server.unavailable(Failure::NotANumber {
            key: self.server.key.clone(),
            text: format!("{stored:?}"),
        })
    }
}

#[async_trait(?Send)]
impl Sequence for RedisSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let take = async |connection: &mut Connection| {
            let wanted = u64::from(count.get());
            self.server.operations.add_one();
            let last = match self.write(connection, TAKE, wanted).await? {
                Ok(Reply::Last(last)) => last,
                Ok(Reply::Stored(text)) if script::is_number(&text) => {
                    return Ok(Err(Error::Exhausted));
                }
                Ok(Reply::Stored(text)) => return Ok(Err(self.not_a_number(&text))),
                Err(error) => return Ok(Err(error)),
            };
            // The script keeps the last number between the count and the end.
            let before = last.checked_sub(wanted);
            match before.map(|before| Block::after(before, count)) {
                Some(Ok(block)) => Ok(Ok(block)),
                _ => Err(Failure::Strange(format!("INCRBY answered {last}"))),
            }
        };
        self.ask(take).await
    }
}

#[async_trait(?Send)]
impl Store for RedisSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let raise =
            async |connection: &mut Connection| self.raise(connection, floor.min(MAX_NUMBER)).await;
        self.ask(raise).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        let inspect = async |connection: &mut Connection| self.inspect(connection).await;
        let open = async || Connection::open(&self.server).await;
        let checked = self.kept.call(open, inspect).await;
        let checked = checked.unwrap_or_else(|failure| Err(self.server.unavailable(failure)));
        if checked.is_err() {
            // What is wrong here may be wrong for connections that were good so far.
            self.server.suspect();
        }
        checked
    }
}
