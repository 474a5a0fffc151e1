//! The embedded store: one small file, durable before every answer.
//!
//! The workers' reservations meet once more in front of one thread that writes: while it waits
//! for the disk, more of them gather, and the next write is for all of them.

mod counter;
mod disk;
#[cfg(test)]
mod simulation;
mod slots;
mod writer;

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
};

use async_trait::async_trait;
use rustix::process::{getegid, geteuid};
use sequence::{Block, Count, Error, Sequence, Store};
use tokio::sync::oneshot;

use self::{
    counter::Counter,
    disk::Directory,
    writer::{Command, Writer},
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
        let at = |problem| OpenError {
            dir: dir.to_owned(),
            problem: explain(problem, dir, name),
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
            .map_err(|error| at(Problem::Io("start the writing thread", error)))?;
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

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let stopped = || Error::failed("the file store has stopped after a failure");
        let (answer, result) = oneshot::channel();
        self.commands.send(command(answer)).map_err(|_| stopped())?;
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
        self.ask(|answer| Command::Reserve { count, answer }).await
    }
}

#[async_trait(?Send)]
impl Store for FileStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.ask(|answer| Command::RaiseAbove { floor, answer })
            .await
    }

    async fn check(&self) -> Result<u64, Error> {
        // It is answered in turn, so this also tells whether the disk still takes writes.
        self.ask(|answer| Command::Check { answer }).await
    }
}

/// Why the file store cannot be opened, or refuses to go on.
#[derive(Debug, thiserror::Error)]
#[error("file store in DATA_DIR={}: {problem}", dir.display())]
pub struct OpenError {
    dir: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
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
fn explain(problem: Problem, dir: &Path, name: &str) -> Problem {
    let Problem::Io(action, error) = problem else {
        return problem;
    };
    let paths = [dir.join(format!("{name}.sequence")), dir.to_owned()];
    let found = paths.into_iter().find_map(|path| {
        let metadata = path.metadata().ok()?;
        Some((path, metadata))
    });
    match found {
        Some((path, found)) if error.kind() == io::ErrorKind::PermissionDenied => Problem::Denied {
            action,
            error,
            path,
            owner: found.uid(),
            group: found.gid(),
            mode: found.mode() & 0o777,
        },
        _ => Problem::Io(action, error),
    }
}

/// Keeps other processes out of the directory for as long as it is open here.
///
/// The lock is on the directory itself: a lock file of its own looks stale after a crash, and
/// removing it would let a second process in.
fn lock(dir: &Path) -> Result<File, Problem> {
    match dir.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::NoDirectory),
        Err(error) => return Err(Problem::Io("use the directory", error)),
        Ok(found) if !found.is_dir() => {
            let error = io::ErrorKind::NotADirectory.into();
            return Err(Problem::Io("use the directory", error));
        }
        Ok(_) => {}
    }
    let directory = File::open(dir).map_err(|error| Problem::Io("use the directory", error))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(Problem::Locked("directory")),
        Err(TryLockError::Error(error)) => Err(Problem::Io("lock the directory", error)),
    }
}
