//! One connection through the proxy: its beginning and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::flow::{Direction, Flow};
use super::{Fault, Shared};

/// How long a closed connection is still read from. Closing a socket that holds unread bytes
/// makes a reset of what should be an orderly end.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In order, with an end of file.
    Close,
    /// With a reset.
    Reset,
}

/// A client's connection.
pub(super) struct Connection {
    client: TcpStream,
    flow: Flow,
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn new(
        client: TcpStream,
        shared: Arc<Shared>,
        fault: watch::Receiver<Fault>,
    ) -> Self {
        shared.live.fetch_add(1, Ordering::Relaxed);
        Self {
            client,
            flow: Flow::new(Arc::clone(&shared), fault),
            shared,
        }
    }

    /// Passes bytes until one side, a fault or an order ends it.
    pub(super) async fn run(
        mut self,
        upstream: SocketAddr,
        order: oneshot::Receiver<End>,
        say_ended: oneshot::Sender<()>,
    ) {
        let mut server = None;
        let end = tokio::select! {
            biased;
            order = order => order.unwrap_or(End::Close),
            end = self.pass(upstream, &mut server) => end,
        };
        for socket in std::iter::once(&mut self.client).chain(&mut server) {
            // Either may fail because the other side was faster, and then it has ended too.
            let _ = match end {
                End::Reset => socket.set_zero_linger(),
                End::Close => socket.shutdown().await,
            };
        }
        if end == End::Reset {
            drop(self);
            drop(server);
            let _ = say_ended.send(());
            return;
        }
        // It has ended as far as anybody can see; who gave the order need not wait for the rest.
        let _ = say_ended.send(());
        let rest = async {
            tokio::join!(drain(Some(&mut self.client)), drain(server.as_mut()));
        };
        // What comes later is reset, as it would be by any server.
        let _ = timeout(DRAIN_LIMIT, rest).await;
    }

    async fn pass(&mut self, upstream: SocketAddr, server: &mut Option<TcpStream>) -> End {
        let Self { client, flow, .. } = self;
        match flow.fault() {
            Fault::Reset => return End::Reset,
            Fault::BlackHole => {
                drain(Some(client)).await;
                return End::Close;
            }
            _ => {}
        }
        // A client of a server that is not there would see the connection refused; behind
        // a proxy that has accepted it already, a reset is the nearest to that.
        let Ok(stream) = TcpStream::connect(upstream).await else {
            return End::Reset;
        };
        let server = server.insert(stream);
        // Delays are for the test to choose. A failure here would only show as a slow test.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);

        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = flow.carry(Direction::Up, from_client, to_server);
        let down = flow.carry(Direction::Down, from_server, to_client);
        match tokio::try_join!(up, down) {
            Ok(_) => End::Close,
            Err(end) => end,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads and forgets until the end.
async fn drain(stream: Option<&mut TcpStream>) {
    if let Some(stream) = stream {
        // An error is an end too.
        let _: io::Result<u64> = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    }
}
