//! The HTTP listener: actix-web behind a connection that knows when to give up.

mod connection;
mod connections;
mod malformed;
mod observe;
mod server;
mod worker;

pub(crate) use self::{
    server::{Listener, Routes, serve},
    worker::Shared,
};
