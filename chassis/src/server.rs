//! A service while it serves: its two listeners and what stands behind them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use actix_http::{HttpService, KeepAlive};
use actix_service::{Service as _, ServiceFactory as _, apply, map_config};
use actix_web::{App, dev::AppConfig, web::ServiceConfig};
use prometheus_client::metrics::info::Info;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::watch,
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    access_log::AccessLog,
    admin,
    connection::Connection,
    connections::Connections,
    faults::Faults,
    health::Health,
    listener::{ADMIN_CONNECTIONS, bind, connections_per_worker, refuse_more},
    logs,
    metrics::RequestMetrics,
    middleware::{Observe, Shared, Worker},
    problem,
    process::{ProcessCollector, instance},
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
    stop_public: watch::Sender<Stop>,
    stop_admin: watch::Sender<Stop>,
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
        faults: Faults,
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
            description,
        } = service;
        let health = Health::default();
        for dependency in &dependencies {
            health.expect(dependency.name);
        }
        let metrics = RequestMetrics::default();
        registry.register_collector(Box::new(metrics.clone()));
        registry.register_collector(Box::new(health.clone()));
        registry.register_collector(Box::new(ProcessCollector::new()));
        let build = Info::new(vec![("name", program.name), ("version", program.version)]);
        registry.register("build", "What is running", build);
        let registry = Arc::new(registry);

        let shared = Shared {
            fields: fields(program, &instance).into(),
            health: health.clone(),
            metrics: None,
            access_log: None,
            traced: false,
            request_timeout: common.request_timeout(),
            route: path,
            faults: Faults::default(),
        };
        let workers = common.worker_threads();
        let (public_address, admin_address) =
            (sockets.public.local_addr()?, sockets.admin.local_addr()?);
        let (asked, on_demand) = (health.clone(), faults.clone());
        let admin = Port {
            connections: ADMIN_CONNECTIONS,
            keep_alive: common.keep_alive(),
            shutdown_timeout: Duration::from_secs(1),
            routes: Arc::new(move |config| {
                admin::routes(config, &asked, &on_demand, &registry, description);
            }),
            shared: shared.clone(),
        };
        let public = Port {
            connections: connections_per_worker(workers),
            keep_alive: common.keep_alive(),
            shutdown_timeout: Duration::from_secs(common.shutdown_timeout_seconds.into()),
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
                traced: common.otel_exporter_otlp_endpoint.is_some(),
                faults,
                ..shared
            },
        };
        let (stop_admin, mut admin_stops) = watch::channel(Stop::No);
        // Beside the signals and the checks, so that it answers however busy the workers are.
        let admin_socket = tokio::net::TcpListener::from_std(sockets.admin)?;
        spawn_local(async move { admin.serve(admin_socket, &mut admin_stops).await });
        let stop_public = watch::Sender::new(Stop::No);
        public.start(workers, &sockets.public, &stop_public)?;
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
            stop_public,
            stop_admin,
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
    pub(crate) async fn stop(self) {
        // What is idle there need not be waited for later.
        self.stop_admin.send_replace(Stop::Idle);
        self.stop_public.send_replace(Stop::All);
        self.stop_public.closed().await;
        for watch in self.watches {
            watch.abort();
        }
        self.stop_admin.send_replace(Stop::All);
        self.stop_admin.closed().await;
        if let Some(log) = self.access_log {
            log.finish();
        }
    }
}

/// How far a port has been closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// It serves.
    No,
    /// It serves, but idle connections are closed.
    Idle,
    /// It accepts no more connections, and ends with the last one.
    All,
}

/// What a port serves, and within which limits.
#[derive(Clone)]
struct Port {
    /// Connections that each worker may have; then no more are accepted.
    connections: usize,
    /// How long an idle connection is kept.
    keep_alive: Duration,
    /// How long requests in flight get to finish at the stop.
    shutdown_timeout: Duration,
    routes: Routes,
    shared: Shared,
}

impl Port {
    /// Starts a thread for each worker. Every one accepts for itself, so that a connection costs
    /// no change of threads. All have ended when `stop` has no receiver left.
    fn start(
        &self,
        workers: usize,
        socket: &TcpListener,
        stop: &watch::Sender<Stop>,
    ) -> io::Result<()> {
        for number in 1..=workers {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let socket = {
                let _context = runtime.enter();
                tokio::net::TcpListener::from_std(socket.try_clone()?)?
            };
            let (port, mut stopping) = (self.clone(), stop.subscribe());
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let serving = port.serve(socket, &mut stopping);
                    LocalSet::new().block_on(&runtime, serving);
                    // What is in flight still is dropped before the receiver is.
                    drop(runtime);
                })?;
        }
        Ok(())
    }

    /// Serves as one worker, on a local runtime.
    async fn serve(self, socket: tokio::net::TcpListener, stop: &mut watch::Receiver<Stop>) {
        let worker = Worker::new(self.shared);
        let connections = Connections::new(self.connections, self.keep_alive);
        let app = App::new()
            .configure(|config| (self.routes)(config))
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
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.turn());
            })
            .h1(observed)
            .new_service(());
        let Ok(http) = http.await else {
            unreachable!("nothing here can fail to start")
        };
        let socket = Rc::new(socket);
        let accepting = spawn_local({
            let (socket, connections) = (Rc::clone(&socket), Rc::clone(&connections));
            async move {
                loop {
                    let (stream, remote) = accept(&socket, &connections).await;
                    let connection = Connection::new(stream, Rc::clone(&worker), &connections);
                    spawn_local(http.call((connection, Some(remote))));
                    // The others, and this connection's first request, come before the next one.
                    yield_now().await;
                }
            }
        });
        // It fails without a sender: then the process is ending, and this with it.
        let _ = stop.wait_for(|&stop| stop >= Stop::Idle).await;
        spawn_local(Rc::clone(&connections).close_idle());
        let _ = stop.wait_for(|&stop| stop == Stop::All).await;
        // Where there are as many connections as there may be, this takes for ever.
        let _ = timeout(Duration::from_secs(1), refuse_more(&socket)).await;
        accepting.abort();
        drop(socket);
        let _ = timeout(self.shutdown_timeout, connections.closed()).await;
    }
}

/// The next connection, as soon as there is room for it.
async fn accept(
    socket: &tokio::net::TcpListener,
    connections: &Connections,
) -> (TcpStream, SocketAddr) {
    /// There are too many open files, or too little memory: some time may help.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        connections.room().await;
        match socket.accept().await {
            Ok(accepted) => return accepted,
            // The client has left already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                sleep(PAUSE).await;
            }
        }
    }
}

/// The header fields of every answer: who answered, and that a client must neither keep it nor
/// take it for something else than its media type says.
fn fields(Program { name, version, .. }: Program, instance: &str) -> String {
    // A host name is plain ASCII; anything else would not be worth failing for.
    let instance = match instance.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => instance,
        false => "unknown",
    };
    format!(
        "server: {name}/{version}\r\nx-served-by: {instance}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n"
    )
}

/// How long a client may take to close after it was asked to.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Registers a service's resources; called once on every worker, on the worker's own thread.
pub(crate) type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;
