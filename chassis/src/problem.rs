//! Errors as clients see them: RFC 9457 `application/problem+json`.
//!
//! A problem says what was wrong with the request, or when to come back. It never holds an
//! internal cause: that belongs in the log.

use std::{borrow::Cow, fmt};

pub use actix_web::http::StatusCode;
use actix_web::{
    HttpRequest, HttpResponse, ResponseError, Route,
    http::{Method, header},
    web,
};
use serde::Serialize;

use crate::resource::require_ready;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An answer that says what went wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    kind: Option<&'static str>,
    title: Option<&'static str>,
    detail: Cow<'static, str>,
    allow: Option<String>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem with a status (400 to 599) and a sentence for the person behind the client.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            kind: None,
            title: None,
            detail: detail.into(),
            allow: None,
            retry_after: None,
        }
    }

    /// 405: the resource exists, but only `allowed` methods work on it.
    pub(crate) fn method_not_allowed(allowed: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("this resource accepts only the methods {allowed}"),
        );
        problem.allow = Some(allowed.to_owned());
        problem
    }

    /// 503: it may work after `seconds`.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, seconds: u32) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after = Some(seconds);
        problem
    }

    /// Gives the problem a type of its own (a URI) and its title, for programs to tell it apart.
    #[must_use]
    pub fn typed(mut self, kind: &'static str, title: &'static str) -> Self {
        self.kind = Some(kind);
        self.title = Some(title);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The JSON object, with a line feed.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }

        let document = Document {
            r#type: self.kind.unwrap_or("about:blank"),
            title: self
                .title
                .or(self.status.canonical_reason())
                .unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut json = serde_json::to_string(&document).unwrap_or_default();
        json.push('\n');
        json
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type(CONTENT_TYPE);
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        response.body(self.to_json())
    }
}

/// The route for every target that a service does not have.
pub(crate) fn not_found() -> Route {
    web::to(async |request: HttpRequest| match *request.method() {
        // About the server as a whole (RFC 9110, section 9.3.7).
        Method::OPTIONS if request.path() == "*" => {
            require_ready(&request).map(|()| HttpResponse::NoContent().finish())
        }
        // Its target is another server's address, which is no resource with methods of its own.
        Method::CONNECT => {
            let mut problem = Problem::method_not_allowed("");
            problem.detail = "this is not a proxy, so CONNECT is refused".into();
            Err(problem)
        }
        _ => {
            let detail = format!("there is nothing at {}", shortened(request.path()));
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    })
}

/// At most 100 characters of a text that a client sent.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(100) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_with_the_status_phrase_as_its_title() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "nothing \"here\"");
        assert_eq!(
            problem.to_json(),
            "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\
             \"detail\":\"nothing \\\"here\\\"\"}\n"
        );
    }

    #[test]
    fn a_typed_problem_has_its_own_title() {
        let problem = Problem::unavailable("no more", 5).typed("urn:x:end", "Ended");
        let json = problem.to_json();
        assert!(
            json.starts_with("{\"type\":\"urn:x:end\",\"title\":\"Ended\",\"status\":503"),
            "{json}"
        );
        assert_eq!(
            problem
                .error_response()
                .headers()
                .get("retry-after")
                .unwrap(),
            "5"
        );
    }

    #[test]
    fn what_a_client_sent_is_quoted_only_in_part() {
        assert_eq!(shortened("/short"), "/short");
        assert_eq!(shortened(&"ä".repeat(1000)).chars().count(), 101);
    }
}
