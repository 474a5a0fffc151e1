//! Which server, as whom, and how.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chassis::{BadSettings, settings::Secret};
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, SslMode};
use crate::PostgresSettings;

/// How long to wait for each address of the host: two of them fit into one attempt (2 s).
const CONNECT: Duration = Duration::from_millis(900);

/// How long bytes may stay unacknowledged before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Which server, as whom, and how.
#[derive(Clone)]
pub(super) struct Target {
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
        let is_socket = host.starts_with('/');
        // libpq has no TLS on Unix sockets either.
        let mode = match is_socket {
            true => SslMode::Disable,
            false => settings.pgsslmode,
        };
        let root_cert = settings.pgsslrootcert.as_deref();
        let tls = tls::connector(mode, root_cert).map_err(|bad| BadSettings(vec![bad]))?;
        let address = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };

        let mut config = Config::new();
        config
            .host(host)
            .port(port)
            .user(&settings.pguser)
            .dbname(settings.pgdatabase.as_ref().unwrap_or(&settings.pguser))
            .application_name(super::APPLICATION)
            .ssl_mode(mode.negotiation())
            .connect_timeout(CONNECT)
            .tcp_user_timeout(UNACKNOWLEDGED)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        if let Some(password) = settings.pgpassword.as_ref().map(Secret::reveal) {
            config.password(password);
        }
        Ok(Self {
            config,
            tls,
            address: address.into(),
            risks_told: Arc::default(),
        })
    }
}
