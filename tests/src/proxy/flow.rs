//! The two directions of a connection, and what a fault does to the bytes in them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connection::End;
use super::{Fault, Shared};

/// How many pieces a direction holds back before it stops reading, so that a sender feels
/// a full network.
const HELD_PIECES: usize = 64;

const PIECE_BYTES: usize = 16 * 1024;

/// Under limited bandwidth, how often something is sent in a second.
const SENDS_PER_SECOND: u64 = 50;

/// What both directions of one connection know.
pub(super) struct Flow {
    shared: Arc<Shared>,
    fault: watch::Receiver<Fault>,
    /// Set once bytes were swallowed; nothing passes from then on.
    broken: Cell<bool>,
    /// True from the first byte of a request to the first byte of its answer.
    asking: Cell<bool>,
    /// How much of the current answer went through.
    answered: Cell<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Some bytes and when they came.
struct Piece {
    arrived: Instant,
    bytes: Vec<u8>,
}

impl Flow {
    pub(super) fn new(shared: Arc<Shared>, fault: watch::Receiver<Fault>) -> Self {
        Self {
            shared,
            fault,
            broken: Cell::new(false),
            asking: Cell::new(false),
            answered: Cell::new(0),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Carries one direction to its end of file.
    pub(super) async fn carry(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        // Reading goes on while pieces are held back: latency delays each piece by the same
        // time, it does not make them wait for each other.
        let (queue, mut held) = mpsc::channel(HELD_PIECES);
        let read = async move {
            while let Some(piece) = read(&mut from).await? {
                // The writing half ends early only with an error, and this ends with it.
                let _ = queue.send(piece).await;
            }
            Ok(())
        };
        let write = async {
            while let Some(piece) = held.recv().await {
                self.hold_back(direction, piece.arrived).await;
                self.forward(direction, &piece.bytes, &mut to).await?;
            }
            self.close(&mut to).await
        };
        tokio::try_join!(read, write)?;
        Ok(())
    }

    /// Waits for as long as the latency says, or until it is no longer set.
    async fn hold_back(&self, direction: Direction, arrived: Instant) {
        if direction == Direction::Up {
            return;
        }
        let mut changes = self.fault.clone();
        let part = fastrand::f64();
        loop {
            let fault = *changes.borrow_and_update();
            let Fault::Latency { delay, jitter } = fault else {
                return;
            };
            tokio::select! {
                () = sleep_until(arrived + delay + jitter.mul_f64(part)) => return,
                _ = changes.changed() => {}
            }
        }
    }

    async fn forward(
        &self,
        direction: Direction,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), End> {
        let mut left = bytes;
        while !left.is_empty() {
            if self.swallows() {
                self.broken.set(true);
                return Ok(());
            }
            let length = self.length_to_send(direction, left.len())?;
            let (now, later) = left.split_at(length);
            // Before it is sent, so that whoever has received it finds it counted.
            self.count(direction, length);
            to.write_all(now).await.map_err(|_| End::Reset)?;
            left = later;
            self.keep_rate(length).await;
            // Asked again so that a cut answer ends with its last byte, not with the byte after.
            self.length_to_send(direction, left.len())?;
        }
        Ok(())
    }

    fn swallows(&self) -> bool {
        self.broken.get() || self.fault() == Fault::BlackHole
    }

    /// How much of `length` bytes may go at once; an error when the answer ends here.
    fn length_to_send(&self, direction: Direction, length: usize) -> Result<usize, End> {
        match self.fault() {
            Fault::Truncate { bytes } if direction == Direction::Down => {
                match bytes.saturating_sub(self.answered()) {
                    0 => Err(End::Close),
                    room => Ok(length.min(room)),
                }
            }
            Fault::Bandwidth { bytes_per_second } => {
                let most = usize::try_from(bytes_per_second / SENDS_PER_SECOND);
                Ok(length.min(most.unwrap_or(usize::MAX).max(1)))
            }
            _ => Ok(length),
        }
    }

    async fn keep_rate(&self, sent: usize) {
        let mut changes = self.fault.clone();
        let fault = *changes.borrow_and_update();
        if let Fault::Bandwidth { bytes_per_second } = fault {
            let time = Duration::from_secs_f64(sent as f64 / bytes_per_second.max(1) as f64);
            // What was set meanwhile counts at once.
            let _ = timeout(time, changes.changed()).await;
        }
    }

    async fn close(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        if self.swallows() {
            // Nothing passes, so nobody learns of the end either.
            std::future::pending::<()>().await;
        }
        if let Fault::SlowClose { delay } = self.fault() {
            sleep(delay).await;
        }
        to.shutdown().await.map_err(|_| End::Reset)
    }

    fn count(&self, direction: Direction, length: usize) {
        match direction {
            Direction::Up => {
                if !self.asking.replace(true) {
                    self.shared.requests.fetch_add(1, Ordering::Relaxed);
                }
            }
            Direction::Down => {
                self.answered.set(self.answered() + length);
                self.asking.set(false);
            }
        }
    }

    /// How much of the current answer went through. Between a request and the first byte of its
    /// answer, the length in the cell is still that of the answer before.
    fn answered(&self) -> usize {
        match self.asking.get() {
            true => 0,
            false => self.answered.get(),
        }
    }
}

/// The next piece; none at the end of file.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Piece>, End> {
    let mut bytes = vec![0; PIECE_BYTES];
    let length = from.read(&mut bytes).await.map_err(|_| End::Reset)?;
    bytes.truncate(length);
    let arrived = Instant::now();
    Ok((length > 0).then_some(Piece { arrived, bytes }))
}
