//! Hands out the next unique integer; stands for the database of a system.

mod settings;
pub mod store;

use std::rc::Rc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::HeaderName},
    web,
};
use chassis::{
    Context, Program, Service, accept, fresh_json, options,
    problem::{Problem, StatusCode},
    resource,
};
use sequence::{Coalescer, Count, Limits, Marks, Monitor, Store as _, service::with_metrics, wire};

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
    let limits = Limits::from_settings(&context.common);
    let monitor = Monitor::default();
    let checked = Rc::new(store.handle());
    let (target, note) = (store.target().to_owned(), store.note());
    let operations = store.metrics();
    let (of_workers, of_check) = (monitor.clone(), monitor.clone());

    let service = Service::new(["/"], move |routes| {
        // Called once on each worker, so each has a coalescer of its own and needs no lock.
        let coalescer = Coalescer::start(store.handle(), limits, of_workers.clone());
        let resource = resource("/", [Method::GET, Method::POST], next)
            .route(web::method(Method::OPTIONS).to(position));
        routes
            .app_data(web::Data::new(coalescer))
            .app_data(web::Data::new(store.marks().clone()))
            .service(resource);
    })
    .metrics(operations);
    let service = service.depends_on("store", target, move || {
        let (store, monitor) = (Rc::clone(&checked), of_check.clone());
        async move {
            let check = async {
                store.check().await?;
                monitor.confirm(&*store).await
            };
            let result = check.await.map(|()| note.to_owned());
            result.map_err(|error| error.chain())
        }
    });
    with_metrics(service, &monitor)
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
    accept::require(&request, "application/json")?;
    let count = wire::parse_query(request.query_string())
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let block = coalescer.reserve(count.unwrap_or(Count::ONE)).await?;
    let json = match count {
        None => wire::encode_number(block.first()),
        Some(_) => wire::encode_block(block),
    };
    Ok(fresh_json(StatusCode::OK, json))
}
