//! etcd at its fastest: a number is the revision that one Put of a key leads to. Revisions are
//! unique and in order, and a Put is the cheapest step that makes a new one.

use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::{generator::Seen, spread::quantile};

/// What the clients share; etcd's own benchmark has fewer connections than clients too.
const CONNECTIONS: usize = 16;

/// The messages of etcd's API, as far as they are needed.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// One Put after another from each of these clients.
///
/// # Errors
///
/// If one fails, or a revision comes twice.
pub(crate) fn puts(endpoint: &str, clients: u32, seconds: f64) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let puts = runtime.map_err(|error| error.to_string())?.block_on(all(
        endpoint,
        clients,
        Duration::from_secs_f64(seconds),
    ));
    let (puts, elapsed) = puts.map_err(|error| format!("{endpoint}: {error}"))?;
    let (mut revisions, mut times): (Vec<i64>, Vec<f64>) = puts.into_iter().unzip();
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    if revisions.len() < count {
        return Err(format!("{endpoint}: a revision came twice"));
    }
    times.sort_by(f64::total_cmp);
    Ok(Seen {
        requests: count as f64,
        seconds: elapsed.as_secs_f64(),
        p50_us: quantile(&times, 0.5),
        p99_us: quantile(&times, 0.99),
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The revision of each Put and the microseconds that it took; and how long all that took.
async fn all(
    endpoint: &str,
    clients: u32,
    limit: Duration,
) -> Result<(Vec<(i64, f64)>, Duration), BoxError> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Endpoint::new(endpoint.to_owned())?.connect().await?);
    }
    let begin = Instant::now();
    let clients: Vec<_> = connections
        .iter()
        .cycle()
        .take(usize::try_from(clients)?)
        .map(|channel| tokio::spawn(client(Grpc::new(channel.clone()), begin + limit)))
        .collect();
    let mut puts = Vec::new();
    for client in clients {
        puts.extend(client.await??);
    }
    Ok((puts, begin.elapsed()))
}

async fn client(
    mut grpc: Grpc<tonic::transport::Channel>,
    end: Instant,
) -> Result<Vec<(i64, f64)>, BoxError> {
    let mut puts = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        grpc.ready().await?;
        let codec: ProstCodec<PutRequest, PutResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let request = PutRequest {
            key: b"number".to_vec(),
        };
        let answer = grpc.unary(Request::new(request), path, codec).await?;
        let header = answer.into_inner().header.ok_or("no revision")?;
        puts.push((header.revision, begin.elapsed().as_secs_f64() * 1e6));
    }
    Ok(puts)
}
