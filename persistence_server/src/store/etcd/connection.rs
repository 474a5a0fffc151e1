//! One connection to one server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::{
    Code, Request,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::{
    cluster::Cluster,
    durability,
    messages::{
        AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, ResponseHeader, STATUS,
        StatusRequest, StatusResponse,
    },
    problem::{Problem, one_line},
    server::Server,
    version,
};

/// How long it may take to connect: little, so that one which hangs as the server comes back does
/// not keep a reservation from a better one for long.
const OPEN: Duration = Duration::from_millis(900);

/// An open connection to a server that was found fit.
///
/// A call that is dropped ends on the server too, with a reset of its stream; and HTTP/2 matches
/// each answer to its call, so a late one cannot be taken for another.
#[derive(Debug)]
pub(super) struct Connection {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
    server: Arc<Server>,
    pub(super) cluster: Arc<Cluster>,
    /// When it was last known to be good; none before its first use.
    good: Option<Instant>,
}

impl Connection {
    /// Connects to `server`, authenticates, and looks whether it can be used.
    pub(super) async fn open(
        cluster: &Arc<Cluster>,
        server: &Arc<Server>,
    ) -> Result<Self, Problem> {
        let open = async {
            let channel = server.connect().await;
            let channel = channel.map_err(|error| Problem::broken(&error))?;
            let mut connection = Self {
                grpc: Grpc::new(channel),
                token: None,
                server: Arc::clone(server),
                cluster: Arc::clone(cluster),
                good: None,
            };
            connection.authenticate().await?;
            connection.inspect().await?;
            Ok(connection)
        };
        within(OPEN, server, open).await
    }

    /// Whether some handle has met a problem at this server since this connection was used.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.good
            .is_some_and(|good| self.server.has_failed_since(good))
    }

    /// Takes note that it works.
    pub(super) fn confirm(&mut self) {
        self.good = Some(Instant::now());
    }

    /// Makes sure that the server has on disk what it answers, as far as it lets that be seen.
    ///
    /// It is asked when it is new and after each failure: it may be started with other flags then.
    pub(super) async fn require_durability(&mut self, key: &str) -> Result<(), Problem> {
        if self.server.is_examined() {
            return Ok(());
        }
        let begin = Instant::now();
        let before = self.syncs().await;
        // What goes through the log once must be synced once. It is tried twice, for the counts
        // could come from different servers behind one address and be the same by chance.
        for _ in 0..2 {
            if before.is_some() {
                self.probe(key).await?;
            }
            if before.is_none() || self.syncs().await != before {
                self.server.examined(begin);
                return Ok(());
            }
        }
        Err(Problem::NotDurable)
    }

    async fn syncs(&self) -> Option<u64> {
        let syncs = durability::syncs(self.server.uri());
        timeout(self.cluster.patience() / 4, syncs).await.ok()?
    }

    /// The server at the other end.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Gets a token, if there is a user. Tokens expire, and servers forget them when they
    /// restart; then a call fails, the connection is given up and the next one gets a new token.
    async fn authenticate(&mut self) -> Result<(), Problem> {
        let Some((name, password)) = self.cluster.credentials() else {
            return Ok(());
        };
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.reveal().to_owned(),
        };
        let answer: Result<AuthenticateResponse, Problem> = self.call(AUTHENTICATE, request).await;
        match answer {
            Ok(answer) => {
                let token = MetadataValue::try_from(answer.token);
                let mut token = token.map_err(|_| Problem::Strange("its token is not text"))?;
                token.set_sensitive(true);
                self.token = Some(token);
                Ok(())
            }
            // Authentication is not enabled, so nobody needs a token.
            Err(problem) if problem.is(Code::FailedPrecondition) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Looks whether the server is of the right version and cluster.
    async fn inspect(&mut self) -> Result<(), Problem> {
        let status: StatusResponse = match self.call(STATUS, StatusRequest {}).await {
            Ok(status) => status,
            // Some releases after 3.5 keep this for the user root. They are new enough, and every
            // later answer tells the cluster.
            Err(problem) if problem.is(Code::PermissionDenied) => return Ok(()),
            Err(problem) => return Err(problem),
        };
        match version::keeps_its_word(&status.version) {
            Some(true) => self.recognise(status.header).map(drop),
            Some(false) => Err(Problem::TooOld(one_line(&status.version))),
            None => Err(Problem::Strange("its version is not one")),
        }
    }

    /// Makes sure that an answer came from the cluster that was met first; returns the revision
    /// that it came from.
    pub(super) fn recognise(&self, header: Option<ResponseHeader>) -> Result<i64, Problem> {
        let header = header.ok_or(Problem::Strange("its answer has no header"))?;
        self.cluster.recognise(header.cluster_id)?;
        Ok(header.revision)
    }

    /// One call, bounded in time.
    pub(super) async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Problem>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A member that is cut off from the others says so at once, instead of waiting for them.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        let call = async {
            let ready = self.grpc.ready().await;
            ready.map_err(|error| Problem::broken(&error))?;
            let path = PathAndQuery::from_static(path);
            let codec = ProstCodec::<Q, A>::default();
            Ok(self.grpc.unary(request, path, codec).await?.into_inner())
        };
        within(self.cluster.patience(), &self.server, call).await
    }
}

async fn within<T>(
    patience: Duration,
    server: &Server,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let result = timeout(patience, work).await;
    let result = result.unwrap_or(Err(Problem::Silent(patience)));
    if matches!(&result, Err(problem) if problem.concerns_all()) {
        server.fail();
    }
    result
}
