//! A client's connection, with the patience and the manners that actix-http leaves to us.
//!
//! * A client that dribbles its request, or does not take its answer, is cut off after a while.
//!   (actix-http watches only the head of a connection's first request.)
//! * A connection without a request is kept for a while, by the same timer. (actix-http would
//!   make another one after each answer, for near a tenth of all instructions of a request.)
//! * An idle connection is closed only when the client has sent nothing: at a stop, too, what was
//!   sent is answered. (actix-http closes first, and drops what it has not read.)
//! * A request that cannot be parsed is answered with a problem that says why, not with the
//!   empty answer of actix-http.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use actix_web::http::header::{HeaderValue, HttpDate};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    connections::{Connections, Membership},
    malformed::{KEPT, explain},
    worker::Worker,
};

/// Added to the handlers' time before a client that keeps us waiting is cut off.
const GRACE: Duration = Duration::from_secs(1);

/// The end of a request's head.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Where the status stands in an answer, after `HTTP/1.1 `.
const STATUS: std::ops::Range<usize> = 9..12;

pub(super) struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
    membership: Membership,
    /// How the request that is not answered yet began, and how many bytes of it were read.
    start: Vec<u8>,
    length: usize,
    /// What is written in place of an answer of actix-http.
    replacement: Vec<u8>,
    /// Whether something is expected of the client: to finish its request, to take its answer.
    client_owes: bool,
    /// How often the timer has rung since that changed.
    rings: u32,
    timer: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        worker: Rc<Worker>,
        connections: &Rc<Connections>,
    ) -> Self {
        // An answer is one small write: waiting to fill a packet would only delay it.
        // It fails where the client is gone already, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let membership = connections.add();
        let timer = Box::pin(sleep(allowed(&worker).min(connections.keep_alive)));
        Self {
            stream,
            worker,
            membership,
            start: Vec::new(),
            length: 0,
            replacement: Vec::new(),
            // Its first request.
            client_owes: true,
            rings: 1,
            timer,
        }
    }

    fn has_read(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(&bytes[..room]);
        self.length = self.length.saturating_add(bytes.len());
        self.set_client_owes(true);
        // Most requests are no more than a head; and a head that is longer than what is kept of
        // it counts as whole.
        let whole = bytes.ends_with(END_OF_HEAD) || self.length > KEPT || {
            let mut parts = self.start.windows(END_OF_HEAD.len());
            parts.any(|part| part == END_OF_HEAD)
        };
        if whole {
            self.membership.busy();
        } else {
            self.membership.idle();
        }
    }

    fn has_written(&mut self) {
        self.start.clear();
        self.length = 0;
        self.set_client_owes(false);
        self.membership.idle();
    }

    fn set_client_owes(&mut self, owes: bool) {
        if self.client_owes != owes {
            self.client_owes = owes;
            self.rings = 0;
        }
    }

    /// Fails once the client has kept us waiting for too long; is ready once the connection has
    /// not been used for as long as one is kept.
    ///
    /// The timer is not touched by requests that go well; so all this may take one period of it
    /// longer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let (allowed, keep_alive) = (allowed(&self.worker), self.keep_alive());
            let period = allowed.min(keep_alive);
            let passed = period * self.rings;
            if self.client_owes && passed >= allowed {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if !self.client_owes && passed >= keep_alive {
                return self.poll_end();
            }
            self.rings += 1;
            self.timer.as_mut().reset(Instant::now() + period);
        }
        Poll::Pending
    }

    /// Ready, which means the end to the reader, unless something has arrived this moment. The
    /// reactor may not have reported it yet, so only the kernel knows.
    fn poll_end(&self) -> Poll<io::Result<()>> {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            // It is about to be read: the reactor wakes the reader.
            Ok(1..) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn keep_alive(&self) -> Duration {
        self.membership.connections.keep_alive
    }

    /// Puts a problem in the place of an empty error answer at the end of `bytes`.
    ///
    /// Such an answer ends the connection, so it is always the last.
    fn replace_bare_answer(&mut self, bytes: &[u8]) -> bool {
        let Some((before, status)) = bare_answer(bytes) else {
            return false;
        };
        // Behind another answer, what was kept is the beginning of that one's request.
        let (start, length) = match before.is_empty() {
            true => (&*self.start, self.length),
            false => (&[][..], 0),
        };
        let problem = explain(status, start, length);
        let body = problem.to_json();
        let status = problem.status();
        let remote = self.stream.peer_addr().ok();
        self.worker.refused(remote, start, status.as_u16());

        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\
             content-type: {}\r\ncache-control: no-store\r\nserver: {}\r\nx-served-by: {}\r\n\
             date: {}\r\n\r\n",
            body.len(),
            crate::problem::CONTENT_TYPE,
            text(&self.worker.shared.server),
            text(&self.worker.shared.served_by),
            HttpDate::from(SystemTime::now()),
        );
        self.replacement.extend_from_slice(before);
        self.replacement.extend_from_slice(head.as_bytes());
        self.replacement.extend_from_slice(body.as_bytes());
        true
    }

    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.replacement) {
                Poll::Ready(Ok(written)) => drop(self.replacement.drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_patience(cx),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a client may keep us waiting.
fn allowed(worker: &Worker) -> Duration {
    worker.shared.request_timeout + GRACE
}

/// Finds an error answer without a body, as only actix-http itself makes them, at the end.
fn bare_answer(bytes: &[u8]) -> Option<(&[u8], u16)> {
    /// The head of such an answer is its status line, two or three fields and an empty line.
    const LONGEST: usize = 160;
    let tail = bytes.len().saturating_sub(LONGEST);
    if !bytes.ends_with(b"\r\n\r\n") {
        // Every other answer has a body. This is the test that most answers fail.
        return None;
    }
    let start = (tail..bytes.len())
        .rev()
        .find(|&i| bytes[i..].starts_with(b"HTTP/1."))?;
    let answer = &bytes[start..];
    let status = std::str::from_utf8(answer.get(STATUS)?)
        .ok()?
        .parse()
        .ok()?;
    let empty = answer
        .windows(19)
        .any(|field| field == b"content-length: 0\r\n");
    (empty && matches!(status, 400..=599)).then_some((&bytes[..start], status))
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                self.has_read(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Nothing read means the end.
            Poll::Pending if self.membership.is_over(cx.waker()) => self.poll_end(),
            Poll::Pending => self.poll_patience(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replace_bare_answer(bytes) {
            self.has_written();
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.has_written();
                Poll::Ready(written)
            }
            Poll::Pending => {
                self.set_client_owes(true);
                self.poll_patience(cx).map_ok(|()| 0)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has nothing to flush.
        self.poll_replacement(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_replacement(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::{health::Health, http::Shared};

    const HANDLERS: Duration = Duration::from_secs(10);
    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    /// A connection, and its client, who does nothing.
    async fn connection() -> (Connection, TcpStream) {
        let text = HeaderValue::from_static("test");
        let worker = Worker::new(Shared {
            server: text.clone(),
            served_by: text,
            health: Health::default(),
            metrics: None,
            access_log: None,
            request_timeout: HANDLERS,
            route: "/",
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let connections = Connections::new(1, KEEP_ALIVE);
        (
            Connection::new(accepted.unwrap().0, worker, &connections),
            client.unwrap(),
        )
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_closed_after_a_while() {
        let (mut connection, _client) = connection().await;
        tokio::time::pause();
        connection.has_read(b"a request");
        connection.has_written();
        let begin = Instant::now();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
        let kept = begin.elapsed();
        let latest = KEEP_ALIVE + 2 * (HANDLERS + GRACE);
        assert!((KEEP_ALIVE..latest).contains(&kept), "{kept:?}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_finish_its_request_is_cut_off() {
        let (mut connection, _client) = connection().await;
        tokio::time::pause();
        connection.has_written();
        connection.has_read(b"the beginning of a request");
        let begin = Instant::now();
        let error = connection.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waited = begin.elapsed();
        let latest = 2 * (HANDLERS + GRACE) + GRACE;
        assert!((HANDLERS..latest).contains(&waited), "{waited:?}");
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_before_an_idle_connection_is_closed() {
        let (mut connection, client) = connection().await;
        let close = |connection: &Connection| {
            let connections = &connection.membership.connections;
            connections.close(u64::MAX - 1, usize::MAX);
        };
        client.writable().await.unwrap();
        assert!(connection.read(&mut [0]).now_or_never().is_none());
        close(&connection);
        // The kernel has it before the reactor could say so.
        client.try_write(b"x").unwrap();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 1);
        connection.has_written();
        close(&connection);
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    }

    #[test]
    fn only_empty_error_answers_are_replaced() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare_answer(bare), Some((&b""[..], 400)));
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let both = [&good[..], &bare[..]].concat();
        assert_eq!(bare_answer(&both), Some((&good[..], 400)));
        for other in [
            &good[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"",
            b"\r\n\r\n",
        ] {
            assert_eq!(bare_answer(other), None);
        }
    }
}
