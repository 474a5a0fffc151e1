//! The cluster as this process knows it: what all handles share.

use std::{
    cell::Cell,
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chassis::{
    BadSettings,
    settings::{BadValue, Secret},
};
use tokio::{sync::MutexGuard, time::sleep_until};
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing::info;

use super::{Trouble, connection::Connection, problem::Problem, server::Server, value::Value};
use crate::EtcdSettings;

/// How long a call at one server may take where there is no other: a little less than its caller
/// waits (2 s), so that there is time to say what did not answer.
pub(super) const PATIENCE_WITH_ONE: Duration = Duration::from_millis(1800);

/// How long it may take where there are others, so that a second one gets its chance meanwhile.
const PATIENCE_WITH_MORE: Duration = Duration::from_millis(900);

/// How long the others are given at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long a member that failed is the last choice of those who connect.
const AVOIDED: Duration = Duration::from_secs(2);

/// A cluster, without any connection.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Arc<Server>>,
    credentials: Option<(String, Secret)>,
    /// The cluster that was met first.
    id: OnceLock<u64>,
    /// The highest revision of the cluster that some handle was told; 0 for none.
    revision: AtomicI64,
    /// The last number taken when some handle last looked; 0 for unknown. It may be out of date,
    /// even ahead of a cluster that lost writes: it is only what a transaction compares with.
    seen: AtomicU64,
    /// Held by the handle that moves the sequence; it holds when to begin at the earliest.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

impl Cluster {
    /// Looks at the settings; connects to nothing.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, BadSettings> {
        let mut bad = Vec::new();
        let credentials = match (&settings.etcd_username, &settings.etcd_password) {
            (Some(name), Some(password)) => Some((name.clone(), password.clone())),
            (None, None) => None,
            _ => {
                bad.push(BadValue::together(
                    "ETCD_USERNAME and ETCD_PASSWORD must be set together",
                ));
                None
            }
        };
        let servers = tls(settings).and_then(|tls| {
            let urls = settings.etcd_endpoints.urls().iter();
            urls.map(|url| Server::new(url, tls.as_ref()).map(Arc::new))
                .collect::<Result<Vec<_>, _>>()
        });
        let servers = servers.unwrap_or_else(|error| {
            bad.push(error);
            Vec::new()
        });
        if !bad.is_empty() {
            return Err(BadSettings(bad));
        }
        Ok(Self {
            servers,
            credentials,
            id: OnceLock::new(),
            revision: AtomicI64::new(0),
            seen: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// How many members there are.
    pub(super) fn size(&self) -> usize {
        self.servers.len()
    }

    /// Connects to the member that is `next`, or to the first after it that can be used; one that
    /// has just failed is asked last.
    ///
    /// Whatever comes of the connection, `next` is another member then: somebody who connects
    /// anew has a reason not to go to the same one. (tonic's own balancing keeps sending calls to
    /// members that are down or hang.)
    pub(super) async fn connect(
        self: &Arc<Self>,
        next: &Cell<usize>,
    ) -> Result<Connection, Trouble> {
        let start = next.get() % self.size();
        let (after, before) = (&self.servers[start..], &self.servers[..start]);
        let mut candidates: Vec<_> = after.iter().chain(before).zip(start + 1..).collect();
        // Stable, so those that are alike stay in turn.
        candidates.sort_by_key(|(server, _)| server.has_failed_within(AVOIDED));

        let mut errors = Vec::new();
        for (server, following) in candidates {
            next.set(following);
            match Connection::open(self, server).await {
                Ok(connection) => return Ok(connection),
                Err(problem) => errors.push(server.error(problem)),
            }
        }
        Err(Trouble(errors))
    }

    /// Waits until no other handle of this process moves the sequence, first come, first served.
    ///
    /// They could all try at once; but then each round through the cluster is one handle's
    /// success and the failure of all others.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let mut not_before = self.turn.lock().await;
        if let Some(moment) = not_before.take() {
            sleep_until(moment.into()).await;
        }
        Turn(not_before)
    }

    /// How long one call at one member may take.
    pub(super) fn patience(&self) -> Duration {
        match self.size() {
            1 => PATIENCE_WITH_ONE,
            _ => PATIENCE_WITH_MORE,
        }
    }

    pub(super) fn credentials(&self) -> Option<(&str, &Secret)> {
        let credentials = self.credentials.as_ref();
        credentials.map(|(name, password)| (name.as_str(), password))
    }

    /// Takes note of the cluster that an answer came from.
    ///
    /// # Errors
    ///
    /// [`Problem::OtherCluster`] if it is not the one that was met first. Two clusters, each
    /// counting for itself, would hand out the same numbers.
    pub(super) fn recognise(&self, found: u64) -> Result<(), Problem> {
        let expected = *self.id.get_or_init(|| {
            info!(cluster = format_args!("{found:x}"), "etcd answers");
            found
        });
        if found == expected {
            Ok(())
        } else {
            Err(Problem::OtherCluster { expected, found })
        }
    }

    /// The highest revision that this process knows.
    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Takes note of the revision in the answer to a transaction that was sent when this process
    /// knew of `before`.
    ///
    /// # Errors
    ///
    /// [`Problem::Restored`] if the cluster has gone back since. That is told once: what follows
    /// is compared with where it is now.
    pub(super) fn follow(&self, before: i64, found: i64) -> Result<(), Problem> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if found >= before {
            self.revision.fetch_max(found, success);
            return Ok(());
        }
        // Fails where another handle was first.
        let _ = self
            .revision
            .compare_exchange(before, found, success, failure);
        Err(Problem::Restored { before, found })
    }

    /// What the key may hold, as far as this process knows.
    pub(super) fn seen(&self) -> Value {
        match self.seen.load(Ordering::Relaxed) {
            0 => Value::Absent,
            last => Value::Last(last),
        }
    }

    /// Remembers what the key holds.
    pub(super) fn see(&self, value: Value) {
        self.seen.store(value.last(), Ordering::Relaxed);
    }
}

/// The right to move the sequence, among the handles of this process.
#[derive(Debug)]
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Instant>>);

