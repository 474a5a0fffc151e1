//! A container of each image, with no more rights than it needs.

use std::{
    fs,
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    guide, http,
    launch::Launch,
    process,
    proof::{options_for, proven, under_load},
    soak::figure,
    wait,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    contents::{HASH, HELLO, Image, PERSISTENCE, SERVICES},
    docker::{self, Container, LIMIT, Run as _, docker, inspect, repository, try_docker},
    stack::PORTS,
};

const HARDENED: [&str; 6] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=64",
    "--memory=32m",
    "--cpus=1",
];

/// Starts a service with its public port published and these further arguments of `docker run`.
#[track_caller]
fn start(image: &Image, args: &[&str]) -> Container {
    let tagged = image.tagged();
    let publish = ["--publish-all", tagged.as_str()];
    Container::run(&[&HARDENED, args, &publish].concat())
}

/// A network, and with it the names of its containers.
struct Network(String);

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        docker(&["network", "create", &name]);
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Containers that a panic has left in it keep it; that is no reason for another panic.
        let _ = try_docker(&["network", "rm", &self.0]);
    }
}

#[test]
fn a_service_serves_and_stops_as_the_first_process_of_its_container() {
    if docker::skip() {
        return;
    }
    for image in SERVICES {
        let (port, admin_port) = image.ports.expect("a service has ports");
        let publish = format!("--publish=127.0.0.1::{admin_port}");
        let begin = Instant::now();
        let service = start(&image, &["--tmpfs=/data:uid=65532,gid=65532", &publish]);
        let (addr, admin) = (service.port(port), service.port(admin_port));
        let alive = || http::get(admin, "/livez").ok();
        let answer = e2e::wait::until("an answer", Duration::from_secs(30), alive);
        figure(format_args!(
            "{}: first answer {:.0} ms after docker run began",
            image.name,
            begin.elapsed().as_secs_f64() * 1000.0
        ));
        assert_eq!(answer.status, 200);
        // Without its back end, the front end can at least say what is wrong.
        let expected = if image.name == HASH.name { 404 } else { 200 };
        let path = if expected == 404 { "/none" } else { "/" };
        assert_eq!(http::get(addr, path).unwrap().status, expected);

        let begin = Instant::now();
        docker(&["stop", "--time=20", &service.id]);
        assert!(begin.elapsed() < Duration::from_secs(18), "it was killed");
        let state = &inspect(&service.id)["State"];
        assert_eq!(state["ExitCode"], 0, "{}", service.logs());
        assert_eq!(state["OOMKilled"], false);
    }
}

#[test]
fn the_health_check_follows_readiness() {
    if docker::skip() {
        return;
    }
    let network = Network::new("health");
    let network = format!("--network={}", network.0);
    let hash = start(&HASH, &[&network, "--env=PERSISTENCE_HOST=persistence"]);
    let check = || try_docker(&["exec", &hash.id, "/hash_server", "healthcheck"]);
    hash.becomes("unhealthy");
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("persistence:8081"), "{output:?}");

    let alias = "--network-alias=persistence";
    let persistence = start(&PERSISTENCE, &[&network, alias, "--env=STORE=memory"]);
    hash.becomes("healthy");
    assert_eq!(check().status.code(), Some(0));
    let answer = http::get(hash.port(8082), "/").unwrap();
    assert_eq!(answer.json()["data"]["number"], 1);
    drop(persistence);
    hash.becomes("unhealthy");
}

#[test]
fn a_new_container_goes_on_with_the_numbers_of_the_volume() {
    if docker::skip() {
        return;
    }
    let volume = format!("kept-{}", std::process::id());
    let mount = format!("--volume={volume}:/data");
    let number = |service: &Container| {
        let addr = service.port(8081);
        http::get(addr, "/").unwrap().json()["data"]["number"].clone()
    };
    let first = start(&PERSISTENCE, &[&mount]);
    first.becomes("healthy");
    assert_eq!(number(&first), 1);

    // A second one on the same volume is told so.
    let second = start(&PERSISTENCE, &[&mount]);
    assert_eq!(docker(&["wait", &second.id]), "1");
    assert!(
        second.logs().contains("another process"),
        "{}",
        second.logs()
    );

    drop(first);
    let third = start(&PERSISTENCE, &[&mount]);
    third.becomes("healthy");
    assert_eq!(number(&third), 2);
    drop((second, third));
    // Docker lets go of it a moment later.
    wait::until("the volume to be free", LIMIT, || {
        let removed = try_docker(&["volume", "rm", &volume]);
        removed.status.success().then_some(())
    });
}

#[test]
fn any_user_may_write_to_a_new_volume_and_to_a_directory_of_their_own() {
    if docker::skip() {
        return;
    }
    let volume = format!("any-user-{}", std::process::id());
    let mount = format!("--volume={volume}:/data");
    // Without a group it is 0.
    let service = start(&PERSISTENCE, &["--user=12345", &mount]);
    service.becomes("healthy");
    drop(service);
    docker(&["volume", "rm", &volume]);

    let own = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(own.path(), Some(12345), None).expect("the tests run as root here");
    let mount = format!("--volume={}:/data", own.path().display());
    let other = start(&PERSISTENCE, &[&mount]);
    assert_eq!(docker(&["wait", &other.id]), "1");
    start(&PERSISTENCE, &["--user=12345", &mount]).becomes("healthy");
}

