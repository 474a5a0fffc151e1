//! Hands out the next unique integer; stands for the database of a system.

mod settings;
pub mod store;
mod tls;

use std::time::Instant;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::HeaderName},
    web,
};
use chassis::{
    Context, Program, Service, json_answer, options,
    problem::{Problem, StatusCode},
    require_accepts, resource,
};
use sequence::{Coalescer, Count, Error, Limits, Marks, Monitor, Store as _, wire};

pub use self::settings::{
    EtcdSettings, FileSettings, Number, PostgresSettings, RedisSettings, SequenceName, Settings,
    StoreSettings,
};
use self::store::OpenStore;

/// What the program calls itself.
pub const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: option_env!("REVISION"),
    about: "Hands out the next unique integer: never twice, and always in order.",
    port: 8081,
    admin_port: 9081,
};

/// The service with its one resource, on an open store.
pub fn service(store: OpenStore, context: &Context) -> Service {
    let common = &context.common;
    let limits = Limits::new(common.request_timeout(), common.in_flight_per_worker());
    let monitor = Monitor::default();
    let checked = store.handle();
    let (target, note) = (store.target.clone(), store.note);
    let (operations, marks) = (store.operations.clone(), store.marks.clone());

    let workers = monitor.clone();
    let mut service = Service::new("/", move |path| {
        // Called once on each worker, so each has a coalescer of its own and needs no lock.
        let coalescer = Coalescer::start(store.handle(), limits, workers.clone());
        resource(path, [Method::GET, Method::POST], next)
            .route(web::method(Method::OPTIONS).to(position))
            .app_data(web::Data::new(coalescer))
            .app_data(web::Data::new(store.marks.clone()))
    });
    for (name, help, read) in Monitor::COUNTERS {
        let monitor = monitor.clone();
        service = service.counter(name, help, move || read(&monitor));
    }
    for (name, help, read) in Monitor::DISTRIBUTIONS {
        let monitor = monitor.clone();
        service = service.histogram(name, help, move || read(&monitor));
    }
    let highest = marks.clone();
    service
        .described_by(include_str!("openapi.json"))
        .counter(
            "sequence_store_operations",
            "Writes to the store, each for all reservations that were waiting",
            move || operations.count(),
        )
        .gauge(
            "sequence_highest_number",
            "Highest number that this process has received from the store",
            move || highest.highest(),
        )
        .counter(
            "sequence_regressions",
            "Times the store went backwards and was caught",
            move || marks.regressions(),
        )
        .depends_on("store", target, async move || {
            checked.check().await.map_err(|error| error.chain())?;
            let confirmed = monitor.confirm(&checked).await;
            confirmed
                .map(|()| note.to_owned())
                .map_err(|error| error.chain())
        })
}

/// Answers OPTIONS, which takes nothing, with the last number known to be taken: `hash_server`
/// notices by it when this service has lost numbers that another replica received.
async fn position(request: HttpRequest, marks: web::Data<Marks>) -> Result<HttpResponse, Problem> {
    let mut answer = options(&request, "GET, POST, OPTIONS")?;
    let name = HeaderName::from_static(wire::LAST);
    answer.headers_mut().insert(name, marks.highest().into());
    Ok(answer)
}

/// Answers the next number, or with `?count=N` the next block.
async fn next(
    request: HttpRequest,
    coalescer: web::Data<Coalescer>,
) -> Result<HttpResponse, Problem> {
    require_accepts(&request, "application/json")?;
    let count = wire::parse_query(request.query_string())
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let begin = Instant::now();
    let block = coalescer
        .reserve(count.unwrap_or(Count::ONE))
        .await
        .map_err(problem)?;
    let json = match count {
        None => wire::encode_number(block.first()),
        Some(_) => wire::encode_block(block),
    };
    let mut answer = json_answer(StatusCode::OK, json);
    if request.query_string().ends_with("&watch") {
        // `hash_server` adds it for a client that wants the time of each leg.
        let timing = format!("store;dur={:.3}", begin.elapsed().as_secs_f64() * 1e3);
        if let Ok(timing) = timing.try_into() {
            let name = HeaderName::from_static("server-timing");
            answer.headers_mut().insert(name, timing);
        }
    }
    Ok(answer)
}

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
