//! One connection to the server.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, SimpleQueryMessage, SimpleQueryRow, error::Severity,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    problem::Problem,
    target::{PgHost, Target},
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

/// A TCP connection or a Unix socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Link =
    Connection<Box<dyn Stream>, <MakeRustlsConnect as MakeTlsConnect<Box<dyn Stream>>>::Stream>;

/// One connection. Dropping it closes the socket at once.
///
/// Nothing is set or prepared on it: behind a pooler, each transaction may go to another
/// connection of the server, which others use afterwards.
pub(super) struct Session {
    client: Client,
    /// Driven by whoever waits for an answer, and not by a task of its own: so no task has to be
    /// ended before the socket is closed.
    link: Link,
    /// The link has ended and must not be driven any more.
    ended: bool,
    /// The last warning since somebody looked.
    warning: Option<String>,
    /// The server and its table were inspected.
    pub(super) inspected: bool,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn open(target: &Target) -> Result<Self, Problem> {
        let login = async {
            let stream = connect(target).await.map_err(|error| Problem::io(&error))?;
            let mut tls = target.tls.clone();
            let Ok(tls) =
                MakeTlsConnect::<Box<dyn Stream>>::make_tls_connect(&mut tls, target.host.as_str());
            Ok::<_, Problem>(target.config.connect_raw(stream, tls).await?)
        };
        let login = timeout(OPEN, login).await;
        let (client, link) = login.unwrap_or(Err(Problem::Silent(OPEN)))?;
        let version = link.parameter("server_version").unwrap_or("unknown");
        if major(version).is_none_or(|major| major < MINIMUM) {
            return Err(Problem::TooOld {
                found: version.to_owned(),
                minimum: MINIMUM,
            });
        }
        Ok(Self {
            client,
            link,
            ended: false,
            warning: None,
            inspected: false,
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
    ) -> Result<Option<SimpleQueryRow>, Problem> {
        self.warning = None;
        // The row comes before the commit; this waits for what comes after it, ReadyForQuery.
        let answer = self
            .run(async |client| client.simple_query(statements).await)
            .await?;
        if let Some(warning) = self.warning.take() {
            return Err(Problem::Warned(warning));
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

async fn connect(target: &Target) -> std::io::Result<Box<dyn Stream>> {
    let host = match &target.host {
        PgHost::Host(host) => host.as_str(),
        PgHost::Directory(path) => {
            let path = format!("{path}/.s.PGSQL.{}", target.port);
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
    };
    let stream = chassis::connect(host, target.port).await?;
    // Firewalls forget connections that are silent for minutes.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Box::new(stream))
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
