//! The promise, in the same run as the figures.

use checker::load::{self, Options};
use e2e::service::Service;

/// Numbers that are asked for.
const NUMBERS: u64 = 50_000;

/// Asks a service for numbers over so many connections, and tells how many were proven.
///
/// # Errors
///
/// If a request fails or a number breaks the promise.
pub(crate) fn prove(service: &Service, connections: u16) -> Result<String, String> {
    let mut options = Options::new(service.public_url().parse().map_err(|e| format!("{e}"))?);
    options.connections = connections;
    options.requests = Some(NUMBERS);
    let outcome = load::run(&options).map_err(|error| error.to_string())?;
    if outcome.failed() > 0 {
        return Err(format!("requests failed: {:?}", outcome.failures));
    }
    let proof = checker::verify(&outcome.history.operations);
    let proof = proof.map_err(|violation| violation.to_string())?;
    Ok(format!(
        "{} numbers at {connections} connections",
        proof.numbers
    ))
}
