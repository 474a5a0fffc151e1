//! A service that does what a test says, since a real one never lies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use checker::Target;
use checker::load::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};

/// What happens to one request.
pub(crate) enum Reaction {
    /// A complete answer: a status line, further header lines and a body.
    Answer(&'static str, &'static str, String),
    /// The connection is closed without a byte of an answer.
    Close,
    /// The connection is closed in the middle of the answer with this body.
    Cut(String),
    /// The answer is complete, and the connection is closed without saying so.
    AnswerAndClose(String),
    /// These bytes, and then nothing.
    Raw(&'static str),
    /// Nothing, for ever.
    Hang,
}

/// A success with a body.
pub(crate) fn ok(body: String) -> Reaction {
    Reaction::Answer("200 OK", "", body)
}

/// A success with one number.
pub(crate) fn number(number: u64) -> Reaction {
    ok(body(number))
}

/// The body of a success with one number.
pub(crate) fn body(number: u64) -> String {
    format!("{{\"data\":{{\"number\":{number}}}}}\n")
}

/// Listens until it is killed or dropped.
pub(crate) struct Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Answers on a free port. `react` gets how many requests came before, and the request's path.
    pub(crate) fn start(react: impl Fn(u64, &str) -> Reaction + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), react)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        react: impl Fn(u64, &str) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let react = Arc::new(react);
        let requests = Arc::new(AtomicU64::new(0));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (react, requests) = (Arc::clone(&react), Arc::clone(&requests));
                tokio::spawn(async move {
                    let next = |path: &str| react(requests.fetch_add(1, Ordering::SeqCst), path);
                    serve(stream, next).await;
                });
            }
        });
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn target(&self) -> Target {
        self.url().parse().unwrap()
    }

    /// A quick load of so many requests.
    pub(crate) fn load(&self, requests: u64) -> Options {
        Options {
            connections: 4,
            requests: Some(requests),
            ..Options::new(self.target())
        }
    }

    /// Closes the listener and all connections, whatever is under way, and says where it was.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.stop();
        self.address
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(mut stream: TcpStream, mut react: impl FnMut(&str) -> Reaction) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = buffer.drain(..end + 4).collect();
                break String::from_utf8(head).unwrap();
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let path = head.split(' ').nth(1).unwrap();
        let (answer, more) = match react(path) {
            Reaction::Answer(status, headers, body) => (answer(status, headers, &body), true),
            Reaction::AnswerAndClose(body) => (answer("200 OK", "", &body), false),
            Reaction::Close => return,
            Reaction::Cut(body) => {
                let whole = answer("200 OK", "", &body);
                (whole[..whole.len() - 3].to_owned(), false)
            }
            Reaction::Raw(bytes) => (bytes.to_owned(), true),
            Reaction::Hang => std::future::pending().await,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || !more {
            return;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Served-By: mock\r\n{headers}\r\n{body}",
        body.len()
    )
}