#[test]
fn the_commands_of_the_documentation_run_all_three() {
    if docker::skip() {
        return;
    }
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let read = |page| fs::read_to_string(repository().join(page)).expect("a page");
    let (readme, page) = (read("README.md"), read("docs/images.md"));
    let (_, section) = page.split_once("\n## Run one\n").expect("a section");
    let (_, block) = section.split_once("```sh\n").expect("commands");
    let (commands, _) = block.split_once("```").expect("their end");
    // Names that a user of these commands does not have.
    let own = |name: &str| format!("{name}-{}", std::process::id());
    let names = [
        "numbers",
        "hello-server",
        "persistence-server",
        "hash-server",
    ];
    let mut network = None;
    let mut services = Vec::new();
    for command in commands.lines() {
        assert!(readme.contains(command), "not in the README: {command}");
        let renamed = names.iter().fold(command.to_owned(), |command, name| {
            command.replace(name, &own(name))
        });
        let id = Launch::new("sh").args(["-c", &renamed]).run(LIMIT);
        match &network {
            None => network = Some(Network(own("numbers"))),
            Some(_) => services.push(Container { id }),
        }
    }
    assert_eq!(services.len(), 3);
    for service in &services {
        service.becomes("healthy");
    }
    let local = |port| http::get(([127, 0, 0, 1], port).into(), "/").expect("an answer");
    assert_eq!(local(8080).status, 200);
    assert_eq!(local(8081).json()["data"]["number"], 1);
    assert_eq!(local(8082).json()["data"]["number"], 2);
    drop((services, network));
    docker(&["volume", "rm", &own("numbers")]);
}

#[test]
fn a_container_without_a_volume_warns_that_its_numbers_end_with_it() {
    if docker::skip() {
        return;
    }
    let image = PERSISTENCE.tagged();
    let with_a_volume = Container::run(&["--tmpfs=/data:uid=65532", &image]);
    let without = Container::run(&[&image]);
    for container in [&with_a_volume, &without] {
        container.becomes("healthy");
    }
    assert!(without.logs().contains("mount a volume"));
    assert!(!with_a_volume.logs().contains("mount a volume"));
}

/// Resident memory of the container's process, in megabytes.
fn resident(service: &Container) -> f64 {
    let pid = inspect(&service.id)["State"]["Pid"].as_u64();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let bytes = pid.and_then(process::rss_bytes).expect("it runs");
    bytes as f64 / 1e6
}

/// Lets this process have as many connections as the system allows it.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn the_memory_limit_is_not_met_under_load() {
    if docker::skip() {
        return;
    }
    let network = Network::new("memory");
    let network = format!("--network={}", network.0);
    let alias = "--network-alias=persistence";
    let persistence = start(&PERSISTENCE, &[&network, alias, "--env=STORE=memory"]);
    let hash = start(&HASH, &[&network, "--env=PERSISTENCE_HOST=persistence"]);
    let hello = start(&HELLO, &[]);
    hash.becomes("healthy");
    let all = [
        (&hello, "hello"),
        (&persistence, "persistence"),
        (&hash, "hash"),
    ];
    let idle = all.map(|(service, _)| resident(service));

    raise_open_files();
    let url = format!("http://{}", hash.port(8082));
    // Within what a service accepts with this limit, and three times that.
    for connections in [256, 3000] {
        let mut load = options_for([url.clone()], 0);
        load.connections = connections;
        let mut loaded = [0.0_f64; 3];
        let mut watch = || {
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(300));
                for (most, (service, _)) in loaded.iter_mut().zip(all) {
                    *most = most.max(resident(service));
                }
            }
        };
        let outcome = under_load(load, || {
            watch();
            // Now all of them wait.
            docker(&["pause", &persistence.id]);
            watch();
            docker(&["unpause", &persistence.id]);
        });
        proven(&outcome);
        for ((service, name), (idle, loaded)) in all.iter().zip(idle.iter().zip(loaded)) {
            figure(format_args!(
                "{name}: {idle:.1} MB resident when idle, \
                 {loaded:.1} MB at {connections} connections on hash"
            ));
            assert_eq!(inspect(&service.id)["State"]["OOMKilled"], false);
            assert!(loaded < 32.0, "{name}: {loaded} MB");
        }
        hash.becomes("healthy");
    }
}

#[test]
fn the_guide_shows_what_containers_do() {
    if docker::skip() {
        return;
    }
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    // What an earlier run left that failed.
    let left =
        "hello stubborn later hash-server persistence-server failing counter one two etcd alone";
    let remove: Vec<&str> = ["rm", "--force"]
        .into_iter()
        .chain(left.split(' '))
        .collect();
    try_docker(&remove);
    try_docker(&["network", "rm", "guide"]);
    try_docker(&["volume", "rm", "counter"]);
    let buildkit = repository().join("scripts/buildkit");
    for page in [
        "02-container",
        "03-find-each-other",
        "04-data",
        "17-watching",
    ] {
        guide::follow(&format!("{page}.md"), &[&buildkit.to_string_lossy()]);
    }
}
