//! The microservice chassis: what every service here shares, with no domain word in it.
//!
//! A service is a settings struct, a resource and the dependencies it needs; [`run()`] does the
//! rest: command line, settings, logs, two listeners, readiness, metrics, drain and stop.

// The code that `settings!` writes names this crate, here too.
extern crate self as chassis;

mod access_log;
mod admin;
mod connect;
mod connection;
mod connections;
mod faults;
mod head;
mod health;
mod listener;
mod logs;
mod metrics;
mod middleware;
pub mod problem;
mod process;
mod resource;
mod run;
mod server;
mod service;
pub mod settings;
mod traces;

#[doc(hidden)]
pub use serde;

pub use self::{
    connect::connect,
    faults::Faults,
    metrics::Buckets,
    resource::{json_answer, options, prefers, require_accepts, resource},
    run::{BadSettings, BoxError, Program, run},
    service::{Context, Fatal, Service},
    traces::trace_fields,
};
