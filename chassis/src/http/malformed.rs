//! What was wrong with bytes that are not a request.

use actix_web::http::{StatusCode, Uri};

use crate::problem::Problem;

/// How much of a request is kept until it is answered, to say what was wrong with it.
pub(super) const KEPT: usize = 1024;

/// The longest URI that the `http` crate parses, in bytes.
const LONGEST_URI: usize = u16::MAX as usize - 1;

/// The largest head that actix-http reads, in bytes, and the most header fields.
const LARGEST_HEAD: usize = 131_072;
const MOST_FIELDS: usize = 96;

/// Explains why actix-http refused a request with `status`.
///
/// `start` is how the request began, at most [`KEPT`] bytes of the `length` that were read.
pub(super) fn explain(status: u16, start: &[u8], length: usize) -> Problem {
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    match status {
        431 => Problem::new(
            too_large,
            format!(
                "the request line and the header fields together may have at most \
                 {LARGEST_HEAD} bytes, in at most {MOST_FIELDS} fields"
            ),
        ),
        408 => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request did not arrive in time",
        ),
        400 if length > LONGEST_URI && !start.contains(&b'\n') => Problem::new(
            too_large,
            format!("the request's URI may have at most {LONGEST_URI} bytes"),
        ),
        400 => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("this is not a valid HTTP/1.1 request: {}", reason(start)),
        ),
        _ => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request could not be handled",
        ),
    }
}

fn reason(start: &[u8]) -> String {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let parsed = match head.parse(start) {
        Ok(parsed) => parsed,
        Err(error) => return error.to_string(),
    };
    let named = |name: &str| {
        let fields = head
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.count()
    };
    if head.path.is_some_and(|path| Uri::try_from(path).is_err()) {
        "invalid URI".to_owned()
    } else if parsed.is_partial() {
        "its head or its body is not complete or not valid".to_owned()
    } else if head.version == Some(1) && named("host") != 1 {
        format!("it needs one Host header and has {}", named("host"))
    } else if named("content-length") + named("transfer-encoding") > 0 {
        "its Content-Length or Transfer-Encoding is not valid, or its body does not match"
            .to_owned()
    } else {
        "a header is not valid".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(request: &str) -> String {
        explain(400, request.as_bytes(), request.len()).to_string()
    }

    #[test]
    fn the_fault_is_named() {
        for (request, words) in [
            ("\u{16}\u{3}\u{1}", "invalid token"),
            ("GET / HTTP/3.0\r\n\r\n", "invalid HTTP version"),
            (
                "GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
                "invalid header name",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "one Host header and has 0"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                "one Host header and has 2",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
                "Content-Length",
            ),
            ("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", "invalid URI"),
        ] {
            assert!(
                detail(request).contains(words),
                "{request:?}: {}",
                detail(request)
            );
        }
    }

    #[test]
    fn a_long_uri_is_told_from_a_bad_one() {
        let start = format!("GET /{}", "a".repeat(KEPT - 5));
        assert_eq!(explain(400, start.as_bytes(), 70_000).status(), 431);
        assert_eq!(explain(400, start.as_bytes(), KEPT).status(), 400);
    }
}
