//! What a service gives to the chassis.

use std::{fmt, future::Future, sync::Arc};

use actix_web::web::ServiceConfig;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::{health::Dependency, http::Routes, settings::Common};

/// What a service is built from, besides its own settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The settings that every service has.
    pub common: Common,
    /// Ends the process when it cannot go on.
    pub fatal: Fatal,
}

/// Ends the process, with exit code 1, when it cannot go on. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub struct Fatal(pub(crate) mpsc::UnboundedSender<String>);

impl Fatal {
    /// Stops the process: requests in flight are finished, the reason is logged.
    pub fn stop(&self, reason: impl fmt::Display) {
        // If nobody listens, the process is stopping already.
        let _ = self.0.send(reason.to_string());
    }
}

/// A service: its resources, its dependencies and its metrics.
pub struct Service {
    pub(crate) routes: Routes,
    pub(crate) paths: Vec<&'static str>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) registry: Registry,
}

impl Service {
    /// A service with resources at `paths`, which `routes` registers.
    ///
    /// `routes` is called once on every worker thread and on that thread's runtime, so that it
    /// can make what belongs to one worker.
    pub fn new(
        paths: impl IntoIterator<Item = &'static str>,
        routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        Self {
            routes: Arc::new(routes),
            paths: paths.into_iter().collect(),
            dependencies: Vec::new(),
            registry: Registry::default(),
        }
    }

    /// Adds a dependency: the service is ready only while `check` succeeds. `target` is what it
    /// is and where, such as `redis at redis:6379`.
    ///
    /// The check is called every second and has 950 ms to answer: with a note for people (or an
    /// empty one), or with the reason why the dependency is down.
    #[must_use]
    pub fn depends_on<F>(
        mut self,
        name: &'static str,
        target: String,
        check: impl Fn() -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<String, String>> + 'static,
    {
        self.dependencies.push(Dependency {
            name,
            target,
            check: Box::new(move || Box::pin(check())),
        });
        self
    }

    /// Adds metrics to those of the chassis.
    #[must_use]
    pub fn metrics(mut self, register: impl FnOnce(&mut Registry)) -> Self {
        register(&mut self.registry);
        self
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
