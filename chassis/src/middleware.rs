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

use actix_http::{ConnectionType, HttpMessage as _, Payload, Request, Response, body::BoxBody};
use actix_service::{Service, Transform};
use actix_web::{
    ResponseError as _,
    dev::ServiceResponse,
    http::{
        Method, StatusCode, Uri,
        header::{CONTENT_LENGTH, HOST, HeaderValue, UPGRADE},
    },
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{LocalBoxFuture, Ready, ready},
};

use tokio::{task::yield_now, time::timeout};

use crate::{
    access_log::{self, WorkerLog},
    connection::Turn,
    health::Health,
    metrics::{RequestMetrics, WorkerMetrics},
    problem::Problem,
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
        let remote = request.peer_addr();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let wants_upgrade = request.head().connection_type() == ConnectionType::Upgrade;
        let (service, worker) = (Rc::clone(&self.service), Rc::clone(&self.worker));
        let in_flight = InFlight::begin(&worker);
        Box::pin(async move {
            let _in_flight = in_flight;
            let answer = AssertUnwindSafe(answer(&*service, &worker, request)).catch_unwind();
            let mut response = answer.await.unwrap_or_else(|_| {
                // The panic itself is in the log.
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
            let status = response.status().as_u16();
            worker.answered(remote, (&method, &uri), status, begin.elapsed());
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
    /// How long a handler may take; clients get a little longer to send or take something.
    pub(crate) request_timeout: Duration,
    /// The path that has a handler; all others are one route in the metrics.
    pub(crate) route: &'static str,
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
    pub(crate) fn answered(
        &self,
        remote: Option<SocketAddr>,
        (method, uri): (&Method, &Uri),
        status: u16,
        duration: Duration,
    ) {
        if let Some(metrics) = &self.metrics {
            metrics.record(method, self.route(uri), status, duration);
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

    fn route(&self, uri: &Uri) -> &'static str {
        match uri.path() == self.shared.route {
            true => self.shared.route,
            false => "unmatched",
        }
    }
}
