//! Resources: a path, the methods that work on it, what answers them, and which media types a
//! client accepts.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    guard::fn_guard,
    http::{
        Method, StatusCode,
        header::{
            ACCEPT, ALLOW, Accept, CONTENT_TYPE, Header as _, HeaderMap, HeaderValue, Quality,
            from_comma_delimited,
        },
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

/// An answer that is JSON.
pub fn json_answer(status: StatusCode, body: String) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    // Made from text at run time, a value would be copied for each answer.
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    answer.body(body)
}

/// Makes sure that the client accepts `media_type` (such as `application/json`).
///
/// # Errors
///
/// 406 when the request's `Accept` excludes it.
pub fn require_accepts(request: &HttpRequest, media_type: &'static str) -> Result<(), Problem> {
    if quality(&accept(request.headers()), media_type) > Quality::ZERO {
        Ok(())
    } else {
        let detail = format!("this resource is available only as {media_type}");
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
    }
}

/// Whether the request's `Accept` prefers `media_type` to `other`, which it gets in doubt.
pub fn prefers(headers: &HeaderMap, media_type: &str, other: &str) -> bool {
    let accept = accept(headers);
    quality(&accept, media_type) > quality(&accept, other)
}

/// The request's `Accept`; none where everything is as good: without the header, or with one that
/// does not parse, which RFC 9110 permits to ignore (section 12.5.1).
fn accept(headers: &HeaderMap) -> Option<Accept> {
    let mut values = headers.get_all(ACCEPT);
    match (values.next(), values.next()) {
        (None, _) => return None,
        // What curl and most programs send.
        (Some(only), None) if only == "*/*" => return None,
        _ => {}
    }
    let accept = from_comma_delimited(headers.get_all(ACCEPT))
        .map(Accept)
        .ok()?;
    (!accept.is_empty()).then_some(accept)
}

/// How much a client that sent this `Accept` wants `media_type`. The most specific range that
/// matches decides (RFC 9110, section 12.5.1).
fn quality(accept: &Option<Accept>, media_type: &str) -> Quality {
    let Some(accept) = accept else {
        return Quality::MAX;
    };
    let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, "*"));
    let mut best = (0, Quality::ZERO);
    for range in accept.iter() {
        let specific = match (range.item.type_().as_str(), range.item.subtype().as_str()) {
            (k, s) if k == kind && s == subtype => 3,
            (k, "*") if k == kind => 2,
            ("*", "*") => 1,
            _ => continue,
        };
        if specific > best.0 {
            best = (specific, range.quality);
        }
    }
    best.1
}

/// Whether the request's `Accept` names `media_type` itself, not only a range that contains it.
pub(crate) fn accept_names(request: &HttpRequest, media_type: &str) -> bool {
    Accept::parse(request).is_ok_and(|accept| {
        let mut ranges = accept.iter();
        ranges.any(|range| range.item.essence_str() == media_type && range.quality > Quality::ZERO)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        test::{self, TestRequest},
    };

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

    fn json_accepted(accept: &str) -> bool {
        let request = TestRequest::default().insert_header(("accept", accept));
        require_accepts(&request.to_http_request(), "application/json").is_ok()
    }

    #[test]
    fn the_most_specific_range_decides() {
        let without = TestRequest::default().to_http_request();
        assert!(require_accepts(&without, "text/plain").is_ok());
        for good in [
            "*/*",
            "application/json",
            "application/*;q=0.1",
            "text/html, */*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "APPLICATION/JSON",
            "",
        ] {
            assert!(json_accepted(good), "{good}");
        }
        for bad in [
            "text/html",
            "image/*",
            "*/*, application/json;q=0",
            "application/json;q=0.0",
        ] {
            assert!(!json_accepted(bad), "{bad}");
        }
    }

    #[test]
    fn a_browser_prefers_a_page_and_nothing_else_does() {
        let page = |accept: &str| {
            let request = TestRequest::default().insert_header(("accept", accept));
            let request = request.to_http_request();
            prefers(request.headers(), "text/html", "application/json")
        };
        for browser in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ] {
            assert!(page(browser), "{browser}");
        }
        for other in [
            "",
            "*/*",
            "application/json",
            "text/html, application/json",
            "text/html;q=0.1, */*",
        ] {
            assert!(!page(other), "{other}");
        }
        let without = TestRequest::default().to_http_request();
        assert!(!prefers(without.headers(), "text/html", "application/json"));
    }

    #[test]
    fn only_what_is_named_counts_as_named() {
        let openmetrics = |accept: &str| {
            let request = TestRequest::default().insert_header(("accept", accept));
            accept_names(&request.to_http_request(), "application/openmetrics-text")
        };
        for named in [
            "application/openmetrics-text",
            // Prometheus 2 and 3.
            "application/openmetrics-text;version=1.0.0;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,\
             */*;q=0.2",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,/;q=0.1",
        ] {
            assert!(openmetrics(named), "{named}");
        }
        for other in [
            "",
            "*/*",
            "application/*",
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            "application/openmetrics-text;q=0,text/plain",
        ] {
            assert!(!openmetrics(other), "{other}");
        }
        assert!(!accept_names(
            &TestRequest::default().to_http_request(),
            "text/plain"
        ));
    }
}
