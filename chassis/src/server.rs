//! A service while it serves: its two listeners and what stands behind them.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use actix_http::{HttpService, KeepAlive};
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt as _, apply, fn_service, map_config};
use actix_web::{App, dev::AppConfig, http::header::HeaderValue, web::ServiceConfig};
use prometheus_client::metrics::info::Info;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::timeout,
};
use tracing::info;

use crate::{
    access_log::AccessLog,
    admin::{self, ProcessCollector},
    connection::{Connection, Connections},
    health::Health,
    listener::{ADMIN_CONNECTIONS, bind, connections_per_worker, refuse_more},
    logs,
    metrics::RequestMetrics,
    middleware::{Observe, Shared, Worker},
    problem,
    run::{BoxError, Program},
    service::Service,
    settings::{Common, Switch},
};

/// The ports, bound before anything else is done: a port in use must stop the start.
pub(crate) struct Sockets {
    public: TcpListener,
    admin: TcpListener,
}

impl Sockets {
    pub(crate) fn bind(common: &Common) -> Result<Self, BoxError> {
        Ok(Self {
            public: bind(&common.host, common.port, "PORT")?,
            admin: bind(&common.host, common.admin_port, "ADMIN_PORT")?,
        })
    }
}

/// A service that serves.
pub(crate) struct Serving {
    public: Running,
    admin: Running,
    watches: Vec<JoinHandle<()>>,
    health: Health,
    access_log: Option<AccessLog>,
}

impl Serving {
    /// Starts both listeners and the checks of the dependencies.
    pub(crate) fn start(
        program: Program,
        common: &Common,
        sockets: Sockets,
        service: Service,
    ) -> Result<Self, BoxError> {
        let instance = instance();
        let access_log = match common.access_log {
            Switch::On => {
                let format = logs::format(common, &io::stdout());
                let instance = instance.as_str().into();
                Some(AccessLog::start(format, program.name, instance)?)
            }
            Switch::Off => None,
        };
        let mut service = service.counter(
            "log_dropped_lines",
            "Lines dropped because standard error was not read",
            logs::dropped,
        );
        if let Some(log) = &access_log {
            service = service.counter(
                "access_log_dropped_lines",
                "Lines dropped because standard output was not read",
                log.dropped(),
            );
        }
        let Service {
            routes,
            path,
            dependencies,
            mut registry,
        } = service;
        let metrics = RequestMetrics::default();
        registry.register_collector(Box::new(metrics.clone()));
        registry.register_collector(Box::new(ProcessCollector::new()));
        let build = Info::new(vec![("name", program.name), ("version", program.version)]);
        registry.register("build", "What is running", build);
        let registry = Arc::new(registry);

        let health = Health::default();
        for dependency in &dependencies {
            health.expect(dependency.name);
        }
        let shared = Shared {
            server: header(&format!("{}/{}", program.name, program.version)),
            served_by: header(&instance),
            health: health.clone(),
            metrics: None,
            access_log: None,
            request_timeout: common.request_timeout(),
            route: path,
        };
        let workers = common.worker_threads();
        let (public_address, admin_address) =
            (sockets.public.local_addr()?, sockets.admin.local_addr()?);
        let asked = health.clone();
        let admin = Running::start(Listener {
            name: "admin",
            socket: sockets.admin,
            workers: 1,
            connections: ADMIN_CONNECTIONS,
            keep_alive: common.keep_alive(),
            shutdown_timeout: 1,
            routes: Arc::new(move |config| admin::routes(config, &asked, &registry)),
            shared: shared.clone(),
        })?;
        let public = Running::start(Listener {
            name: "public",
            socket: sockets.public,
            workers,
            connections: connections_per_worker(workers),
            keep_alive: common.keep_alive(),
            shutdown_timeout: common.shutdown_timeout_seconds.into(),
            routes: {
                let health = health.clone();
                Arc::new(move |config| {
                    config.app_data(health.clone());
                    routes(config);
                })
            },
            shared: Shared {
                metrics: Some(metrics),
                access_log: access_log.as_ref().map(AccessLog::template),
                ..shared
            },
        })?;
        health.started();
        let targets = dependencies.iter().map(|dependency| &*dependency.target);
        let targets: Vec<_> = targets.collect();
        info!(
            name = program.name,
            version = program.version,
            revision = program.revision(),
            workers,
            public = %public_address,
            admin = %admin_address,
            backend = (!targets.is_empty()).then(|| targets.join(", ")),
            "listening"
        );
        let watch = |dependency| spawn_local(health.clone().watch(dependency));
        Ok(Self {
            public,
            admin,
            watches: dependencies.into_iter().map(watch).collect(),
            health,
            access_log,
        })
    }

