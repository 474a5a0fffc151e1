//! The sequence that `persistence_server` serves over HTTP.
//!
//! A client library would do as well as the connection below, which costs a tenth of its
//! instructions: a chain of services that each spend little on the other is what this project
//! shows. It understands the answers of `persistence_server` and of proxies that pass them on,
//! with a `Content-Length` or in chunks, and refuses everything else.

use std::{
    fmt, io,
    num::NonZeroU16,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use chassis::{Faults, connect, settings::Host, trace_fields};
use httparse::Status::{Complete, Partial};
use sequence::{
    Block, Count, Error, Idle, Reusable, Sequence, Store,
    wire::{self, EXHAUSTED},
};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tracing::{Instrument as _, field::Empty, info_span};

/// Where an [`HttpSequence`] gets its connections from.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync {
    /// Connects to `port` of `host`.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>>;
}

/// One of its connections.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

#[derive(Debug)]
struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(connect(host, port).await?))
    }
}

/// A sequence behind HTTP. A clone has a connection of its own.
#[derive(Clone, Debug)]
pub struct HttpSequence {
    host: Host,
    port: u16,
    network: Arc<dyn Network>,
    connection: Reusable<HttpConnection>,
    legs: Legs,
    faults: Faults,
}

/// The time of each leg of the newest answer that was timed, over all clones of an [`HttpSequence`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Legs(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    are_wanted: AtomicBool,
    newest: Mutex<String>,
}

impl Legs {
    /// The next reservation finds out.
    pub(crate) fn ask(&self) {
        self.0.are_wanted.store(true, Ordering::Relaxed);
    }

    /// As metrics of `Server-Timing`, each with a comma before it: who answered after how many
    /// milliseconds, and what it says itself.
    pub(crate) fn newest(&self) -> String {
        let newest = self.0.newest.lock();
        newest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, answer: &Answer, begin: Instant) {
        let time = begin.elapsed().as_secs_f64() * 1e3;
        let served_by = answer.served_by.as_deref().unwrap_or_default();
        let mut legs = format!(", persistence;desc=\"{served_by}\";dur={time:.3}");
        if let Some(timing) = &answer.timing {
            legs += ", ";
            legs += timing;
        }
        let newest = self.0.newest.lock();
        *newest.unwrap_or_else(PoisonError::into_inner) = legs;
    }
}

impl HttpSequence {
    /// The sequence at `host` and `port`; connects at the first call.
    pub fn new(host: &Host, port: NonZeroU16) -> Self {
        Self::through(Arc::new(Tcp), host, port)
    }

    /// The same over another network.
    pub fn through(network: Arc<dyn Network>, host: &Host, port: NonZeroU16) -> Self {
        Self {
            host: host.clone(),
            port: port.get(),
            network,
            connection: Reusable::default(),
            legs: Legs::default(),
            faults: Faults::default(),
        }
    }

    /// The same with these faults in front of each call.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// How answers come about.
    pub(crate) fn legs(&self) -> Legs {
        self.legs.clone()
    }

    /// What it is and where: `persistence at 127.0.0.1:8081`.
    pub fn target(&self) -> String {
        format!("persistence at {}", self.host.with_port(self.port))
    }

    async fn call<T>(
        &self,
        method: &str,
        path: &str,
        read: impl Fn(Answer) -> Result<T, HttpError>,
    ) -> Result<T, Error> {
        self.faults
            .before_dependency()
            .await
            .map_err(|reason| Error::unavailable(format!("{}: {reason}", self.target())))?;
        let open = async || HttpConnection::open(&*self.network, &self.host, self.port).await;
        let exchange = async |connection: &mut HttpConnection| {
            let result = read(connection.exchange(method, path).await?);
            // Whatever sends such an answer cannot be trusted with another call.
            connection.idle &= !matches!(result, Err(HttpError::UnexpectedReply(_)));
            result
        };
        let result = self.connection.call(open, exchange).await;
        result.map_err(|error| match error {
            HttpError::Exhausted => Error::Exhausted,
            error => Error::unavailable(format!("{}: {error}", self.target())),
        })
    }
}

