//! Hands out the next unique integer.

use std::process::ExitCode;

use persistence_server::{PROGRAM, Settings, service, store};

fn main() -> ExitCode {
    chassis::run(PROGRAM, async |settings: Settings, context| {
        let store = store::open(&settings, &context)?;
        Ok(service(store, &context))
    })
}
