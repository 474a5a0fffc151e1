//! The admin interface: probes and metrics, on a port and a thread of their own, so that they
//! answer while the public port is saturated.

mod process;

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    http::header::CACHE_CONTROL,
    web::{self, ServiceConfig},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

pub(crate) use self::process::ProcessCollector;
use crate::{health::Health, problem};

/// The media type of the `OpenMetrics` text format 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn routes(config: &mut ServiceConfig, health: &Health, registry: &Arc<Registry>) {
    let health = health.clone();
    let registry = Arc::clone(registry);
    let only_get = || problem::method_not_allowed("GET");
    config
        .service(
            web::resource("/livez")
                .get(livez)
                .default_service(only_get()),
        )
        .service(
            web::resource("/readyz")
                .get(move || {
                    let health = health.clone();
                    async move { readyz(&health) }
                })
                .default_service(only_get()),
        )
        .service(
            web::resource("/metrics")
                .get(move || {
                    let registry = Arc::clone(&registry);
                    async move { metrics(&registry) }
                })
                .default_service(only_get()),
        );
}

/// The process runs. It never asks a dependency: a restart would not mend that.
async fn livez() -> HttpResponse {
    json(HttpResponse::Ok(), "{\"status\":\"alive\"}\n".to_owned())
}

fn readyz(health: &Health) -> HttpResponse {
    let (ready, document) = health.readiness();
    let answer = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    json(answer, format!("{document}\n"))
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

fn json(mut answer: actix_web::HttpResponseBuilder, body: String) -> HttpResponse {
    answer
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body)
}
