//! Says hello: the first container that anyone deploys.

use actix_web::{HttpRequest, HttpResponse, web};
use chassis::{
    Program, Service, accept,
    problem::{Problem, method_not_allowed},
};

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
        message: String = "Hello, World!", "any text";
    }
}

/// The service with its one resource.
pub fn service(settings: &Settings) -> Service {
    // Made once: a clone for each answer costs a reference count.
    let greeting = web::Bytes::from(format!("{}\n", settings.message));
    Service::new(["/"], move |routes| {
        let greeting = greeting.clone();
        let greet = move |request: HttpRequest| {
            let answer = greet(&request, &greeting);
            async move { answer }
        };
        let root = web::resource("/").get(greet);
        routes.service(root.default_service(method_not_allowed("GET")));
    })
}

fn greet(request: &HttpRequest, greeting: &web::Bytes) -> Result<HttpResponse, Problem> {
    accept::require(request, "text/plain")?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(greeting.clone()))
}
