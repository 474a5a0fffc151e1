//! The admin interface: probes and metrics, on a port and a thread of their own, so that they
//! answer while the public port is saturated.

use std::{fmt, sync::Arc, time::SystemTime};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{HeaderValue, VARY},
    },
    web::ServiceConfig,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    health::Health,
    resource::{accept_names, json_answer, resource},
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

/// Memory, CPU and age of this process, read from `/proc` whenever the metrics are read. Other systems than
/// Linux have none, and report the age alone.
#[derive(Debug)]
pub(crate) struct ProcessCollector {
    started: f64,
}

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: since_epoch.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        describe(
            &mut encoder,
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            &ConstGauge::new(self.started),
        )?;
        if let Some(bytes) = resident_bytes() {
            describe(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory that the process holds",
                &ConstGauge::new(bytes),
            )?;
        }
        if let Some(seconds) = cpu_seconds() {
            describe(
                &mut encoder,
                "process_cpu_seconds",
                "CPU time that the process has used, in user and system mode",
                &ConstCounter::new(seconds),
            )?;
        }
        Ok(())
    }
}

fn describe(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses, and may hold spaces (proc(5)).
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some((user + system) as f64 / ticks as f64)
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

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_uses_memory_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
