//! The promise, in the same run as the figures.

use checker::load::{self, Options};
use e2e::service::Service;

use crate::results::Results;

impl Results {
    /// Asks a service for so many numbers, and notes that they were proven.
    ///
    /// # Errors
    ///
    /// If a request fails or a number breaks the promise.
    pub(crate) fn prove(
        &mut self,
        name: &str,
        service: &Service,
        numbers: u64,
        connections: u16,
    ) -> Result<(), String> {
        let mut options = Options::new(service.public_url().parse().map_err(|e| format!("{e}"))?);
        options.connections = connections;
        options.requests = Some(numbers);
        let outcome = load::run(&options).map_err(|error| error.to_string())?;
        if outcome.failed() > 0 {
            return Err(format!("requests failed: {:?}", outcome.failures));
        }
        let proof = checker::verify(&outcome.history.operations);
        let proof = proof.map_err(|violation| violation.to_string())?;
        let said = format!("{} numbers at {connections} connections", proof.numbers);
        self.proofs.insert(name.to_owned(), said);
        Ok(())
    }
}
