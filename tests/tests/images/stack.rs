//! The compose files as they stand, with each of the stores.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    collector::Collector,
    http,
    launch::{Launch, Output},
    process::{self, Process},
    proof::{options_for, proven, under_load},
    soak::figure,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::docker::{self, Run as _, docker, inspect, repository, script, try_docker};

const LIMIT: Duration = Duration::from_secs(180);

/// The ports in the file are those that users type, so there can be one stack at a time.
pub(crate) static PORTS: Mutex<()> = Mutex::new(());

/// All services of the file, which are taken down, with their volumes, when this is dropped.
struct Stack {
    compose: Launch,
    project: String,
    _ports: MutexGuard<'static, ()>,
}

impl Stack {
    /// A stack that is not up yet; `store` is empty for the embedded one.
    fn new(store: &str) -> Self {
        Self::of(repository(), store)
    }

    /// A stack of the compose files in this directory.
    fn of(directory: &Path, store: &str) -> Self {
        let ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let project = format!("stack{}{store}", std::process::id());
        let mut compose = script("scripts/buildkit")
            .args(docker::compose().expect("it was looked for"))
            .args(["--project-name", &project])
            .arg("--file")
            .arg(directory.join("docker-compose.yml"));
        if !store.is_empty() {
            let file = directory.join(format!("docker/{store}.yml"));
            compose = compose.arg("--file").arg(file);
        }
        Self {
            compose,
            project,
            _ports: ports,
        }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.compose = self.compose.clone().env(name, value);
        self
    }

    fn try_run(&self, args: &[&str]) -> Output {
        self.compose.clone().args(args).run_to_end(LIMIT)
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args).success();
        output.unwrap_or_else(|said| panic!("docker-compose {}:\n{said}", args.join(" ")))
    }

    /// Brings everything up and waits until all of it is healthy.
    #[track_caller]
    fn up(&self, args: &[&str]) {
        self.run(&[&["up", "--detach", "--no-build"], args].concat());
        self.is_healthy();
    }

    #[track_caller]
    fn is_healthy(&self) {
        let containers = self.run(&["ps", "--quiet"]);
        let ill = |id: &&str| inspect(id)["State"]["Health"]["Status"] != "healthy";
        let limit = Duration::from_secs(90);
        let healthy = wait::within(limit, || {
            (!containers.lines().any(|id| ill(&id))).then_some(())
        });
        if healthy.is_none() {
            panic!(
                "not all healthy:\n{}\n{}",
                self.run(&["ps"]),
                self.run(&["logs", "--tail=20"])
            );
        }
    }

    /// The identifier of the one container of a service.
    #[track_caller]
    fn container(&self, service: &str) -> String {
        self.run(&["ps", "--all", "--quiet", service])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let down = ["down", "--volumes", "--remove-orphans", "--timeout=5"];
        // A panic here would hide the one that it may come from.
        let _ = self.compose.clone().args(down).try_run_to_end(LIMIT);
    }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

#[track_caller]
fn number(port: u16) -> u64 {
    let answer = http::get(local(port), "/").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["number"].as_u64().expect("a number")
}

/// Restarts and kills these containers under load, then takes all down and brings it up again.
fn story(store: &str, disturbed: &[&str]) {
    if docker::skip() {
        return;
    }
    let stack = Stack::new(store);
    let begin = Instant::now();
    stack.up(&[]);
    figure(format_args!(
        "compose with {store:?}: all healthy {:.1} s after up began",
        begin.elapsed().as_secs_f64()
    ));
    assert_eq!(
        http::get(local(8080), "/").unwrap().text(),
        "Hello, World!\n"
    );
    assert_eq!(number(8081), 1);
    assert_eq!(number(8082), 2);
    for port in [9080, 9081, 9082] {
        assert_eq!(http::get(local(port), "/readyz").unwrap().status, 200);
    }

    let urls = [8081, 8082].map(|port| format!("http://localhost:{port}"));
    let outcome = under_load(options_for(urls, 0), || {
        for service in disturbed {
            stack.run(&["restart", "--timeout=20", service]);
            stack.run(&["kill", "-s", "SIGKILL", service]);
            stack.run(&["start", service]);
            stack.is_healthy();
        }
        crash(&stack, "persistence_server");
        stack.is_healthy();
        thread::sleep(Duration::from_secs(1));
    });
    let proof = proven(&outcome);
    assert!(proof.numbers > 1000, "{proof:?}");
    figure(format_args!(
        "compose with {store:?}: {} numbers while {disturbed:?} were restarted and killed, \
         0 violations, {} requests without an answer",
        proof.numbers,
        outcome.failed()
    ));
    for container in stack.run(&["ps", "--quiet"]).lines() {
        let state = &inspect(container)["State"];
        assert_eq!(state["OOMKilled"], false, "{container}: {state}");
    }
    // A line for each request would bury them.
    let messages = stack.run(&["logs", "--no-color", "persistence_server"]);
    assert!(messages.lines().count() < 1000, "{messages}");

    let last = number(8081);
    stack.run(&["down"]);
    stack.up(&[]);
    let next = number(8081);
    assert!(next > last, "{next} after {last}");

    stack.run(&["down", "--volumes"]);
    stack.up(&[]);
    assert_eq!(number(8081), 1);
}

