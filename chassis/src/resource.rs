//! Resources: a path, the methods that work on it, and what answers them.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    guard::fn_guard,
    http::{
        Method, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    },
    web,
};

use crate::{health::Health, problem::Problem};

/// A resource at `path` that answers `methods` with `handler`, OPTIONS with those methods, and
/// all others with 405.
///
/// A route that is added to the resource takes precedence over the last two.
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
    let names = methods.iter().chain([&Method::OPTIONS]).map(Method::as_str);
    let allowed = names.collect::<Vec<_>>().join(", ");
    let others = move |request: HttpRequest| {
        let answer = match *request.method() {
            Method::OPTIONS => options(&request, &allowed),
            _ => Err(Problem::method_not_allowed(&allowed)),
        };
        async { answer }
    };
    // The guards that actix-web has for methods make a list of them for each request, to be able
    // to refuse it: that takes near a tenth of its instructions, and we refuse by ourselves.
    let known = fn_guard(move |request| methods.contains(&request.head().method));
    web::resource(path)
        .route(web::route().guard(known).to(handler))
        .default_service(web::to(others))
}

/// The answer to OPTIONS on a resource with these methods.
///
/// # Errors
///
/// 503 while the service is not ready.
pub fn options(request: &HttpRequest, allowed: &str) -> Result<HttpResponse, Problem> {
    require_ready(request)?;
    let mut answer = HttpResponse::NoContent();
    Ok(answer.insert_header((ALLOW, allowed)).finish())
}

/// Makes sure that the service is ready, for OPTIONS: it takes nothing, and many load balancers
/// can check only the public port.
///
/// Where no [`Health`] is registered, as on the admin port, everything is ready.
pub(crate) fn require_ready(request: &HttpRequest) -> Result<(), Problem> {
    match request.app_data::<Health>() {
        Some(health) if !health.readiness().0 => Err(Problem::unavailable(
            "not ready; the reason is at /readyz on the admin port",
            1,
        )),
        _ => Ok(()),
    }
}

/// An answer that is JSON and must not be kept: it is true only now, or only for one client.
pub fn fresh_json(status: StatusCode, body: String) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    // Made from text at run time, a value would be copied for each answer.
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer.body(body)
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test};

    use super::*;

    #[tokio::test]
    async fn a_route_of_the_service_for_options_takes_precedence() {
        let own = async || HttpResponse::Ok().body("its own");
        let resource = resource("/", [Method::GET], async || "got")
            .route(web::method(Method::OPTIONS).to(own));
        let app = test::init_service(App::new().service(resource)).await;
        let request = |method| test::TestRequest::default().method(method).to_request();
        for (method, status) in [
            (Method::OPTIONS, 200),
            (Method::GET, 200),
            (Method::PUT, 405),
        ] {
            let answer = test::call_service(&app, request(method)).await;
            assert_eq!(answer.status(), status);
        }
    }
}
