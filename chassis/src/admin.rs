//! The admin interface: probes, metrics and the description of the API, on a port and a thread of
//! their own, so that they answer while the public port is saturated.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{HeaderValue, VARY},
    },
    web::ServiceConfig,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::{
    health::Health,
    resource::{accept_names, json_answer, resource},
};

pub(crate) fn routes(
    config: &mut ServiceConfig,
    health: &Health,
    registry: &Arc<Registry>,
    description: Option<&'static str>,
) {
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
    if let Some(openapi) = description {
        let answer = async move || json_answer(StatusCode::OK, openapi.to_owned());
        config.service(resource("/openapi.json", get(), answer));
    }
}

/// The process runs. It never asks a dependency: a restart would not repair that.
async fn livez() -> HttpResponse {
    json_answer(StatusCode::OK, "{\"status\":\"alive\"}\n".to_owned())
}

fn readyz(health: &Health) -> HttpResponse {
    let (ready, document) = health.readiness();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_answer(status, format!("{document}\n"))
}

/// The `OpenMetrics` text format 1.0, for clients that name it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text format of Prometheus, which all others understand.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

fn metrics(request: &HttpRequest, registry: &Registry) -> HttpResponse {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, registry) {
        // Writing to a string cannot fail, so a collector did.
        tracing::error!(%error, "encoding the metrics failed");
        return HttpResponse::InternalServerError().finish();
    }
    let media_type = if accept_names(request, "application/openmetrics-text") {
        OPENMETRICS
    } else {
        text = to_text_format(&text);
        TEXT
    };
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header((VARY, HeaderValue::from_static("Accept")))
        .body(text)
}

/// Rewrites the descriptions of metrics: in the older format they carry the name of the samples,
/// with the suffix of a counter or an info; an info is a gauge; and there are no units.
fn to_text_format(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(name_and_help) = line.strip_prefix("# HELP ") {
            help = name_and_help.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(name_and_kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = name_and_kind.split_once(' ').unwrap_or((name_and_kind, ""));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_describes_what_openmetrics_describes() {
        let openmetrics = "\
            # HELP http_requests Requests answered.\n\
            # TYPE http_requests counter\n\
            http_requests_total{method=\"GET\"} 4\n\
            http_requests_total{method=\"#\"} 1\n\
            # HELP http_request_duration_seconds Time.\n\
            # TYPE http_request_duration_seconds histogram\n\
            # UNIT http_request_duration_seconds seconds\n\
            http_request_duration_seconds_sum 1.5\n\
            # HELP build What is running.\n\
            # TYPE build info\n\
            build_info{name=\"x\"} 1\n\
            # EOF\n";
        let text = "\
            # HELP http_requests_total Requests answered.\n\
            # TYPE http_requests_total counter\n\
            http_requests_total{method=\"GET\"} 4\n\
            http_requests_total{method=\"#\"} 1\n\
            # HELP http_request_duration_seconds Time.\n\
            # TYPE http_request_duration_seconds histogram\n\
            http_request_duration_seconds_sum 1.5\n\
            # HELP build_info What is running.\n\
            # TYPE build_info gauge\n\
            build_info{name=\"x\"} 1\n";
        assert_eq!(to_text_format(openmetrics), text);
    }
}