/// Kills the process itself, which Docker takes for a crash and starts it again.
#[track_caller]
fn crash(stack: &Stack, service: &str) {
    let container = stack.container(service);
    let pid = inspect(&container)["State"]["Pid"].as_i64();
    let pid = pid
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .expect("it runs");
    kill_process(pid, Signal::KILL).expect("the tests run as root here");
    wait::until("Docker to start it again", Duration::from_secs(60), || {
        let state = inspect(&container);
        let restarted = state["RestartCount"].as_u64() > Some(0);
        (restarted && state["State"]["Running"] == true).then_some(())
    });
    assert!(!process::runs(u32::try_from(pid.as_raw_pid()).unwrap_or(0)));
}

#[test]
fn the_embedded_store_keeps_the_promise() {
    story("", &["hello_server", "hash_server", "persistence_server"]);
}

#[test]
fn redis_keeps_the_promise() {
    story("redis", &["persistence_server", "redis"]);
}

#[test]
fn postgres_keeps_the_promise() {
    story("postgres", &["persistence_server", "postgres"]);
}

#[test]
fn etcd_keeps_the_promise() {
    story("etcd", &["persistence_server", "etcd"]);
}

#[test]
fn prometheus_scrapes_all_services_and_their_traces_are_sent() {
    if docker::skip() {
        return;
    }
    // In the place of Jaeger, of which Debian has no package.
    let collector = Collector::at(own_address());
    let endpoint = collector.url();
    let stack = Stack::new("observability").env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    stack.up(&[
        "hello_server",
        "hash_server",
        "persistence_server",
        "prometheus",
    ]);
    assert_eq!(number(8082), 1);
    collector.wait_for("a span of the store", |spans| {
        spans.iter().any(|span| span.name == "reserve file")
    });
    let api = |path: &str| http::get(local(9090), path).expect("an answer").json()["data"].clone();
    wait::until("all to be scraped", Duration::from_secs(60), || {
        let ready = api("/api/v1/query?query=service_ready==1");
        (ready["result"].as_array()?.len() == 3).then_some(())
    });
    let rules = api("/api/v1/rules").to_string();
    assert!(rules.contains("StoreLostWrites"), "{rules}");
}

/// An address of this machine that containers reach.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    // It sends nothing, but finds out from which address it would (TEST-NET-1, RFC 5737).
    socket.connect("192.0.2.1:9").expect("a way out");
    socket.local_addr().expect("an address").ip()
}

#[test]
fn three_front_ends_have_three_ports_and_one_sequence_and_every_port_can_be_moved() {
    if docker::skip() {
        return;
    }
    let ports = [18082, 18083, 18084];
    let stack = Stack::new("")
        .env("HELLO_PORT", "18080")
        .env("HELLO_ADMIN_PORT", "19080")
        .env("PERSISTENCE_PORT", "18081")
        .env("PERSISTENCE_ADMIN_PORT", "19081")
        .env("HASH_PORT", "18082-18084")
        .env("HASH_ADMIN_PORT", "19082-19084");
    // Nothing is left on the ports of the file.
    let taken: Vec<TcpListener> = [8080, 8081, 8082, 9080, 9081, 9082]
        .map(|port| TcpListener::bind(local(port)).expect("a free port"))
        .into();
    stack.up(&["--scale", "hash_server=3"]);
    drop(taken);
    for port in [19080, 19081, 19082, 19083, 19084] {
        assert_eq!(http::get(local(port), "/livez").unwrap().status, 200);
    }
    let hello = http::get(local(18080), "/").expect("an answer");
    assert_eq!(hello.status, 200);
    assert_eq!(number(18081), 1);
    let served_by = |port| {
        let answer = http::get(local(port), "/").expect("an answer");
        answer.header("x-served-by").expect("who").to_owned()
    };
    let names: BTreeSet<String> = ports.into_iter().map(served_by).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let urls = ports.map(|port| format!("http://localhost:{port}"));
    let outcome = checker::load::run(&options_for(urls, 10_000)).expect("a load");
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    proven(&outcome);
}

