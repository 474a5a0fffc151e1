//! Answers each request with a fresh integer and its SHA-256.

use std::process::ExitCode;

use hash_server::{PROGRAM, Settings, service};

fn main() -> ExitCode {
    chassis::run(PROGRAM, async |settings: Settings, context| {
        Ok(service(&settings, &context))
    })
}
