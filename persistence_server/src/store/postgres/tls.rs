//! How far the server is verified: libpq's `sslmode`, on rustls.

use std::{fs, path::Path, sync::Arc};

use chassis::settings::BadValue;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde::Deserialize;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The value of `PGSSLROOTCERT` that stands for the authorities of the system.
const SYSTEM: &str = "system";

/// Whether a connection is encrypted, and how far the server is verified, as in libpq.
///
/// `allow` is left out: plain first, and encrypted only where the server insists, protects from
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Plain.
    Disable,
    /// Encrypted if the server can. Unlike libpq, a handshake that fails is an error, and not a
    /// reason to go on without encryption.
    Prefer,
    /// Encrypted. With `PGSSLROOTCERT`, the same as `VerifyCa`.
    Require,
    /// Encrypted, with a certificate from an authority that is trusted.
    VerifyCa,
    /// The same, and the certificate is for the host in `PGHOST`.
    VerifyFull,
}

impl SslMode {
    /// The part of it that the client library sees.
    pub(super) fn negotiation(self) -> tokio_postgres::config::SslMode {
        use tokio_postgres::config::SslMode as Negotiation;

        match self {
            Self::Disable => Negotiation::Disable,
            Self::Prefer => Negotiation::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => Negotiation::Require,
        }
    }
}

/// What makes a TCP connection a TLS connection.
///
/// # Errors
///
/// The mode needs authorities, and there are none to be read.
pub(super) fn connector(
    mode: SslMode,
    root_cert: Option<&str>,
) -> Result<MakeRustlsConnect, BadValue> {
    let roots = match (mode, root_cert) {
        (SslMode::VerifyFull, Some(SYSTEM)) => Some(roots_of_the_system()?),
        (_, Some(SYSTEM)) => {
            return Err(BadValue::together(
                "PGSSLROOTCERT=system without PGSSLMODE=verify-full: anyone gets a certificate \
                 from some public authority",
            ));
        }
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err(BadValue::together(
                "PGSSLMODE cannot verify the server without PGSSLROOTCERT: expected the path of \
                 a PEM file with its authority, or with verify-full also system",
            ));
        }
        (SslMode::Disable, Some(path)) => {
            return Err(BadValue::invalid(
                "PGSSLROOTCERT",
                path,
                "the connection is not encrypted; expected PGSSLMODE=prefer or more, and a PGHOST \
                 that is no directory",
            ));
        }
        (_, Some(path)) => Some(roots_from(path)?),
        (_, None) => None,
    };

    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| BadValue::together(format!("TLS cannot be set up: {error}")))?;
    let config = match (mode, roots) {
        (SslMode::VerifyFull, Some(roots)) => config.with_root_certificates(roots),
        (_, roots) => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName { roots, provider })),
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn roots_of_the_system() -> Result<RootCertStore, BadValue> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry a few that do not parse; what counts is that there are good ones.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = found.errors.first().map(|error| format!(" ({error})"));
    let why = why.unwrap_or_default();
    let reason = format!("this system has no authorities{why}");
    Err(BadValue::invalid("PGSSLROOTCERT", SYSTEM, reason))
}

fn roots_from(path: &str) -> Result<RootCertStore, BadValue> {
    let bad = |why: String| {
        let reason = format!("{why}; expected the path of a PEM file with certificates, or system");
        BadValue::invalid("PGSSLROOTCERT", path, reason)
    };
    let pem = fs::read(Path::new(path)).map_err(|error| bad(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Takes a certificate for any name: from one of the `roots` if there are some, or else from
/// anybody. The server must always prove that it has the certificate's key.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
