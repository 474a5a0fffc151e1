//! The store in etcd: one key that holds the last number taken.
//!
//! A reservation is one transaction: if the key still holds what was last seen there, put that
//! plus the count, else read it; and try again with what was read. The comparison is with the
//! value itself, not with the key's revision: revisions start again lower in a cluster that was
//! restored from a backup, and one that was seen before would then name another value.
//!
//! Nothing rests on leases or locks. After an answer that did not come, the numbers may have been
//! taken; then the next comparison fails, reads the newer value, and leaves a gap.

mod connection;
mod messages;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chassis::{
    BadSettings,
    settings::{BadValue, Host, Secret, both},
};
use http::Uri;
use sequence::{Block, Count, Error, MAX_NUMBER, Reusable, Sequence, Store};
use serde::Deserialize;
use tokio::time::sleep_until;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::info;

use self::{
    connection::{EtcdConnection, EtcdError, Found, render},
    messages::{Compare, EQUAL, LESS, PutRequest, VALUE, VERSION},
};
use super::{Backend, Operations};
use crate::{EtcdSettings, SequenceName, tls};

/// How long a call at one member may take where there is no other: a little less than its caller
/// waits (2 s), so that there is time to say what did not answer.
const LIMIT_WITH_ONE: Duration = Duration::from_millis(1800);

/// How long it may take where there are others, so that a second one gets its chance meanwhile.
const LIMIT_WITH_MORE: Duration = Duration::from_millis(900);

/// How long a member that failed is the last choice for new connections.
const AVOIDED: Duration = Duration::from_secs(2);

/// How often a reservation tries again because others took numbers in between.
///
/// It tries again at once: the replica that just succeeded knows the value too, and one that
/// pauses comes too late. Each round is a success of another, so this many in a row are bad luck.
const ROUNDS: u32 = 100;

/// How long other replicas are given at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A sequence in etcd.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    cluster: Arc<Cluster>,
    key: String,
    operations: Operations,
    connection: Reusable<EtcdConnection>,
}

/// The cluster as all handles of one process know it.
#[derive(Debug)]
struct Cluster {
    members: Vec<Arc<Member>>,
    credentials: Option<(String, Secret)>,
    /// The member that the next new connection goes to, counted on and on.
    next: AtomicUsize,
    /// The cluster that was met first.
    id: OnceLock<u64>,
    /// The highest revision of the cluster that some handle was told; 0 for none.
    revision: AtomicI64,
    /// What the key held when some handle last looked. It may be out of date, even ahead of a
    /// cluster that lost writes: it is only what a transaction compares with.
    seen: Mutex<Found>,
    /// Held by the handle that moves the sequence; it holds when to begin at the earliest.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

/// A member of the cluster.
#[derive(Debug)]
struct Member {
    url: String,
    endpoint: Endpoint,
    /// When some handle last met an error there.
    failed: Mutex<Option<Instant>>,
}

impl EtcdStore {
    /// The sequence in the cluster that the settings describe. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub fn open(
        settings: &EtcdSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        Ok(Self {
            cluster: Arc::new(Cluster::new(settings)?),
            key: format!("sequence/{}", sequence.as_str()),
            operations,
            connection: Reusable::default(),
        })
    }

    /// Moves the last number taken to where `target` wants it, given where it is; `None` leaves
    /// it there. Returns where it was.
    ///
    /// The handles of a process take turns: they could all try at once, but then each round
    /// through the cluster would be a success for one and a failure for all others.
    async fn advance(&self, target: impl Fn(u64) -> Option<u64>) -> Result<Option<u64>, Error> {
        let mut turn = self.cluster.turn.lock().await;
        if let Some(not_before) = turn.take() {
            sleep_until(not_before.into()).await;
        }
        let advance =
            async |connection: &mut EtcdConnection| self.try_rounds(connection, &target).await;
        let (from, pause_until) = self.call(advance).await?;
        *turn = pause_until;
        Ok(from)
    }

