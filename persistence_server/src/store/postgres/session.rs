//! One connection to the server, with everything set that our promise needs.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use tokio_postgres::{
    AsyncMessage, Client, Connection, Socket, Statement,
    error::Severity,
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{problem::Problem, target::Target};

/// The oldest version that is taken.
///
/// `ON CONFLICT` came with 9.5, and the timeouts below with 9.6. But only since 12 does every
/// minor release end itself when an fsync fails ("PANIC", `data_sync_retry`); older ones may try
/// again and take the lie of the kernel for success.
const MINIMUM: u32 = 12;

/// What every session begins with.
///
/// * A role, a database or the server may have other defaults for all of these.
/// * `synchronous_commit = on`: a commit waits for the disk, and for the disk of a synchronous
///   standby where one is configured. `remote_apply` would wait for more than the disk.
/// * `read committed`: stricter levels answer an update of a busy row with an error.
/// * `client_min_messages`: the warning that a commit did not wait for its standby must reach us.
/// * The timeouts are shorter than an attempt (2 s): a statement that nobody waits for any more
///   must not stay in the queue for the row.
/// * The keep-alives free the session of a client that vanished without a word.
const SETUP: &str = "\
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET client_min_messages = warning;
    SET lock_timeout = '1400ms';
    SET statement_timeout = '1500ms';
    SET idle_in_transaction_session_timeout = '1500ms';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3";

type Link = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// One connection. Dropping it closes the socket at once.
pub(super) struct Session {
    client: Client,
    /// Driven by whoever waits for an answer, and not by a task of its own: so no task has to be
    /// ended before the socket is closed.
    link: Link,
    /// The link has ended and must not be driven any more.
    ended: bool,
    /// The last warning since somebody looked.
    warning: Option<String>,
    /// The statement that reserves, once the server was found fit for it.
    pub(super) reserve: Option<Statement>,
}

impl Session {
    /// Connects, logs in and sets what is needed.
    pub(super) async fn open(target: &Target) -> Result<Self, Problem> {
        let (client, link) = target.config.connect(target.tls.clone()).await?;
        let version = link.parameter("server_version").unwrap_or("unknown");
        if major(version).is_none_or(|major| major < MINIMUM) {
            return Err(Problem::TooOld {
                found: version.to_owned(),
                minimum: MINIMUM,
            });
        }
        let mut session = Self {
            client,
            link,
            ended: false,
            warning: None,
            reserve: None,
        };
        session
            .run(async |client| client.batch_execute(SETUP).await)
            .await?;
        Ok(session)
    }

    /// Prepares a statement that takes a name and two integers.
    pub(super) async fn prepare(&mut self, sql: &str) -> Result<Statement, Problem> {
        let types = [Type::TEXT, Type::INT8, Type::INT8];
        self.run(async |client| client.prepare_typed(sql, &types).await)
            .await
    }

    /// Runs a prepared statement that writes and returns at most one row.
    ///
    /// # Errors
    ///
    /// Also if the server warned meanwhile. A commit that was kept from waiting for its
    /// synchronous standby, say by `pg_cancel_backend`, counts as a success with a warning; the
    /// numbers of such an answer could come again after a failover.
    pub(super) async fn write(
        &mut self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<tokio_postgres::Row>, Problem> {
        self.warning = None;
        // The row comes before the commit; this waits for what comes after it, ReadyForQuery.
        let row = self
            .run(async |client| client.query_opt(statement, parameters).await)
            .await?;
        match self.warning.take() {
            Some(warning) => Err(Problem::Warned(warning)),
            None => Ok(row),
        }
    }

    /// Runs a call of the client library, and the connection until the call is done.
    pub(super) async fn run<T>(
        &mut self,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Problem> {
        if self.ended {
            return Err(Problem::Connection("connection closed".to_owned()));
        }
        let Self {
            client,
            link,
            ended,
            warning,
            ..
        } = self;
        let mut call = pin!(call(client));
        poll_fn(|context| {
            let end = drive(link, warning, context);
            *ended = end.is_some();
            // A link that ended may have brought the answer, or the reason, in its last bytes.
            match (call.as_mut().poll(context), end) {
                (Poll::Ready(Ok(value)), _) => Poll::Ready(Ok(value)),
                (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error.into())),
                (Poll::Pending, Some(problem)) => Poll::Ready(Err(problem)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("ended", &self.ended)
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// Reads and writes as far as possible; some problem if the link has come to its end.
fn drive(
    link: &mut Link,
    warning: &mut Option<String>,
    context: &mut Context<'_>,
) -> Option<Problem> {
    loop {
        match link.poll_message(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    *warning = Some(Problem::words(&notice));
                }
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Some(error.into()),
            Poll::Ready(None) => {
                return Some(Problem::Connection("connection closed".to_owned()));
            }
            Poll::Pending => return None,
        }
    }
}

/// The first number of a version such as `15.18 (Debian 15.18-0+deb12u1)` or `18beta1`.
fn major(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version[..digits.unwrap_or(version.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        for (version, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("18beta1", Some(18)),
            ("9.6.24", Some(9)),
            ("12", Some(12)),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(major(version), number, "{version}");
        }
    }
}
