//! Which server, as whom, and how.

use std::sync::{Arc, atomic::AtomicBool};

use chassis::{
    BadSettings,
    settings::{Host, Secret},
};
use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, SslMode};
use crate::PostgresSettings;

/// Where the server is, as in libpq.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum PgHost {
    /// A name or an address.
    Host(Host),
    /// The directory of a Unix socket.
    Directory(String),
}

impl PgHost {
    /// The name or the address for TLS, or the directory.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Host(host) => host.as_str(),
            Self::Directory(path) => path,
        }
    }

    /// Host and port in messages.
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Host(host) => host.with_port(port),
            Self::Directory(path) => format!("{path}:{port}"),
        }
    }
}

impl TryFrom<String> for PgHost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.starts_with('/') && !text.contains(char::is_control) {
            true => Ok(Self::Directory(text)),
            false => Host::try_from(text).map(Self::Host),
        }
    }
}

/// Which server, as whom, and how.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) host: PgHost,
    pub(super) port: u16,
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    /// The server in messages: host and port.
    pub(super) address: Arc<str>,
    /// Whether the log has been told of settings of the server that are risky.
    pub(super) risks_told: Arc<AtomicBool>,
}

impl Target {
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, BadSettings> {
        let (host, port) = (&settings.pghost, settings.pgport.get());
        // libpq has no TLS on Unix sockets either.
        let mode = match host {
            PgHost::Directory(_) => SslMode::Disable,
            PgHost::Host(_) => settings.pgsslmode,
        };
        let root_cert = settings.pgsslrootcert.as_deref();
        let tls = tls::connector(mode, root_cert).map_err(|bad| BadSettings(vec![bad]))?;
        let mut config = Config::new();
        config
            .user(&settings.pguser)
            .dbname(settings.pgdatabase.as_ref().unwrap_or(&settings.pguser))
            .application_name(super::APPLICATION)
            .ssl_mode(mode.negotiation());
        if let Some(password) = settings.pgpassword.as_ref().map(Secret::reveal) {
            config.password(password);
        }
        Ok(Self {
            host: host.clone(),
            port,
            config,
            tls,
            address: host.with_port(port).into(),
            risks_told: Arc::default(),
        })
    }
}
