//! What a service counts.

use std::net::SocketAddr;

use crate::http;

/// The value of a metric without labels, from the service whose admin listener is there.
///
/// # Panics
///
/// When it does not answer, or has no such metric, or one that is not a whole number.
#[track_caller]
pub fn metric(admin: SocketAddr, name: &str) -> u64 {
    let text = http::get(admin, "/metrics").expect("metrics").text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    value
        .parse()
        .unwrap_or_else(|_| panic!("{name} is {value}"))
}
