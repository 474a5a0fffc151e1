//! A TCP proxy that misbehaves on demand.
//!
//! It stands between a service and what it depends on. Its faults are the ones that a network
//! and a dying server produce; it never alters or loses single bytes of a connection that goes
//! on, because TCP does not either.

mod connection;
mod control;
mod flow;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::port::Port;
use connection::End;

/// What a proxy does to its connections, those that exist and those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: every byte goes through at once.
    Pass,
    /// Answers arrive late: each piece of one by `delay` and a random part of `jitter`. What is
    /// held back is let go as soon as another fault is set, so a very long delay holds an
    /// answer until the test wants it to arrive.
    Latency {
        /// The least delay.
        delay: Duration,
        /// The most that is added to it.
        jitter: Duration,
    },
    /// Each connection passes so many bytes a second in each direction.
    Bandwidth {
        /// The rate; zero is taken as one.
        bytes_per_second: u64,
    },
    /// Connections are accepted, what they bring is swallowed, and nothing comes back. One that
    /// lost bytes to it, or was accepted by it, stays silent for ever, also after another fault
    /// is set: it could only go on with a hole in the middle.
    BlackHole,
    /// Nobody listens and existing connections are closed, as if the server were not running.
    Refuse,
    /// Existing connections are reset, and new ones as soon as they are accepted.
    Reset,
    /// When one side closes, the other side learns it this much later.
    SlowClose {
        /// How much later.
        delay: Duration,
    },
    /// The first bytes of each answer go through, then the connection is closed. An answer is
    /// what comes down between two times that something goes up; a shorter one is not touched.
    Truncate {
        /// How many bytes go through.
        bytes: usize,
    },
}

/// A running proxy. A clone is another handle to the same one; it ends with the last.
///
/// Every call that changes something has taken effect when it returns.
#[derive(Clone, Debug)]
pub struct Proxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// None only while dropping: its end is what ends the thread.
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// What the handles and the proxy's own thread both see.
#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    accepted: AtomicU64,
    live: AtomicU64,
    requests: AtomicU64,
}

/// Something to do, and where to say that it is done.
#[derive(Debug)]
struct Order {
    what: What,
    done: mpsc::Sender<()>,
}

#[derive(Debug)]
enum What {
    Set(Fault),
    End(End),
}

impl Proxy {
    /// Starts a proxy on a free port in front of `upstream`, which need not listen yet.
    ///
    /// It runs in a thread of its own, so that a test that blocks does not block its network.
    pub fn start(upstream: SocketAddr) -> Self {
        let port = Port::free();
        let addr = port.addr();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            accepted: AtomicU64::default(),
            live: AtomicU64::default(),
            requests: AtomicU64::default(),
        });
        let (orders, received) = unbounded_channel();
        let listener = control::Listener::bind(&port);
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || control::run(port, listener, &for_thread, received));
        let inner = Arc::new(Inner {
            addr,
            shared,
            orders: Some(orders),
            thread: Some(thread),
        });
        Self { inner }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// The port on 127.0.0.1 where it listens.
    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    /// Sets what happens from now on, in place of what was set before.
    pub fn set(&self, fault: Fault) {
        self.order(What::Set(fault));
    }

    /// Closes all connections that exist now, in order: each side reads an end of file. New ones
    /// are not concerned.
    pub fn cut(&self) {
        self.order(What::End(End::Close));
    }

    /// Leads new connections elsewhere, as a failover would. Existing ones stay.
    pub fn redirect(&self, upstream: SocketAddr) {
        let current = self.inner.shared.upstream.lock();
        *current.unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.inner.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many connections exist now.
    pub fn live_connections(&self) -> u64 {
        self.inner.shared.live.load(Ordering::Relaxed)
    }

    /// How many times something went up after an answer had come down. Without pipelining, that
    /// is the number of requests.
    pub fn requests(&self) -> u64 {
        self.inner.shared.requests.load(Ordering::Relaxed)
    }

    fn order(&self, what: What) {
        let (done, wait) = mpsc::channel();
        let orders = self.inner.orders.as_ref().expect("dropped only with this");
        orders.send(Order { what, done }).expect("the thread runs");
        wait.recv().expect("the thread answers");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened, and this may run while another unwinds.
            let _ = thread.join();
        }
    }
}
