//! What is measured: servers of ours and of others, each on its core.

use std::{fs, net::SocketAddr, time::Duration};

use e2e::{
    http,
    launch::Launch,
    port::Port,
    process::{self, Process},
    service::{Service, binary_path},
    wait,
};
use tempfile::TempDir;

use crate::generator::{Cores, on, taskset};

/// The core of the server that is measured, and the one of the generator and of back ends.
pub(crate) const SERVER: Cores = Some("0");
pub(crate) const OTHERS: Cores = Some("1");
/// Those of a server with two workers.
pub(crate) const BOTH: Cores = Some("0,1");

const SOON: Duration = Duration::from_secs(20);

/// A server of somebody else, with the folder that it needs.
pub(crate) struct Peer {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Peer {
    /// Starts what `launch` makes of a free port and an empty folder.
    fn start(cores: Cores, launch: impl FnOnce(u16, &TempDir) -> Launch) -> Self {
        let port = Port::free();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = Process::start(&on(launch(port.number(), &folder), cores));
        wait::until("a server to listen", SOON, || {
            std::net::TcpStream::connect(port.addr()).ok()
        });
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

pub(crate) fn floor() -> Peer {
    Peer::start(SERVER, |port, _| {
        Launch::new(binary_path("floor")).arg(port.to_string())
    })
}

pub(crate) fn actix() -> Peer {
    Peer::start(SERVER, |port, _| {
        Launch::new(binary_path("actix")).arg(port.to_string())
    })
}

pub(crate) fn naive(upstream: SocketAddr) -> Peer {
    Peer::start(SERVER, |port, _| {
        let naive = Launch::new(binary_path("naive")).arg(port.to_string());
        naive.arg(format!("http://{upstream}/?count=1"))
    })
}

/// nginx with one worker and without an access log; `location` says what it does. Without a master
/// process, no worker outlives a master that was killed.
fn nginx(location: &str, upstream: &str) -> Peer {
    Peer::start(SERVER, |port, folder| {
        let path = folder.path().display();
        let config = format!(
            "daemon off; pid {path}/pid; error_log stderr crit; master_process off;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n access_log off; keepalive_requests 1000000000; client_body_temp_path {path};\n\
             proxy_temp_path {path}/p; fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u;\n\
             scgi_temp_path {path}/s; default_type text/plain;\n{upstream}\n\
             server {{ listen 127.0.0.1:{port} reuseport; location / {{ {location} }} }}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a file in a folder of ours");
        Launch::new("nginx").arg("-c").arg(file)
    })
}

pub(crate) fn nginx_return() -> Peer {
    nginx("return 200 \"Hello, World!\\n\";", "")
}

pub(crate) fn nginx_proxy(to: SocketAddr) -> Peer {
    nginx(
        "proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection \"\";",
        &format!("upstream back {{ server {to}; keepalive 512; keepalive_requests 1000000000; }}"),
    )
}

/// haproxy with one thread, without a log.
pub(crate) fn haproxy(to: SocketAddr) -> Peer {
    Peer::start(SERVER, |port, folder| {
        let config = format!(
            "global\n nbthread 1\n maxconn 8192\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             http-reuse always\n\
             listen proxy\n bind 127.0.0.1:{port}\n server back {to}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).expect("a file in a folder of ours");
        Launch::new("haproxy").arg("-db").arg("-f").arg(file)
    })
}

pub(crate) fn webdis(redis: u16) -> Peer {
    Peer::start(None, |port, folder| {
        let config = serde_json::json!({
            "redis_host": "127.0.0.1", "redis_port": redis, "redis_auth": null,
            "http_host": "127.0.0.1", "http_port": port, "threads": 5, "pool_size": 20,
            "daemonize": false, "websockets": false, "database": 0, "verbosity": 0,
            "acl": [], "logfile": folder.path().join("log"),
        });
        let file = folder.path().join("webdis.json");
        fs::write(&file, config.to_string()).expect("a file in a folder of ours");
        Launch::new("webdis").arg(file)
    })
}

/// A service of ours with a worker on each of its cores, ready, and without an access log, as
/// nginx is.
pub(crate) fn service(name: &str, cores: Cores, settings: &[(&str, String)]) -> Service {
    let mut service = Service::builder(name).env("ACCESS_LOG", "off");
    if let Some(cores) = cores {
        let workers = cores.split(',').count().to_string();
        service = service.env("WORKERS", workers).under(taskset(cores));
    }
    for (name, value) in settings {
        service = service.env(name, value);
    }
    let service = service.start();
    wait::until("a service to become ready", SOON, || {
        let answer = http::get(service.admin_addr(), "/readyz").ok()?;
        (answer.status == 200).then_some(())
    });
    service
}

/// `persistence_server` on a store, with all cores.
pub(crate) fn ready_on(store: &str, settings: &[(&str, String)]) -> Service {
    let store = ("STORE", store.to_owned());
    service("persistence_server", None, &[&[store], settings].concat())
}

/// The time that processes, with their children, have spent.
pub(crate) fn cpu(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| process::family_cpu_time(*pid)).sum()
}

/// A folder for data on the disk of this repository: a temporary folder may be in memory.
pub(crate) fn disk_folder() -> TempDir {
    let program = binary_path("bench");
    let folder = program.parent().expect("a program is in a folder");
    TempDir::new_in(folder).expect("a folder next to the programs")
}