#[test]
fn only_the_front_end_reaches_persistence_and_only_persistence_its_store() {
    if docker::skip() {
        return;
    }
    let stack = Stack::new("redis");
    stack.up(&[]);
    // The checker exits with 0 when it was given numbers, and with 3 when nobody answered.
    let ask = |network: &str, url: &str| {
        let network = format!("--network={}_{network}", stack.project);
        let tagged = format!("checker:{}", docker::VERSION);
        let args = [
            "--requests=1",
            "--connections=1",
            "--keep-trying=1",
            "--url",
            url,
        ];
        let run = ["run", "--rm", &network, &tagged];
        try_docker(&[run.as_slice(), &args].concat())
    };
    let asks = |network: &str, url: &str| ask(network, url).status.code();
    assert_eq!(asks("numbers", "http://persistence_server:8081"), Some(0));
    assert_eq!(asks("default", "http://persistence_server:8081"), Some(3));
    // Names that all clients accept.
    assert_eq!(asks("numbers", "http://persistence-server:8081"), Some(0));
    assert_eq!(asks("numbers", "http://hash-server:8082"), Some(0));
    let hello = ask("default", "http://hello-server:8080").stdout;
    assert!(hello.contains("served by"), "{hello}");
    for (service, networks) in [
        ("hello_server", vec!["default"]),
        ("hash_server", vec!["numbers"]),
        ("persistence_server", vec!["numbers", "store"]),
        ("redis", vec!["store"]),
    ] {
        let container = inspect(&stack.container(service));
        let connected = container["NetworkSettings"]["Networks"].as_object();
        let connected = connected.expect("networks").keys().cloned();
        let expected = networks
            .into_iter()
            .map(|name| format!("{}_{name}", stack.project));
        assert_eq!(
            connected.collect::<BTreeSet<_>>(),
            expected.collect::<BTreeSet<_>>(),
            "{service}"
        );
    }
    let store = format!("{}_store", stack.project);
    assert_eq!(
        docker(&["network", "inspect", "--format={{.Internal}}", &store]),
        "true"
    );
}

#[test]
fn the_checker_of_the_file_proves_the_front_end() {
    if docker::skip() {
        return;
    }
    let stack = Stack::new("");
    stack.up(&[]);
    let url = "http://hash_server:8082";
    let said = stack.run(&[
        "run",
        "--rm",
        "checker",
        "--requests=5000",
        "--json",
        "--url",
        url,
    ]);
    assert!(said.contains("\"verdict\":\"proven\""), "{said}");
}

#[test]
fn make_up_builds_and_starts_all_with_a_store_and_stops_it_on_ctrl_c() {
    if docker::skip() {
        return;
    }
    let refused = script("scripts/up").env("STORE", "none").run_to_end(LIMIT);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused
            .stderr
            .contains("expected file, redis, postgres or etcd")
    );

    let stack = Stack::new("redis");
    let up = script("scripts/up")
        .env("STORE", "redis")
        .env("COMPOSE_PROJECT_NAME", &stack.project);
    let up = Process::start(&up);
    for port in [8080, 8081, 8082] {
        wait::until("an answer", LIMIT, || {
            assert!(up.alive(), "it ended");
            let answer = http::get(local(port), "/").ok()?;
            (answer.status == 200).then_some(())
        });
    }
    up.signal(Signal::INT);
    assert!(up.wait(LIMIT).success());
    for service in ["hello_server", "hash_server", "persistence_server", "redis"] {
        let state = &inspect(&stack.container(service))["State"];
        assert_eq!(state["Running"], false, "{service}");
        assert_eq!(state["ExitCode"], 0, "{service}");
    }
}

#[test]
fn a_clone_that_only_its_owner_can_read_works_with_the_embedded_store() {
    if docker::skip() {
        return;
    }
    let clone = tempfile::tempdir().expect("a directory");
    let git = "umask 077 && git clone --quiet \"$0\" \"$1\"";
    let shell = Launch::new("sh").args(["-c", git]).arg(repository());
    shell.arg(clone.path()).run(LIMIT);
    let stack = Stack::of(clone.path(), "");
    stack.up(&[]);
    assert_eq!(number(8081), 1);
}