#[async_trait(?Send)]
impl Sequence for HttpSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let mut target = wire::request_target(count);
        // Workers share the flag, and reading it leaves it in the caches of all.
        let wanted = &self.legs.0.are_wanted;
        let is_watched = wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::Relaxed);
        if is_watched {
            target += "&watch";
        }
        let span = info_span!(
            "call",
            otel.kind = "client",
            otel.name = "GET",
            http.request.method = "GET",
            server.address = self.host.as_str(),
            server.port = self.port,
            url.full = format!("http://{}{target}", self.host.with_port(self.port)),
            http.response.status_code = Empty,
        );
        let begin = Instant::now();
        let read = |answer: Answer| {
            span.record("http.response.status_code", answer.status);
            if is_watched {
                self.legs.note(&answer, begin);
            }
            match answer.status {
                200 => wire::decode_block(&answer.body, count)
                    .map_err(|_| HttpError::UnexpectedReply("not the block that was asked for")),
                _ => Err(answer.refusal()),
            }
        };
        self.call("GET", &target, read)
            .instrument(span.clone())
            .await
    }
}

#[async_trait(?Send)]
impl Store for HttpSequence {
    /// Fails: `persistence_server` has no request for that.
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        Err(Error::unavailable(format!(
            "{}: it lost writes and hands out old numbers; restart it with SEQUENCE_FLOOR={floor}",
            self.target()
        )))
    }

    /// Asks whether `persistence_server` is ready. What it returns may be a second behind what
    /// another replica has handed out; it is 0 behind a proxy that drops the field.
    async fn check(&self) -> Result<u64, Error> {
        let read = |answer: Answer| match answer.status {
            ..500 => Ok(answer.last.unwrap_or(0)),
            _ => Err(answer.refusal()),
        };
        self.call("OPTIONS", "/", read).await
    }
}

/// Why there is no answer, or which.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("the sequence is exhausted")]
    Exhausted,

    #[error("unexpected reply: {0}")]
    UnexpectedReply(&'static str),

    #[error("connection broken: {0}")]
    Broken(#[from] io::Error),

    #[error("{0}")]
    Other(String),
}

/// The largest answer, head and body, in bytes. A block of numbers and a problem are far smaller.
const LARGEST: usize = 16 * 1024;

/// One HTTP/1.1 connection, for one request at a time.
#[derive(Debug)]
struct HttpConnection {
    stream: Box<dyn Stream>,
    /// Whether no answer is outstanding, and the server does not close it.
    idle: bool,
    /// For the `Host` header.
    authority: String,
    buffer: Vec<u8>,
}

/// A complete answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    /// The value of [`wire::LAST`].
    last: Option<u64>,
    /// The values of `X-Served-By` and `Server-Timing`.
    served_by: Option<String>,
    timing: Option<String>,
    /// Whether another request may follow on the same connection.
    keeps_connection: bool,
}

impl Answer {
    /// What an answer says that is not the one wanted.
    fn refusal(&self) -> HttpError {
        #[derive(Deserialize)]
        struct Problem {
            r#type: String,
            detail: String,
        }

        let status = self.status;
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) if problem.r#type == EXHAUSTED => HttpError::Exhausted,
            Ok(problem) => HttpError::Other(format!("answered {status}: {}", problem.detail)),
            Err(_) => HttpError::Other(format!("answered {status}")),
        }
    }
}

impl Idle for HttpConnection {
    fn is_idle(&self) -> bool {
        self.idle
    }
}

impl HttpConnection {
    async fn open(network: &dyn Network, host: &Host, port: u16) -> Result<Self, HttpError> {
        let stream = network.connect(host.as_str(), port).await;
        let stream = stream.map_err(|error| {
            HttpError::Other(match error.kind() {
                // Without the number of the error.
                io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => error.to_string(),
            })
        })?;
        Ok(Self {
            stream,
            idle: true,
            authority: host.with_port(port),
            buffer: Vec::with_capacity(1024),
        })
    }

    /// Sends a request without a body and reads its answer.
    async fn exchange(&mut self, method: &str, path: &str) -> Result<Answer, HttpError> {
        self.idle = false;
        let authority = &self.authority;
        let trace = trace_fields();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\
             {trace}\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                let reason = "connection closed before the answer was complete";
                return Err(HttpError::Other(reason.to_owned()));
            }
            if let Some(answer) = parse(&self.buffer).map_err(HttpError::UnexpectedReply)? {
                self.idle = answer.keeps_connection;
                return Ok(answer);
            }
            if self.buffer.len() > LARGEST {
                return Err(HttpError::UnexpectedReply("it is too long"));
            }
        }
    }
}

