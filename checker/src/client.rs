//! One kept-alive connection.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::target::Target;

pub use crate::clock::Clock;

/// Longer than any answer should be; a service that sends without end must not fill our memory.
const LONGEST_BODY: usize = 64 * 1024;

/// A complete answer, whatever it says.
#[derive(Debug)]
pub struct Reply {
    /// Just before the request was written, in nanoseconds of the client's clock.
    pub sent: u64,
    /// Right after the whole answer was read, in nanoseconds of the client's clock.
    pub received: u64,
    /// The status.
    pub status: StatusCode,
    /// The instance that answered.
    pub served_by: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
}

/// Sends one request at a time, and opens a connection whenever there is none.
#[derive(Debug)]
pub struct Client {
    target: Target,
    request: Request<Empty<Bytes>>,
    timeout: Duration,
    clock: Clock,
    connection: Option<Connection>,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Whether a request was sent and is not answered yet.
    pub(crate) in_flight: bool,
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// `timeout` holds for opening a connection and again for each answer.
    pub fn new(target: Target, count: u32, timeout: Duration, clock: Clock) -> Self {
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        let request = Request::get(target.path(count))
            .header(HOST, target.authority())
            .header(ACCEPT, "application/json, */*;q=0.1")
            .header(USER_AGENT, agent)
            .body(Empty::new())
            .expect("the path and the host were part of a URL");
        Self {
            target,
            request,
            timeout,
            clock,
            connection: None,
            opened: 0,
            in_flight: false,
        }
    }

    /// Sends one request and reads its answer.
    ///
    /// A kept-alive connection that turns out to be closed before the request was written is
    /// replaced in silence: nothing was asked, so nothing was lost. From the first byte on there is
    /// no second try, since the service may have taken a number; the caller sees the failure.
    ///
    /// # Errors
    ///
    /// There is no complete answer.
    pub async fn exchange(&mut self) -> Result<Reply, Failed> {
        loop {
            let (mut connection, kept) = match self.connection.take() {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            let exchange = timeout(self.timeout, self.exchange_on(&mut connection)).await;
            self.in_flight = false;
            match exchange.unwrap_or_else(|_| Err(Failed::new(Failure::Timeout, ""))) {
                Ok((reply, keep)) => {
                    self.connection = keep.then_some(connection);
                    return Ok(reply);
                }
                Err(failed) if failed.failure == Failure::Rejected && kept => {}
                Err(failed) => return Err(failed),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, Failed> {
        let connection = timeout(self.timeout, Connection::open(&self.target))
            .await
            .unwrap_or_else(|_| Err(Failed::new(Failure::ConnectTimeout, "")))?;
        self.opened += 1;
        Ok(connection)
    }

    /// One exchange, and whether the connection may be used again. [`Failure::Rejected`] means
    /// that not a byte of the request was written.
    async fn exchange_on(&mut self, connection: &mut Connection) -> Result<(Reply, bool), Failed> {
        let sender = &mut connection.sender;
        if sender.ready().await.is_err() {
            return Err(Failed::new(Failure::Rejected, ""));
        }
        self.in_flight = true;
        let sent = self.clock.now();
        match sender.try_send_request(self.request.clone()).await {
            Ok(response) => self.read(response, sent).await,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let mut failed = Failed::exchange(&error.into_error());
                if unsent {
                    failed.failure = Failure::Rejected;
                }
                Err(failed)
            }
        }
    }

    /// Reads the rest of an answer.
    async fn read(&self, response: Response<Incoming>, sent: u64) -> Result<(Reply, bool), Failed> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_BODY).collect().await;
        let body = body.map_err(|error| Failed::exchange(&*error))?.to_bytes();
        let received = self.clock.now();
        let says = |word| {
            let values = head.headers.get_all(CONNECTION).iter();
            let mut words = values.flat_map(|v| v.as_bytes().split(|b| *b == b','));
            words.any(|w| w.trim_ascii().eq_ignore_ascii_case(word))
        };
        let keep = match head.version {
            Version::HTTP_11 => !says(b"close"),
            _ => says(b"keep-alive"),
        };
        let reply = Reply {
            sent,
            received,
            status: head.status,
            served_by: head.headers.get("x-served-by").cloned(),
            body,
        };
        Ok((reply, keep))
    }
}

/// An open connection. It closes when it is dropped, also in the middle of an answer.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Looks the host up, since a service moves, and connects to the first address that answers.
    async fn open(target: &Target) -> Result<Self, Failed> {
        let addresses = lookup_host(target.address()).await;
        let addresses: Vec<SocketAddr> = addresses
            .map_err(|error| Failed::new(Failure::UnknownHost, error))?
            .collect();
        if addresses.is_empty() {
            return Err(Failed::new(Failure::UnknownHost, "no address"));
        }
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| {
            let failure = match error.kind() {
                io::ErrorKind::ConnectionRefused => Failure::Refused,
                io::ErrorKind::TimedOut => Failure::ConnectTimeout,
                _ => Failure::Unreachable,
            };
            Failed::new(failure, error)
        })?;
        // A request is one small packet, and waits for nothing.
        stream
            .set_nodelay(true)
            .map_err(|error| Failed::new(Failure::Unreachable, error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failed::new(Failure::Unreachable, error))?;
        let mut driver = JoinSet::new();
        // Its errors also reach the request that they concern.
        driver.spawn(async { drop(connection.await) });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }
}

