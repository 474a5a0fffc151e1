//! Figures that stand alone: the disk, the start of a process, its memory and size.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Seek as _, Write as _},
    time::{Duration, Instant},
};

use e2e::{http::get, launch::Launch, service::Service};

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
