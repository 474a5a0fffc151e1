//! Around every request: its body is read off, panics are caught, and the request is counted and
//! logged.

use std::{
    convert::Infallible,
    mem,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_http::{
    ConnectionType, HttpMessage as _, Payload, Request, Response,
    body::{BodySize, BoxBody, MessageBody as _},
};
use actix_service::{Service, Transform};
use actix_web::{
    ResponseError as _,
    dev::ServiceResponse,
    http::{
        Method, StatusCode, Uri,
        header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE},
    },
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{LocalBoxFuture, Ready, ready},
};
use tokio::{task::yield_now, time::timeout};
use tracing::{Instrument as _, error};

use crate::{
    access_log::{self, WorkerLog},
    connection::Turn,
    faults::Faults,
    health::Health,
    metrics::{RequestMetrics, WorkerMetrics},
    problem::Problem,
    traces::{self, RequestTrace},
};

/// The largest body that is read off, in bytes. No resource here uses one.
const LARGEST_BODY: usize = 64 * 1024;

/// Makes [`Observed`] services.
pub(crate) struct Observe(pub(crate) Rc<Worker>);

/// A service with everything that is the same around every request.
pub(crate) struct Observed<S> {
    service: Rc<S>,
    worker: Rc<Worker>,
}

impl<S> Transform<S, Request> for Observe
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> + 'static,
{
    type Response = Response<BoxBody>;
    type Error = Infallible;
    type Transform = Observed<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Observed {
            service: Rc::new(service),
            worker: Rc::clone(&self.0),
        }))
    }
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> + 'static,
{
    type Response = Response<BoxBody>;
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Response<BoxBody>, Infallible>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let begin = Instant::now();
        // actix-http allocates 6.5 kB for the headers before it knows how many there are. Most
        // requests have few, and many may wait at once.
        let headers = request.headers_mut();
        if headers.capacity() > 4 * headers.len() {
            *headers = mem::take(headers).into_iter().collect();
        }
        let received = Received::of(&request, &self.worker);
        let wants_upgrade = request.head().connection_type() == ConnectionType::Upgrade;
        let (service, worker) = (Rc::clone(&self.service), Rc::clone(&self.worker));
        let in_flight = InFlight::begin(&worker);
        Box::pin(async move {
            let _in_flight = in_flight;
            let answer = async {
                // The span of a request that is not traced would cost something, too.
                if received.trace.span.is_disabled() {
                    return answer(&*service, &worker, request).await;
                }
                let span = received.trace.span.clone();
                answer(&*service, &worker, request).instrument(span).await
            };
            let answer = AssertUnwindSafe(answer).catch_unwind();
            let mut response = answer.await.unwrap_or_else(|_| {
                let (trace_id, request_id) = (received.trace.id(), received.id());
                error!(%trace_id, request_id, "a panic ended this request");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed here")
                    .error_response()
                    .into()
            });
            // actix-http would agree to an upgrade that nothing here knows.
            if wants_upgrade || worker.shared.health.is_draining() {
                response
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            received.identify(&mut response);
            worker.answered(&received, &response, begin.elapsed());
            Ok(response)
        })
    }
}

async fn answer<S>(service: &S, worker: &Worker, mut request: Request) -> Response<BoxBody>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    if !matches!(request.payload(), Payload::None) && !body_is_endless(&request) {
        let turn = request.conn_data::<Turn>().cloned().unwrap_or_default();
        let reading = read_off(&mut request, &turn);
        let read = timeout(worker.shared.request_timeout, reading).await;
        turn.end_body();
        let problem = match read {
            Ok(result) => result.err(),
            Err(_) => Some(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request's body did not arrive in time",
            )),
        };
        if let Some(problem) = problem {
            return problem.error_response().into();
        }
    }
    if let Some(host) = request.headers().get(HOST)
        && !host.as_bytes().iter().all(may_be_in_a_host)
    {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "the field Host holds no host");
        return problem.error_response().into();
    }
    let faults = &worker.shared.faults;
    if faults.state().is_some()
        && let Err(problem) = faults.before_request().await
    {
        return problem.error_response().into();
    }
    match service.call(request).await {
        Ok(response) => response.into(),
        Err(error) => error.error_response().into(),
    }
}

/// Whether a host and a port may hold this byte (RFC 3986, section 3.2, without a user).
fn may_be_in_a_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

/// Whether actix-http takes the rest of the connection for the request's body, as after a
/// successful CONNECT or upgrade. It closes the connection after the answer then.
fn body_is_endless(request: &Request) -> bool {
    let is_websocket = |value: &HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        value.eq_ignore_ascii_case(b"websocket")
    };
    request.method() == Method::CONNECT
        || request.headers().get_all(UPGRADE).any(is_websocket)
            && !request.chunked().unwrap_or(false)
}

