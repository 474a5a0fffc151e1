//! What HTTP costs: hello against nginx and the floor, and the chain against itself without
//! coalescing and behind proxies. The server that is measured has core 0; the generator and back
//! ends have core 1.

use e2e::service::Service;
use tempfile::TempDir;

use crate::{
    Plan,
    candidate::{self, BOTH, OTHERS, Peer, SERVER, disk_folder},
    generator::{Cores, Wrk},
    open_loop,
    results::Results,
    rounds::{self, Cell, Load},
};

/// From one client to many, for the operations on the store.
pub(crate) const GROWING: [u32; 6] = [1, 4, 16, 64, 256, 1024];

/// Measures them.
pub(crate) fn measure(plan: Plan, results: &mut Results) -> Result<(), String> {
    let ours = Ours::start();
    // Each front end has a back end of its own, so that its time can be told.
    let backs = [(); 3].map(|()| in_memory(OTHERS));
    let [naive_back, nginx_back, haproxy_back] = &backs;
    let (floor, nginx) = (candidate::floor(), candidate::nginx_return());
    let actix = candidate::actix();
    let naive = candidate::naive(naive_back.addr());
    let nginx_proxy = candidate::nginx_proxy(nginx_back.addr());
    let haproxy = candidate::haproxy(haproxy_back.addr());

    let candidates = [
        theirs("floor", &floor),
        theirs("nginx", &nginx),
        theirs("actix-web", &actix),
        service("hello", &ours.hello),
        service("memory", &ours.memory),
        service("file", &ours.file),
        service("chain", &ours.hash).with(&ours.back),
        theirs("naive chain", &naive).with(naive_back),
        theirs("nginx proxy", &nginx_proxy).with(nginx_back),
        theirs("haproxy", &haproxy).with(haproxy_back),
    ];
    for connections in [1, 32] {
        let cells = candidates.each_ref().map(|c| c.cell(connections));
        results.samples.extend(rounds::run(&cells, plan)?);
    }
    {
        let hello = candidate::service("hello_server", BOTH, &[]);
        let [memory, back] = [(); 2].map(|()| in_memory(BOTH));
        let hash = in_front_of(&back, BOTH);
        let with_two_workers = [
            service("hello, two workers", &hello),
            service("memory, two workers", &memory),
            service("chain, two workers", &hash).with(&back),
        ];
        let cells = candidates.iter().chain(&with_two_workers);
        let cells: Vec<Cell> = cells.map(|c| c.cell(256)).collect();
        results.samples.extend(rounds::run(&cells, plan)?);
    }

    let closing = [
        theirs("nginx, closing", &nginx),
        service("hello, closing", &ours.hello),
        service("memory, closing", &ours.memory),
        service("chain, closing", &ours.hash).with(&ours.back),
    ];
    let closing = closing.map(|candidate| {
        candidate.cell_with(|wrk| Wrk {
            connections: 32,
            closing: true,
            ..wrk
        })
    });
    results.samples.extend(rounds::run(&closing, plan)?);

    let growing = GROWING.map(|connections| Cell {
        admin: Some(ours.file.admin_addr()),
        ..service("file, growing", &ours.file).cell(connections)
    });
    results.samples.extend(rounds::run(&growing, plan)?);
    let blocks = service("blocks of 1000 on file", &ours.file);
    let blocks = blocks.cell_with(|wrk| Wrk {
        url: wrk.url + "?count=1000",
        connections: 32,
        ..wrk
    });
    results.samples.extend(rounds::run(&[blocks], plan)?);

    let paced = [
        ("hello", &ours.hello),
        ("chain", &ours.hash),
        ("file", &ours.file),
    ];
    open_loop::measure(&paced, plan, results)?;

    results.prove("chain", &ours.hash, plan.numbers, 64)?;
    results.prove("file", &ours.file, plan.numbers, 64)
}

/// The services that are measured on one core.
struct Ours {
    hello: Service,
    memory: Service,
    file: Service,
    _folder: TempDir,
    hash: Service,
    /// Behind it, on the other core.
    back: Service,
}

impl Ours {
    fn start() -> Self {
        let folder = disk_folder();
        let file = [
            ("STORE", "file".to_owned()),
            ("DATA_DIR", folder.path().display().to_string()),
        ];
        let back = in_memory(OTHERS);
        Self {
            hello: candidate::service("hello_server", SERVER, &[]),
            memory: in_memory(SERVER),
            file: candidate::service("persistence_server", SERVER, &file),
            _folder: folder,
            hash: in_front_of(&back, SERVER),
            back,
        }
    }
}

/// `persistence_server` in memory.
pub(crate) fn in_memory(cores: Cores) -> Service {
    let memory = ("STORE", "memory".to_owned());
    candidate::service("persistence_server", cores, &[memory])
}

/// `hash_server` in front of such a one.
pub(crate) fn in_front_of(back: &Service, cores: Cores) -> Service {
    let port = back.addr().port().to_string();
    candidate::service("hash_server", cores, &[("PERSISTENCE_PORT", port)])
}

/// Who answers at a URL, and whose time counts.
struct Candidate {
    name: &'static str,
    url: String,
    pids: Vec<u32>,
}

fn service(name: &'static str, service: &Service) -> Candidate {
    let (url, pids) = (service.public_url() + "/", vec![service.pid()]);
    Candidate { name, url, pids }
}

fn theirs(name: &'static str, peer: &Peer) -> Candidate {
    let (url, pids) = (format!("http://{}/", peer.addr()), vec![peer.pid()]);
    Candidate { name, url, pids }
}

impl Candidate {
    /// With what stands behind it.
    fn with(mut self, back: &Service) -> Self {
        self.pids.push(back.pid());
        self
    }

    fn cell(&self, connections: u32) -> Cell {
        self.cell_with(|wrk| Wrk { connections, ..wrk })
    }

    fn cell_with(&self, change: impl FnOnce(Wrk) -> Wrk) -> Cell {
        let wrk = change(Wrk {
            url: self.url.clone(),
            connections: 1,
            closing: false,
            cores: OTHERS,
        });
        Cell {
            candidate: self.name,
            connections: wrk.connections,
            pids: self.pids.clone(),
            admin: None,
            load: Load::Wrk(wrk),
        }
    }
}
