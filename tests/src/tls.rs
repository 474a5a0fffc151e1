//! Certificates for stores that speak TLS: an authority made for one test, and a server
//! certificate for `localhost` and 127.0.0.1 that it signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// The files, in PEM; they are deleted with the last clone of this.
#[derive(Clone, Debug)]
pub struct Tls {
    folder: Arc<TempDir>,
}

impl Tls {
    /// What no client may accept, each with a part of what it says then.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn refused() -> [(Self, &'static str); 2] {
        [
            (Self::expired(), "certificate expired"),
            (Self::of_another_server(), "certificate not valid for name"),
        ]
    }

    /// Makes a new authority and a server certificate.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn new() -> Self {
        Self::signed(["localhost", "127.0.0.1"], |_| {})
    }

    /// As [`new`](Self::new), but the server's certificate has expired.
    fn expired() -> Self {
        Self::signed(["localhost", "127.0.0.1"], |server| {
            server.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// As [`new`](Self::new), but the server's certificate is for another one.
    fn of_another_server() -> Self {
        Self::signed(["elsewhere", "127.0.0.2"], |_| {})
    }

    fn signed(names: [&str; 2], change: impl Fn(&mut CertificateParams)) -> Self {
        let key = || KeyPair::generate().expect("a key can be generated");

        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut authority.distinguished_name;
        name.push(DnType::CommonName, "authority of one test");
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("a valid authority");

        let names = names.map(str::to_owned);
        let mut server = CertificateParams::new(names).expect("valid names");
        change(&mut server);
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
