//! How many files, and so connections, the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Connections to the admin port, which are kept back for it.
pub(crate) const ADMIN: usize = 64;

/// Kept back for everything that is no connection to a listener, and for each worker: what its
/// runtime needs, and its connection to what stands behind the service.
const OTHERS: usize = 32;
const EACH_WORKER: usize = 8;

/// As many as actix-server takes by default.
const MOST: usize = 25_600;

/// Raises the limit as far as the process may, and divides what is not kept back among the
/// workers of the public port: so many connections each.
pub(crate) fn for_each_of(workers: usize) -> usize {
    divide(raise(), workers)
}

fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    let unlimited = usize::MAX;
    current.map_or(unlimited, |files| {
        usize::try_from(files).unwrap_or(unlimited)
    })
}

fn divide(limit: usize, workers: usize) -> usize {
    let kept_back = ADMIN + OTHERS + EACH_WORKER * workers;
    // Below that nothing is safe; but a little is served all the same.
    let connections = limit.saturating_sub(kept_back).max(limit / 4);
    (connections / workers).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_is_kept_back() {
        assert_eq!(divide(1024, 2), (1024 - 64 - 32 - 16) / 2);
        assert_eq!(divide(64, 2), 8);
        assert_eq!(divide(0, 2), 1);
        assert_eq!(divide(usize::MAX, 2), MOST);
    }
}
