//! A single etcd with flags of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{launch::Launch, port::Port, process::Process, wait};
use tempfile::TempDir;

/// A running etcd with one member.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    url: String,
    launch: Launch,
    /// What the cluster consists of, as its flags say.
    cluster: [String; 4],
    client: Port,
    _peer: Port,
    folder: TempDir,
}

/// How long one command may take. It is far more than it needs.
const LIMIT: Duration = Duration::from_secs(20);

impl Server {
    /// Starts it with `flags` besides those for its place; `scheme` is that of its clients.
    #[track_caller]
    pub(crate) fn start(scheme: &str, flags: &[&str]) -> Self {
        let (client, peer) = (Port::free(), Port::free());
        let folder = TempDir::new().expect("a folder for the data");
        let url = format!("{scheme}://{}", client.addr());
        let peer_url = format!("http://{}", peer.addr());
        let cluster = [
            "--initial-advertise-peer-urls".to_owned(),
            peer_url.clone(),
            "--initial-cluster".to_owned(),
            format!("default={peer_url}"),
        ];
        let mut launch = Launch::new("etcd")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url])
            .args(&cluster)
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(flags);
        if cfg!(target_arch = "aarch64") {
            launch = launch.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        let server = Self {
            process: Process::start(&launch),
            url,
            launch,
            cluster,
            client,
            _peer: peer,
            folder,
        };
        server.wait();
        server
    }

    /// Saves all that it holds.
    #[track_caller]
    pub(crate) fn snapshot(&self) -> PathBuf {
        let snapshot = self.folder().join("snapshot.db");
        let path = snapshot.to_str().expect("a path of ours");
        self.ctl(&["snapshot", "save", path]).expect("a snapshot");
        snapshot
    }

    /// Starts it again on what it held at the snapshot, with the same URLs and the same token.
    #[track_caller]
    pub(crate) fn restore(&mut self, snapshot: &Path) {
        self.process.kill9();
        let data = self.folder().join("data");
        std::fs::remove_dir_all(&data).expect("a folder of ours");
        let restore = Launch::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg("--data-dir")
            .arg(data)
            .args(&self.cluster);
        restore.run_to_end(LIMIT).success().expect("a restore");
        self.process = Process::start(&self.launch);
        self.wait();
    }

    #[track_caller]
    fn wait(&self) {
        wait::until("etcd to answer", Duration::from_secs(30), || {
            self.ctl(&["get", "anything"]).ok()
        });
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
            .args(["--endpoints", &self.url])
            .args(["--insecure-transport=false", "--insecure-skip-tls-verify"])
            .args(command);
        launch.try_run_to_end(LIMIT)?.success()
    }
}
