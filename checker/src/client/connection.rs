//! An open connection, and what it takes to open one.

use std::io;
use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;

use super::{Failed, Failure};
use crate::target::Target;

/// Closes when it is dropped, also in the middle of an answer.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    /// Looks the host up, since a service moves, and connects to the first address that answers.
    pub(crate) async fn open(target: &Target) -> Result<Self, Failed> {
        let addresses: Vec<SocketAddr> = match lookup_host(target.address()).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => return Err(Failed::new(Failure::UnknownHost, error)),
        };
        if addresses.is_empty() {
            return Err(Failed::new(Failure::UnknownHost, "no address"));
        }
        let stream = match TcpStream::connect(&addresses[..]).await {
            Ok(stream) => stream,
            Err(error) => {
                let failure = match error.kind() {
                    io::ErrorKind::ConnectionRefused => Failure::Refused,
                    io::ErrorKind::TimedOut => Failure::ConnectTimeout,
                    _ => Failure::Unreachable,
                };
                return Err(Failed::new(failure, error));
            }
        };
        // A request is one small packet, and waits for nothing.
        stream
            .set_nodelay(true)
            .map_err(|error| Failed::new(Failure::Unreachable, error))?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failed::new(Failure::Unreachable, error))?;
        // Its errors also reach the request that they concern.
        let driver = tokio::spawn(async { drop(driver.await) }).abort_handle();
        Ok(Self { sender, driver })
    }

    /// Waits until a request can be sent; `false` if the service has closed the connection.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// The error holds the request if no byte of it was written.
    pub(crate) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Empty<Bytes>>>> {
        self.sender.try_send_request(request).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
