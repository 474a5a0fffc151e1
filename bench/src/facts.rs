//! Figures that stand alone: the disk, the start of a process, its memory.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    time::{Duration, Instant},
};

use e2e::{http, service::Service};

use crate::{
    candidate::{self, OTHERS, SERVER, disk_folder},
    proof::prove,
    results::Results,
    spread::Spread,
};

/// Measures them.
pub(crate) fn measure(results: &mut Results) -> Result<(), String> {
    let disk = fdatasync().map_err(|error| format!("the disk: {error}"))?;
    results.facts.insert("fdatasync p50, µs".to_owned(), disk);
    for name in ["hello_server", "persistence_server", "hash_server"] {
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
    memory(results)
}

/// A service that has answered on its admin port, whatever it depends on.
fn start(name: &str, settings: &[(&str, String)]) -> Service {
    let mut builder = Service::builder(name);
    for (name, value) in settings {
        builder = builder.env(name, value);
    }
    let service = builder.start();
    let live = || http::get(service.admin_addr(), "/livez").ok();
    e2e::wait::until("an answer", Duration::from_secs(10), live);
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
fn memory(results: &mut Results) -> Result<(), String> {
    let memory = ("STORE", "memory".to_owned());
    let persistence = candidate::service("persistence_server", OTHERS, &[memory]);
    let port = persistence.addr().port().to_string();
    let hash = candidate::service("hash_server", SERVER, &[("PERSISTENCE_PORT", port)]);
    let hello = candidate::service("hello_server", SERVER, &[]);
    let services = [
        ("hello", &hello),
        ("hash", &hash),
        ("persistence", &persistence),
    ];
    let mut note = |when: &str| {
        for (name, service) in services {
            let megabytes = service.rss_bytes() as f64 / 1e6;
            results
                .facts
                .insert(format!("{name}: resident {when}, MB"), megabytes);
        }
    };
    note("idle");
    let proof = prove(&hash, 1024)?;
    results.proofs.insert("hash on memory".to_owned(), proof);
    let wrk = crate::generator::Wrk {
        url: hello.public_url(),
        connections: 1024,
        core: OTHERS,
    };
    wrk.run(2)?;
    note("loaded");
    Ok(())
}