    /// Returns where the last number taken was, if it has moved, and until when this process
    /// leaves the key to other replicas.
    async fn try_rounds(
        &self,
        connection: &mut EtcdConnection,
        target: &impl Fn(u64) -> Option<u64>,
    ) -> Result<(Option<u64>, Option<Instant>), EtcdError> {
        let mut found = self.cluster.seen();
        let mut is_current = false;
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let at = found.unwrap_or(0);
            let instead = match target(at) {
                Some(last) => {
                    self.operations.add_one();
                    match self.swap(connection, found, last).await? {
                        None => {
                            self.cluster.see(Some(last));
                            if found.is_none() {
                                let key = &*self.key;
                                info!(
                                    key,
                                    "STORE=etcd: the key does not exist yet; a new sequence begins"
                                );
                            }
                            // After rounds lost to other replicas they go first for a moment, a
                            // random part of two round trips: the one that has just succeeded is
                            // the first to know the value, and would win again and again.
                            let pause = (2 * begin.elapsed()).min(LONGEST_PAUSE);
                            let pause = pause.mul_f64(fastrand::f64());
                            return Ok((Some(at), is_current.then(|| Instant::now() + pause)));
                        }
                        Some(instead) => instead,
                    }
                }
                None if is_current => return Ok((None, None)),
                // What was seen some time ago is no reason to refuse.
                None => self.probe(connection).await?,
            };
            self.cluster.see(instead);
            found = instead;
            is_current = true;
        }
        Err(EtcdError::Contended(ROUNDS))
    }

    /// Puts `last` into the key if that still holds what was `seen`. Returns what it holds
    /// otherwise.
    async fn swap(
        &self,
        connection: &mut EtcdConnection,
        seen: Found,
        last: u64,
    ) -> Result<Option<Found>, EtcdError> {
        let compare = Compare {
            result: EQUAL,
            target: seen.map_or(VERSION, |_| VALUE),
            key: self.key.clone().into(),
            version: seen.is_none().then_some(0),
            value: seen.map(render),
        };
        let put = PutRequest {
            key: self.key.clone().into(),
            value: render(last),
            ignore_value: false,
        };
        connection.put_or_read(compare, put).await
    }

    /// Reads the key by way of a transaction that could have written it.
    ///
    /// It changes nothing, but it takes the way of one that does: it fails without a leader, a
    /// majority, the right to write or room to write.
    async fn probe(&self, connection: &mut EtcdConnection) -> Result<Found, EtcdError> {
        let never = Compare {
            result: LESS,
            target: VERSION,
            key: self.key.clone().into(),
            version: Some(0),
            value: None,
        };
        let harmless = PutRequest {
            key: self.key.clone().into(),
            value: Vec::new(),
            ignore_value: true,
        };
        let found = connection.put_or_read(never, harmless).await?;
        found.ok_or(EtcdError::UnexpectedReply("a version below 0"))
    }

    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut EtcdConnection) -> Result<T, EtcdError>,
    ) -> Result<T, Error> {
        let open = async || self.cluster.connect().await;
        let call = async |connection: &mut EtcdConnection| {
            let use_it = async |connection: &mut EtcdConnection| {
                if connection.is_new() {
                    // A write would hide that the cluster is one revision behind.
                    self.probe(connection).await?;
                }
                call(connection).await
            };
            let result = connection.use_for(use_it).await;
            result.map_err(|error| {
                let line = format!("etcd at {}: {error}", connection.member.url);
                match error {
                    EtcdError::Restored { .. } => Error::regressed(line),
                    _ => Error::unavailable(line),
                }
            })
        };
        self.connection.call(open, call).await
    }
}

impl Backend for EtcdStore {
    fn target(&self) -> String {
        let urls = self.cluster.members.iter().map(|member| &*member.url);
        format!("etcd at {}", urls.collect::<Vec<_>>().join(", "))
    }
}

