//! Proves that a service that hands out numbers keeps its promise.
//!
//! The promise is a *linearizable fetch-and-increment*: no number is handed out twice, and if
//! the answer with A was received before the request for B was sent, then A < B. Numbers may be
//! skipped when something fails; they are never repeated.
//!
//! [`load::run()`] drives load over kept-alive connections and brings back a [`History`]: when
//! each request was sent, when its answer was received and which numbers it brought. [`verify()`]
//! proves it or names the two [`Operation`]s that break it, and a [`Summary`] reports it as
//! text or JSON.
//!
//! ```no_run
//! use checker::load::{self, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options {
//!     requests: Some(10_000),
//!     ..Options::new("http://localhost:8081".parse()?)
//! };
//! let outcome = load::run(&options)?;
//! let proof = checker::verify(&outcome.history.operations)?;
//! assert_eq!(proof.skipped, 0);
//! # Ok(())
//! # }
//! ```

mod answer;
pub mod client;
mod clock;
pub mod history;
pub mod load;
pub mod summary;
pub mod target;
pub mod verify;
mod worker;

pub use history::{History, Operation};
pub use summary::Summary;
pub use target::Target;
pub use verify::{Proof, Violation, verify};
