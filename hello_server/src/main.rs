//! Says hello.

use std::process::ExitCode;

use hello_server::{PROGRAM, Settings, service};

fn main() -> ExitCode {
    chassis::run(PROGRAM, async |settings: Settings, _| {
        Ok(service(&settings))
    })
}