#[async_trait(?Send)]
impl Sequence for EtcdStore {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let target = |last| Block::after(last, count).map(Block::last).ok();
        match self.advance(target).await? {
            Some(last) => Ok(Block::after(last, count)?),
            None => Err(Error::Exhausted),
        }
    }
}

#[async_trait(?Send)]
impl Store for EtcdStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let floor = floor.min(MAX_NUMBER);
        let target = |last| (last < floor).then_some(floor);
        self.advance(target).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        let probe = async |connection: &mut EtcdConnection| self.probe(connection).await;
        Ok(self.call(probe).await?.unwrap_or(0))
    }
}

impl Cluster {
    fn new(settings: &EtcdSettings) -> Result<Self, BadSettings> {
        let credentials = match (&settings.etcd_username, &settings.etcd_password) {
            (Some(name), Some(password)) => Ok(Some((name.clone(), password.clone()))),
            (None, None) => Ok(None),
            _ => Err(vec![BadValue::together(
                "ETCD_USERNAME and ETCD_PASSWORD must be set together",
            )]),
        };
        let members = members(settings).map_err(|bad| vec![bad]);
        let (credentials, members) = both(credentials, members).map_err(BadSettings)?;
        Ok(Self {
            // So that not all replicas sit on the first member.
            next: AtomicUsize::new(fastrand::usize(..members.len())),
            members,
            credentials,
            id: OnceLock::new(),
            revision: AtomicI64::new(0),
            seen: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Connects to the next member, or to the first after it that can be used; one that has just
    /// failed is tried last.
    ///
    /// Each new connection begins at another member: one that replaces a broken one has a reason
    /// not to go to the same. (tonic's own balancing keeps sending calls to members that are down
    /// or hang.)
    async fn connect(self: &Arc<Self>) -> Result<EtcdConnection, Error> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.members.len();
        let (before, after) = self.members.split_at(start);
        let mut candidates: Vec<_> = after.iter().chain(before).collect();
        let recently = Instant::now().checked_sub(AVOIDED);
        // Stable, so those that are alike stay in turn.
        candidates.sort_by_key(|member| {
            recently.is_some_and(|recently| member.has_failed_since(recently))
        });
        let mut lines = Vec::new();
        for member in candidates {
            match EtcdConnection::open(self, member).await {
                Ok(connection) => return Ok(connection),
                Err(error) => lines.push(format!("etcd at {}: {error}", member.url)),
            }
        }
        Err(Error::unavailable(lines.join("; ")))
    }

    /// How long one call at one member may take.
    fn time_limit(&self) -> Duration {
        match self.members.len() {
            1 => LIMIT_WITH_ONE,
            _ => LIMIT_WITH_MORE,
        }
    }

    /// Takes note of the cluster that an answer came from.
    ///
    /// # Errors
    ///
    /// [`EtcdError::OtherCluster`] if it is not the one that was met first. Two clusters, each
    /// counting for itself, would hand out the same numbers.
    fn recognise(&self, found: u64) -> Result<(), EtcdError> {
        let expected = *self.id.get_or_init(|| {
            info!(cluster = format_args!("{found:x}"), "etcd answers");
            found
        });
        if found == expected {
            Ok(())
        } else {
            Err(EtcdError::OtherCluster { expected, found })
        }
    }

    /// The highest revision that this process knows.
    fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Takes note of the revision in the answer to a transaction that was sent when this process
    /// knew of `before`.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Restored`] if the cluster has gone back since. That is told once: what follows
    /// is compared with where it is now.
    fn follow(&self, before: i64, found: i64) -> Result<(), EtcdError> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if found >= before {
            self.revision.fetch_max(found, success);
            return Ok(());
        }
        // Fails where another handle was first.
        let _ = self
            .revision
            .compare_exchange(before, found, success, failure);
        Err(EtcdError::Restored { before, found })
    }

    fn seen(&self) -> Found {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, found: Found) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

impl Member {
    /// Takes note of an error, so that other handles do not wait for the same one.
    fn fail(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn has_failed_since(&self, since: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| failed > since)
    }
}

fn members(settings: &EtcdSettings) -> Result<Vec<Arc<Member>>, BadValue> {
    let urls = &settings.etcd_endpoints.0;
    let is_secure = |url: &Uri| url.scheme_str() == Some("https");
    let bad_ca_file = |why: String| BadValue::together(format!("invalid ETCD_CA_FILE: {why}"));
    let tls = match (&settings.etcd_ca_file, urls.iter().any(is_secure)) {
        (None, false) => ClientTlsConfig::new(),
        (None, true) => {
            return Err(BadValue::together(
                "ETCD_ENDPOINTS has an https:// URL, so ETCD_CA_FILE must be set: the path of a \
                 PEM file with the certificate of the authority that signed those of the servers",
            ));
        }
        (Some(_), false) => {
            return Err(BadValue::together(
                "ETCD_CA_FILE is set, but no URL in ETCD_ENDPOINTS begins with https://",
            ));
        }
        (Some(path), true) => {
            let authorities = tls::read_authorities(path)
                .map_err(|why| bad_ca_file(format!("{}: {why}", path.display())))?;
            ClientTlsConfig::new().trust_anchors(authorities.roots)
        }
    };
    let member = |url: &Uri| {
        let mut endpoint = Endpoint::from(url.clone());
        if is_secure(url) {
            endpoint = endpoint
                .tls_config(tls.clone())
                .map_err(|error| bad_ca_file(EtcdError::broken(&error).to_string()))?;
        }
        Ok(Arc::new(Member {
            url: url.to_string().trim_end_matches('/').to_owned(),
            endpoint,
            failed: Mutex::default(),
        }))
    };
    urls.iter().map(member).collect()
}

/// The URLs of the members of one etcd cluster, at least one.
///
/// Each is `http://HOST:PORT` or `https://HOST:PORT` and nothing more: a name and password in
/// the URL would end up in messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoints(Vec<Uri>);

impl TryFrom<String> for Endpoints {
    type Error = &'static str;

    fn try_from(list: String) -> Result<Self, &'static str> {
        let urls: Option<Vec<Uri>> = list.split(',').map(|url| parse(url.trim())).collect();
        urls.map(Self).ok_or("not a list of URLs")
    }
}

fn parse(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let authority = url.authority()?;
    let good = matches!(url.scheme_str(), Some("http" | "https"))
        // Without a port it would be the web's, which is never etcd's.
        && authority.port_u16().is_some_and(|port| port > 0)
        && Host::try_from(authority.host().to_owned()).is_ok()
        && !authority.as_str().contains('@')
        && url.path() == "/"
        && url.query().is_none();
    good.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Endpoints, &'static str> {
        Endpoints::try_from(list.to_owned())
    }

    #[test]
    fn a_list_of_urls_with_ports_is_read_in_order() {
        let endpoints = read("http://a:2379, https://b.example:1,http://[::1]:2379/").unwrap();
        let urls: Vec<String> = endpoints.0.iter().map(Uri::to_string).collect();
        assert_eq!(
            urls,
            [
                "http://a:2379/",
                "https://b.example:1/",
                "http://[::1]:2379/"
            ]
        );
    }

    #[test]
    fn what_is_not_such_a_list_is_refused() {
        for bad in [
            "",
            ",",
            "http://a:1,",
            "a:2379",
            "a",
            "http://a",
            "http://a:0",
            "http://10.0.0.256:2379",
            "http://a..b:2379",
            "http://a:65536",
            "http://:2379",
            "ftp://a:2379",
            "http://a:2379/path",
            "http://a:2379?q",
            "http://user:hush@a:2379",
            "http://a:1 http://b:1",
            "tcp://10.0.0.1:2379",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
