//! A client's connection, with the patience and the manners that actix-http leaves to us.
//!
//! * A client that dribbles its request, or does not take its answer, is cut off after a while.
//!   (actix-http watches only the head of a connection's first request.)
//! * A connection without a request is kept for a while, by the same timer. (actix-http would
//!   make another one after each answer, for near a tenth of all instructions of a request.)
//! * A request that cannot be parsed is answered with a problem that says why, not with the
//!   empty answer of actix-http.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use actix_web::http::header::{HeaderValue, HttpDate};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    malformed::{KEPT, explain},
    worker::Worker,
};

/// Added to the handlers' time before a client that keeps us waiting is cut off.
const GRACE: Duration = Duration::from_secs(1);

/// How long a connection without a request is kept at least.
///
/// Longer than the 60 s of common load balancers: whoever closes first races with the next
/// request, and the load balancer can tell an idle connection from a failed request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Where the status stands in an answer, after `HTTP/1.1 `.
const STATUS: std::ops::Range<usize> = 9..12;

pub(super) struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
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
    pub(super) fn new(stream: TcpStream, worker: Rc<Worker>) -> Self {
        // An answer is one small write: waiting to fill a packet would only delay it.
        // It fails where the client is gone already, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let timer = Box::pin(sleep(period(&worker)));
        Self {
            stream,
            worker,
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
    }

    fn has_written(&mut self) {
        self.start.clear();
        self.length = 0;
        self.set_client_owes(false);
    }

    fn set_client_owes(&mut self, owes: bool) {
        if self.client_owes != owes {
            self.client_owes = owes;
            self.rings = 0;
        }
    }

    /// Fails once the client has kept us waiting for a whole period of the timer; is ready once
    /// the connection has not been used for [`KEEP_ALIVE`].
    ///
    /// The timer is not touched by requests that go well; so all this may take one period
    /// longer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let period = period(&self.worker);
            if self.client_owes && self.rings > 0 {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if !self.client_owes && period * self.rings >= KEEP_ALIVE {
                return Poll::Ready(Ok(()));
            }
            self.rings += 1;
            self.timer.as_mut().reset(Instant::now() + period);
        }
        Poll::Pending
    }

    /// Puts a problem in the place of an empty error answer at the end of `bytes`.
    ///
    /// Such an answer ends the connection, so it is always the last.
    fn replace_bare_answer(&mut self, bytes: &[u8]) -> bool {
        let Some((before, status)) = bare_answer(bytes) else {
            return false;
        };
        // Otherwise what was kept is the beginning of an earlier request in the same packet.
        let start = if before.is_empty() { &*self.start } else { &[] };
        let problem = explain(status, start, self.length);
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

/// How far apart the looks at a connection are.
fn period(worker: &Worker) -> Duration {
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
            // Where the patience ends without an error, nothing read means the end.
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
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::{health::Health, http::Shared};

    const HANDLERS: Duration = Duration::from_secs(10);

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
            routes: [].into(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (
            Connection::new(accepted.unwrap().0, worker),
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