    /// From now on it is not ready, and asks its clients to close their connections.
    pub(crate) fn drain(&self) {
        self.health.drain();
    }

    /// Stops accepting and finishes what is in flight. The admin port closes last, so that
    /// probes are answered until then.
    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        // What is idle there need not be waited for later.
        self.admin.stopping.send_replace(());
        self.public.stop().await?;
        for watch in self.watches {
            watch.abort();
        }
        self.admin.stop().await?;
        if let Some(log) = self.access_log {
            log.finish();
        }
        Ok(())
    }
}

/// A listener that runs.
struct Running {
    server: JoinHandle<<Server as Future>::Output>,
    handle: ServerHandle,
    socket: TcpListener,
    /// Says that idle connections are to be closed. Each worker has a receiver until it has heard
    /// that.
    stopping: Arc<watch::Sender<()>>,
}

impl Running {
    /// Starts the listener's threads.
    fn start(listener: Listener) -> io::Result<Self> {
        let Listener {
            name,
            socket,
            workers,
            connections,
            keep_alive,
            shutdown_timeout,
            routes,
            shared,
        } = listener;
        let kept = socket.try_clone()?;
        let stopping = Arc::<watch::Sender<()>>::default();
        let told = Arc::clone(&stopping);
        let server = Server::build()
            .workers(workers)
            .max_concurrent_connections(connections)
            .shutdown_timeout(shutdown_timeout)
            .disable_signals()
            .listen(name, socket, move || {
                let worker = Worker::new(shared.clone());
                let connections = Connections::new(connections, keep_alive);
                spawn_local(Rc::clone(&connections).close_at(told.subscribe()));
                let app = App::new()
                    .configure(|config| routes(config))
                    .default_service(problem::not_found());
                let observed = apply(
                    Observe(Rc::clone(&worker)),
                    map_config(app, |()| AppConfig::default()),
                );
                let http = HttpService::build()
                    // `Connection` watches over requests and over the time between them instead.
                    .keep_alive(KeepAlive::Os)
                    .client_request_timeout(Duration::ZERO)
                    .client_disconnect_timeout(DISCONNECT)
                    .h1(observed);
                fn_service(move |stream: TcpStream| {
                    let remote = stream.peer_addr().ok();
                    let connection = Connection::new(stream, Rc::clone(&worker), &connections);
                    async move { Ok((connection, remote)) }
                })
                .and_then(http)
            })?
            .run();
        Ok(Self {
            handle: server.handle(),
            server: spawn_local(server),
            socket: kept,
            stopping,
        })
    }

    async fn stop(self) -> Result<(), BoxError> {
        // The server would reset connections that the kernel or its own thread has accepted and
        // no worker has taken over yet.
        let taken_over = async {
            refuse_more(&self.socket).await;
            self.stopping.send_replace(());
            self.stopping.closed().await;
        };
        // Where all workers have as many connections as they may, this takes for ever.
        let _ = timeout(Duration::from_secs(1), taken_over).await;
        self.stopping.send_replace(());
        drop(self.socket);
        self.handle.stop(true).await;
        Ok(self.server.await??)
    }
}

/// The name of this instance: the host's, which in Kubernetes is the pod's.
fn instance() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn header(text: &str) -> HeaderValue {
    // A host name is plain ASCII; anything else would not be worth failing for.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// How long a client may take to close after it was asked to.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Registers a service's resources; called once on every worker, on the worker's own thread.
pub(crate) type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// What is needed to start a listener.
struct Listener {
    name: &'static str,
    socket: TcpListener,
    workers: usize,
    /// Connections that each worker may have; then no more are accepted.
    connections: usize,
    /// How long an idle connection is kept.
    keep_alive: Duration,
    /// Seconds that requests in flight get to finish at the stop.
    shutdown_timeout: u64,
    routes: Routes,
    shared: Shared,
}
