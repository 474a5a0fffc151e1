//! One kept-alive connection.

mod answer;
mod connection;
mod failure;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Version};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::target::Target;

pub(crate) use answer::{Answer, excerpt, explain, hash_of};
use connection::Connection;
pub(crate) use failure::Failed;
pub use failure::Failure;

/// Longer than any answer should be; a service that sends without end must not fill our memory.
const LONGEST_BODY: usize = 64 * 1024;

/// A complete answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Just before the request was written.
    pub(crate) sent: u64,
    /// Right after the whole answer was read.
    pub(crate) received: u64,
    pub(crate) status: StatusCode,
    pub(crate) served_by: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

/// What all clients count together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections that were opened.
    pub(crate) opened: AtomicU64,
    /// Requests that we ourselves stopped waiting for, at the end.
    pub(crate) abandoned: AtomicU64,
}

/// Sends one request at a time, and opens a connection whenever there is none.
#[derive(Debug)]
pub(crate) struct Client {
    target: Arc<Target>,
    request: Request<Empty<Bytes>>,
    timeout: Duration,
    clock: Clock,
    counters: Arc<Counters>,
    connection: Option<Connection>,
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// `timeout` holds for opening a connection and again for each answer.
    pub(crate) fn new(
        target: Arc<Target>,
        count: u32,
        timeout: Duration,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Self {
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        let request = Request::get(target.path(count))
            .header(HOST, target.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, agent)
            .body(Empty::new())
            .expect("the path and the host were part of a URL");
        Self {
            target,
            request,
            timeout,
            clock,
            counters,
            connection: None,
        }
    }

    /// Sends one request and reads its answer.
    ///
    /// A kept-alive connection that turns out to be closed before the request was written is
    /// replaced in silence: nothing was asked, so nothing was lost. From the first byte on there is
    /// no second try, since the service may have taken a number; the caller sees the failure.
    pub(crate) async fn exchange(&mut self) -> Result<Reply, Failed> {
        loop {
            let (mut connection, kept) = match self.connection.take() {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            let unused = if connection.ready().await {
                match self.exchange_on(&mut connection).await {
                    Ok((reply, keep)) => {
                        self.connection = keep.then_some(connection);
                        return Ok(reply);
                    }
                    Err(Unanswered::Sent(failed)) => return Err(failed),
                    Err(Unanswered::Unsent(failed)) => failed,
                }
            } else {
                Failed::new(Failure::Rejected, "")
            };
            if !kept {
                return Err(unused);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failed> {
        let connection = timeout(self.timeout, Connection::open(&self.target))
            .await
            .unwrap_or_else(|_elapsed| Err(Failed::new(Failure::ConnectTimeout, "")))?;
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    /// One exchange, and whether the connection may be used again.
    async fn exchange_on(&self, connection: &mut Connection) -> Result<(Reply, bool), Unanswered> {
        let waiting = Waiting(Some(&self.counters.abandoned));
        let sent = self.clock.now();
        let outcome = timeout(self.timeout, async {
            match connection.send(self.request.clone()).await {
                Ok(response) => self.read(response, sent).await.map_err(Unanswered::Sent),
                Err(mut error) => {
                    let unsent = error.take_message().is_some();
                    let failed = Failed::exchange(&error.into_error());
                    Err(if unsent {
                        Unanswered::Unsent(Failed::new(Failure::Rejected, failed.detail))
                    } else {
                        Unanswered::Sent(failed)
                    })
                }
            }
        })
        .await;
        waiting.over();
        outcome.unwrap_or_else(|_elapsed| Err(Unanswered::Sent(Failed::new(Failure::Timeout, ""))))
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

/// Why an exchange brought no answer.
enum Unanswered {
    /// Not a byte of the request was written.
    Unsent(Failed),
    /// The request may have reached the service.
    Sent(Failed),
}

/// Counts a request as abandoned if it is dropped before it is over.
struct Waiting<'a>(Option<&'a AtomicU64>);

impl Waiting<'_> {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(abandoned) = self.0 {
            abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}
