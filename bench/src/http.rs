//! What HTTP costs: hello against nginx and the floor, and the chain against itself without
//! coalescing. The server that is measured has core 0; the generator and back ends have core 1.

use e2e::service::Service;

use crate::{
    Plan,
    candidate::{self, OTHERS, Peer, SERVER, disk_folder},
    generator::Wrk,
    proof::prove,
    results::Results,
    rounds::{self, Cell, Load},
};

const CONNECTIONS: [u32; 3] = [1, 32, 256];

/// From one client to many, for the operations on the store.
const GROWING: [u32; 6] = [1, 4, 16, 64, 256, 1024];

/// Measures them.
pub(crate) fn measure(plan: Plan, results: &mut Results) -> Result<(), String> {
    let folder = disk_folder();
    let memory = [("STORE", "memory".to_owned())];
    let file = [
        ("STORE", "file".to_owned()),
        ("DATA_DIR", folder.path().display().to_string()),
    ];
    let hello = candidate::service("hello_server", SERVER, &[]);
    let in_memory = candidate::service("persistence_server", SERVER, &memory);
    let on_file = candidate::service("persistence_server", SERVER, &file);
    // Each front end has a back end of its own, so that its time can be told.
    let [back, naive_back, nginx_back] =
        [(); 3].map(|()| candidate::service("persistence_server", OTHERS, &memory));
    let port = back.addr().port().to_string();
    let hash = candidate::service("hash_server", SERVER, &[("PERSISTENCE_PORT", port)]);
    let naive = candidate::naive(naive_back.addr());
    let proxy = candidate::nginx_proxy(nginx_back.addr());
    let floor = candidate::floor();
    let nginx = candidate::nginx_return();

    let ours = |service: &Service| (service.public_url(), vec![service.pid()]);
    let theirs = |peer: &Peer| (format!("http://{}/", peer.addr()), vec![peer.pid()]);
    let behind = |(url, mut pids): (String, Vec<u32>), back: &Service| {
        pids.push(back.pid());
        (url, pids)
    };
    let candidates = [
        ("floor", theirs(&floor)),
        ("nginx", theirs(&nginx)),
        ("hello", ours(&hello)),
        ("memory", ours(&in_memory)),
        ("file", ours(&on_file)),
        ("chain", behind(ours(&hash), &back)),
        ("naive chain", behind(theirs(&naive), &naive_back)),
        ("nginx proxy", behind(theirs(&proxy), &nginx_back)),
    ];
    let cell = |candidate, (url, pids): &(String, Vec<u32>), connections| Cell {
        candidate,
        connections,
        pids: pids.clone(),
        admin: None,
        load: Load::Wrk(Wrk {
            url: url.clone(),
            connections,
            core: OTHERS,
        }),
    };
    for connections in CONNECTIONS {
        let cells = candidates
            .iter()
            .map(|(name, candidate)| cell(*name, candidate, connections));
        let cells: Vec<Cell> = cells.collect();
        results.samples.extend(rounds::run(&cells, plan)?);
    }

    let growing = GROWING.map(|connections| Cell {
        admin: Some(on_file.admin_addr()),
        ..cell("file, growing", &ours(&on_file), connections)
    });
    results.samples.extend(rounds::run(&growing, plan)?);
    let mut blocks = cell("blocks of 1000 on file", &ours(&on_file), 32);
    if let Load::Wrk(wrk) = &mut blocks.load {
        wrk.url += "/?count=1000";
    }
    results.samples.extend(rounds::run(&[blocks], plan)?);

    for (name, service) in [("chain", &hash), ("file", &on_file)] {
        results.proofs.insert(name.to_owned(), prove(service, 64)?);
    }
    Ok(())
}
