//! The life of a process: start, serve, drain, stop.

use std::{fmt, io, sync::Arc};

use actix_web::http::header::HeaderValue;
use futures_util::future;
use prometheus_client::metrics::info::Info;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::spawn_local,
    time::sleep,
};
use tracing::{error, info, warn};

use crate::{
    access_log::AccessLog,
    admin::{self, ProcessCollector},
    health::Health,
    http::{Listener, Shared, serve},
    listener::bind,
    logs,
    metrics::{Counter, RequestMetrics},
    program::Program,
    service::{Context, Fatal, Service},
    settings::{Common, Switch},
};

/// Why a process could not start, or could not go on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves until a signal says stop, or something says that it cannot go on.
pub(crate) async fn live(
    program: Program,
    common: Common,
    build: impl AsyncFnOnce(Context) -> Result<Service, Error>,
) -> Result<(), Error> {
    // Before anything else: a signal during the start must not be lost.
    let mut signals = Signals::listen()?;
    let public = bind(&common.host, common.port, "PORT")?;
    let private = bind(&common.host, common.admin_port, "ADMIN_PORT")?;
    let (fatal, mut failure) = mpsc::unbounded_channel();
    let context = Context {
        common: common.clone(),
        fatal: Fatal(fatal.clone()),
    };
    let mut service = build(context).await?;

    let health = Health::default();
    for (name, _) in &service.checks {
        health.expect(name);
    }
    let instance = instance();
    let access_log = match common.access_log {
        Switch::On => {
            let format = logs::format(&common, &io::stdout());
            Some(AccessLog::start(
                format,
                program.name,
                instance.as_str().into(),
            )?)
        }
        Switch::Off => None,
    };
    let metrics = RequestMetrics::default();
    let registry = &mut service.registry;
    registry.register_collector(Box::new(metrics.clone()));
    registry.register_collector(Box::new(ProcessCollector::new()));
    let build = Info::new(vec![("name", program.name), ("version", program.version)]);
    registry.register("build", "What is running", build);
    if let Some(log) = &access_log {
        registry.register(
            "access_log_dropped_lines",
            "Lines dropped because standard output was not read",
            Counter::new(log.dropped()),
        );
    }
    let registry = Arc::new(service.registry);

    let shared = Shared {
        server: header(&format!("{}/{}", program.name, program.version)),
        served_by: header(&instance),
        health: health.clone(),
        metrics: None,
        access_log: None,
        request_timeout: common.request_timeout(),
        routes: service.paths.into(),
    };
    let addresses = [
        ("admin", private.local_addr()?),
        ("public", public.local_addr()?),
    ];
    let admin_health = health.clone();
    let (admin_server, admin_handle) = serve(Listener {
        name: "admin",
        socket: private,
        workers: 1,
        shutdown_timeout: 1,
        routes: Arc::new(move |config| admin::routes(config, &admin_health, &registry)),
        shared: shared.clone(),
    })?;
    let admin_server = spawn_local(admin_server);
    let (public_server, public_handle) = serve(Listener {
        name: "public",
        socket: public,
        workers: common.worker_threads(),
        shutdown_timeout: common.shutdown_timeout_seconds.into(),
        routes: service.routes,
        shared: Shared {
            metrics: Some(metrics),
            access_log: access_log.as_ref().map(AccessLog::template),
            ..shared
        },
    })?;
    let public_server = spawn_local(public_server);
    health.started();
    for (listener, address) in addresses {
        info!(service = program.name, listener, %address, "listening");
    }
    let watches = service
        .checks
        .into_iter()
        .map(|(name, check)| spawn_local(health.clone().watch(name, check)))
        .collect::<Vec<_>>();

    let outcome = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
            health.drain();
            spawn_local(exit_at_once_on(signals));
            sleep(common.drain()).await;
            Ok(())
        }
        reason = failure.recv() => {
            let reason = reason.unwrap_or_default();
            error!(reason, "cannot go on; stopping");
            health.drain();
            Err(reason.into())
        }
    };

    public_handle.stop(true).await;
    for watch in watches {
        watch.abort();
    }
    admin_handle.stop(true).await;
    let ended = future::join(public_server, admin_server).await;
    for server in [ended.0, ended.1] {
        server??;
    }
    if let Some(log) = access_log {
        log.finish();
    }
    info!("stopped");
    outcome
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

/// The signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A second signal means: now.
async fn exit_at_once_on(mut signals: Signals) {
    let signal = signals.next().await;
    warn!(signal, "second signal; exiting at once");
    std::process::exit(1);
}

/// Something that went wrong, in one line with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !line.contains(&words) {
            line.push_str(": ");
            line.push_str(&words);
        }
        next = cause.source();
    }
    line
}
