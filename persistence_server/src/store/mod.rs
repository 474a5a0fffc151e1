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

use async_trait::async_trait;
use chassis::{Context, Faults};
use sequence::{Block, Count, Error, Marks, Ratchet, Sequence, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{Instrument as _, info_span};

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
    let faults = context.faults.clone();
    Ok(match &settings.store {
        StoreSettings::File(file) => {
            let fatal = context.fatal.clone();
            let store = FileStore::open(file, sequence, counted, move |error| {
                fatal.stop(format_args!("the file store cannot write: {error}"));
            })?;
            OpenStore::new(store, marks, operations, faults)
        }
        StoreSettings::Redis(redis) => {
            let store = RedisStore::open(redis, sequence, counted)?;
            OpenStore::new(store, marks, operations, faults)
        }
        StoreSettings::Postgres(postgres) => {
            let store = PostgresStore::open(postgres, sequence, counted)?;
            OpenStore::new(store, marks, operations, faults)
        }
        StoreSettings::Etcd(etcd) => {
            let store = EtcdStore::open(etcd, sequence, counted)?;
            OpenStore::new(store, marks, operations, faults)
        }
        StoreSettings::Memory => {
            OpenStore::new(MemoryStore::open(counted), marks, operations, faults)
        }
    })
}

/// An open store, whichever it is.
#[derive(Clone)]
pub struct OpenStore {
    handle: Arc<dyn Fn() -> Handle + Send + Sync>,
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
    fn new(store: impl Backend, marks: Marks, operations: Operations, faults: Faults) -> Self {
        let target = store.target();
        let name: Arc<str> = target.as_str().into();
        Self {
            target,
            note: store.note(),
            handle: Arc::new(move || Handle {
                store: Box::new(store.clone()),
                target: Arc::clone(&name),
                faults: faults.clone(),
            }),
            marks,
            operations,
        }
    }

    /// A handle for one thread, with the ratchet in front that all handles share.
    pub fn handle(&self) -> Ratchet<Handle> {
        Ratchet::new((self.handle)(), self.marks.clone())
    }
}

/// A store as the service uses it: traced, and with faults on demand.
pub struct Handle {
    store: Box<dyn Store>,
    target: Arc<str>,
    faults: Faults,
}

impl Handle {
    async fn faults(&self) -> Result<(), Error> {
        let result = self.faults.before_dependency().await;
        result.map_err(|reason| Error::unavailable(format!("{}: {reason}", self.target)))
    }
}

#[async_trait(?Send)]
impl Sequence for Handle {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let system = || match self.target.split(' ').next() {
            Some("postgres") => "postgresql",
            system => system.unwrap_or_default(),
        };
        let span = info_span!(
            "store",
            otel.kind = "client",
            otel.name = format!("reserve {}", system()),
            db.system.name = system(),
            db.operation.name = "reserve",
            db.operation.batch.size = count.get(),
        );
        let reserve = async {
            self.faults().await?;
            self.store.reserve(count).await
        };
        reserve.instrument(span).await
    }
}

#[async_trait(?Send)]
impl Store for Handle {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.faults().await?;
        self.store.raise_above(floor).await
    }

    async fn check(&self) -> Result<u64, Error> {
        self.faults().await?;
        self.store.check().await
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
