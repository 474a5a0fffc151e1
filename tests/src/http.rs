//! A small blocking HTTP/1.1 client that sends exactly the bytes it is given.
//!
//! Tests must be able to send what no well-behaved client sends, and to see what came back
//! byte for byte.

use std::error::Error;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long connecting, and each read and write, may take.
pub const TIMEOUT: Duration = Duration::from_secs(15);

const MAX_HEADERS: usize = 64;

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are not text show as replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Asks for `path` on a connection of its own.
///
/// # Errors
///
/// When there is no connection, no answer within [`TIMEOUT`], or none that is HTTP.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    request(addr, head)
}

/// Sends these bytes on a connection of its own and reads one answer.
///
/// # Errors
///
/// As for [`get`].
pub fn request(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> io::Result<Response> {
    let bytes = bytes.as_ref();
    let mut connection = Connection::open(addr)?;
    connection.send(bytes)?;
    match bytes.starts_with(b"HEAD ") {
        true => connection.receive_head(),
        false => connection.receive(),
    }
}

/// A connection that stays open, for keep-alive, pipelining and requests sent in pieces.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was received and is not part of an answer yet.
    received: Vec<u8>,
}

impl Connection {
    /// Connects, with [`TIMEOUT`] on everything.
    ///
    /// # Errors
    ///
    /// When nobody accepts.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let received = Vec::new();
        let connection = Self { stream, received };
        connection.set_timeout(TIMEOUT)?;
        Ok(connection)
    }

    /// How long a read may wait from now on.
    ///
    /// # Errors
    ///
    /// When it is zero.
    pub fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    /// True once the other side has closed; nothing that came before it is taken.
    pub fn is_closed(&self) -> bool {
        let nonblocking = |on| self.stream.set_nonblocking(on).expect("an open socket");
        nonblocking(true);
        let closed = match self.stream.peek(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        nonblocking(false);
        closed
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Closes the sending side; answers can still be received.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads the next answer.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the connection ends before the answer does, `WouldBlock` when a read
    /// takes too long, `InvalidData` when it is not HTTP.
    pub fn receive(&mut self) -> io::Result<Response> {
        let mut response = self.receive_head()?;
        let bodiless = matches!(response.status, 100..200 | 204 | 304);
        let chunked = response.header("transfer-encoding") == Some("chunked");
        response.body = match response.header("content-length") {
            _ if bodiless => Vec::new(),
            _ if chunked => self.receive_chunks()?,
            Some(length) => self.receive_exactly(length.parse().map_err(invalid)?)?,
            None => self.receive_rest()?,
        };
        Ok(response)
    }

    /// Reads the next answer's head, for answers to HEAD: their `Content-Length` is that of a
    /// body that does not come.
    ///
    /// # Errors
    ///
    /// As for [`Connection::receive`].
    pub fn receive_head(&mut self) -> io::Result<Response> {
        loop {
            if let Some((length, response)) = parse_head(&self.received)? {
                self.received.drain(..length);
                return Ok(response);
            }
            self.receive_more()?;
        }
    }

    /// Everything until the other side closes.
    ///
    /// # Errors
    ///
    /// When it does not close in time, or resets the connection.
    pub fn receive_rest(&mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.received)?;
        Ok(std::mem::take(&mut self.received))
    }

    fn receive_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = httparse::parse_chunk_size(&self.received);
            let size = size.map_err(|_| invalid("not the size of a chunk"))?;
            let httparse::Status::Complete((start, size)) = size else {
                self.receive_more()?;
                continue;
            };
            self.received.drain(..start);
            let size = usize::try_from(size).map_err(invalid)?;
            body.extend(self.receive_exactly(size)?);
            self.receive_exactly("\r\n".len())?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn receive_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < length {
            self.receive_more()?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn receive_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

/// The first head in `bytes` and its length, once it is complete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Response)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter();
    let response = Response {
        status: head.code.ok_or_else(|| invalid("no status"))?,
        headers: headers
            .map(|h| (h.name.to_owned(), text(h.value)))
            .collect(),
        body: Vec::new(),
    };
    Ok(Some((length, response)))
}

fn invalid(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
