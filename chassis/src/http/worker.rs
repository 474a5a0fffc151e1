//! What one worker thread puts on every answer and counts for every request.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use actix_web::http::{
    Method, Uri,
    header::{HeaderName, HeaderValue},
};

use crate::{
    access_log::{self, WorkerLog},
    health::Health,
    metrics::{RequestMetrics, WorkerMetrics},
};

/// The header that says which instance answered.
pub(super) const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// What the workers of one listener have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// `NAME/VERSION`, for the `Server` header.
    pub(crate) server: HeaderValue,
    /// The name of this instance, for the `X-Served-By` header.
    pub(crate) served_by: HeaderValue,
    pub(crate) health: Health,
    /// Where requests are counted, if they are.
    pub(crate) metrics: Option<RequestMetrics>,
    /// Where requests are logged, if they are.
    pub(crate) access_log: Option<access_log::Template>,
    /// How long a handler may take; clients get a little longer to send or take something.
    pub(crate) request_timeout: Duration,
    /// The path that has a handler; all others are one route in the metrics.
    pub(crate) route: &'static str,
}

/// One worker thread's own part.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Shared,
    metrics: Option<WorkerMetrics>,
    log: Option<Rc<WorkerLog>>,
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Rc<Self> {
        Rc::new(Self {
            metrics: shared.metrics.as_ref().map(RequestMetrics::for_worker),
            log: shared.access_log.clone().map(WorkerLog::new),
            shared,
        })
    }

    /// Counts and logs an answered request.
    pub(super) fn answered(
        &self,
        remote: Option<SocketAddr>,
        (method, uri): (&Method, &Uri),
        status: u16,
        duration: Duration,
    ) {
        if let Some(metrics) = &self.metrics {
            metrics.record(Some(method), self.route(uri), status, duration);
        }
        if let Some(log) = &self.log {
            log.write(&access_log::Line {
                remote,
                method: method.as_str(),
                path: uri.path_and_query().map_or("-", |path| path.as_str()),
                status,
                duration,
            });
        }
    }

    /// Counts and logs a request that could not even be parsed; `start` is how it began.
    pub(super) fn refused(&self, remote: Option<SocketAddr>, start: &[u8], status: u16) {
        let duration = Duration::ZERO;
        if let Some(metrics) = &self.metrics {
            metrics.record(None, "malformed", status, duration);
        }
        if let Some(log) = &self.log {
            let first_line = start
                .split(|&byte| byte == b'\n')
                .next()
                .unwrap_or_default();
            let first_line = match first_line.trim_ascii_end() {
                b"" => "-".to_owned(),
                line => line.escape_ascii().to_string(),
            };
            log.write(&access_log::Line {
                remote,
                method: "-",
                path: &first_line,
                status,
                duration,
            });
        }
    }

    fn route(&self, uri: &Uri) -> &'static str {
        match uri.path() == self.shared.route {
            true => self.shared.route,
            false => "unmatched",
        }
    }
}
