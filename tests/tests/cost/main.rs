//! What a request costs, in figures that do not depend on how busy or how fast a machine is:
//! instructions, system calls, and operations on the store.
//!
//! Each figure is held against the one in `recorded.json`. `RECORD_COST=1 cargo test -p e2e --test
//! cost` writes the figures of today there: say why in the commit.

mod batches;
mod built;
mod count;
mod recorded;

use count::{instructions, system_calls};
use recorded::check;

#[test]
fn a_request_costs_no_more_instructions_than_recorded() {
    check("user instructions per request", 1.05, instructions);
}

#[test]
fn a_request_costs_no_more_system_calls_than_recorded() {
    check("system calls per request", 1.05, system_calls);
}

#[test]
fn requests_that_wait_together_share_a_reservation() {
    batches::check();
}
