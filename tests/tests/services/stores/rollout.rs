//! Rolling restarts of replicas behind a balancer that follows `/readyz`.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    http,
    launch::Launch,
    port::Port,
    process::{Process, Signal},
    service::{Builder, Service},
    skip,
    soak::{figure, scaled},
    wait,
};
use tempfile::TempDir;

use super::backend::{Backend, Kind};
use crate::{
    proof::{Longest, options_for, proven, under_load},
    started::{SOON, not_ready_because, ready},
};

/// The balancer notices within a tenth of a second, or later on a busy machine.
const DRAIN: Duration = Duration::from_secs(2);

/// The default of `SHUTDOWN_TIMEOUT_SECONDS`.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// Clients that open a connection for each request, beside those that keep theirs.
const ONE_REQUEST_EACH: usize = 4;

#[test]
fn rolling_restarts_behind_a_balancer_lose_no_request() {
    if skip::unless(skip::installed("haproxy", "haproxy")) {
        return;
    }
    let Some(store) = Backend::start(Kind::Redis) else {
        return;
    };
    let persistence = Tier::start(|| store.client());
    let port = persistence.balancer.port.number().to_string();
    let hash = Tier::start(|| Service::builder("hash_server").env("PERSISTENCE_PORT", &port));

    let addr = hash.addr();
    let mut load = options_for([format!("http://{addr}")], 0);
    load.connections = 16;
    let mut tiers = [hash, persistence];
    let mut restarts = || {
        let (mut unready, mut ended) = (Longest::default(), Longest::default());
        for _ in 0..scaled(20, 1) {
            for tier in &mut tiers {
                tier.restart_in_turn(&mut unready, &mut ended);
            }
        }
        figure(format_args!(
            "rolling restarts: /readyz is 503 at most {unready} after SIGTERM, the end comes \
             within {ended}"
        ));
    };

    let (kept, single) = thread::scope(|scope| {
        let kept = scope.spawn(|| under_load(load, &mut restarts));
        let single = thread::scope(|scope| {
            let ask = || {
                let mut answered = 0;
                while !kept.is_finished() {
                    let answer = http::get(addr, "/").expect("an answer");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered += 1;
                }
                answered
            };
            let clients = [(); ONE_REQUEST_EACH].map(|()| scope.spawn(ask));
            clients.map(|client| client.join().expect("all are answered"))
        });
        (kept.join().expect("no panic"), single.iter().sum::<u64>())
    });
    assert_eq!(kept.failed(), 0, "{:?}", kept.failures);
    let numbers = proven(&kept).numbers;
    figure(format_args!(
        "rolling restarts: {numbers} requests on {} kept connections and {single} on their own, \
         0 failed",
        kept.connections
    ));
    let enough = scaled(100_000, 500);
    assert!(
        numbers >= enough && single >= enough / 10,
        "only {numbers} and {single} requests"
    );
}

/// Two replicas behind a balancer.
pub(crate) struct Tier {
    replicas: [Service; 2],
    balancer: Balancer,
}

impl Tier {
    pub(crate) fn start(replica: impl Fn() -> Builder) -> Self {
        let replicas = [(); 2].map(|()| {
            let replica = replica()
                .env("ACCESS_LOG", "off")
                .env("DRAIN_SECONDS", DRAIN.as_secs().to_string());
            ready(replica)
        });
        let balancer = Balancer::start(&replicas);
        balancer.wait_for_all();
        Self { replicas, balancer }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.balancer.port.addr()
    }

    /// Restarts one replica after another, as an orchestrator does, which goes on once the
    /// balancer uses the replica again.
    pub(crate) fn restart_in_turn(&mut self, unready: &mut Longest, ended: &mut Longest) {
        for replica in &mut self.replicas {
            let told = Instant::now();
            replica.signal(Signal::TERM);
            // Early enough for the balancer to notice before the replica stops listening.
            wait::until("503 from /readyz", DRAIN / 2, || not_ready_because(replica));
            unready.note(told.elapsed());
            assert!(replica.wait(DRAIN + SHUTDOWN_TIMEOUT).success());
            ended.note(told.elapsed());
            replica.restart();
            self.balancer.wait_for_all();
        }
    }
}

/// haproxy, which asks `/readyz` whether to use a replica.
struct Balancer {
    port: Port,
    _process: Process,
    _folder: TempDir,
}

impl Balancer {
    fn start(replicas: &[Service; 2]) -> Self {
        let port = Port::free();
        let [first, second] = replicas.each_ref().map(|replica| {
            let (addr, admin) = (replica.addr(), replica.admin_addr().port());
            format!("{addr} check port {admin}")
        });
        // A check may take long on a busy machine; that is no sign of a replica that stops.
        let config = format!(
            "global\n maxconn 1000\n\
             defaults\n mode http\n option redispatch\n option httpchk GET /readyz\n\
             timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout check 5s\n\
             default-server inter 100ms fall 1 rise 1\n\
             listen tier\n bind {}\n server first {first}\n server second {second}\n\
             monitor-uri /all\n monitor fail if {{ nbsrv lt 2 }}\n",
            port.addr()
        );
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).expect("a file in a folder of ours");
        Self {
            _process: Process::start(&Launch::new("haproxy").arg("-db").arg("-f").arg(file)),
            port,
            _folder: folder,
        }
    }

    /// Waits until it uses both replicas.
    fn wait_for_all(&self) {
        wait::until("the balancer to use both replicas", SOON, || {
            let answer = http::get(self.port.addr(), "/all").ok()?;
            (answer.status == 200).then_some(())
        });
    }
}
