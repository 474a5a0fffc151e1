//! The microservice chassis: what every service here shares, with no domain word in it.
//!
//! A service is a settings struct, a few routes and the dependencies it needs; [`run()`] does the
//! rest: command line, settings, logs, two listeners, readiness, metrics, drain and stop.

// The code that `settings!` writes names this crate, here too.
extern crate self as chassis;

pub mod accept;
mod access_log;
mod admin;
mod connect;
mod health;
mod healthcheck;
mod http;
mod life;
mod listener;
mod logs;
mod metrics;
mod open_files;
pub mod problem;
mod program;
mod resource;
mod run;
mod service;
mod serving;
pub mod settings;

#[doc(hidden)]
pub use serde;

pub use self::{
    connect::connect,
    life::Error,
    program::Program,
    resource::{fresh_json, options, resource},
    run::{BadSettings, run},
    service::{Context, Fatal, Service},
};
