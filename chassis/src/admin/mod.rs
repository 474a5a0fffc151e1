//! The admin interface: probes and metrics, on a port and a thread of their own, so that they
//! answer while the public port is saturated.

mod metrics;
mod process;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode},
    web::ServiceConfig,
};
use prometheus_client::registry::Registry;

use self::metrics::metrics;
pub(crate) use self::process::ProcessCollector;
use crate::{
    health::Health,
    resource::{fresh_json, resource},
};

pub(crate) fn routes(config: &mut ServiceConfig, health: &Health, registry: &Arc<Registry>) {
    let health = health.clone();
    let registry = Arc::clone(registry);
    let get = || [Method::GET, Method::HEAD];
    config
        .service(resource("/livez", get(), livez))
        .service(resource("/readyz", get(), move || {
            let answer = readyz(&health);
            async { answer }
        }))
        .service(resource("/metrics", get(), move |request: HttpRequest| {
            let answer = metrics(&request, &registry);
            async { answer }
        }));
}

/// The process runs. It never asks a dependency: a restart would not mend that.
async fn livez() -> HttpResponse {
    fresh_json(StatusCode::OK, "{\"status\":\"alive\"}\n".to_owned())
}

fn readyz(health: &Health) -> HttpResponse {
    let (ready, document) = health.readiness();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    fresh_json(status, format!("{document}\n"))
}
