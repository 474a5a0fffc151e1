//! Content negotiation: which media types a client accepts.

use actix_web::{
    HttpRequest,
    http::{
        StatusCode,
        header::{self, Header as _},
    },
};

use crate::problem::Problem;

/// Makes sure that the client accepts `media_type` (such as `application/json`).
///
/// # Errors
///
/// 406 when the request's `Accept` excludes it.
pub fn require(request: &HttpRequest, media_type: &'static str) -> Result<(), Problem> {
    if accepts(request, media_type) {
        Ok(())
    } else {
        let detail = format!("this resource is available only as {media_type}");
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
    }
}

/// Whether the request's `Accept` allows `media_type`; without one, everything is allowed.
///
/// The most specific range that matches decides (RFC 9110, section 12.5.1). A header that does
/// not parse is ignored, as that section permits.
pub fn accepts(request: &HttpRequest, media_type: &'static str) -> bool {
    let mut headers = request.headers().get_all(header::ACCEPT);
    match (headers.next(), headers.next()) {
        (None, _) => return true,
        // What curl and most programs send.
        (Some(only), None) if only == "*/*" => return true,
        _ => {}
    }
    let Ok(accept) = header::Accept::parse(request) else {
        return true;
    };
    let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, "*"));
    let mut best = (0, header::Quality::ZERO);
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
    accept.is_empty() || best.1 > header::Quality::ZERO
}

/// Whether the request's `Accept` names `media_type` itself, not only a range that contains it.
pub(crate) fn names(request: &HttpRequest, media_type: &str) -> bool {
    header::Accept::parse(request).is_ok_and(|accept| {
        let mut ranges = accept.iter();
        ranges.any(|range| {
            range.item.essence_str() == media_type && range.quality > header::Quality::ZERO
        })
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn json_accepted(accept: &str) -> bool {
        let request = TestRequest::default().insert_header(("accept", accept));
        accepts(&request.to_http_request(), "application/json")
    }

    #[test]
    fn the_most_specific_range_decides() {
        assert!(accepts(
            &TestRequest::default().to_http_request(),
            "text/plain"
        ));
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
    fn only_what_is_named_counts_as_named() {
        let openmetrics = |accept: &str| {
            let request = TestRequest::default().insert_header(("accept", accept));
            names(&request.to_http_request(), "application/openmetrics-text")
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
        assert!(!names(
            &TestRequest::default().to_http_request(),
            "text/plain"
        ));
    }
}
