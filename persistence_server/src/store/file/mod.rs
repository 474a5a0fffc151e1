//! The embedded store: one small file, durable before every answer.
//!
//! The workers' reservations meet once more in front of one thread that writes: while it waits
//! for the disk, more of them gather, and the next write is for all of them.

mod disk;
mod slots;
#[cfg(test)]
mod tests;

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
};

use async_trait::async_trait;
use rustix::process::{getegid, geteuid};
use sequence::{Block, Count, Error, MAX_NUMBER, Sequence, Store};
use tokio::sync::oneshot;

use self::{
    disk::{Directory, DiskFile},
    slots::Counter,
};
use super::{Backend, Operations};
use crate::{FileSettings, SequenceName};

/// A sequence in a file. A clone is a handle to the same one.
#[derive(Clone, Debug)]
pub struct FileStore {
    commands: mpsc::Sender<Command>,
    dir: PathBuf,
}

impl FileStore {
    /// Opens the sequence in the directory of the settings, and makes it there if it is new.
    ///
    /// A failure of the disk later on is reported to `failed`, once: after a failed write it
    /// is unknown what is durable, so no more numbers are handed out.
    ///
    /// # Errors
    ///
    /// The directory is not there or cannot be written, another process uses it, or the file is
    /// damaged: it is never begun again, because that would repeat numbers.
    pub fn open(
        settings: &FileSettings,
        sequence: &SequenceName,
        operations: Operations,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (dir, name) = (&settings.data_dir, sequence.as_str());
        let at = |error| OpenError {
            dir: dir.to_owned(),
            error: explain(error, dir, name),
        };
        let lock = lock(dir).map_err(at)?;
        let writer = Writer {
            dir: dir.to_owned(),
            counter: Counter::open(&Directory(dir.to_owned()), name).map_err(at)?,
            operations,
            in_place: true,
            _lock: lock,
        };
        let (commands, queue) = mpsc::channel();
        writer
            .start(queue, failed)
            .map_err(|error| at(FileError::Io("start the writing thread", error)))?;
        let store = Self {
            commands,
            dir: dir.to_owned(),
        };
        if store.ends_with_its_container() {
            tracing::warn!(
                "DATA_DIR is inside the container, and its numbers end with it; mount a volume \
                 there (docker run -v numbers:/data)"
            );
        }
        Ok(store)
    }

    /// Whether the directory is on the file system that a container begins with.
    fn ends_with_its_container(&self) -> bool {
        let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
        // Outside of a container the first process is another.
        std::process::id() == 1 && device(&self.dir) == device(Path::new("/"))
    }

    async fn ask(&self, request: Request) -> Result<u64, Error> {
        let stopped = || Error::failed("the file store has stopped after a failure");
        let (answer, result) = oneshot::channel();
        let command = Command { request, answer };
        self.commands.send(command).map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }
}

impl Backend for FileStore {
    fn target(&self) -> String {
        format!("file store in {}", self.dir.display())
    }

    fn note(&self) -> &'static str {
        match self.ends_with_its_container() {
            true => "numbers end with the container",
            false => "",
        }
    }
}

#[async_trait(?Send)]
impl Sequence for FileStore {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let before = self.ask(Request::Reserve(count)).await?;
        Ok(Block::after(before, count)?)
    }
}

#[async_trait(?Send)]
impl Store for FileStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.ask(Request::RaiseAbove(floor)).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        // It is answered in turn, so this also tells whether the disk still takes writes.
        self.ask(Request::Check).await
    }
}

/// What the thread is asked for, and where the answer goes.
#[derive(Debug)]
struct Command {
    request: Request,
    answer: oneshot::Sender<Result<u64, Error>>,
}

#[derive(Debug)]
enum Request {
    /// The next block; answered with the number before it.
    Reserve(Count),
    /// A jump forward; answered with the last number taken.
    RaiseAbove(u64),
    /// Whether the disk still takes writes; answered with the last number taken.
    Check,
}

struct Writer<F> {
    dir: PathBuf,
    counter: Counter<F>,
    operations: Operations,
    /// Whether the file was where it belongs when it was last looked for.
    in_place: bool,
    /// Held until the thread ends.
    _lock: File,
}

