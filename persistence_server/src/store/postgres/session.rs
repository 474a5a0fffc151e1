//! One connection to the server, and why it gives no number.
//!
//! The words of [`PostgresError`] are for the log and for readiness: one line, without secrets.

use std::{
    error::Error as _,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use sequence::Idle;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::UnixStream, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Connection, SimpleQueryMessage, SimpleQueryRow,
    error::{DbError, Severity, SqlState},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    super::{Stream, io_reason, one_line},
    PgHost, PostgresServer,
};

/// The oldest version that is taken.
///
/// `ON CONFLICT` came with 9.5. But only since 12 does every minor release end itself when an
/// fsync fails ("PANIC", `data_sync_retry`); older ones may try again and take the lie of the
/// kernel for success.
const MINIMUM: u32 = 12;

/// How long it may take to connect and log in: less than an attempt (2 s), so that the reason
/// can be told.
const OPEN: Duration = Duration::from_millis(1500);

const CLOSED: &str = "connection closed";

type Link =
    Connection<Box<dyn Stream>, <MakeRustlsConnect as MakeTlsConnect<Box<dyn Stream>>>::Stream>;

/// One connection. Dropping it closes the socket at once.
///
/// Nothing is set or prepared on it: behind a pooler, each transaction may go to another
/// connection of the server, which others use afterwards.
pub(super) struct Session {
    client: Client,
    /// Driven by the call that waits for an answer, and not by a task of its own: so no task has
    /// to be ended before the socket is closed.
    link: Link,
    /// The link has ended and must not be driven any more.
    ended: bool,
    pub(super) idle: bool,
    /// The last warning of the current call.
    warning: Option<String>,
    /// The server and its table were checked.
    pub(super) checked: bool,
}

impl Idle for Session {
    fn is_idle(&self) -> bool {
        self.idle
    }
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn open(server: &PostgresServer) -> Result<Self, PostgresError> {
        let login = async {
            let stream = connect(server)
                .await
                .map_err(|error| PostgresError::Connection(io_reason(&error)))?;
            let mut tls = server.tls.clone();
            let Ok(tls) =
                MakeTlsConnect::<Box<dyn Stream>>::make_tls_connect(&mut tls, server.host.as_str());
            Ok::<_, PostgresError>(server.config.connect_raw(stream, tls).await?)
        };
        let login = timeout(OPEN, login).await;
        let (client, link) = login.unwrap_or(Err(PostgresError::Silent(OPEN)))?;
        let version = link.parameter("server_version").unwrap_or("unknown");
        if major(version).is_none_or(|major| major < MINIMUM) {
            return Err(PostgresError::TooOld {
                found: version.to_owned(),
                minimum: MINIMUM,
            });
        }
        Ok(Self {
            client,
            link,
            ended: false,
            idle: true,
            warning: None,
            checked: false,
        })
    }

