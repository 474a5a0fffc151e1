//! Proves that a service that hands out numbers keeps its promise.
//!
//! The promise is a *linearizable fetch-and-increment*: no number is handed out twice, and if
//! the answer with A was received before the request for B was sent, then A < B. Numbers may be
//! skipped when something fails; they are never repeated.
//!
//! A [`History`] says when each request was sent, when its answer was received and which numbers
//! it brought; [`verify()`] proves it or names the two [`Operation`]s that break it.

pub mod history;
pub mod verify;

pub use history::{History, Operation};
pub use verify::{Proof, Violation, verify};
