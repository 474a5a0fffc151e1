//! The proof of the checker: what it must find, and what it must not.

mod agreement;
mod cli;
mod failures;
mod lies;
mod load;
mod planted;
mod server;
