//! A single etcd with flags of its own.

use std::{net::SocketAddr, path::Path, time::Duration};

use e2e::{launch::Launch, port::Port, process::Process, wait};
use tempfile::TempDir;

/// A running etcd with one member.
#[derive(Debug)]
pub(crate) struct Server {
    _process: Process,
    client: Port,
    _peer: Port,
    folder: TempDir,
}

impl Server {
    /// Starts it with `flags` besides those for its place; `scheme` is that of its clients.
    #[track_caller]
    pub(crate) fn start(scheme: &str, flags: &[&str]) -> Self {
        let (client, peer) = (Port::free(), Port::free());
        let folder = TempDir::new().expect("a folder for the data");
        let url = format!("{scheme}://{}", client.addr());
        let peer_url = format!("http://{}", peer.addr());
        let mut launch = Launch::new("etcd")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(flags);
        if cfg!(target_arch = "aarch64") {
            launch = launch.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        let server = Self {
            _process: Process::start(&launch),
            client,
            _peer: peer,
            folder,
        };
        wait::until("etcd to listen", Duration::from_secs(30), || {
            std::net::TcpStream::connect(server.addr()).ok()
        });
        server
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    /// A folder that is deleted with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs one command through `etcdctl`.
    ///
    /// # Errors
    ///
    /// What it says when the command fails.
    pub(crate) fn ctl(&self, command: &[&str]) -> Result<String, String> {
        let launch = Launch::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("http://{}", self.addr())])
            .args(command);
        launch.try_run_to_end(Duration::from_secs(20))?.success()
    }
}
