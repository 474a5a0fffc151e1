//! The page that a browser gets: it asks this service for numbers, checks them, and shows which
//! instance answered.

use actix_web::{
    HttpResponse,
    http::header::{CONTENT_SECURITY_POLICY, ContentType, HeaderMap, REFERRER_POLICY, VARY},
};
use chassis::prefers;

const PAGE: &str = include_str!("page.html");

/// Nothing but the page's own script and style run, and it reaches nothing but this server.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-piE+rT+C8/ht6ub+0XvaQKiA6WOCSLRO+uEAqCH8C28='; \
    style-src 'sha256-bnpo93lnkkAVfaMGBWZ9MINcy5+3fJkzISDegSHi9IY='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a request is for the page, as a browser's is, and not for a number.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    prefers(headers, "text/html", "application/json")
}

/// The page. It takes no number by itself.
pub(crate) fn answer() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((VARY, "Accept"))
        .body(PAGE)
}

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
    fn the_page_is_small() {
        assert!(PAGE.len() <= 25_000, "{} bytes", PAGE.len());
    }
}