impl Turn<'_> {
    /// Lets others go first for a moment, a random part of two round trips.
    ///
    /// To be called by one that lost some rounds to other replicas before it succeeded. Whoever
    /// has just succeeded is the first to know the value, and would win again and again.
    pub(super) fn let_others_go_first(&mut self, round_trip: Duration) {
        let pause = (2 * round_trip).min(LONGEST_PAUSE).mul_f64(fastrand::f64());
        *self.0 = Some(Instant::now() + pause);
    }
}

fn tls(settings: &EtcdSettings) -> Result<Option<ClientTlsConfig>, BadValue> {
    match (&settings.etcd_ca_file, settings.etcd_endpoints.any_tls()) {
        (None, false) => Ok(None),
        (None, true) => Err(BadValue::together(
            "ETCD_ENDPOINTS has an https:// URL, so ETCD_CA_FILE must be set: the path of a PEM \
             file with the certificate of the authority that signed those of the servers",
        )),
        (Some(_), false) => Err(BadValue::together(
            "ETCD_CA_FILE is set, but no URL in ETCD_ENDPOINTS begins with https://",
        )),
        (Some(path), true) => {
            let pem = fs::read_to_string(path);
            let pem = pem.map_err(|error| bad_ca_file(&format!("{}: {error}", path.display())))?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                return Err(bad_ca_file("there is no certificate in it"));
            }
            let authority = Certificate::from_pem(pem);
            Ok(Some(ClientTlsConfig::new().ca_certificate(authority)))
        }
    }
}

pub(super) fn bad_ca_file(why: &str) -> BadValue {
    BadValue::together(format!("invalid ETCD_CA_FILE: {why}"))
}
