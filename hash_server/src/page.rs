//! The page that a browser gets: it asks this service for numbers, checks them, and shows which
//! instance answered.

use actix_web::{
    HttpResponse,
    http::header::{
        CONTENT_SECURITY_POLICY, ContentType, HeaderMap, HeaderValue, REFERRER_POLICY, VARY,
    },
    web::Bytes,
};
use chassis::prefers;

const PAGE: &str = include_str!("page.html");

/// Nothing but the page's own script and style run, and it reaches nothing but this server.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-IuMnmKq3e9fjqNTkllBhxWsmLs+ofQochn9pqQ+kcwM='; \
    style-src 'sha256-j9GiOqA7S6DUBoT9s8ElAlXwxjEPMP8k+Wmw6wGQ4DE='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a request is for the page, as a browser's is, and not for a number.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    prefers(headers, "text/html", "application/json")
}

/// The page, made once.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    body: Bytes,
    policy: HeaderValue,
}

impl Page {
    /// A page without anything else, or with buttons for the faults at this port.
    pub(crate) fn new(faults: Option<u16>) -> Self {
        let Some(port) = faults else {
            return Self {
                body: Bytes::from_static(PAGE.as_bytes()),
                policy: HeaderValue::from_static(POLICY),
            };
        };
        let port = port.to_string();
        let sources = format!("connect-src 'self' http://*:{port} https://*:{port};");
        let policy = POLICY.replace("connect-src 'self';", &sources);
        Self {
            body: PAGE
                .replacen(
                    NO_FAULTS,
                    &NO_FAULTS.replace("\"\"", &format!("\"{port}\"")),
                    1,
                )
                .into(),
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(POLICY)),
        }
    }

    /// The answer. It takes no number by itself.
    pub(crate) fn answer(&self) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(ContentType::html())
            .insert_header((CONTENT_SECURITY_POLICY, self.policy.clone()))
            .insert_header((REFERRER_POLICY, "no-referrer"))
            .insert_header((VARY, "Accept"))
            .body(self.body.clone())
    }
}

/// What says in the page where faults are.
const NO_FAULTS: &str = r#"<meta name="faults" content="">"#;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_the_script_and_the_style_of_the_page() {
        for (directive, element) in [("script-src", "script"), ("style-src", "style")] {
            let (_, rest) = PAGE.split_once(&format!("<{element}>")).unwrap();
            let (text, _) = rest.split_once(&format!("</{element}>")).unwrap();
            let hash = BASE64_STANDARD.encode(Sha256::digest(text));
            let allowed = format!("{directive} 'sha256-{hash}';");
            assert!(POLICY.contains(&allowed), "it must say: {allowed}");
        }
    }

    #[test]
    fn the_page_says_where_faults_are_and_may_reach_that_port() {
        let page = Page::new(Some(9082));
        let text = std::str::from_utf8(&page.body).unwrap();
        assert!(text.contains(r#"<meta name="faults" content="9082">"#));
        let policy = page.policy.to_str().unwrap();
        assert!(policy.contains("'self' http://*:9082"), "{policy}");
    }

    #[test]
    fn the_page_is_small() {
        assert!(PAGE.len() <= 25_000, "{} bytes", PAGE.len());
    }
}
