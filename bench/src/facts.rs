//! The machine, and figures that stand alone: the disk, the start of a process, its memory and
//! size.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Seek as _, Write as _},
    time::{Duration, Instant},
};

use e2e::{
    http::get,
    launch::{Launch, find},
    service::Service,
};

use crate::{
    Plan,
    candidate::{self, OTHERS, SERVER, disk_folder},
    generator::Wrk,
    http::{in_front_of, in_memory},
    results::{FDATASYNC, Results},
    spread::Spread,
};

const SERVICES: [&str; 3] = ["hello_server", "persistence_server", "hash_server"];

const SOON: Duration = Duration::from_secs(10);

/// Measures them.
pub(crate) fn measure(plan: Plan, results: &mut Results) -> Result<(), String> {
    let disk = fdatasync().map_err(|error| format!("the disk: {error}"))?;
    results.facts.insert(FDATASYNC.to_owned(), disk);
    for name in SERVICES {
        let settings = [("STORE", "memory".to_owned())];
        let starts: Vec<f64> = (0..10)
            .map(|_| {
                let begin = Instant::now();
                let service = start(name, &settings);
                let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
                drop(service);
                elapsed
            })
            .collect();
        let start = Spread::of(&starts).map_or(f64::NAN, |spread| spread.median);
        results.facts.insert(format!("{name}: start, ms"), start);
    }
    memory(plan, results)?;
    images(results);
    costs(results)
}

/// A service that has answered on its admin port, whatever it depends on.
fn start(name: &str, settings: &[(&str, String)]) -> Service {
    let mut builder = Service::builder(name);
    for (name, value) in settings {
        builder = builder.env(name, value);
    }
    let service = builder.start();
    let live = || get(service.admin_addr(), "/livez").ok();
    e2e::wait::until("an answer", SOON, live);
    service
}

/// Half of all times that writing and flushing 4 KiB of a file takes are below this: what the
/// embedded store does for a batch, and nothing else.
fn fdatasync() -> std::io::Result<f64> {
    let folder = disk_folder();
    let mut file = File::create(folder.path().join("probe"))?;
    let block = [b'x'; 4096];
    for _ in 0..2 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    for turn in 0..500_u64 {
        let begin = Instant::now();
        file.seek(std::io::SeekFrom::Start(turn % 2 * 4096))?;
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(&times).map_or(f64::NAN, |spread| spread.median))
}

/// Resident memory, idle and at 1024 connections on the front end or on hello.
fn memory(plan: Plan, results: &mut Results) -> Result<(), String> {
    let persistence = in_memory(OTHERS);
    let hash = in_front_of(&persistence, SERVER);
    let hello = candidate::service("hello_server", SERVER, &[]);
    let services = [
        ("hello", &hello),
        ("hash", &hash),
        ("persistence", &persistence),
    ];
    let note = |results: &mut Results, when: &str| {
        for (name, service) in services {
            let megabytes = service.rss_bytes() as f64 / 1e6;
            results
                .facts
                .insert(format!("{name}: resident {when}, MB"), megabytes);
        }
    };
    note(results, "idle");
    results.prove("chain in memory", &hash, plan.numbers, 1024)?;
    // Long enough for each connection to use all of its buffers.
    for service in [&hash, &hello] {
        let wrk = Wrk {
            url: service.public_url(),
            connections: 1024,
            closing: false,
            cores: OTHERS,
        };
        wrk.run(plan.seconds.min(2.0))?;
    }
    note(results, "loaded");
    Ok(())
}

/// The sizes of the images, where they are.
fn images(results: &mut Results) {
    for name in SERVICES {
        let image = format!("{name}:{}", env!("CARGO_PKG_VERSION"));
        let inspect = ["image", "inspect", "--format", "{{.Size}}", &image];
        let size = Launch::new("docker").args(inspect).try_run_to_end(SOON);
        let size = size.and_then(|output| output.success());
        match size.ok().and_then(|bytes| bytes.parse::<f64>().ok()) {
            Some(bytes) => {
                let name = format!("{name}: image, MB");
                results.facts.insert(name, bytes / 1e6);
            }
            None => results
                .missing
                .push(format!("the size of {image}: run make images")),
        }
    }
}

/// What a request costs in figures that do not depend on the machine: a test of its own counts
/// and records them.
fn costs(results: &mut Results) -> Result<(), String> {
    let recorded = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/tests/cost/recorded.json"
    );
    let text = fs::read_to_string(recorded).map_err(|e| format!("{recorded}: {e}"))?;
    let recorded: BTreeMap<String, BTreeMap<String, f64>> =
        serde_json::from_str(&text).map_err(|e| format!("{recorded}: {e}"))?;
    let counts = |what: &str| recorded.get(what).cloned().unwrap_or_default();
    let calls = counts("system calls per request");
    for (service, instructions) in counts("user instructions per request") {
        let calls = calls.get(&service).copied().unwrap_or_default();
        results.costs.insert(service, [instructions, calls]);
    }
    Ok(())
}

/// The processor, the kernel, the commit, and the version of each program that takes part.
pub(crate) fn machine() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| Some(line.split_once(": ")?.1));
    let cores = cpuinfo.matches("processor\t").count();
    let processor = format!("{cores} × {}", model.unwrap_or("unknown"));
    facts.insert("processor".to_owned(), processor);
    for (name, command) in [
        ("kernel", "uname -sr"),
        ("commit", "git describe --always --dirty --abbrev=12"),
        ("rustc", "rustc --version"),
        ("nginx", "nginx -v"),
        ("haproxy", "haproxy -v"),
        ("wrk", "wrk -v"),
        ("redis", "redis-server --version"),
        ("pgbench", "pgbench --version"),
        ("etcd", "etcd --version"),
        ("date", "date --utc +%F"),
    ] {
        let mut words = command.split(' ');
        let program = words.next().unwrap_or_default();
        if find(program).is_none() {
            continue;
        }
        let home = std::env::var_os("HOME").unwrap_or_default();
        let launch = Launch::new(program).args(words).env("HOME", home);
        // Some print their version to one stream, some to the other, and wrk fails with it.
        if let Ok(output) = launch.try_run_to_end(SOON) {
            let said = output.stdout + &output.stderr;
            let line = said.lines().next().unwrap_or_default();
            facts.insert(name.to_owned(), line.trim().to_owned());
        }
    }
    facts
}
