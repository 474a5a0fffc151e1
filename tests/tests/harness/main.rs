//! The harness keeps its own promises.

mod etcd;
mod postgres;
mod proxy;
mod redis;
mod service;
mod tidy;

use std::time::Duration;

/// Far more than anything here takes, so that a busy machine fails no test.
const LIMIT: Duration = Duration::from_secs(20);
