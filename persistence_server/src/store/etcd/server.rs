//! One member as this process knows it.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chassis::settings::BadValue;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tower::service_fn;

use super::{
    ServerError,
    cluster::{PATIENCE_WITH_ONE, bad_ca_file},
    problem::Problem,
};

/// A member.
#[derive(Debug)]
pub(super) struct Server {
    url: String,
    endpoint: Endpoint,
    /// When some handle last met a problem there.
    failed: Mutex<Option<Instant>>,
    /// When its durability was last looked at.
    examined: Mutex<Option<Instant>>,
}

impl Server {
    /// A member at `url`, with these settings if it is to be reached over TLS.
    pub(super) fn new(url: &Uri, tls: Option<&ClientTlsConfig>) -> Result<Self, BadValue> {
        let endpoint = Endpoint::from(url.clone()).connect_timeout(PATIENCE_WITH_ONE);
        let secure = url.scheme_str() == Some("https");
        let endpoint = match tls.filter(|_| secure) {
            None => endpoint,
            Some(tls) => endpoint
                .tls_config(tls.clone())
                .map_err(|error| bad_ca_file(&Problem::broken(&error).to_string()))?,
        };
        Ok(Self {
            url: url.to_string().trim_end_matches('/').to_owned(),
            endpoint,
            failed: Mutex::default(),
            examined: Mutex::default(),
        })
    }

    /// Takes note of a failure, so that other handles do not wait for the same one.
    pub(super) fn fail(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether some handle has met a problem there after `since`.
    pub(super) fn has_failed_since(&self, since: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| failed > since)
    }

    /// Takes note that its durability was looked at, beginning then.
    pub(super) fn examined(&self, begin: Instant) {
        *self.examined.lock().unwrap_or_else(PoisonError::into_inner) = Some(begin);
    }

    /// Whether its durability was looked at since it last failed.
    pub(super) fn is_examined(&self) -> bool {
        let examined = *self.examined.lock().unwrap_or_else(PoisonError::into_inner);
        examined.is_some_and(|examined| !self.has_failed_since(examined))
    }

    /// Its address.
    pub(super) fn uri(&self) -> &Uri {
        self.endpoint.uri()
    }

    /// Whether some handle has met a problem there in this time until now.
    pub(super) fn has_failed_within(&self, time: Duration) -> bool {
        Instant::now()
            .checked_sub(time)
            .is_some_and(|since| self.has_failed_since(since))
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let connector = service_fn(|url: Uri| async move { connect(&url).await.map(TokioIo::new) });
        self.endpoint.connect_with_connector(connector).await
    }

    /// The problem, with where it is.
    pub(super) fn error(&self, problem: Problem) -> ServerError {
        ServerError {
            url: self.url.clone(),
            problem,
        }
    }
}

/// Opens a TCP connection to the host and port of a URL.
pub(super) async fn connect(url: &Uri) -> io::Result<TcpStream> {
    // An IPv6 address has brackets in a URL.
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().ok_or(io::ErrorKind::InvalidInput)?;
    chassis::connect(host, port).await
}
