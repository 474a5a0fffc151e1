//! One connection to one member, and why it gives no number.
//!
//! The words of [`EtcdError`] are for the log and for readiness: one line, without secrets.

use std::{
    error::Error as StdError,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use sequence::{Idle, MAX_NUMBER};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{
    super::{io_reason, one_line},
    Cluster, Member,
    messages::{
        AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, Compare, PutRequest, RangeRequest,
        RequestOp, ResponseHeader, ResponseOp, STATUS, StatusRequest, StatusResponse, TXN,
        TxnRequest, TxnResponse,
    },
};

/// How long it may take to connect: little, so that one which hangs as the server comes back does
/// not keep a reservation from a better one for long.
const OPEN: Duration = Duration::from_millis(900);

/// An open connection to a member that was checked.
///
/// A call that is dropped ends on the server too, with a reset of its stream; and HTTP/2 matches
/// each answer to its call, so a late one cannot be taken for another.
#[derive(Debug)]
pub(super) struct EtcdConnection {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
    pub(super) member: Arc<Member>,
    cluster: Arc<Cluster>,
    /// When it was last known to be good; none before its first use.
    good: Option<Instant>,
    pub(super) idle: bool,
}

impl Idle for EtcdConnection {
    fn is_idle(&self) -> bool {
        self.idle
    }
}

impl EtcdConnection {
    /// Connects to `member`, authenticates, and checks its version and its cluster.
    pub(super) async fn open(
        cluster: &Arc<Cluster>,
        member: &Arc<Member>,
    ) -> Result<Self, EtcdError> {
        let open = async {
            let connector = service_fn(|url: Uri| async move {
                // An IPv6 address has brackets in a URL.
                let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
                let port = url.port_u16().ok_or(io::ErrorKind::InvalidInput)?;
                chassis::connect(host, port).await.map(TokioIo::new)
            });
            let channel = member.endpoint.connect_with_connector(connector).await;
            let mut connection = Self {
                grpc: Grpc::new(channel.map_err(|error| EtcdError::broken(&error))?),
                token: None,
                member: Arc::clone(member),
                cluster: Arc::clone(cluster),
                good: None,
                idle: true,
            };
            connection.authenticate().await?;
            connection.check().await?;
            Ok(connection)
        };
        within(OPEN, member, open).await
    }

    /// Whether it was not used yet.
    pub(super) fn is_new(&self) -> bool {
        self.good.is_none()
    }

    /// Makes a call over it, unless another handle has met an error at this member since it was
    /// used last.
    pub(super) async fn use_for<T>(
        &mut self,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, EtcdError>,
    ) -> Result<T, EtcdError> {
        self.idle = false;
        if self
            .good
            .is_some_and(|good| self.member.has_failed_since(good))
        {
            return Err(EtcdError::InDoubt);
        }
        let result = call(self).await;
        self.idle = match &result {
            Ok(_) => true,
            Err(error) => error.keeps_connection(),
        };
        if self.idle {
            self.good = Some(Instant::now());
        }
        result
    }

    /// Gets a token, if there is a user. Tokens expire, and servers forget them when they
    /// restart; then a call fails, the connection is given up and the next one gets a new token.
    async fn authenticate(&mut self) -> Result<(), EtcdError> {
        let Some((name, password)) = &self.cluster.credentials else {
            return Ok(());
        };
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.reveal().to_owned(),
        };
        let answer: Result<AuthenticateResponse, EtcdError> =
            self.call(AUTHENTICATE, request).await;
        match answer {
            Ok(answer) => {
                let token = MetadataValue::try_from(answer.token);
                let mut token =
                    token.map_err(|_| EtcdError::UnexpectedReply("the token is not text"))?;
                token.set_sensitive(true);
                self.token = Some(token);
                Ok(())
            }
            // Authentication is not enabled, so no token is needed.
            Err(error) if error.is(Code::FailedPrecondition) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that the server is of a version and of a cluster that can be used.
    async fn check(&mut self) -> Result<(), EtcdError> {
        let status: StatusResponse = match self.call(STATUS, StatusRequest {}).await {
            Ok(status) => status,
            // Some releases after 3.5 keep this for the user root. They are new enough, and every
            // later answer tells the cluster.
            Err(error) if error.is(Code::PermissionDenied) => return Ok(()),
            Err(error) => return Err(error),
        };
        match keeps_its_word(&status.version) {
            Some(true) => self.recognise(status.header).map(drop),
            Some(false) => Err(EtcdError::TooOld(one_line(&status.version))),
            None => Err(EtcdError::UnexpectedReply("the version is not one")),
        }
    }

    /// Makes sure that an answer came from the cluster that was met first; returns the revision
    /// that it came from.
    fn recognise(&self, header: Option<ResponseHeader>) -> Result<i64, EtcdError> {
        let header = header.ok_or(EtcdError::UnexpectedReply("no header"))?;
        self.cluster.recognise(header.cluster_id)?;
        Ok(header.revision)
    }

    /// Runs the one transaction: `put` if `compare` holds, else a read, in one atomic step that
    /// a majority of the members has on disk before it is answered. Returns what was found there
    /// instead; none where it was put.
    pub(super) async fn put_or_read(
        &mut self,
        compare: Compare,
        put: PutRequest,
    ) -> Result<Option<Found>, EtcdError> {
        let key = put.key.clone();
        let range = RangeRequest { key: key.clone() };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp {
                put: Some(put),
                range: None,
            }],
            failure: vec![RequestOp {
                range: Some(range),
                put: None,
            }],
        };
        let before = self.cluster.revision();
        let answer: TxnResponse = self.call(TXN, request).await?;
        let revision = self.recognise(answer.header)?;
        self.cluster.follow(before, revision)?;
        match (answer.succeeded, &answer.responses[..]) {
            (true, [ResponseOp { put: Some(_), .. }]) => Ok(None),
            (
                false,
                [
                    ResponseOp {
                        range: Some(found), ..
                    },
                ],
            ) => match &found.kvs[..] {
                [] => Ok(Some(None)),
                [pair] if pair.key == key => match parse(&pair.value) {
                    Some(last) => Ok(Some(Some(last))),
                    None => Err(EtcdError::NotANumber {
                        key: String::from_utf8_lossy(&key).into_owned(),
                        value: format!("{:?}", one_line(String::from_utf8_lossy(&pair.value))),
                    }),
                },
                _ => Err(EtcdError::UnexpectedReply("another key than was asked for")),
            },
            _ => Err(EtcdError::UnexpectedReply(
                "the transaction did something that was not asked for",
            )),
        }
    }

    /// One call, bounded in time.
    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, EtcdError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A member that is cut off from the others reports that at once, instead of waiting for them.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        let call = async {
            let ready = self.grpc.ready().await;
            ready.map_err(|error| EtcdError::broken(&error))?;
            let path = PathAndQuery::from_static(path);
            let codec = ProstCodec::<Q, A>::default();
            Ok(self.grpc.unary(request, path, codec).await?.into_inner())
        };
        within(self.cluster.time_limit(), &self.member, call).await
    }
}

