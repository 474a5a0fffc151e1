//! A client's connection, with the timeouts and the closing that actix-http leaves to us.
//!
//! * A client that dribbles its request's head, or does not take its answer, is cut off after a
//!   while. (actix-http watches only the head of a connection's first request.)
//! * A connection without a request is kept for a while, by the same timer. (actix-http would
//!   make another one after each answer, for near a tenth of all instructions of a request.)
//! * A head has at most 16 KiB, and its lines end with CRLF: httparse takes a bare LF for an end too,
//!   where a proxy in front may see none, and the two would not agree where requests begin.
//! * A request is read once the one before is answered and its answer taken. (actix-http decodes
//!   whatever has arrived, into 7 kB for each request: a client that sends 128 KiB of them at once would
//!   take 34 MB.)
//! * An idle connection is closed only when the client has sent nothing: at a stop, too, what was
//!   sent is answered. (actix-http closes first, and drops what it has not read.)
//! * Every answer gets the fields that all have behind its status line, as it is written: so those
//!   that actix-http gives by itself get them too. (In its map of fields each would cost some 500
//!   instructions for each request.)

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use actix_web::web::BytesMut;
use memchr::memchr;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use crate::{
    connections::{Connections, Membership},
    head::{Head, LONGEST_HEAD},
    middleware::Worker,
};

/// Added to the handlers' time before a client that keeps us waiting is cut off.
const GRACE: Duration = Duration::from_secs(1);

/// What actix-http may write before an answer; the answer's fields do not belong there.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(crate) struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
    membership: Membership,
    turn: Turn,
    /// How far the answer is written.
    written: Written,
    /// What has arrived behind the head of the request in hand.
    rest: BytesMut,
    /// Whether a line of a body was just passed on, which may have been the last one.
    passed_on: bool,
    /// Who reads as soon as it may.
    reader: Option<Waker>,
    /// How often the timer has rung since a request began or ended.
    rings: u32,
    timer: Pin<Box<Sleep>>,
}

/// What happens next on a connection; its request knows it too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Rc<Cell<Next>>);

#[derive(Clone, Copy, Debug)]
enum Next {
    /// The client sends a head, of which this has arrived.
    Head(Head),
    /// The client sends a body, of which so many bytes are left; in chunks if that is not known.
    Body(Option<usize>),
    /// We answer.
    Answer,
    /// The client takes the answer.
    Taking,
}

impl Default for Next {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// How far an answer is written.
#[derive(Clone, Copy, Debug)]
enum Written {
    /// Not to the end of its status line.
    Nothing,
    /// So many bytes of the fields that every answer has.
    Fields(usize),
    /// All of these.
    AllFields,
}

impl Turn {
    /// From now on the body is read, which has `length` bytes or comes in chunks.
    pub(crate) fn begin_body(&self, length: Option<usize>) {
        self.0.set(Next::Body(length));
    }

    /// The body has been read as far as it will be.
    pub(crate) fn end_body(&self) {
        self.0.set(Next::Answer);
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        worker: Rc<Worker>,
        connections: &Rc<Connections>,
    ) -> Self {
        let membership = connections.add();
        let timer = Box::pin(sleep(allowed(&worker).min(connections.keep_alive)));
        Self {
            stream,
            worker,
            membership,
            turn: Turn::default(),
            written: Written::Nothing,
            rest: BytesMut::new(),
            passed_on: false,
            reader: None,
            rings: 0,
            timer,
        }
    }

    /// For the requests on this connection.
    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Takes note of what has arrived of `head`; returns how much of it belongs to the head, which
    /// is nothing if that is refused.
    fn has_read(&mut self, mut head: Head, bytes: &[u8]) -> usize {
        let was_empty = head.length == 0;
        let end = head.push(bytes);
        self.written = Written::Nothing;
        self.rings = 0;
        if end.is_some() {
            self.turn.0.set(Next::Answer);
            self.membership.busy();
            if let Some(status) = head.refusal() {
                self.refuse(status);
                return 0;
            }
        } else {
            self.turn.0.set(Next::Head(head));
            if was_empty && head.length > 0 {
                self.membership.idle();
                self.await_client();
            }
        }
        end.unwrap_or(bytes.len())
    }