/// Reads the body and forgets it, so that the connection can go on after the answer.
async fn read_off(request: &mut Request, turn: &Turn) -> Result<(), Problem> {
    let too_large = || {
        let detail = format!("a request body may have at most {LARGEST_BODY} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let announced: Option<usize> = announced.and_then(|length| length.parse().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY) {
        return Err(too_large());
    }
    turn.begin_body(announced);
    // The connection is read again then.
    yield_now().await;
    let mut body = request.take_payload();
    let mut read = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "the request's body is not complete or not valid",
            )
        })?;
        read += chunk.len();
        if read > LARGEST_BODY {
            return Err(too_large());
        }
    }
    Ok(())
}

/// What the workers of one listener have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The header fields of every answer, as they are written.
    pub(crate) fields: Arc<str>,
    pub(crate) health: Health,
    /// Where requests are counted, if they are.
    pub(crate) metrics: Option<RequestMetrics>,
    /// Where requests are logged, if they are.
    pub(crate) access_log: Option<access_log::Template>,
    /// Whether they get a span. A disabled one would cost a hundred instructions.
    pub(crate) traced: bool,
    /// How long a handler may take; clients get a little longer to send or take something.
    pub(crate) request_timeout: Duration,
    /// The path that has a handler; all others are one route in the metrics.
    pub(crate) route: &'static str,
    /// What goes wrong on purpose.
    pub(crate) faults: Faults,
}

/// One worker thread's own part.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Shared,
    metrics: Option<WorkerMetrics>,
    log: Option<Rc<WorkerLog>>,
}

/// A request until it is answered or its client is gone.
struct InFlight(Rc<Worker>);

impl InFlight {
    fn begin(worker: &Rc<Worker>) -> Self {
        if let Some(metrics) = &worker.metrics {
            metrics.begin();
        }
        Self(Rc::clone(worker))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0.metrics {
            metrics.end();
        }
    }
}

impl Worker {
    pub(crate) fn new(shared: Shared) -> Rc<Self> {
        Rc::new(Self {
            metrics: shared.metrics.as_ref().map(RequestMetrics::for_worker),
            log: shared.access_log.clone().map(WorkerLog::new),
            shared,
        })
    }

    /// Counts and logs an answered request.
    fn answered(&self, request: &Received, response: &Response<BoxBody>, duration: Duration) {
        let status = response.status().as_u16();
        request.trace.answered(status);
        if let Some(metrics) = &self.metrics {
            let route = request.route.unwrap_or("unmatched");
            metrics.record(
                &request.method,
                route,
                status,
                duration,
                request.trace.exemplar(),
            );
        }
        if let Some(log) = &self.log {
            let path = request.uri.path_and_query();
            log.write(&access_log::Line {
                remote: request.remote,
                method: request.method.as_str(),
                path: path.map_or("-", |path| path.as_str()),
                status,
                bytes: match response.body().size() {
                    BodySize::Sized(bytes) if request.method != Method::HEAD => bytes,
                    _ => 0,
                },
                duration,
                trace_id: request.trace.id(),
                request_id: request.id(),
            });
        }
    }
}

/// What is known of a request before it is answered.
struct Received {
    remote: Option<SocketAddr>,
    method: Method,
    uri: Uri,
    /// The path of the service's resource, if it is for that.
    route: Option<&'static str>,
    trace: RequestTrace,
    /// What the client calls it.
    id: Option<HeaderValue>,
}

impl Received {
    fn of(request: &Request, worker: &Worker) -> Self {
        let route = worker.shared.route;
        let route = (request.path() == route).then_some(route);
        // One pass costs half of two look-ups.
        let (mut id, mut has_trace) = (None, false);
        for (name, value) in request.headers() {
            has_trace |= name == traces::TRACEPARENT;
            if name == X_REQUEST_ID
                && (1..=128).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
            {
                id = Some(value.clone());
            }
        }
        Self {
            remote: request.peer_addr(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            route,
            trace: RequestTrace::of(request, route, has_trace, worker.shared.traced),
            id,
        }
    }

    /// What the client calls it.
    fn id(&self) -> Option<&str> {
        self.id.as_ref()?.to_str().ok()
    }

    /// Gives the answer the request's name, if the client has one for it. Where we failed, it gets the
    /// trace's id instead, by which the log can be searched.
    fn identify(&self, response: &mut Response<BoxBody>) {
        let id = match &self.id {
            None if response.status().is_server_error() => {
                HeaderValue::try_from(self.trace.id().to_string()).ok()
            }
            id => id.clone(),
        };
        if let Some(id) = id {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
