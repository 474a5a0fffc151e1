//! Resources: a path, the methods that work on it, and what answers them.

use actix_web::{
    FromRequest, Handler, HttpResponse, Resource, Responder,
    guard::fn_guard,
    http::{
        Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    },
    web,
};

use crate::problem::Problem;

/// A resource at `path` that answers `methods` with `handler`, and all others with 405.
pub fn resource<H, Args>(
    path: &str,
    methods: impl IntoIterator<Item = Method>,
    handler: H,
) -> Resource
where
    H: Handler<Args>,
    H::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let methods: Vec<Method> = methods.into_iter().collect();
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = names.join(", ");
    let refused = move || {
        let problem = Problem::method_not_allowed(&allowed);
        async { Err::<HttpResponse, _>(problem) }
    };
    // The guards that actix-web has for methods make a list of them for each request, to be able
    // to refuse it: that takes near a tenth of its instructions, and we refuse by ourselves.
    let known = fn_guard(move |request| methods.contains(&request.head().method));
    web::resource(path)
        .route(web::route().guard(known).to(handler))
        .default_service(web::to(refused))
}

/// An answer that is JSON and must not be kept: it is true only now, or only for one client.
pub fn fresh_json(status: StatusCode, body: String) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    // Made from text at run time, a value would be copied for each answer.
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer.body(body)
}