/// Parses an answer; none if it is not complete yet.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(bytes).map_err(|_| "its head does not parse")?;
    let Complete(start) = parsed else {
        return Ok(None);
    };
    let (mut length, mut chunked, mut last) = (None, false, None);
    let (mut served_by, mut timing) = (None, None);
    let mut keeps_connection = head.version == Some(1);
    for field in &*head.headers {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let parsed: usize = value
                .parse()
                .map_err(|_| "its Content-Length is not a number")?;
            if length.replace(parsed).is_some() {
                return Err("it has two Content-Length fields");
            }
        } else if field.name.eq_ignore_ascii_case("connection") {
            keeps_connection &= !value.to_ascii_lowercase().contains("close");
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case("chunked") {
                return Err("it has a Transfer-Encoding other than chunked");
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case(wire::LAST) {
            last = value.parse().ok();
        } else if field.name.eq_ignore_ascii_case("x-served-by") {
            served_by = Some(value.to_owned());
        } else if field.name.eq_ignore_ascii_case("server-timing") {
            timing = Some(value.to_owned());
        }
    }
    // httparse fills in the code of every complete head.
    let status = head.code.unwrap_or_default();
    let rest = &bytes[start..];
    let body = match (length, chunked) {
        // It never has a body, whatever its head says.
        _ if status == 204 => whole(rest, 0)?,
        (Some(length), false) => whole(rest, length)?,
        (None, true) if head.version == Some(1) => join_chunks(rest)?,
        (None, false) => return Err("it has neither a Content-Length nor chunks"),
        (_, true) => return Err("chunks are not expected with its version or Content-Length"),
    };
    Ok(body.map(|body| Answer {
        status,
        body,
        last,
        served_by,
        timing,
        keeps_connection,
    }))
}

/// A body of this length; none if it is not complete yet.
fn whole(bytes: &[u8], length: usize) -> Result<Option<Vec<u8>>, &'static str> {
    if bytes.len() > length {
        // Nothing was asked that this could answer.
        return Err("it is longer than its body");
    }
    Ok((bytes.len() == length).then(|| bytes.to_vec()))
}

/// The body in these chunks (RFC 9112, section 7.1); none if it is not complete yet.
fn join_chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut body = Vec::new();
    loop {
        let parsed = httparse::parse_chunk_size(bytes);
        let Complete((start, size)) = parsed.map_err(|_| "the size of a chunk is not a number")?
        else {
            return Ok(None);
        };
        bytes = &bytes[start..];
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > LARGEST {
            return Err("it is too long");
        }
        let Some((chunk, rest)) = bytes.split_at_checked(size) else {
            return Ok(None);
        };
        bytes = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("a chunk is longer than its size"),
        };
        body.extend_from_slice(chunk);
    }
    // The trailer fields say nothing about the block.
    let mut trailers = [httparse::EMPTY_HEADER; 32];
    let parsed = httparse::parse_headers(bytes, &mut trailers);
    match parsed.map_err(|_| "its trailer fields do not parse")? {
        Complete((end, _)) if end < bytes.len() => Err("it is longer than its body"),
        Complete(_) => Ok(Some(body)),
        Partial => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        for (status, body, bytes) in [
            (
                200,
                "abc",
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            ),
            (204, "", "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n"),
            (
                200,
                "abcdefghijklm",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
                 3\r\nabc\r\nA;x=y\r\ndefghijklm\r\n0\r\n\r\n",
            ),
            (
                503,
                "",
                "HTTP/1.1 503 Down\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nName: x\r\n\r\n",
            ),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes.as_bytes()[..end]), Ok(None), "{end} {bytes}");
            }
            let answer = parse(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()));
            assert!(answer.keeps_connection);
        }
    }

    #[test]
    fn a_server_that_closes_is_believed() {
        for head in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, Close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(
                !parse(head.as_bytes()).unwrap().unwrap().keeps_connection,
                "{head}"
            );
        }
    }

    #[test]
    fn an_answer_in_doubt_is_refused() {
        for bad in [
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK",
            "HTTP/1.1 204 No Content\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\na",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad name: x\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_body_arrives_in_whatever_chunks(sizes in prop::collection::vec(1..100_usize, 0..20)) {
            let mut sent = Vec::new();
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for size in sizes {
                let chunk: Vec<u8> = (0..size).map(|place| place as u8).collect();
                bytes.extend(format!("{size:x}\r\n").bytes().chain(chunk.clone()));
                bytes.extend(b"\r\n");
                sent.extend(chunk);
            }
            bytes.extend(b"0\r\n\r\n");
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None));
            }
            prop_assert_eq!(parse(&bytes).unwrap().unwrap().body, sent);
        }

        #[test]
        fn a_damaged_answer_is_read_or_refused(
            place: prop::sample::Index,
            damage in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            for good in [
                &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..],
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
            ] {
                let mut bytes = good.to_vec();
                let place = place.index(bytes.len());
                let end = bytes.len().min(place + damage.len() / 2);
                bytes.splice(place..end, damage.clone());
                if let Ok(Some(answer)) = parse(&bytes) {
                    prop_assert!(answer.body.len() < bytes.len());
                }
            }
        }
    }
}
