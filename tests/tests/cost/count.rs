//! Counts what one request costs, as the difference between a long run and a short one: so it
//! does not matter what the start and the stop cost.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use e2e::{
    Signal,
    http::Connection,
    service::{Builder, Service},
    skip,
};

use crate::built::builder;

/// Requests of the short run and of the long one, one after another on one connection.
const RUNS: [u32; 2] = [200, 1200];

/// How long a service may take to stop; under a tool everything takes many times as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps the C library from filling memory with one instruction that repeats itself: callgrind
/// would count each of its thousands of steps.
const COUNT_FILLS_ONCE: &str = "GLIBC_TUNABLES=glibc.cpu.x86_rep_stosb_threshold=1000000:\
                                glibc.cpu.x86_rep_movsb_threshold=1000000";

/// A figure for each service.
pub(crate) type Figures = BTreeMap<String, f64>;

/// User instructions per request, as callgrind counts them; none where it is missing.
pub(crate) fn instructions() -> Option<Figures> {
    if skip::unless(skip::installed("valgrind", "valgrind")) {
        return None;
    }
    let tool = |file: &Path| {
        let out = format!("--callgrind-out-file={}", file.display());
        [
            "env",
            COUNT_FILLS_ONCE,
            "valgrind",
            "--tool=callgrind",
            &out,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    Some(each_service(&tool, |report| {
        let line = report
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        line.expect("a total").parse().expect("a number")
    }))
}

/// System calls per request, as strace counts them; none where it is missing.
pub(crate) fn system_calls() -> Option<Figures> {
    if skip::unless(skip::installed("strace", "strace")) {
        return None;
    }
    let tool = |file: &Path| {
        let file = file.display().to_string();
        // With a file to write to, it would let no signal end it unless it is told to.
        let args = ["strace", "-f", "-I", "2", "-c", "-o", &file];
        args.map(str::to_owned).to_vec()
    };
    Some(each_service(&tool, |report| {
        let line = report.lines().find(|line| line.ends_with(" total"));
        let calls = line.and_then(|line| line.split_whitespace().nth(3));
        calls.expect("a total").parse().expect("a number")
    }))
}

/// Counts for each service with the tool that `tool` starts, whose report `total` reads.
fn each_service(tool: &dyn Fn(&Path) -> Vec<String>, total: fn(&str) -> f64) -> Figures {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = || builder("persistence_server").env("STORE", "memory");
    let persistence = memory().start();
    let port = persistence.addr().port().to_string();
    let hello = || builder("hello_server");

    let counted: [(&str, Builder); 5] = [
        ("hello_server", hello()),
        (
            "hello_server, ACCESS_LOG=off",
            hello().env("ACCESS_LOG", "off"),
        ),
        ("persistence_server, STORE=memory", memory()),
        (
            "persistence_server, STORE=file",
            builder("persistence_server").env("DATA_DIR", dir.path()),
        ),
        (
            "hash_server",
            builder("hash_server").env("PERSISTENCE_PORT", port),
        ),
    ];
    let report = dir.path().join("report");
    let counted = counted.into_iter().map(|(name, builder)| {
        let [short, long] = RUNS.map(|requests| {
            let service = builder.clone().under(tool(&report)).start();
            ask(service.addr(), requests);
            end(&service);
            total(&fs::read_to_string(&report).expect("the tool's report"))
        });
        (
            name.to_owned(),
            (long - short) / f64::from(RUNS[1] - RUNS[0]),
        )
    });
    counted.collect()
}

fn ask(addr: SocketAddr, requests: u32) {
    let mut connection = Connection::open(addr).expect("a connection");
    for _ in 0..requests {
        connection
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("a connection");
        assert_eq!(connection.receive().expect("an answer").status, 200);
    }
}

fn end(service: &Service) {
    service.signal(Signal::TERM);
    service.wait(PATIENCE);
}
