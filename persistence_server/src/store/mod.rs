//! The stores that hold the numbers, behind one trait.

pub mod etcd;
pub mod file;
pub mod memory;
pub mod postgres;
pub mod redis;

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chassis::{Context, Counter, Gauge, prometheus_client::registry::Registry};
use sequence::{Marks, Ratchet, Store};

use self::{
    etcd::EtcdStore, file::FileStore, memory::MemoryStore, postgres::PostgresStore,
    redis::RedisStore,
};
use crate::{Settings, StoreSettings};

/// Opens the store that the settings name.
///
/// # Errors
///
/// The store cannot be used, and waiting would not help: the message says why.
pub fn open(settings: &Settings, context: &Context) -> Result<OpenStore, chassis::Error> {
    let operations = Operations::default();
    let sequence = &settings.sequence;
    let mut note = "";
    let (make, target): (Make, String) = match &settings.store {
        StoreSettings::File(file) => {
            let fatal = context.fatal.clone();
            let store = FileStore::open(file, sequence, operations.clone(), move |error| {
                fatal.stop(format_args!("the file store cannot write: {error}"));
            })?;
            if ends_with_its_container(&file.data_dir) {
                tracing::warn!(
                    "DATA_DIR is inside the container, and its numbers end with it; mount a volume \
                     there (docker run -v numbers:/data)"
                );
                note = "numbers end with the container";
            }
            let target = format!("file store in {}", file.data_dir.display());
            (Arc::new(move || Box::new(store.clone())), target)
        }
        StoreSettings::Postgres(postgres) => {
            let store = PostgresStore::open(postgres, sequence, operations.clone())?;
            let address = postgres.pghost.with_port(postgres.pgport.get());
            let target = format!("postgres at {address}");
            (Arc::new(move || Box::new(store.handle())), target)
        }
        StoreSettings::Redis(redis) => {
            let store = RedisStore::open(redis, sequence, operations.clone())?;
            let address = redis.redis_host.with_port(redis.redis_port.get());
            let target = format!("redis at {address}");
            (Arc::new(move || Box::new(store.handle())), target)
        }
        StoreSettings::Etcd(etcd) => {
            let store = EtcdStore::open(etcd, sequence, operations.clone())?;
            let urls = etcd.etcd_endpoints.urls().iter();
            let urls: Vec<String> = urls.map(ToString::to_string).collect();
            let target = format!("etcd at {}", urls.join(", "));
            (Arc::new(move || Box::new(store.handle())), target)
        }
        StoreSettings::Memory => {
            tracing::warn!("STORE=memory: numbers are forgotten on restart and begin at 1 again");
            note = "numbers are forgotten on restart";
            let store = MemoryStore::new(operations.clone());
            (
                Arc::new(move || Box::new(store.clone())),
                "memory".to_owned(),
            )
        }
    };
    Ok(OpenStore {
        note,
        target,
        make,
        marks: Marks::above(settings.floor.get()),
        operations,
    })
}

/// Whether a directory is on the file system that a container begins with.
fn ends_with_its_container(dir: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    // Outside of a container the first process is another.
    process::id() == 1 && device(dir) == device(Path::new("/"))
}

type Make = Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>;

/// An open store, from which every thread takes its own handle. A clone is the same store.
#[derive(Clone)]
pub struct OpenStore {
    note: &'static str,
    target: String,
    make: Make,
    marks: Marks,
    operations: Operations,
}

impl OpenStore {
    /// What it is and where, for people.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// A handle for one thread, with the ratchet in front that all handles share.
    pub fn handle(&self) -> Ratchet<Box<dyn Store>> {
        Ratchet::new((self.make)(), self.marks.clone())
    }

    /// What this process knows to be taken.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What people should know of a store that works.
    pub fn note(&self) -> &'static str {
        self.note
    }

    /// Registers what the store counts.
    pub fn metrics(&self) -> impl FnOnce(&mut Registry) + use<> {
        let (operations, marks) = (self.operations.clone(), self.marks.clone());
        move |registry| {
            registry.register(
                "sequence_store_operations",
                "Writes to the store, each for all reservations that were waiting",
                Counter::new(move || operations.count()),
            );
            let highest = marks.clone();
            registry.register(
                "sequence_highest_number",
                "Highest number that this process has received from the store",
                Gauge::new(move || highest.highest()),
            );
            registry.register(
                "sequence_regressions",
                "Times the store went backwards and was caught",
                Counter::new(move || marks.regressions()),
            );
        }
    }
}

/// Counts the writes to a store. A clone shares the count.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<AtomicU64>);

impl Operations {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
