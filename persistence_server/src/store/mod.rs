//! The stores that hold the numbers, behind one trait.

pub mod etcd;
pub mod file;
pub mod memory;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chassis::{Context, Counter, prometheus_client::registry::Registry};
use sequence::{Marks, Ratchet, Store};

use self::{etcd::Etcd, file::FileSequence, memory::MemorySequence};
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
        StoreKind::File => {
            let (dir, name) = (&settings.data_dir, settings.sequence.as_str());
            let fatal = context.fatal.clone();
            let store = FileSequence::open(dir, name, operations.clone(), move |error| {
                fatal.stop(format_args!("the file store cannot write: {error}"));
            })?;
            Arc::new(move || Box::new(store.clone()))
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
    Ok(OpenStore {
        kind: settings.store,
        make,
        marks: Marks::default(),
        operations,
    })
}

type Make = Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>;

/// An open store, from which every thread takes its own handle. A clone is the same store.
#[derive(Clone)]
pub struct OpenStore {
    kind: StoreKind,
    make: Make,
    marks: Marks,
    operations: Operations,
}

impl OpenStore {
    /// A handle for one thread, with the ratchet in front that all handles share.
    pub fn handle(&self) -> Ratchet<Box<dyn Store>> {
        Ratchet::new((self.make)(), self.marks.clone())
    }

    /// What people should know of a store that works.
    pub fn note(&self) -> &'static str {
        match self.kind {
            StoreKind::Memory => "numbers are forgotten on restart",
            StoreKind::File => "",
            StoreKind::Etcd => "",
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
