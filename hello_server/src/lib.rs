//! Says hello: the first container that anyone deploys.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{CONTENT_TYPE, HeaderValue},
    },
    web,
};
use chassis::{Program, Service, problem::Problem, require_accepts, resource};

/// What the program calls itself.
pub const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: option_env!("REVISION"),
    about: "Says hello to every request.",
    port: 8080,
    admin_port: 9080,
};

chassis::settings! {
    /// The settings of `hello_server`, besides those of every service.
    pub struct Settings {
        /// Text of the answer; a line feed is added.
        message: String = "Hello, World!", "any text without blanks around it";
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// The service with its one resource.
pub fn service(settings: &Settings) -> Service {
    // Made once: a clone for each answer costs a reference count.
    let greeting = web::Bytes::from(format!("{}\n", settings.message));
    Service::new("/", move |path| {
        let greeting = greeting.clone();
        let greet = move |request: HttpRequest| {
            let answer = greet(&request, &greeting);
            async move { answer }
        };
        resource(path, [Method::GET, Method::HEAD], greet)
    })
    .described_by(include_str!("openapi.json"))
}

fn greet(request: &HttpRequest, greeting: &web::Bytes) -> Result<HttpResponse, Problem> {
    require_accepts(request, "text/plain")?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static(PLAIN)))
        .body(greeting.clone()))
}