async fn within<T>(
    limit: Duration,
    member: &Member,
    work: impl Future<Output = Result<T, EtcdError>>,
) -> Result<T, EtcdError> {
    let result = timeout(limit, work).await;
    let result = result.unwrap_or(Err(EtcdError::Silent(limit)));
    if matches!(&result, Err(error) if error.concerns_all()) {
        member.fail();
    }
    result
}

/// What the key of a sequence holds: the last number taken; none if there is no key.
pub(super) type Found = Option<u64>;

/// The bytes that say that the numbers up to `last` are taken.
pub(super) fn render(last: u64) -> Vec<u8> {
    last.to_string().into_bytes()
}

/// Reads the bytes of a value; none if they are not exactly what [`render`] writes.
fn parse(bytes: &[u8]) -> Option<u64> {
    let last: u64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    // One number has one text: the store compares texts.
    (last <= MAX_NUMBER && render(last) == bytes).then_some(last)
}

/// Whether this version, such as `3.5.9` or `3.6.0-rc.1`, has on disk what it answered, on every
/// member; none if it is not a version.
///
/// Before 3.4.21 and 3.5.5 a cluster of one member answered before it had written, and lost such
/// writes in a crash. 3.5.0 to 3.5.5 could apply a transaction twice or not at all after a crash,
/// and 3.4.20, 3.4.21 and 3.5.5 when a member was added, so that members disagreed for ever.
fn keeps_its_word(version: &str) -> Option<bool> {
    let mut parts = version.splitn(3, '.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let patch: u32 = rest[..end.unwrap_or(rest.len())].parse().ok()?;
    Some(match (major, minor) {
        (3, 4) => patch >= 22,
        (3, 5) => patch >= 6,
        (major, minor) => (major, minor) > (3, 5),
    })
}

/// Why a server gives no number.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    /// There is no connection, or it broke. What was asked for may have been done.
    #[error("{0}")]
    Broken(String),

    /// It refused in its own words.
    #[error("{message}")]
    Refused { code: Code, message: String },

    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),

    /// Another handle has found out already that the server has a problem.
    #[error("it failed a moment ago")]
    InDoubt,

    #[error("unexpected reply from etcd: {0}")]
    UnexpectedReply(&'static str),

    #[error("its version {0} can lose what it answered; 3.4.22, 3.5.6 or newer is needed")]
    TooOld(String),

    #[error(
        "it belongs to cluster {found:x}, and this process has taken numbers from cluster \
         {expected:x}; numbers might repeat. Correct ETCD_ENDPOINTS; or, if the cluster was \
         replaced on purpose, restart the service"
    )]
    OtherCluster { expected: u64, found: u64 },

    #[error(
        "it was restored from a backup: its revision is {found} after {before}, and what was \
         written in between is lost"
    )]
    Restored { before: i64, found: i64 },

    #[error(
        "key {key} holds {value}, which is not an integer from 0 to {MAX_NUMBER} in plain digits; \
         it is left alone. Put the last number that was taken there, or begin another SEQUENCE"
    )]
    NotANumber { key: String, value: String },

    #[error("others took numbers first, {0} times in a row")]
    Contended(u32),
}

