//! Certificates for stores that speak TLS: an authority made for one test, and a server
//! certificate for `localhost` and 127.0.0.1 that it signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// The files, in PEM; they are deleted with the last clone of this.
#[derive(Clone, Debug)]
pub struct Tls {
    folder: Arc<TempDir>,
}

impl Tls {
    /// Makes a new authority and a server certificate.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn new() -> Self {
        let key = || KeyPair::generate().expect("a key can be generated");

        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut authority.distinguished_name;
        name.push(DnType::CommonName, "authority of one test");
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("a valid authority");

        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut server = CertificateParams::new(names).expect("valid names");
        let name = &mut server.distinguished_name;
        name.push(DnType::CommonName, "localhost");
        let server_key = key();
        let server = server.signed_by(&server_key, &authority);
        let server = server.expect("a valid certificate");

        let folder = TempDir::new().expect("a folder for the certificates");
        let tls = Self {
            folder: Arc::new(folder),
        };
        let write = |path: PathBuf, pem: String| fs::write(path, pem).expect("a file in it");
        write(tls.ca(), authority.pem());
        write(tls.cert(), server.pem());
        write(tls.key(), server_key.serialize_pem());
        tls
    }

    /// The authority's certificate, for clients to trust.
    pub fn ca(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn cert(&self) -> PathBuf {
        self.path().join("cert.pem")
    }

    /// The server's private key.
    pub fn key(&self) -> PathBuf {
        self.path().join("key.pem")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}
