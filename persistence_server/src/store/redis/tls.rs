//! Whom to trust.

use std::{path::Path, sync::Arc};

use chassis::settings::BadValue;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Trusts the authorities in a PEM file, or without one those that browsers trust.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, BadValue> {
    let roots = match ca_file {
        Some(path) => read(path).map_err(|reason| {
            BadValue::invalid("REDIS_TLS_CA_FILE", &path.to_string_lossy(), reason)
        })?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    // The provider is named here because a default for the whole process is set by nobody.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BadValue::together(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(roots)
}
