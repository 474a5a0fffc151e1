//! Answers each request with a fresh integer and its SHA-256; stands for a front end that
//! scales out.

pub mod upstream;

use std::{num::NonZeroU16, rc::Rc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{HeaderValue, VARY},
    },
    web,
};
use chassis::{
    Context, Program, Service, accept, fresh_json,
    problem::{Problem, StatusCode},
    resource,
    settings::{A_HOST, Host},
};
use sequence::{
    Coalescer, Count, Limits, Marks, Monitor, Ratchet, Store as _, service::with_metrics, wire,
};
use sha2::{Digest as _, Sha256};

use self::upstream::HttpSequence;

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
    let limits = Limits::from_settings(&context.common);
    let monitor = Monitor::default();
    let host = settings.persistence_host.clone();
    let port = settings.persistence_port.get();
    let target = format!("persistence at {}", host.with_port(port));
    let marks = Marks::default();
    let of_check = (marks.clone(), monitor.clone());
    let connect = move || Ratchet::new(HttpSequence::new(&host, port), marks.clone());
    let checked = Rc::new(connect());
    let of_workers = monitor.clone();

    let service = Service::new(["/"], move |routes| {
        // Called once on each worker, so each has one connection and one coalescer of its own.
        let coalescer = Coalescer::start(connect(), limits, of_workers.clone());
        routes
            .app_data(web::Data::new(coalescer))
            .service(resource("/", [Method::GET], hash));
    })
    .depends_on("persistence", target, move || {
        let (persistence, (marks, monitor)) = (Rc::clone(&checked), of_check.clone());
        async move {
            let check = async {
                // Not through the ratchet: it may be a second behind.
                marks.note(persistence.store().check().await?);
                monitor.confirm(&*persistence).await
            };
            let result = check.await.map(|()| String::new());
            result.map_err(|error| error.chain())
        }
    });
    with_metrics(service, &monitor)
}

/// Answers a number that nobody else gets, and the SHA-256 of its decimal digits.
async fn hash(
    request: HttpRequest,
    coalescer: web::Data<Coalescer>,
) -> Result<HttpResponse, Problem> {
    accept::require(&request, "application/json")?;
    let number = coalescer.reserve(Count::ONE).await?.first();
    let hash = Sha256::digest(number.to_string());
    let json = wire::encode_hashed(number, &hash);
    let mut answer = fresh_json(StatusCode::OK, json);
    let vary = HeaderValue::from_static("Accept");
    answer.headers_mut().insert(VARY, vary);
    Ok(answer)
}
