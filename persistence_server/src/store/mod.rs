//! The stores that hold the numbers, behind one trait.

pub mod etcd;
pub mod file;
pub mod memory;
pub mod postgres;
pub mod redis;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chassis::{Context, Counter, Gauge, prometheus_client::registry::Registry};
use sequence::{Marks, Ratchet, Store};

use self::{etcd::Etcd, file::FileSequence, memory::MemorySequence, postgres::PostgresStore};
use crate::{Settings, StoreKind};

/// Opens the store that the settings name.
///
/// # Errors
///
/// The store cannot be used, and waiting would not help: the message says why.
pub fn open(settings: &Settings, context: &Context) -> Result<OpenStore, chassis::Error> {
    let operations = Operations::default();
    let make: Make = match settings.store {
        StoreKind::Memory => {
            tracing::warn!("STORE=memory: numbers are forgotten on restart and begin at 1 again");
            let store = MemorySequence::new(operations.clone());
            Arc::new(move || Box::new(store.clone()))
        }
        StoreKind::Redis => {
            let server = redis::Server::new(settings, operations.clone())?;
            Arc::new(move || Box::new(redis::RedisSequence::new(&server)))
        }
        StoreKind::File => {
            let (dir, name) = (&settings.data_dir, settings.sequence.as_str());
            let fatal = context.fatal.clone();
            let store = FileSequence::open(dir, name, operations.clone(), move |error| {
                fatal.stop(format_args!("the file store cannot write: {error}"));
            })?;
            Arc::new(move || Box::new(store.clone()))
        }
        StoreKind::Postgres => {
            let store = PostgresStore::new(settings, operations.clone())?;
            Arc::new(move || Box::new(store.handle()))
        }
        StoreKind::Etcd => {
            let options = etcd::Options {
                endpoints: settings.etcd_endpoints.clone(),
                username: settings.etcd_username.clone(),
                password: settings.etcd_password.clone(),
                ca_file: settings.etcd_ca_file.clone(),
            };
            let store = Etcd::new(settings.sequence.as_str(), options, operations.clone())?;
            Arc::new(move || Box::new(store.handle()))
        }
    };
    let target = match settings.store {
        StoreKind::Memory => "memory".to_owned(),
        StoreKind::File => format!("file store in {}", settings.data_dir.display()),
        StoreKind::Redis => format!("redis at {}:{}", settings.redis_host, settings.redis_port),
        StoreKind::Postgres => format!("postgres at {}:{}", settings.pghost, settings.pgport),
        StoreKind::Etcd => {
            let urls = settings.etcd_endpoints.urls().iter();
            let urls: Vec<String> = urls.map(ToString::to_string).collect();
            format!("etcd at {}", urls.join(", "))
        }
    };
    Ok(OpenStore {
        kind: settings.store,
        target,
        make,
        marks: Marks::above(settings.sequence_floor.get()),
        operations,
    })
}

type Make = Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>;

/// An open store, from which every thread takes its own handle. A clone is the same store.
#[derive(Clone)]
pub struct OpenStore {
    kind: StoreKind,
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

    /// What people should know of a store that works.
    pub fn note(&self) -> &'static str {
        match self.kind {
            StoreKind::Memory => "numbers are forgotten on restart",
            StoreKind::File | StoreKind::Redis | StoreKind::Postgres | StoreKind::Etcd => "",
        }
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
