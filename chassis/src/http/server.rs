//! Starting a listener.

use std::{net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use actix_http::{HttpService, KeepAlive};
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt as _, apply, fn_service, map_config};
use actix_web::{App, dev::AppConfig, web::ServiceConfig};
use tokio::{net::TcpStream, sync::watch, task::spawn_local};

use super::{
    connection::Connection,
    connections::Connections,
    observe::Observe,
    worker::{Shared, Worker},
};
use crate::problem;

/// How long a client may take to close after it was asked to.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Registers a service's resources; called once on every worker, on the worker's own thread.
pub(crate) type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// What is needed to start a listener.
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) socket: TcpListener,
    pub(crate) workers: usize,
    /// Connections that each worker may have; then no more are accepted.
    pub(crate) connections: usize,
    /// How long an idle connection is kept.
    pub(crate) keep_alive: Duration,
    /// Seconds that requests in flight get to finish at the stop.
    pub(crate) shutdown_timeout: u64,
    /// Says that idle connections are to be closed. Each worker has a receiver until it has heard
    /// that.
    pub(crate) stopping: Arc<watch::Sender<()>>,
    pub(crate) routes: Routes,
    pub(crate) shared: Shared,
}

/// Starts the listener's threads. The server runs while it is polled.
pub(crate) fn serve(listener: Listener) -> std::io::Result<(Server, ServerHandle)> {
    let Listener {
        name,
        socket,
        workers,
        connections,
        keep_alive,
        shutdown_timeout,
        stopping,
        routes,
        shared,
    } = listener;
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections)
        .shutdown_timeout(shutdown_timeout)
        .disable_signals()
        .listen(name, socket, move || {
            let worker = Worker::new(shared.clone());
            let connections = Connections::new(connections, keep_alive);
            spawn_local(Rc::clone(&connections).close_at(stopping.subscribe()));
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
    let handle = server.handle();
    Ok((server, handle))
}
