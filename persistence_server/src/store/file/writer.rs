//! The thread that writes.

use std::{fs::File, io, path::PathBuf, sync::mpsc::Receiver, thread};

use sequence::{Block, Count, Error, MAX_NUMBER};
use tokio::sync::oneshot;

use super::{OpenError, counter::Counter, disk::DiskFile};
use crate::store::Operations;

/// What the thread is asked for, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    /// The next block.
    Reserve {
        count: Count,
        answer: oneshot::Sender<Result<Block, Error>>,
    },
    /// A jump forward.
    RaiseAbove {
        floor: u64,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// A sign of life.
    Check {
        answer: oneshot::Sender<Result<u64, Error>>,
    },
}

impl Command {
    fn refuse(self, error: Error) {
        // A caller that has gone away does not read it.
        match self {
            Self::Reserve { answer, .. } => drop(answer.send(Err(error))),
            Self::RaiseAbove { answer, .. } => drop(answer.send(Err(error))),
            Self::Check { answer } => drop(answer.send(Err(error))),
        }
    }
}

pub(super) struct Writer<F> {
    pub(super) dir: PathBuf,
    pub(super) counter: Counter<F>,
    pub(super) operations: Operations,
    /// Whether the file was where it belongs when it was last looked for.
    pub(super) in_place: bool,
    /// Held until the thread ends.
    pub(super) _lock: File,
}

impl<F: DiskFile> Writer<F> {
    /// Starts the thread; it ends with the last sender, or with a failure of the disk.
    pub(super) fn start(
        mut self,
        queue: Receiver<Command>,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<()> {
        let run = move || {
            while let Ok(first) = queue.recv() {
                let waiting = std::iter::once(first).chain(queue.try_iter()).collect();
                if let Err(error) = self.serve(waiting) {
                    return failed(error);
                }
            }
        };
        thread::Builder::new()
            .name("file-store".to_owned())
            .spawn(run)
            .map(drop)
    }

    /// Serves all that are waiting with one write. On an error they get no answer but the end
    /// of their channel.
    fn serve(&mut self, waiting: Vec<Command>) -> io::Result<()> {
        // Asked once a second, not for every write; and until it is back.
        let asks = |command: &Command| matches!(command, Command::Check { .. });
        if (!self.in_place || waiting.iter().any(asks))
            && let Err(problem) = self.counter.must_be_in_place()
        {
            self.in_place = false;
            let error = Error::unavailable(OpenError {
                dir: self.dir.clone(),
                problem,
            });
            for command in waiting {
                command.refuse(error.clone());
            }
            return Ok(());
        }
        self.in_place = true;
        let before = self.counter.last();
        let mut last = before;
        let mut replies: Vec<Box<dyn FnOnce()>> = Vec::with_capacity(waiting.len());
        for command in waiting {
            match command {
                Command::Reserve { answer, .. } if answer.is_closed() => {}
                Command::Reserve { count, answer } => {
                    let block = Block::after(last, count).map_err(Error::from);
                    last = block.as_ref().map_or(last, |block| block.last());
                    replies.push(Box::new(move || drop(answer.send(block))));
                }
                Command::RaiseAbove { floor, answer } => {
                    last = last.max(floor.min(MAX_NUMBER));
                    replies.push(Box::new(move || drop(answer.send(Ok(())))));
                }
                Command::Check { answer } => {
                    replies.push(Box::new(move || drop(answer.send(Ok(last)))));
                }
            }
        }
        if last != before {
            self.operations.add_one();
            self.counter.commit(last)?;
        }
        for reply in replies {
            reply();
        }
        Ok(())
    }
}