    /// Answers for actix-http, which closes the connection when it reads nothing then.
    fn refuse(&self, status: &str) {
        let fields = &self.worker.shared.fields;
        let answer =
            format!("HTTP/1.1 {status}\r\n{fields}content-length: 0\r\nconnection: close\r\n\r\n");
        // It fails where the client is gone.
        let _ = self.stream.try_write(answer.as_bytes());
    }

    fn has_written(&mut self) {
        if matches!(self.turn.0.get(), Next::Body(_)) {
            // It was no answer, but `100 Continue`.
            return;
        }
        self.turn.0.set(Next::default());
        self.rings = 0;
        self.membership.idle();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the client keeps us waiting: for the rest of a head, or with an answer not taken.
    fn client_owes(&self) -> bool {
        match self.turn.0.get() {
            Next::Head(head) => head.length > 0,
            Next::Taking => true,
            Next::Body(_) | Next::Answer => false,
        }
    }

    /// From now on the client owes something.
    fn await_client(&mut self) {
        let end = Instant::now() + allowed(&self.worker);
        self.timer.as_mut().reset(end);
    }

    /// Fails once the client has kept us waiting for too long; is ready once the connection has
    /// not been used for as long as one is kept.
    ///
    /// The timer is not touched by requests that go well; so the latter may take one period of it
    /// longer.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Here and not only where a head is awaited: actix-http may not read again before it comes.
        self.membership.wakes(cx.waker());
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.client_owes() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let keep_alive = self.membership.connections.keep_alive;
            let period = allowed(&self.worker).min(keep_alive);
            let waits = matches!(self.turn.0.get(), Next::Head(_));
            if waits && period * self.rings >= keep_alive {
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

    /// Reads no request until the one before is answered.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let has_arrived = self.stream.poll_read_ready(cx).is_ready();
        if has_arrived
            && let Err(error) = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()])
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // Nobody waits for the answer.
            return Poll::Ready(Err(error));
        }
        // Woken by what arrives, the reader is woken again when it may be read.
        if has_arrived || !self.rest.is_empty() {
            self.reader = Some(cx.waker().clone());
        }
        self.poll_timer(cx)
    }

    fn poll_head(
        &mut self,
        head: Head,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let mut rest = mem::take(&mut self.rest);
            let arrived = rest.len().min(buffer.remaining());
            let used = self.has_read(head, &rest[..arrived]);
            buffer.put_slice(&rest.split_to(used));
            if !rest.is_empty() {
                self.rest = rest;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let arrived = &buffer.filled()[before..];
                let used = self.has_read(head, arrived);
                self.rest.extend_from_slice(&arrived[used..]);
                buffer.set_filled(before + used);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Nothing read means the end.
            Poll::Pending if self.membership.is_over() => self.poll_end(),
            Poll::Pending => self.poll_timer(cx),
        }
    }

    /// Reads no further than the end of the body. One in chunks ends with a line, and only
    /// actix-http knows with which.
    fn poll_body(
        &mut self,
        left: Option<usize>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if mem::take(&mut self.passed_on) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            self.rest.extend_from_slice(piece.filled());
        }
        let line = || self.rest.iter().position(|&byte| byte == b'\n');
        let piece = left
            .or_else(|| line().map(|end| end + 1))
            .map_or(self.rest.len(), |end| end.min(self.rest.len()))
            .min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(piece));
        match left.map(|left| left - piece) {
            Some(0) => self.turn.0.set(Next::Answer),
            Some(left) => self.turn.0.set(Next::Body(Some(left))),
            None => self.passed_on = true,
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a head that is too long to its end, and refuses it then: the client may not look for
    /// an answer before it has sent everything.
    fn poll_refuse(&mut self, mut head: Head, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; 4096];
        loop {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    if head.push(piece.filled()).is_some() {
                        if let Some(status) = head.refusal() {
                            self.refuse(status);
                        }
                        return Poll::Ready(Ok(()));
                    }
                    self.turn.0.set(Next::Head(head));
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => return self.poll_timer(cx),
            }
        }
    }

    /// Writes a part of an answer, and the fields that every answer has behind its status line.
    fn poll_write_answer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let fields = self.worker.shared.fields.as_bytes();
        loop {
            let (line, sent) = match self.written {
                Written::Nothing => {
                    let begin = match bytes.starts_with(CONTINUE) {
                        true => CONTINUE.len(),
                        false => 0,
                    };
                    let Some(end) = memchr(b'\n', &bytes[begin..]) else {
                        return Pin::new(&mut self.stream).poll_write(cx, bytes);
                    };
                    (begin + end + 1, 0)
                }
                Written::Fields(sent) => (0, sent),
                Written::AllFields => return Pin::new(&mut self.stream).poll_write(cx, bytes),
            };
            let (line, rest) = bytes.split_at(line);
            let pieces = [line, &fields[sent..], rest].map(IoSlice::new);
            let taken = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces))?;
            let Some(taken) = taken.checked_sub(line.len()) else {
                return Poll::Ready(Ok(taken));
            };
            if let Some(of_rest) = (sent + taken).checked_sub(fields.len()) {
                self.written = Written::AllFields;
                return Poll::Ready(Ok(line.len() + of_rest));
            }
            self.written = Written::Fields(sent + taken);
            if !line.is_empty() {
                return Poll::Ready(Ok(line.len()));
            }
            // Nothing of what was given is written yet, and to say so would mean an error.
        }
    }
}

