//! Connections that delay what they carry, and break.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use hash_server::{Network, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot},
    time::sleep,
};

/// A request for a connection.
pub(crate) type Caller = oneshot::Sender<io::Result<DuplexStream>>;

/// The network as `HttpSequence` sees it, which wants to be sent to other threads.
#[derive(Clone, Debug)]
pub(crate) struct Callers(pub(crate) mpsc::UnboundedSender<Caller>);

#[async_trait]
impl Network for Callers {
    async fn connect(&self, _: &str, _: u16) -> io::Result<Box<dyn Stream>> {
        let (caller, answer) = oneshot::channel();
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        self.0.send(caller).map_err(|_| reset())?;
        let stream = answer.await.map_err(|_| reset())??;
        Ok(Box::new(stream))
    }
}

/// What the way to one replica is like.
#[derive(Debug)]
pub(crate) struct Link {
    /// Nothing passes while it is cut; what was sent arrives later.
    pub(crate) is_cut: Cell<bool>,
    /// Of so many pieces that are sent, one breaks its connection; none if it is 0.
    pub(crate) breaks: Cell<u64>,
    rng: RefCell<Rng>,
}

impl Link {
    pub(crate) fn new(seed: u64, breaks: u64) -> Rc<Self> {
        Rc::new(Self {
            is_cut: Cell::new(false),
            breaks: Cell::new(breaks),
            rng: RefCell::new(Rng::with_seed(seed)),
        })
    }

    pub(crate) async fn delay(&self) {
        let micros = {
            let mut rng = self.rng.borrow_mut();
            let longest = if rng.u32(..20) == 0 { 200_000 } else { 2_000 };
            rng.u64(..longest)
        };
        sleep(Duration::from_micros(micros)).await;
        while self.is_cut.get() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Carries bytes both ways until the connection breaks or one side ends it.
    pub(crate) async fn carry(&self, client: DuplexStream, server: DuplexStream) {
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(server);
        let one_way = async |from: &mut ReadHalf<DuplexStream>,
                             to: &mut WriteHalf<DuplexStream>| {
            let mut piece = [0; 512];
            loop {
                let Ok(length @ 1..) = from.read(&mut piece).await else {
                    return;
                };
                self.delay().await;
                let breaks = self.breaks.get();
                if breaks > 0 && self.rng.borrow_mut().u64(..breaks) == 0 {
                    return;
                }
                if to.write_all(&piece[..length]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = one_way(&mut from_client, &mut to_server) => {}
            () = one_way(&mut from_server, &mut to_client) => {}
        }
    }
}
