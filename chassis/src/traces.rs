//! Traces: the place of each request in one (W3C Trace Context), and their export over OTLP where
//! a collector is set.
//!
//! Spans are those of `tracing`, so that a crate that makes one needs to know nothing of this.
//! Without a collector nothing asks for them, and a span costs a comparison.

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use actix_http::{HttpMessage as _, Request as ServerRequest};
use actix_web::http::{
    Version,
    header::{HeaderMap, HeaderName, USER_AGENT},
};
use async_trait::async_trait;
use opentelemetry::{
    Context, KeyValue, TraceId,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Span, field::Empty, info, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{
    metrics::method_label,
    process::instance,
    run::{BoxError, Program},
    settings::Common,
};

/// How long the last spans get to reach the collector at the stop.
const FLUSH: Duration = Duration::from_secs(2);

/// The export of traces; dropping it sends what still waits.
#[derive(Debug)]
pub(crate) struct Export(SdkTracerProvider);

impl Export {
    /// Starts the thread that sends spans to the collector, if one is set. Spans that it cannot
    /// take in time are dropped.
    ///
    /// What `OTEL_` variables mean beyond those in [`Common`], the libraries know.
    ///
    /// # Errors
    ///
    /// One of those variables has a value that the exporter does not accept.
    pub(crate) fn start(program: Program, common: &Common) -> Result<Option<Self>, BoxError> {
        if common.otel_exporter_otlp_endpoint.is_none() {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client {
                agent: ureq::Agent::config_builder()
                    .timeout_global(Some(PATIENCE))
                    .http_status_as_error(false)
                    .build()
                    .new_agent(),
                fails: AtomicBool::new(false),
            })
            .build()?;
        let mut resource = Resource::builder_empty()
            .with_service_name(program.name)
            .with_attributes([
                KeyValue::new("service.version", program.version),
                KeyValue::new("service.instance.id", instance()),
            ])
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_detector(Box::new(EnvResourceDetector::new()));
        if let Some(name) = &common.otel_service_name {
            resource = resource.with_service_name(name.clone());
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // It fails where the collector is away; the log has said so.
        let _ = self.0.shutdown_with_timeout(FLUSH);
    }
}

/// How long the collector may take for what is sent at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends spans from the export's own thread, which may block.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    fails: AtomicBool,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = request.uri().to_string();
        let (head, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(head, &body[..]));
        let failure = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        // Once, however often it is tried again.
        match failure {
            Some(reason) if !failed => warn!(collector, reason, "traces are lost"),
            None if failed => info!(collector, "traces are taken again"),
            _ => {}
        }
        let (head, mut body) = answer?.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }
}

/// The place of a request in a trace.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace {
    /// The request's span; disabled without a collector.
    pub(crate) span: Span,
    /// The trace that it belongs to, once that is known.
    id: OnceCell<TraceId>,
    /// Whether a collector gets it.
    is_sampled: bool,
}

impl RequestTrace {
    /// Where `request` for this route belongs, which names a parent or not. It gets a span only if
    /// it `is_traced`.
    pub(crate) fn of(
        request: &ServerRequest,
        route: Option<&'static str>,
        has_parent: bool,
        is_traced: bool,
    ) -> Self {
        let parent = has_parent.then(|| {
            let fields = Fields(request.headers());
            TraceContextPropagator::new().extract_with_context(&Context::new(), &fields)
        });
        let span = match is_traced {
            true => request_span(request, route),
            false => Span::none(),
        };
        if span.is_disabled() {
            let id = OnceCell::new();
            if let Some(context) = parent {
                let context = context.span().span_context().clone();
                if context.is_valid() {
                    let _ = id.set(context.trace_id());
                }
            }
            return Self {
                span,
                id,
                is_sampled: false,
            };
        }
        if let Some(parent) = parent {
            // It fails for a span that has begun or is disabled.
            let _ = span.set_parent(parent);
        }
        let context = span.context();
        let context = context.span().span_context().clone();
        Self {
            span,
            id: context.trace_id().into(),
            is_sampled: context.is_sampled(),
        }
    }

    /// The trace that it belongs to: the client's, or a new one.
    pub(crate) fn id(&self) -> TraceId {
        *self.id.get_or_init(|| {
            TraceId::from(u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(1..)))
        })
    }

    /// What leads from a metric to this trace.
    pub(crate) fn exemplar(&self) -> Option<TraceId> {
        self.is_sampled.then(|| self.id())
    }

    /// Takes note of the answer (OpenTelemetry, "Semantic conventions for HTTP spans").
    pub(crate) fn answered(&self, status: u16) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("http.response.status_code", status);
        if status >= 500 {
            self.span.record("error.type", status);
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

fn request_span(request: &ServerRequest, route: Option<&'static str>) -> Span {
    let method = match method_label(request.method()) {
        "other" => "_OTHER",
        known => known,
    };
    let user_agent = request.headers().get(USER_AGENT);
    info_span!(
        "request",
        otel.kind = "server",
        otel.name = match (method, route) {
            ("_OTHER", _) => "HTTP".to_owned(),
            (method, Some(route)) => format!("{method} {route}"),
            (method, None) => method.to_owned(),
        },
        http.request.method = method,
        http.route = route,
        url.scheme = "http",
        url.path = request.path(),
        client.address = request.peer_addr().map(|address| address.ip().to_string()),
        network.protocol.version = match request.version() {
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        },
        user_agent.original = user_agent.and_then(|value| value.to_str().ok()),
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// The header fields that tell a service which is called where the current span belongs, each with
/// its line end; empty where nothing is traced.
pub fn trace_fields() -> String {
    let span = Span::current();
    if span.is_none() {
        return String::new();
    }
    let mut fields = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut fields);
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect()
}

/// The header of W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Header fields as the propagator reads them.
struct Fields<'a>(&'a HeaderMap);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
