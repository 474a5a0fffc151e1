//! etcd, from the Debian packages `etcd-server` and `etcd-client`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::server::{READY_LIMIT, Server, TOOL_LIMIT};
use crate::launch::Launch;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::skip::{Missing, installed};
use crate::wait;

/// A running etcd cluster; dropping it kills its members and deletes their data.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    root_password: Option<String>,
    _folder: TempDir,
}

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many members it has: 1, or 3 to survive the loss of one.
    pub members: usize,
    /// With a password, every client must authenticate; the user `root` has it.
    pub root_password: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            members: 1,
            root_password: None,
        }
    }
}

#[derive(Debug)]
struct Member {
    server: Server,
    launch: Launch,
    client: Port,
    /// Kept for as long as the member may be started again.
    _peer: Port,
}

impl Etcd {
    /// Whether the server is installed.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn available() -> Result<(), Missing> {
        for (program, package) in [("etcd", "etcd-server"), ("etcdctl", "etcd-client")] {
            installed(program, package)?;
        }
        Ok(())
    }

    /// Starts one member with the default options.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a cluster and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start_with(options: Options) -> Self {
        let folder = TempDir::new().expect("a folder for the data");
        let ports = || (Port::free(), Port::free());
        let ports: Vec<_> = (0..options.members).map(|_| ports()).collect();
        let cluster = ports.iter().enumerate();
        let cluster: Vec<String> = cluster
            .map(|(index, (_, peer))| format!("{}={}", name(index), url(&peer.addr())))
            .collect();
        let cluster = cluster.join(",");

        let mut members = Vec::new();
        for (index, (client, peer)) in ports.into_iter().enumerate() {
            let launch = launch(index, &client, &peer, &cluster, folder.path());
            members.push(Member {
                server: Server::start(&launch, Signal::TERM),
                launch,
                client,
                _peer: peer,
            });
        }
        let mut etcd = Self {
            members,
            root_password: None,
            _folder: folder,
        };
        etcd.wait_ready();
        if let Some(password) = options.root_password {
            etcd.require_password(password);
        }
        etcd
    }

    /// Where the members listen for clients.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let members = self.members.iter();
        members.map(|member| member.client.addr()).collect()
    }

    /// The members' client URLs, separated by commas.
    pub fn endpoints(&self) -> String {
        let urls: Vec<String> = self.addrs().iter().map(url).collect();
        urls.join(",")
    }

    /// A member's process, for its id and its log.
    pub fn process(&self, member: usize) -> &Process {
        self.members[member].server.process()
    }

    /// Which member says that it leads; waits until one does.
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait::until("etcd to have a leader", READY_LIMIT, || {
            (0..self.members.len()).find(|member| self.leads(*member))
        })
    }

    /// Ends a member with SIGKILL.
    pub fn kill9(&self, member: usize) {
        self.process(member).kill9();
    }

    /// Ends a member in order.
    #[track_caller]
    pub fn stop(&self, member: usize) {
        self.members[member].server.stop();
    }

    /// Suspends a member: connections stay and nothing answers.
    pub fn pause(&self, member: usize) {
        self.process(member).pause();
    }

    /// Lets a member go on after [`Etcd::pause`].
    pub fn resume(&self, member: usize) {
        self.process(member).resume();
    }

    /// Starts a member again on the same ports and data, after killing it if it still runs.
    /// When it answers depends on the others too: see [`Etcd::wait_ready`].
    #[track_caller]
    pub fn restart(&mut self, member: usize) {
        let Member { server, launch, .. } = &mut self.members[member];
        server.restart(launch);
    }

    /// Waits until every member that runs answers a read that needs a majority.
    #[track_caller]
    pub fn wait_ready(&self) {
        for member in &self.members {
            let endpoint = url(&member.client.addr());
            wait::until("etcd to answer", READY_LIMIT, || {
                let ended = !member.server.process().alive();
                let ready = ended || self.ctl_at(&endpoint, &["get", "anything"]).is_ok();
                ready.then_some(())
            });
        }
    }

    /// Runs one command through `etcdctl`, with all members to choose from, and returns what it
    /// prints.
    ///
    /// # Panics
    ///
    /// When the command fails.
    #[track_caller]
    pub fn ctl(&self, command: &[&str]) -> String {
        let answer = self.try_ctl(command);
        answer.unwrap_or_else(|error| panic!("etcdctl {}: {error}", command.join(" ")))
    }

    /// Runs one command through `etcdctl`, with all members to choose from.
    ///
    /// # Errors
    ///
    /// What it says when the command fails.
    pub fn try_ctl(&self, command: &[&str]) -> Result<String, String> {
        self.ctl_at(&self.endpoints(), command)
    }

    fn leads(&self, member: usize) -> bool {
        // A member that has ended is known not to lead, without waiting for it to answer.
        if !self.process(member).alive() {
            return false;
        }
        let endpoint = url(&self.members[member].client.addr());
        let status = self.ctl_at(&endpoint, &["endpoint", "status", "--write-out", "json"]);
        let Ok(status) = serde_json::from_str::<Value>(&status.unwrap_or_default()) else {
            return false;
        };
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    fn require_password(&mut self, password: String) {
        self.ctl(&["user", "add", "root", "--new-user-password", &password]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.ctl(&["auth", "enable"]);
        self.root_password = Some(password);
    }

    fn ctl_at(&self, endpoints: &str, command: &[&str]) -> Result<String, String> {
        let mut launch = Launch::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoints])
            // Short, since whoever waits for the cluster asks again.
            .args(["--dial-timeout", "1s", "--command-timeout", "2s"]);
        if let Some(password) = &self.root_password {
            launch = launch.args(["--user", &format!("root:{password}")]);
        }
        launch.args(command).try_run_to_end(TOOL_LIMIT)?.success()
    }
}

fn name(index: usize) -> String {
    format!("member{index}")
}

fn url(addr: &SocketAddr) -> String {
    format!("http://{addr}")
}

fn launch(index: usize, client: &Port, peer: &Port, cluster: &str, folder: &Path) -> Launch {
    let name = name(index);
    let (client, peer) = (url(&client.addr()), url(&peer.addr()));
    let launch = Launch::new("etcd")
        .arg("--data-dir")
        .arg(folder.join(&name))
        .args(["--name", &name, "--initial-cluster", cluster])
        .args(["--initial-cluster-state", "new"])
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--logger", "zap", "--log-level", "warn"]);
    // On 64-bit Arm, versions before 3.5 start only when told that this is meant.
    match cfg!(target_arch = "aarch64") {
        true => launch.env("ETCD_UNSUPPORTED_ARCH", "arm64"),
        false => launch,
    }
}
