//! Answers each request with a fresh integer and its SHA-256; stands for a front end that
//! scales out.

mod page;
mod persistence;

use std::{num::NonZeroU16, time::Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    guard::fn_guard,
    http::{
        ConnectionType, Method,
        header::{HeaderName, HeaderValue, VARY},
    },
    web,
};
use chassis::{
    Context, Program, Service, json_answer,
    problem::{Problem, StatusCode},
    require_accepts, resource,
    settings::{A_HOST, Host},
};
use sequence::{Coalescer, Count, Error, Limits, Marks, Monitor, Ratchet, Store as _, wire};
use sha2::{Digest as _, Sha256};

pub use self::persistence::{HttpSequence, Network, Stream};
use self::{page::Page, persistence::Legs};

/// What the program calls itself.
pub const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: option_env!("REVISION"),
    about: "Answers each request with a fresh integer from persistence_server and its SHA-256.",
    port: 8082,
    admin_port: 9082,
};

chassis::settings! {
    /// The settings of `hash_server`, besides those of every service.
    pub struct Settings {
        /// Host of `persistence_server`.
        persistence_host: Host = "127.0.0.1", A_HOST;
        /// Port of `persistence_server`.
        persistence_port: NonZeroU16 = "8081", "a port: a number from 1 to 65535";
    }
}

/// The service with its one resource.
pub fn service(settings: &Settings, context: &Context) -> Service {
    let common = &context.common;
    let limits = Limits::new(common.request_timeout(), common.in_flight_per_worker());
    let (marks, monitor) = (Marks::default(), Monitor::default());
    let persistence = HttpSequence::new(&settings.persistence_host, settings.persistence_port)
        .with_faults(context.faults.clone());
    let (target, legs) = (persistence.target(), persistence.legs());
    let ratchet = Ratchet::new(persistence, marks.clone());

    let shown = Page::new(common.faults_port());

    let (checked, workers) = (ratchet.clone(), monitor.clone());
    let mut service = Service::new("/", move |path| {
        // Called once on each worker, so each has one connection and one coalescer of its own.
        let coalescer = Coalescer::start(ratchet.clone(), limits, workers.clone());
        let page = web::head().guard(fn_guard(|context| {
            page::is_wanted(context.head().headers())
        }));
        resource(path, [Method::GET], hash)
            .route(page.to(async |page: web::Data<Page>| page.answer()))
            .app_data(web::Data::new(shown.clone()))
            .app_data(web::Data::new(coalescer))
            .app_data(legs.clone())
    })
    .described_by(include_str!("openapi.json"));
    for (name, help, read) in Monitor::COUNTERS {
        let monitor = monitor.clone();
        service = service.counter(name, help, move || read(&monitor));
    }
    for (name, help, read) in Monitor::DISTRIBUTIONS {
        let monitor = monitor.clone();
        service = service.histogram(name, help, move || read(&monitor));
    }
    service.depends_on("persistence", target, async move || {
        // Not through the ratchet: what persistence_server knows may be a second behind.
        let last = checked
            .store()
            .check()
            .await
            .map_err(|error| error.chain())?;
        marks.note(last);
        let confirmed = monitor.confirm(&checked).await;
        confirmed
            .map(|()| String::new())
            .map_err(|error| error.chain())
    })
}

/// Answers a number that no other request gets, and the SHA-256 of its decimal digits; or the page,
/// to a browser.
async fn hash(
    request: HttpRequest,
    coalescer: web::Data<Coalescer>,
    page: web::Data<Page>,
) -> Result<HttpResponse, Problem> {
    if page::is_wanted(request.headers()) {
        return Ok(page.answer());
    }
    let begin = Instant::now();
    require_accepts(&request, "application/json")?;
    let legs = match request.query_string() {
        "watch" => request.app_data::<Legs>(),
        _ => None,
    };
    if let Some(legs) = legs {
        legs.ask();
    }
    let number = coalescer
        .reserve(Count::ONE)
        .await
        .map_err(problem)?
        .first();
    let hash = Sha256::digest(number.to_string());
    let json = wire::encode_hashed(number, &hash);
    let mut answer = json_answer(StatusCode::OK, json);
    let vary = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(VARY, vary);
    if let Some(legs) = legs {
        // As the page asks: how long each part took, and the next request may reach another replica.
        let time = begin.elapsed().as_secs_f64() * 1e3;
        let timing = format!("hash;dur={time:.3}{}", legs.newest());
        if let Ok(timing) = timing.try_into() {
            answer.headers_mut().insert(SERVER_TIMING, timing);
        }
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What a client is told when there is no number. The cause is in the log.
fn problem(error: Error) -> Problem {
    match error {
        Error::Exhausted => Problem::unavailable("the last number has been handed out", 3600)
            .typed(wire::EXHAUSTED, "sequence exhausted"),
        Error::Overloaded => {
            Problem::unavailable("too many requests are waiting; try again later", 1)
        }
        Error::TimedOut => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "no number could be reserved in time; try again",
        ),
        _ => Problem::unavailable("no number can be reserved at the moment; try again", 1),
    }
}