/// How long a client may keep us waiting.
fn allowed(worker: &Worker) -> Duration {
    worker.shared.request_timeout + GRACE
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.turn.0.get() {
            Next::Head(head) if head.length > LONGEST_HEAD => self.poll_refuse(head, cx),
            Next::Head(head) => self.poll_head(head, cx, buffer),
            Next::Body(left) => self.poll_body(left, cx, buffer),
            Next::Answer | Next::Taking => self.poll_turn(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_write_answer(cx, bytes) {
            Poll::Ready(written) => {
                self.has_written();
                Poll::Ready(written)
            }
            Poll::Pending => {
                if !matches!(self.turn.0.get(), Next::Body(_) | Next::Taking) {
                    self.turn.0.set(Next::Taking);
                    self.await_client();
                }
                self.poll_timer(cx).map_ok(|()| 0)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection is dropped then, which tells the client the same.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{faults::Faults, health::Health, middleware::Shared};

    const HANDLERS: Duration = Duration::from_secs(10);
    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    /// A connection, and its client, which does nothing.
    async fn connection() -> (Connection, TcpStream) {
        let worker = Worker::new(Shared {
            fields: "a: b\r\n".into(),
            health: Health::default(),
            metrics: None,
            access_log: None,
            traced: false,
            request_timeout: HANDLERS,
            route: "/",
            faults: Faults::default(),
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
    async fn an_unused_connection_is_closed_after_a_while() {
        let (mut connection, _client) = connection().await;
        tokio::time::pause();
        connection.has_read(Head::default(), b"a request\r\n\r\n");
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
        connection.has_read(Head::default(), b"the beginning of a request");
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
    #[tokio::test]
    async fn every_answer_gets_the_fields_behind_its_status_line() {
        let (mut connection, mut client) = connection().await;
        let body = "x".repeat(1 << 20);
        for (written, read) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\na: b\r\n\r\n"),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\na: b\r\n\r\n",
            ),
            // More than the kernel takes at once.
            (
                &format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                &format!("HTTP/1.1 200 OK\r\na: b\r\n\r\n{body}"),
            ),
        ] {
            connection.has_read(Head::default(), b"a request\r\n\r\n");
            let mut received = vec![0; read.len()];
            let (wrote, got) = tokio::join!(
                connection.write_all(written.as_bytes()),
                client.read_exact(&mut received)
            );
            assert_eq!(got.unwrap(), received.len());
            wrote.unwrap();
            assert!(received == read.as_bytes(), "{:.60}", read);
        }
    }
}