    /// Runs statements in one transaction that writes, and returns its row, if any.
    ///
    /// # Errors
    ///
    /// Also if the server warned meanwhile. A commit that was kept from waiting for its
    /// synchronous standby, say by `pg_cancel_backend`, counts as a success with a warning; the
    /// numbers of such an answer could come again after a failover.
    pub(super) async fn write(
        &mut self,
        statements: &str,
    ) -> Result<Option<SimpleQueryRow>, PostgresError> {
        self.warning = None;
        // The row comes before the commit; this waits for what comes after it, ReadyForQuery.
        let answer = self
            .run(async |client| client.simple_query(statements).await)
            .await?;
        if let Some(warning) = self.warning.take() {
            return Err(PostgresError::Warned(warning));
        }
        Ok(answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        }))
    }

    /// Runs a call of the client library, and the connection until the call is done.
    pub(super) async fn run<T>(
        &mut self,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, PostgresError> {
        if self.ended {
            return Err(PostgresError::Connection(CLOSED.to_owned()));
        }
        self.idle = false;
        let Self {
            client,
            link,
            ended,
            warning,
            ..
        } = self;
        let mut call = pin!(call(client));
        let result = poll_fn(|context| {
            let end = drive(link, warning, context);
            *ended = end.is_some();
            // A link that ended may have brought the answer, or the reason, in its last bytes.
            match (call.as_mut().poll(context), end) {
                (Poll::Ready(Ok(value)), _) => Poll::Ready(Ok(value)),
                (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error.into())),
                (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await;
        self.idle = !self.ended;
        result
    }
}

async fn connect(server: &PostgresServer) -> io::Result<Box<dyn Stream>> {
    let host = match &server.host {
        PgHost::Host(host) => host.as_str(),
        PgHost::Directory(path) => {
            let path = format!("{path}/.s.PGSQL.{}", server.port);
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
    };
    let stream = chassis::connect(host, server.port).await?;
    // Firewalls forget connections that are silent for minutes.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Box::new(stream))
}

/// Reads and writes as far as possible; the error if the link has come to its end.
fn drive(
    link: &mut Link,
    warning: &mut Option<String>,
    context: &mut Context<'_>,
) -> Option<PostgresError> {
    loop {
        match link.poll_message(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    *warning = Some(PostgresError::words(&notice));
                }
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Some(error.into()),
            Poll::Ready(None) => {
                return Some(PostgresError::Connection(CLOSED.to_owned()));
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

/// Why the server gives no number.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    /// The connection failed, or broke.
    #[error("{0}")]
    Connection(String),

    #[error(
        "no answer within {} ms; check that it is not overloaded, and that no firewall drops the \
         connection", .0.as_millis()
    )]
    Silent(Duration),

    /// The server answered with an error.
    #[error("{message}")]
    Server { code: SqlState, message: String },

    #[error("the server asks for a password, and PGPASSWORD is not set")]
    NoPassword,

    #[error("its version is {found}, and before {minimum} a failed fsync may be taken for success")]
    TooOld { found: String, minimum: u32 },

    /// What the [check](super::check) found.
    #[error("{0}")]
    Unfit(String),

    #[error("fsync is off, so a crash would repeat numbers; set fsync=on")]
    NoFsync,

    #[error(
        "synchronous_commit is {0} in spite of our setting, so a crash would repeat numbers; \
         remove what changes it, such as a trigger on table numbers"
    )]
    NotSynchronous(String),

    #[error("there is no table numbers, and it cannot be created: {0}")]
    NoTable(String),

    #[error("the value of {name:?} in table numbers is {value}, not a number from 0 to 2^53-1")]
    NotANumber { name: String, value: String },

    #[error("the row in table numbers was not written; a trigger may prevent it")]
    Changed,

    #[error("the row of {0:?} in table numbers was gone")]
    RowGone(String),

    /// A commit that did not wait for its standby is reported in this way, and as a success.
    #[error("the server warned, so its answer is not used: {0}")]
    Warned(String),

    #[error("the value in table numbers became {0}, which is not what was written")]
    UnexpectedReply(String),

    #[error("the sequence is exhausted")]
    Exhausted,
}

impl PostgresError {
    /// Whether the connection is still good: the server took the call in order, and with a new
    /// connection the same would have happened.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Changed | Self::RowGone(_) | Self::Exhausted => true,
            Self::Server { code, .. } => {
                [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code)
            }
            _ => false,
        }
    }

    /// Whether another session is creating the table at this moment, or just has.
    pub(super) fn is_creation_race(&self) -> bool {
        let Self::Server { code, .. } = self else {
            return false;
        };
        // `CREATE TABLE IF NOT EXISTS` looks before it takes a lock; the second one meets
        // the unique indexes of the catalogue.
        [
            SqlState::UNIQUE_VIOLATION,
            SqlState::DUPLICATE_TABLE,
            SqlState::DUPLICATE_OBJECT,
        ]
        .contains(code)
    }

    /// What the server said by itself, in a notice or an error, and what to do about it where
    /// that needs to be told.
    pub(super) fn words(error: &DbError) -> String {
        let advice = match *error.code() {
            SqlState::TOO_MANY_CONNECTIONS => {
                "; raise max_connections, or the limit of the user or the database: each process \
                 takes WORKERS + 1 connections"
            }
            SqlState::LOCK_NOT_AVAILABLE => {
                "; another transaction holds the row or the table numbers: end it (see \
                 pg_stat_activity, pg_blocking_pids)"
            }
            SqlState::RAISE_EXCEPTION => "; a trigger on table numbers refuses the write",
            SqlState::DISK_FULL => "; free space on the disk of the server",
            _ => "",
        };
        one_line(format_args!("{}{advice}", error.message()))
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::Server {
                code: answer.code().clone(),
                message: Self::words(answer),
            };
        }
        let Some(cause) = error.source() else {
            return Self::Connection(error.to_string());
        };
        if let Some(cause) = cause.downcast_ref::<io::Error>()
            && cause.raw_os_error().is_some()
        {
            return Self::Connection(io_reason(cause));
        }
        let cause = cause.to_string();
        if cause == "password missing" {
            return Self::NoPassword;
        }
        Self::Connection(one_line(format_args!("{error}: {cause}")))
    }
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