impl EtcdError {
    /// What a failed connection attempt says.
    pub(super) fn broken(error: &(dyn StdError + 'static)) -> Self {
        Self::Broken(innermost(error))
    }

    /// Whether the server took the call in order, so that its connection is still good.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code, Code::PermissionDenied | Code::ResourceExhausted)
            }
            Self::NotANumber { .. } | Self::Restored { .. } | Self::Contended(_) => true,
            _ => false,
        }
    }

    /// Whether other connections to the same server are likely to meet it too.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Silent(_)) || self.is(Code::Unavailable)
    }

    /// Whether the server refused with this code.
    pub(super) fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

impl From<Status> for EtcdError {
    fn from(status: Status) -> Self {
        // A server's words come without a cause; what has one went wrong on the way.
        if let Some(cause) = status.source() {
            return Self::broken(cause);
        }
        let message = status.message();
        let message = message.strip_prefix("etcdserver: ").unwrap_or(message);
        let message = match message {
            "" => status.code().description(),
            message => message,
        };
        let advice = match (status.code(), message) {
            (Code::PermissionDenied, _) => "; its user needs to read and write the key",
            (Code::ResourceExhausted, "mvcc: database space exceeded") => {
                "; compact and defragment it, then etcdctl alarm disarm, or raise \
                 --quota-backend-bytes"
            }
            (_, "no leader") => "; a majority of its members must run and reach each other",
            (_, "user name is empty") => "; set ETCD_USERNAME and ETCD_PASSWORD",
            _ => "",
        };
        Self::Refused {
            code: status.code(),
            message: one_line(message) + advice,
        }
    }
}

/// The words of the innermost cause: the outer ones only say that something failed.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    match error.downcast_ref::<io::Error>() {
        Some(error) => io_reason(error),
        None => one_line(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        let status = Status::unavailable("etcdserver: no leader");
        let line = EtcdError::from(status).to_string();
        assert!(line.starts_with("no leader; a majority"), "{line}");
        let silent = Status::new(Code::Internal, "");
        assert!(!EtcdError::from(silent).to_string().is_empty());
    }

    #[test]
    fn a_broken_connection_is_told_by_its_innermost_cause() {
        let refused = io::Error::from_raw_os_error(111);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(refused));
        assert_eq!(EtcdError::from(status).to_string(), "connection refused");
    }

    #[test]
    fn every_number_has_exactly_one_text() {
        for last in [0, 1, 10, 65_536, MAX_NUMBER] {
            assert_eq!(parse(&render(last)), Some(last));
        }
        for bad in [
            "",
            "x",
            "-1",
            "+1",
            "01",
            "00",
            " 1",
            "1\n",
            "1.0",
            "1e3",
            "0x1",
            "٣",
            "9007199254740992",
            "18446744073709551616",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn versions_that_lose_writes_are_told_apart() {
        for good in ["3.4.22", "3.5.6", "3.5.21", "3.6.0-rc.1", "3.10.0", "4.0.0"] {
            assert_eq!(keeps_its_word(good), Some(true), "{good}");
        }
        for bad in [
            "2.3.8",
            "3.3.27",
            "3.4.21",
            "3.5.0",
            "3.5.5",
            "3.5.0-alpha.0",
        ] {
            assert_eq!(keeps_its_word(bad), Some(false), "{bad}");
        }
        for other in ["", "3", "3.5", "x.y.z", "v3.5.6", "3.5.", "3.5.x"] {
            assert_eq!(keeps_its_word(other), None, "{other}");
        }
    }
}
