//! A linearizable sequence of integers: each number is handed out once, for ever, and in order.
//!
//! * [`Sequence`] is the one abstraction: something that reserves a [`Block`] of numbers.
//!   Stores implement it, and so does the HTTP client of a service that hands out numbers.
//! * [`Coalescer`] lets many callers share one reservation at a time.
//! * [`Ratchet`] stands in front of a [`Store`] and catches one that went backwards.
//! * [`Reusable`] keeps the connection to a store or a server between calls.
//! * [`wire`] is the JSON that carries blocks between services.
//! * `contract` (with the feature of that name) is the suite that every implementation must pass.

mod block;
mod coalescer;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod monitor;
mod ratchet;
mod reusable;
pub mod wire;

use async_trait::async_trait;

pub use crate::{
    block::{Block, Count, InvalidBlock, InvalidCount, MAX_NUMBER},
    coalescer::{Coalescer, Limits},
    error::{Cause, Error},
    monitor::{Buckets, Counter, Distribution, Monitor},
    ratchet::{Marks, Ratchet},
    reusable::{Idle, Reusable},
};

/// Hands out numbers in blocks.
///
/// Every implementation passes `contract::check`.
#[async_trait(?Send)]
pub trait Sequence {
    /// Reserves `count` numbers that no caller has had and no other will get.
    ///
    /// The block starts above every block whose reservation returned before this call, on any
    /// replica, and it is durable when this returns. After an error the numbers may or may not
    /// have been taken; they are never handed out, so calling again is always safe.
    ///
    /// The caller may drop the future at any time, for instance at a deadline. An implementation
    /// that talks over a connection must then give the connection up: a late reply, read by the
    /// next call, would hand out numbers older than some that were already answered.
    async fn reserve(&self, count: Count) -> Result<Block, Error>;
}

/// A [`Sequence`] that is the source of its numbers, not a client of another service.
#[async_trait(?Send)]
pub trait Store: Sequence {
    /// Moves the sequence past `floor` (0 to [`MAX_NUMBER`]): the next block starts above it.
    ///
    /// It never moves the sequence back, and it is durable when this returns.
    async fn raise_above(&self, floor: u64) -> Result<(), Error>;

    /// Whether the store could reserve now, as [`reserve`](Sequence::reserve) would find out,
    /// but without taking a number. Returns the last number taken; 0 before the first.
    async fn check(&self) -> Result<u64, Error>;
}

#[async_trait(?Send)]
impl<S: Sequence + ?Sized> Sequence for Box<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        (**self).reserve(count).await
    }
}
