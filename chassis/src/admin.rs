//! The admin interface: probes, metrics and the description of the API, on a port and a thread of
//! their own, so that they answer while the public port is saturated.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{HeaderValue, VARY},
    },
    web::{self, ServiceConfig},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;
use tracing::info;

use crate::{
    faults::Faults,
    health::Health,
    logs,
    problem::Problem,
    resource::{accept_names, json_answer, resource},
    settings::{LEVELS, LogLevels},
};

pub(crate) fn routes(
    config: &mut ServiceConfig,
    health: &Health,
    faults: &Faults,
    registry: &Arc<Registry>,
    description: Option<&'static str>,
) {
    let (health, probed, asked) = (health.clone(), faults.clone(), faults.clone());
    let registry = Arc::clone(registry);
    let get = || [Method::GET, Method::HEAD];
    config
        .service(resource("/livez", get(), move || {
            let answer = livez(&probed);
            async { answer }
        }))
        .service(resource("/readyz", get(), move || {
            let answer = readyz(&health, &asked);
            async { answer }
        }))
        .service(resource("/metrics", get(), move |request: HttpRequest| {
            let answer = metrics(&request, &registry);
            async { answer }
        }))
        .service(resource(
            "/log",
            [Method::GET, Method::HEAD, Method::PUT],
            log,
        ));
    if let Some(faults) = faults.state() {
        let faults = Arc::clone(faults);
        let methods = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE];
        let answer = move |request: HttpRequest| {
            let answer = faults.answer(&request);
            async { answer }
        };
        // A browser asks by OPTIONS what a page may do.
        let preflight = web::method(Method::OPTIONS).to(answer.clone());
        config.service(resource("/faults", methods, answer).route(preflight));
    }
    if let Some(openapi) = description {
        let answer = async move || json_answer(StatusCode::OK, openapi.to_owned());
        config.service(resource("/openapi.json", get(), answer));
    }
}

/// The process runs. It never asks a dependency: a restart would not repair that.
fn livez(faults: &Faults) -> HttpResponse {
    faults.note_probe("/livez", StatusCode::OK);
    json_answer(StatusCode::OK, "{\"status\":\"alive\"}\n".to_owned())
}

fn readyz(health: &Health, faults: &Faults) -> HttpResponse {
    let (ready, document) = match faults.fail_probe() {
        Some(reason) => (false, json!({ "status": "unavailable", "reason": reason })),
        None => health.readiness(),
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    faults.note_probe("/readyz", status);
    json_answer(status, format!("{document}\n"))
}

/// What is logged. PUT changes it until the process ends, as `RUST_LOG` does from its start.
async fn log(request: HttpRequest) -> Result<HttpResponse, Problem> {
    if request.method() == Method::PUT {
        let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string());
        let levels = query.ok().and_then(|query| query.get("levels").cloned());
        let levels = levels.and_then(|levels| LogLevels::try_from(levels).ok());
        let Some(levels) = levels else {
            let detail = format!("expected ?levels= with {LEVELS}");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        };
        logs::set_levels(&levels);
        info!(levels = logs::levels(), "what is logged was changed");
    }
    let levels = json!({ "levels": logs::levels() });
    Ok(json_answer(StatusCode::OK, format!("{levels}\n")))
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
/// with the suffix of a counter or an info; an info is a gauge; and there are neither units nor
/// exemplars.
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
            let (sample, _exemplar) = line.split_once(" # {trace_id=").unwrap_or((line, ""));
            text += sample;
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
            http_requests_total{method=\"#\"} 1 # {trace_id=\"a\"} 1.0 2.5\n\
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
