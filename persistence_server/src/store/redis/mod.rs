//! The store in a Redis server.
//!
//! The sequence `numbers` is the key `sequence:numbers`, whose value is the last number taken as
//! plain decimal digits. A block is taken with `INCRBY`, inside a script that stops at the end of
//! the sequence.
//!
//! `INCRBY` alone does not keep the promise: a number that was answered comes back when the
//! server loses the write, in a crash without `appendfsync always` or in a fail-over to a replica
//! that did not have it yet. So each connection is inspected before it is used, again whenever
//! the readiness check finds something wrong, and with `REDIS_MIN_REPLICAS=k` a block that `k`
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
    script::{RAISE, Stored, TAKE},
};
use super::Operations;
use crate::{RedisSettings, SequenceName};

/// How long the replicas get to confirm a write, in milliseconds. It leaves room for connecting
/// within the two seconds that one attempt may take.
const CONFIRMATION_MS: u32 = 1000;

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
    /// Asks over a connection that has been inspected since something was last found wrong.
    async fn ask<T>(
        &self,
        question: impl AsyncFn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let open = async || Connection::open(&self.server).await;
        let call = async |connection: &mut Connection| {
            let now = self.server.suspicions();
            if connection.inspected != Some(now) {
                inspection::inspect(&self.server, connection).await?;
                connection.inspected = Some(now);
            }
            question(connection).await
        };
        let answer = self.kept.call(open, call).await;
        answer.map_err(|failure| self.server.unavailable(failure))
    }

    /// Runs a script that writes, and waits for the replicas.
    ///
    /// A refusal that came over a connection in good order is inside the result, so that the
    /// connection is kept and the write is not tried again at once.
    async fn write(
        &self,
        connection: &mut Connection,
        script: &str,
        argument: u64,
    ) -> Result<Result<Value, Failure>, Failure> {
        self.server.operations.add_one();
        let replicas = self.server.rules.replicas;
        let mut commands = Pipeline::with_capacity(2);
        script::add(&mut commands, script, &self.server.key, argument);
        if replicas > 0 {
            // In the same breath: WAIT counts the writes of its own connection only.
            commands.cmd("WAIT").arg(replicas).arg(CONFIRMATION_MS);
        }
        let mut replies = connection.exchange(&commands).await?.into_iter();
        let reply = script::reply(replies.next())?;
        if replicas > 0 {
            let confirmed = match replies.next() {
                Some(Value::Int(confirmed)) => confirmed,
                other => return Err(Failure::reply("WAIT", other)),
            };
            if confirmed < i64::from(replicas) {
                // A replica that is promoted in a fail-over may not know of it: nobody may have
                // it. The inspection before the next call costs no numbers.
                self.server.suspect();
                return Ok(Err(Failure::Unconfirmed {
                    confirmed,
                    wanted: replicas,
                }));
            }
        }
        Ok(Ok(reply))
    }
}

#[async_trait(?Send)]
impl Sequence for RedisSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let take = async |connection: &mut Connection| {
            let wanted = u64::from(count.get());
            match self.write(connection, TAKE, wanted).await? {
                Err(failure) => Ok(Err(self.server.unavailable(failure))),
                Ok(Value::Int(last)) => {
                    // The script keeps the last number between the count and the end.
                    let before = u64::try_from(last).ok().and_then(|l| l.checked_sub(wanted));
                    match before.map(|before| Block::after(before, count)) {
                        Some(Ok(block)) => Ok(Ok(block)),
                        _ => Err(Failure::Strange(format!("INCRBY answered {last}"))),
                    }
                }
                Ok(other) => match Stored::read(other)? {
                    Stored::Number(_) => Ok(Err(Error::Exhausted)),
                    Stored::Strange(text) => {
                        let key = self.server.key.clone();
                        let failure = Failure::NotANumber { key, text };
                        Ok(Err(self.server.unavailable(failure)))
                    }
                },
            }
        };
        self.ask(take).await?
    }
}

#[async_trait(?Send)]
impl Store for RedisSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let floor = floor.min(MAX_NUMBER);
        let raise = async |connection: &mut Connection| {
            let raised = self.write(connection, RAISE, floor).await?;
            let checked =
                raised.and_then(|reply| script::expect_number(&self.server.key, Some(reply)));
            Ok(checked
                .map(drop)
                .map_err(|failure| self.server.unavailable(failure)))
        };
        self.ask(raise).await?
    }

    async fn check(&self) -> Result<u64, Error> {
        let inspect = async |connection: &mut Connection| {
            let now = self.server.suspicions();
            let last = inspection::inspect(&self.server, connection).await?;
            connection.inspected = Some(now);
            Ok(last)
        };
        let open = async || Connection::open(&self.server).await;
        let checked = self.kept.call(open, inspect).await;
        checked.map_err(|failure| {
            // What is wrong here may be wrong for connections that were good so far.
            self.server.suspect();
            self.server.unavailable(failure)
        })
    }
}
