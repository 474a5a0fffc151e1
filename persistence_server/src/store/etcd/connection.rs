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
    cluster::{Cluster, Server},
    messages::{
        AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, Compare, Comparison, Field,
        Operand, Operation, Outcome, PutRequest, RangeRequest, RequestOp, ResponseHeader,
        ResponseOp, STATUS, StatusRequest, StatusResponse, TXN, TxnRequest, TxnResponse,
    },
    problem::{Problem, one_line},
    value::{Value, render},
};

/// The oldest version that is supported, major and minor.
const OLDEST: (u32, u32) = (3, 4);

/// An open connection to a server that was found fit.
///
/// A call that is dropped ends on the server too, with a reset of its stream; and HTTP/2 matches
/// each answer to its call, so a late one cannot be taken for another.
#[derive(Debug)]
pub(super) struct Connection {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    /// When it was last known to be good; none before its first use.
    good: Option<Instant>,
}

/// What came of a wish to put the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// It is put, and durable.
    Done,
    /// Nothing was changed, for the key holds this.
    Found(Value),
}

impl Connection {
    /// Connects to `server`, authenticates, and looks whether it can be used.
    pub(super) async fn open(
        cluster: &Arc<Cluster>,
        server: &Arc<Server>,
    ) -> Result<Self, Problem> {
        let open = async {
            let channel = server.endpoint().connect().await;
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
        within(cluster.patience(), server, open).await
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

    /// The server at the other end.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Puts `last` into `key` if the key is as `seen`, and reads it if not, in one atomic step
    /// that a majority of the members has on disk before it is answered.
    pub(super) async fn swap(
        &mut self,
        key: &str,
        seen: Value,
        last: u64,
    ) -> Result<Swap, Problem> {
        let compare = match seen {
            Value::Absent => Compare {
                result: Comparison::Equal.into(),
                target: Field::Version.into(),
                key: key.into(),
                operand: Some(Operand::Version(0)),
            },
            Value::Last(seen) => Compare {
                result: Comparison::Equal.into(),
                target: Field::Value.into(),
                key: key.into(),
                operand: Some(Operand::Value(render(seen))),
            },
        };
        let put = PutRequest {
            key: key.into(),
            value: render(last),
            ignore_value: false,
        };
        self.put_or_read(key, compare, put).await
    }

    /// Reads `key` by way of a transaction that could have written it.
    ///
    /// It changes nothing, but it takes the way of one that does: it fails without a leader, a
    /// majority, the right to write or room to write.
    pub(super) async fn probe(&mut self, key: &str) -> Result<Value, Problem> {
        let never = Compare {
            result: Comparison::Less.into(),
            target: Field::Version.into(),
            key: key.into(),
            operand: Some(Operand::Version(0)),
        };
        let harmless = PutRequest {
            key: key.into(),
            value: Vec::new(),
            ignore_value: true,
        };
        match self.put_or_read(key, never, harmless).await? {
            Swap::Found(value) => Ok(value),
            Swap::Done => Err(Problem::Strange("it found a version below 0")),
        }
    }

    async fn put_or_read(
        &mut self,
        key: &str,
        compare: Compare,
        put: PutRequest,
    ) -> Result<Swap, Problem> {
        let range = RangeRequest { key: key.into() };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![Operation::Put(put).into()],
            failure: vec![Operation::Range(range).into()],
        };
        let answer: TxnResponse = self.call(TXN, request).await?;
        self.recognise(answer.header)?;
        let outcome = match <[ResponseOp; 1]>::try_from(answer.responses) {
            Ok([ResponseOp { outcome }]) => outcome,
            Err(_) => None,
        };
        match (answer.succeeded, outcome) {
            (true, Some(Outcome::Put(_))) => Ok(Swap::Done),
            (false, Some(Outcome::Range(found))) => match &found.kvs[..] {
                [] => Ok(Swap::Found(Value::Absent)),
                [pair] if pair.key == key.as_bytes() => {
                    let value = Value::parse(&pair.value);
                    value.map(Swap::Found).ok_or_else(|| Problem::NotANumber {
                        key: key.to_owned(),
                        value: format!("{:?}", one_line(&String::from_utf8_lossy(&pair.value))),
                    })
                }
                _ => Err(Problem::Strange("it read another key than was asked for")),
            },
            _ => Err(Problem::Strange(
                "its transaction did something that was not asked for",
            )),
        }
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
        let version = parse_version(&status.version);
        if version.ok_or(Problem::Strange("its version is not one"))? < OLDEST {
            return Err(Problem::TooOld(one_line(&status.version)));
        }
        self.recognise(status.header)
    }

    fn recognise(&self, header: Option<ResponseHeader>) -> Result<(), Problem> {
        let header = header.ok_or(Problem::Strange("its answer has no header"))?;
        self.cluster.recognise(header.cluster_id)
    }

    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Problem>
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

impl From<Operation> for RequestOp {
    fn from(operation: Operation) -> Self {
        Self {
            operation: Some(operation),
        }
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

/// Major and minor version of a text such as `3.5.0-rc.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for good in ["3.4.0", "3.4.23", "3.5.0-rc.1", "3.10.1", "4.0.0"] {
            assert!(parse_version(good).unwrap() >= OLDEST, "{good}");
        }
        assert!(parse_version("3.3.27").unwrap() < OLDEST);
        for bad in ["", "3", "x.y", "v3.4.1"] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }
}
