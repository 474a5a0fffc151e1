//! The metrics, in the text format that the client understands.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderValue, VARY},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::accept;

/// The `OpenMetrics` text format 1.0, for clients that name it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text format of Prometheus, which all others understand.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn metrics(request: &HttpRequest, registry: &Registry) -> HttpResponse {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, registry) {
        // Writing to a string cannot fail, so a collector did.
        tracing::error!(%error, "metrics cannot be encoded");
        return HttpResponse::InternalServerError().finish();
    }
    let media_type = if accept::names(request, "application/openmetrics-text") {
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
