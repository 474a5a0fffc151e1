//! What the end-to-end tests are built from: real service processes, real stores, real signals
//! and a network that can be broken on purpose.
//!
//! Everything here stops when it is dropped, also when a test panics, and no process outlives
//! the test process, not even when that one is killed. All traffic stays on loopback.
//!
//! Nothing here is asynchronous: a test is a plain function that starts things, breaks things
//! and looks. It may still be called from an asynchronous test, where it blocks for a moment.

pub mod browser;
pub mod collector;
pub mod guide;
pub mod http;
pub mod launch;
pub mod lines;
pub mod load;
pub mod metrics;
pub mod open_load;
pub mod port;
pub mod process;
mod procfs;
pub mod proof;
pub mod proxy;
pub mod service;
pub mod skip;
pub mod soak;
pub mod store;
pub mod tls;
pub mod wait;

pub use process::Signal;
pub use proxy::{Fault, Proxy};
pub use service::{Service, run_to_end};
