//! The stores that hold the numbers, behind one trait. `docs/adding-a-store.md` adds another.

pub mod etcd;
pub mod file;
pub mod memory;
pub mod postgres;
pub mod redis;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chassis::Context;
use sequence::{Marks, Ratchet, Store};
use tokio::io::{AsyncRead, AsyncWrite};

use self::{
    etcd::EtcdStore, file::FileStore, memory::MemoryStore, postgres::PostgresStore,
    redis::RedisStore,
};
use crate::{Settings, StoreSettings};

/// A store that this service can be run on.
///
/// A clone is a handle for another thread, with a connection of its own.
pub trait Backend: Store + Clone + Send + Sync + 'static {
    /// What it is and where, such as `redis at redis:6379`.
    fn target(&self) -> String;

    /// What `/readyz` says of it while it is up; empty for nothing.
    fn note(&self) -> &'static str {
        ""
    }
}

/// Opens the store that the settings name.
///
/// # Errors
///
/// The store cannot be opened, and waiting would not help: the message says why.
pub fn open(settings: &Settings, context: &Context) -> Result<OpenStore, chassis::BoxError> {
    let operations = Operations::default();
    let (sequence, counted) = (&settings.sequence, operations.clone());
    let marks = Marks::above(settings.floor.get());
    Ok(match &settings.store {
        StoreSettings::File(file) => {
            let fatal = context.fatal.clone();
            let store = FileStore::open(file, sequence, counted, move |error| {
                fatal.stop(format_args!("the file store cannot write: {error}"));
            })?;
            OpenStore::new(store, marks, operations)
        }
        StoreSettings::Redis(redis) => {
            let store = RedisStore::open(redis, sequence, counted)?;
            OpenStore::new(store, marks, operations)
        }
        StoreSettings::Postgres(postgres) => {
            let store = PostgresStore::open(postgres, sequence, counted)?;
            OpenStore::new(store, marks, operations)
        }
        StoreSettings::Etcd(etcd) => {
            let store = EtcdStore::open(etcd, sequence, counted)?;
            OpenStore::new(store, marks, operations)
        }
        StoreSettings::Memory => OpenStore::new(MemoryStore::open(counted), marks, operations),
    })
}

/// An open store, whichever it is.
#[derive(Clone)]
pub struct OpenStore {
    handle: Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>,
    /// What it is and where.
    pub(crate) target: String,
    /// What `/readyz` says of it while it is up.
    pub(crate) note: &'static str,
    /// What this process knows to be taken.
    pub(crate) marks: Marks,
    /// Writes to the store, each for all reservations that were waiting.
    pub(crate) operations: Operations,
}

impl OpenStore {
    fn new(store: impl Backend, marks: Marks, operations: Operations) -> Self {
        Self {
            target: store.target(),
            note: store.note(),
            handle: Arc::new(move || Box::new(store.clone())),
            marks,
            operations,
        }
    }

    /// A handle for one thread, with the ratchet in front that all handles share.
    pub fn handle(&self) -> Ratchet<Box<dyn Store>> {
        Ratchet::new((self.handle)(), self.marks.clone())
    }
}

/// Counts the writes to a store. A clone shares the count.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<AtomicU64>);

impl Operations {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection to a server, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Without the number of the error: `connection refused`.
fn io_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => one_line(error),
    }
}

/// Text from outside as one line of a message, without control characters and not too long.
fn one_line(text: impl fmt::Display) -> String {
    const LONGEST: usize = 400;
    let text = text.to_string().replace(char::is_control, " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_from_outside_becomes_one_short_line() {
        assert_eq!(one_line("a\nb\u{1b}[31mc"), "a b [31mc");
        assert_eq!(one_line("ä".repeat(5000)), "ä".repeat(400) + "…");
    }
}
