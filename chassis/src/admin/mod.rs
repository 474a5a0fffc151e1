//! The admin interface: probes and metrics, on a port and a thread of their own, so that they
//! answer while the public port is saturated.

mod process;

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    http::{Method, StatusCode},
    web::ServiceConfig,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

pub(crate) use self::process::ProcessCollector;
use crate::{
    health::Health,
    resource::{fresh_json, resource},
};

/// The media type of the `OpenMetrics` text format 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
        .service(resource("/metrics", get(), move || {
            let answer = metrics(&registry);
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

fn metrics(registry: &Registry) -> HttpResponse {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => HttpResponse::Ok().content_type(OPENMETRICS).body(text),
        // Writing to a string cannot fail, so a collector did.
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            HttpResponse::InternalServerError().finish()
        }
    }
}
