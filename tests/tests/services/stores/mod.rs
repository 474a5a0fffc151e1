//! The promise over real stores that replicas share, and the proof under faults.

mod backend;
mod fail_over;
mod faults;
mod outages;
mod recovery;
mod replicas;
pub(crate) mod rollout;

/// Makes a test of each function for each networked store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod redis {
            $(#[test] fn $test() { super::$test(super::super::backend::Kind::Redis); })*
        }

        mod postgres {
            $(#[test] fn $test() { super::$test(super::super::backend::Kind::Postgres); })*
        }

        mod etcd {
            $(#[test] fn $test() { super::$test(super::super::backend::Kind::Etcd); })*
        }
    };
}

use on_every_store;
