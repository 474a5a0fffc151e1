//! What a service gives to the chassis.

use std::{fmt, rc::Rc, sync::Arc};

use actix_web::Resource;
use prometheus_client::{metrics::MetricType, registry::Registry};
use tokio::sync::mpsc;

use crate::{
    faults::Faults,
    health::Dependency,
    metrics::{Buckets, Distribution, Reading},
    server::Routes,
    settings::Common,
};

/// What a service is built from, besides its own settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The settings that every service has.
    pub common: Common,
    /// Ends the process after a fatal error.
    pub fatal: Fatal,
    /// The faults that `/faults` was asked for.
    pub faults: Faults,
}

/// Ends the process, with exit code 1, after a fatal error. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub struct Fatal(pub(crate) mpsc::UnboundedSender<String>);

impl Fatal {
    /// Stops the process: requests in flight are finished, the reason is logged.
    pub fn stop(&self, reason: impl fmt::Display) {
        // If nothing listens, the process is stopping already.
        let _ = self.0.send(reason.to_string());
    }
}

/// A service: its resource, its dependencies and its metrics.
pub struct Service {
    pub(crate) routes: Routes,
    pub(crate) path: &'static str,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) registry: Registry,
    /// What `/openapi.json` answers.
    pub(crate) description: Option<&'static str>,
}

impl Service {
    /// A service with one resource, which `make` makes at `path`.
    ///
    /// `make` is called once on every worker thread and on that thread's runtime, so that it can
    /// make what belongs to one worker.
    pub fn new(
        path: &'static str,
        make: impl Fn(&'static str) -> Resource + Send + Sync + 'static,
    ) -> Self {
        Self {
            routes: Arc::new(move |routes| {
                routes.service(make(path));
            }),
            path,
            dependencies: Vec::new(),
            registry: Registry::default(),
            description: None,
        }
    }

    /// Adds a dependency: the service is ready only while `check` succeeds. `target` is what it
    /// is and where, such as `redis at redis:6379`.
    ///
    /// The check is called every second and has 950 ms to answer: with a note for `/readyz` (or an
    /// empty one), or with the reason why the dependency is down.
    #[must_use]
    pub fn depends_on(
        mut self,
        name: &'static str,
        target: String,
        check: impl AsyncFn() -> Result<String, String> + 'static,
    ) -> Self {
        let check = Rc::new(check);
        self.dependencies.push(Dependency {
            name,
            target,
            check: Box::new(move || {
                let check = Rc::clone(&check);
                Box::pin(async move { check().await })
            }),
        });
        self
    }

    /// Describes the service by an `OpenAPI` document, which the admin port serves.
    #[must_use]
    pub fn described_by(mut self, openapi: &'static str) -> Self {
        self.description = Some(openapi);
        self
    }

    /// Adds a counter to the metrics. `read` is called whenever they are read, and must never
    /// return less than before.
    #[must_use]
    pub fn counter(
        self,
        name: &str,
        help: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.metric(MetricType::Counter, name, help, Box::new(read))
    }

    /// Adds a number that goes up and down to the metrics.
    #[must_use]
    pub fn gauge(
        self,
        name: &str,
        help: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.metric(MetricType::Gauge, name, help, Box::new(read))
    }

    /// Adds a histogram to the metrics. `read` is called whenever they are read, and must never
    /// return less than before.
    #[must_use]
    pub fn histogram(
        mut self,
        name: &str,
        help: &str,
        read: impl Fn() -> Buckets + Send + Sync + 'static,
    ) -> Self {
        self.registry
            .register(name, help, Distribution(Box::new(read)));
        self
    }

    fn metric(
        mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        read: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        self.registry.register(name, help, Reading { kind, read });
        self
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