impl<F: DiskFile> Writer<F> {
    /// Starts the thread; it ends with the last sender, or with a failure of the disk.
    fn start(
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
        let asks = |command: &Command| matches!(command.request, Request::Check);
        if (!self.in_place || waiting.iter().any(asks))
            && let Err(error) = self.counter.must_be_in_place()
        {
            self.in_place = false;
            let error = Error::unavailable(OpenError {
                dir: self.dir.clone(),
                error,
            });
            for command in waiting {
                // A caller that has gone away does not read it.
                let _ = command.answer.send(Err(error.clone()));
            }
            return Ok(());
        }
        self.in_place = true;
        let before = self.counter.last();
        let mut last = before;
        let mut replies = Vec::with_capacity(waiting.len());
        for Command { request, answer } in waiting {
            let reply = match request {
                Request::Reserve(_) if answer.is_closed() => continue,
                Request::Reserve(count) => {
                    let block = Block::after(last, count).map_err(Error::from);
                    let taken = last;
                    last = block.as_ref().map_or(last, |block| block.last());
                    block.map(|_| taken)
                }
                Request::RaiseAbove(floor) => {
                    last = last.max(floor.min(MAX_NUMBER));
                    Ok(last)
                }
                Request::Check => Ok(last),
            };
            replies.push((answer, reply));
        }
        if last != before {
            self.operations.add_one();
            self.counter.commit(last)?;
        }
        for (answer, reply) in replies {
            let _ = answer.send(reply);
        }
        Ok(())
    }
}

/// Why the file store was not opened, or hands out no more numbers.
#[derive(Debug, thiserror::Error)]
#[error("file store in DATA_DIR={}: {error}", dir.display())]
pub struct OpenError {
    dir: PathBuf,
    error: FileError,
}

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(
        "the directory does not exist; create it, or correct DATA_DIR (it is not created by \
         itself, because an empty one begins again at 1)"
    )]
    NoDirectory,

    #[error("another process is using the {0}")]
    Locked(&'static str),

    #[error("cannot {0}: {1}")]
    Io(&'static str, io::Error),

    #[error(
        "cannot {action}: {error}; the service runs as user {} and group {}, and {} belongs to \
         user {owner} and group {group} and has mode {mode:03o}; run `chown -R {}:{}` and \
         `chmod -R u+rwX` on the directory (of a bind mount, on the host), or run the service as \
         its owner (docker run --user)",
        geteuid(), getegid(), path.display(), geteuid(), getegid()
    )]
    Denied {
        action: &'static str,
        error: io::Error,
        path: PathBuf,
        owner: u32,
        group: u32,
        mode: u32,
    },

    #[error(
        "{file} is damaged: {damage}. Numbers might repeat, so the service does not start; \
         restore the file from where it was last good, or begin another SEQUENCE"
    )]
    Damaged { file: String, damage: String },

    #[error(
        "the sequence's file was removed, moved or replaced, so a restart would repeat numbers; \
         move the same file back, or start the service again with SEQUENCE_FLOOR={0}"
    )]
    NotInPlace(u64),
}

/// Says who may do what was denied.
fn explain(error: FileError, dir: &Path, name: &str) -> FileError {
    let FileError::Io(action, error) = error else {
        return error;
    };
    let paths = [dir.join(format!("{name}.sequence")), dir.to_owned()];
    let found = paths.into_iter().find_map(|path| {
        let metadata = path.metadata().ok()?;
        Some((path, metadata))
    });
    match found {
        Some((path, found)) if error.kind() == io::ErrorKind::PermissionDenied => {
            FileError::Denied {
                action,
                error,
                path,
                owner: found.uid(),
                group: found.gid(),
                mode: found.mode() & 0o777,
            }
        }
        _ => FileError::Io(action, error),
    }
}

/// Keeps other processes out of the directory for as long as it is open here.
///
/// The lock is on the directory itself: a lock file of its own looks stale after a crash, and
/// removing it would let a second process in.
fn lock(dir: &Path) -> Result<File, FileError> {
    match dir.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FileError::NoDirectory);
        }
        Err(error) => return Err(FileError::Io("use the directory", error)),
        Ok(found) if !found.is_dir() => {
            let error = io::ErrorKind::NotADirectory.into();
            return Err(FileError::Io("use the directory", error));
        }
        Ok(_) => {}
    }
    let directory = File::open(dir).map_err(|error| FileError::Io("use the directory", error))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(FileError::Locked("directory")),
        Err(TryLockError::Error(error)) => Err(FileError::Io("lock the directory", error)),
    }
}
