//! What it is measured on.

use std::{collections::BTreeMap, fs, time::Duration};

use e2e::launch::{Launch, find};

const LIMIT: Duration = Duration::from_secs(10);

/// The processor, the kernel, the commit, and the version of each program that takes part.
pub(crate) fn describe() -> BTreeMap<String, String> {
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
        if let Ok(output) = launch.try_run_to_end(LIMIT) {
            let said = output.stdout + &output.stderr;
            let line = said.lines().next().unwrap_or_default();
            facts.insert(name.to_owned(), line.trim().to_owned());
        }
    }
    facts
}
