//! The proxy's thread: accepts, carries out orders.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

use super::connection::{Connection, End};
use super::{Fault, Order, Shared, What};
use crate::port::Port;

/// A listener that the kernel can be asked about directly.
///
/// The runtime learns of a new connection a moment after the client's connect returned. To carry
/// out an order for all connections that exist, the kernel's word counts.
#[derive(Debug)]
pub(super) struct Listener {
    direct: std::net::TcpListener,
}

/// A connection as seen from here.
struct Live {
    end: oneshot::Sender<End>,
    ended: oneshot::Receiver<()>,
}

struct Control<'a> {
    port: Port,
    shared: &'a Arc<Shared>,
    fault: watch::Sender<Fault>,
    /// None while connections are refused.
    listener: Option<(Listener, TcpListener)>,
    live: Vec<Live>,
}

/// Runs until the last handle is gone. Connections that still exist then are closed.
pub(super) fn run(
    port: Port,
    listener: Listener,
    shared: &Arc<Shared>,
    orders: UnboundedReceiver<Order>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let control = Control {
            port,
            shared,
            fault: watch::Sender::new(Fault::Pass),
            listener: Some(listener.register()),
            live: Vec::new(),
        };
        control.serve(orders).await;
    });
}

impl Listener {
    /// Listens on a port that is reserved.
    pub(super) fn bind(port: &Port) -> Self {
        let direct = std::net::TcpListener::bind(port.addr()).expect("the port is ours");
        let nonblocking = direct.set_nonblocking(true);
        nonblocking.expect("a listener can be nonblocking");
        Self { direct }
    }

    /// Makes it known to the runtime that this is called in.
    fn register(self) -> (Self, TcpListener) {
        let copy = self.direct.try_clone().expect("a free file descriptor");
        let registered = TcpListener::from_std(copy).expect("a runtime with network");
        (self, registered)
    }
}

impl Control<'_> {
    async fn serve(mut self, mut orders: UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some(Order { what, done }) = order else { return };
                    self.carry_out(what).await;
                    // Whoever gave the order waits, so it is only gone if its thread was killed.
                    let _ = done.send(());
                }
                accepted = accept(self.listener.as_ref()) => self.connected(accepted),
            }
        }
    }

    async fn carry_out(&mut self, what: What) {
        self.accept_all();
        match what {
            What::End(end) => self.end_all(end).await,
            What::Set(fault) => {
                self.fault.send_replace(fault);
                match fault {
                    Fault::Refuse => self.listener = None,
                    _ => self.listen(),
                }
                match fault {
                    Fault::Refuse => self.end_all(End::Close).await,
                    Fault::Reset => self.end_all(End::Reset).await,
                    _ => {}
                }
            }
        }
    }

    fn listen(&mut self) {
        if self.listener.is_none() {
            self.listener = Some(Listener::bind(&self.port).register());
        }
    }

    /// Accepts what the kernel holds already.
    fn accept_all(&mut self) {
        while let Some((listener, _)) = &self.listener {
            let Ok((stream, _)) = listener.direct.accept() else {
                return;
            };
            let stream = stream.set_nonblocking(true).map(|()| stream);
            self.connected(stream.and_then(TcpStream::from_std));
        }
    }

    fn connected(&mut self, accepted: io::Result<TcpStream>) {
        // A client that is gone already needs no connection.
        let Ok(client) = accepted else { return };
        self.live.retain(|live| !live.end.is_closed());
        self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(client, Arc::clone(self.shared), self.fault.subscribe());
        let (end, wait_for_end) = oneshot::channel();
        let (say_ended, ended) = oneshot::channel();
        spawn_local(connection.run(self.upstream(), wait_for_end, say_ended));
        self.live.push(Live { end, ended });
    }

    /// Ends all connections and waits until their sockets show it.
    async fn end_all(&mut self, how: End) {
        let mut ending = Vec::new();
        for live in self.live.drain(..) {
            // One that ended by itself meanwhile needs no order.
            if live.end.send(how).is_ok() {
                ending.push(live.ended);
            }
        }
        for ended in ending {
            // An error means that it ended without saying so, which is as good.
            let _ = ended.await;
        }
    }

    fn upstream(&self) -> SocketAddr {
        let upstream = self.shared.upstream.lock();
        *upstream.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next connection; never one while nobody listens.
async fn accept(listener: Option<&(Listener, TcpListener)>) -> io::Result<TcpStream> {
    match listener {
        Some((_, listener)) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}
