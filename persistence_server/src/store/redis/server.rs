//! Which server, and what is expected of it.

use std::sync::{
    Arc, Mutex, Once, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use chassis::{
    BadSettings,
    settings::{BadValue, Host, Secret, Switch},
};
use sequence::Error;
use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};
use tracing::{info, warn};

use super::{
    failure::{At, Failure},
    tls,
};
use crate::{RedisSettings, SequenceName, store::Operations};

/// A sequence in a Redis server, as all handles of one process know it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) login: Option<Login>,
    pub(super) tls: Option<Tls>,
    pub(super) db: u32,
    pub(super) key: String,
    pub(super) rules: Rules,
    pub(super) operations: Operations,
    suspicions: AtomicU64,
    /// Whether it has ever answered.
    answered: AtomicBool,
    /// That the sequence is new was logged.
    new: Once,
    /// The warning that was logged last, so that each is logged once.
    warned: Mutex<String>,
}

/// Who to log in as.
#[derive(Debug)]
pub(super) struct Login {
    /// None for the server's default user.
    pub(super) username: Option<String>,
    /// Empty for a user without a password.
    pub(super) password: Option<Secret>,
}

/// How to encrypt, and whom to expect.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Tls {
    fn new(settings: &RedisSettings) -> Result<Option<Self>, BadValue> {
        let ca_file = settings.redis_tls_ca_file.as_deref();
        if settings.redis_tls == Switch::Off {
            return match ca_file {
                None => Ok(None),
                Some(_) => Err(BadValue::together(
                    "REDIS_TLS_CA_FILE is set but REDIS_TLS is off; set REDIS_TLS=on or remove \
                     the file",
                )),
            };
        }
        let host = settings.redis_host.as_str();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let reason = "no certificate can name it; expected another with REDIS_TLS=on";
            BadValue::invalid("REDIS_HOST", host, reason)
        })?;
        let config = tls::config(ca_file)?;
        Ok(Some(Self { config, name }))
    }
}

/// What a server must offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether a server that may lose writes is refused.
    pub(super) durable: bool,
    /// How many replicas must confirm each write.
    pub(super) replicas: u8,
}

impl Server {
    /// The server that the settings name. Nothing is sent to it yet.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub(super) fn new(
        settings: &RedisSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        let tls = Tls::new(settings).map_err(|bad| BadSettings(vec![bad]))?;
        let username = settings.redis_username.clone();
        let password = settings.redis_password.clone();
        let wants_login = username.is_some() || password.is_some();
        Ok(Self {
            host: settings.redis_host.clone(),
            port: settings.redis_port.get(),
            login: wants_login.then_some(Login { username, password }),
            tls,
            db: settings.redis_db,
            key: format!("sequence:{}", sequence.as_str()),
            rules: Rules {
                durable: settings.redis_require_durable == Switch::On,
                replicas: settings.redis_min_replicas,
            },
            operations,
            suspicions: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            new: Once::new(),
            warned: Mutex::default(),
        })
    }

    /// How often something was found wrong with the server so far.
    pub(super) fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Acquire)
    }

    /// Lets every handle inspect the server before it uses its connection again.
    pub(super) fn suspect(&self) {
        self.suspicions.fetch_add(1, Ordering::AcqRel);
    }

    /// Logs a warning unless it is the one that was logged last.
    pub(super) fn warn(&self, warning: String) {
        // The text is replaced whole, so a panic elsewhere cannot have left half of it.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if *warned != warning && !warning.is_empty() {
            warn!(
                host = self.host.as_str(),
                port = self.port,
                "STORE=redis: {warning}"
            );
        }
        *warned = warning;
    }

    /// Logs, once, that the sequence begins here.
    pub(super) fn log_new(&self) {
        self.new.call_once(|| {
            info!(
                host = self.host.as_str(),
                port = self.port,
                key = self.key,
                "STORE=redis: the key does not exist yet; a new sequence begins"
            );
        });
    }

    /// Takes note that the server has answered.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn unavailable(&self, failure: Failure) -> Error {
        let answered = || self.answered.load(Ordering::Relaxed);
        let failure = match failure {
            Failure::Closed if self.tls.is_none() && !answered() => Failure::ClosedAtOnce,
            failure => failure,
        };
        Error::unavailable(At {
            address: self.host.with_port(self.port),
            failure,
        })
    }
}