/// A way in which a request brings no number, to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// The service answered with a status other than 200.
    #[error("{}", status_line(*.0))]
    Status(u16),
    /// A 200 without a number in it.
    #[error("200 without a number")]
    NoNumber,
    /// What came is not HTTP, or far too long.
    #[error("unreadable answer")]
    Unreadable,
    /// The connection was closed before the answer was complete.
    #[error("connection closed")]
    Closed,
    /// The connection was reset before the answer was complete.
    #[error("connection reset")]
    Reset,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection: the port is closed.
    #[error("connection refused")]
    Refused,
    /// No connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The service closed a new connection before anything was sent on it.
    #[error("connection closed before a request")]
    Rejected,
    /// No connection for another reason.
    #[error("unreachable")]
    Unreachable,
    /// The host's name has no address.
    #[error("unknown host")]
    UnknownHost,
}

fn status_line(code: u16) -> String {
    let status = StatusCode::from_u16(code).ok();
    match status.and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{code} {reason}"),
        None => code.to_string(),
    }
}

impl Failure {
    /// Whether it is unknown if the service took a number for it: the request was sent, and no
    /// answer says what came of it.
    pub fn is_lost(self) -> bool {
        matches!(
            self,
            Self::Unreadable | Self::Closed | Self::Reset | Self::Timeout
        )
    }
}

/// One failed request.
#[derive(Debug, thiserror::Error)]
#[error("{failure}: {detail}")]
pub struct Failed {
    /// What kind of failure it is.
    pub failure: Failure,
    /// What the service or the system said, on one line; may be empty.
    pub detail: String,
}

impl Failed {
    pub(crate) fn new(failure: Failure, detail: impl fmt::Display) -> Self {
        Self {
            failure,
            detail: detail.to_string(),
        }
    }

    /// An error of an exchange that had begun.
    fn exchange(error: &(dyn Error + 'static)) -> Self {
        let mut failed = Self::new(Failure::Closed, "");
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
                if let ConnectionReset | ConnectionAborted | BrokenPipe = error.kind() {
                    failed.failure = Failure::Reset;
                }
            } else if error.is::<http_body_util::LengthLimitError>()
                || error
                    .downcast_ref::<hyper::Error>()
                    .is_some_and(hyper::Error::is_parse)
            {
                failed.failure = Failure::Unreadable;
            }
            failed.detail = error.to_string();
            cause = error.source();
        }
        failed
    }
}
