//! Nothing stays behind.
//!
//! Each of these tests runs the helper below as a process of its own with a folder of its own for
//! temporary files, so that anything at all in that folder is something left behind.

use std::any::Any;
use std::env;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use tempfile::TempDir;

use e2e::launch::Launch;
use e2e::process::{Process, runs};
use e2e::skip::Missing;
use e2e::store::{Etcd, Postgres, Redis, etcd};
use e2e::{Service, Signal, skip, wait};

use crate::LIMIT;

/// The variable that tells the helper how to end. Without it, the helper does nothing.
const ENDING: &str = "E2E_HELPER_ENDING";

#[test]
fn what_is_dropped_is_gone_with_its_data() {
    if skip::unless(all_available()) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let helper = start_helper("drop", &folder);
    assert!(helper.wait(LIMIT * 3).success());
    assert_eq!(entries(folder.path()), 0);
}

#[test]
fn what_a_test_that_panics_has_started_is_gone_with_its_data() {
    if skip::unless(all_available()) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let helper = start_helper("panic", &folder);
    assert!(helper.wait(LIMIT * 3).success());
    // What its processes wrote is shown with the panic.
    helper.stderr().wait_for("on purpose", LIMIT);
    helper.stderr().wait_for("lines of stderr:", LIMIT);
    assert_eq!(entries(folder.path()), 0);
}

#[test]
fn no_process_outlives_a_test_process_that_is_killed() {
    if skip::unless(all_available()) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let helper = start_helper("wait", &folder);
    let line = helper.stdout().wait_for("started:", LIMIT * 3);
    let (_, pids) = line.split_once("started:").unwrap();
    let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
    let pids: Vec<u32> = pids.collect();
    assert!(pids.iter().all(|pid| runs(*pid)));
    // Files stay behind when nobody is left to delete them, but where they should.
    assert_ne!(entries(folder.path()), 0);
    helper.signal(Signal::KILL);
    helper.wait(LIMIT);
    wait::until("the end of all that it started", LIMIT, || {
        (!pids.iter().any(|pid| runs(*pid))).then_some(())
    });
    remove_shared_memory(folder.path());
}

/// The other tests start this one as a process of its own; by itself it does nothing.
#[test]
fn helper() {
    let Ok(ending) = env::var(ENDING) else {
        return;
    };
    let mut pids = Vec::new();
    match ending.as_str() {
        "drop" => drop(start_one_of_each(&mut pids)),
        "panic" => {
            let test = AssertUnwindSafe(|| {
                let _servers = start_one_of_each(&mut pids);
                panic!("on purpose");
            });
            catch_unwind(test).unwrap_err();
        }
        _ => {
            let _servers = start_one_of_each(&mut pids);
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            let line = format!("started: {}\n", pids.join(" "));
            std::io::stdout().write_all(line.as_bytes()).unwrap();
            thread::sleep(LIMIT * 10);
        }
    }
    // A service, Redis, three members of etcd, and Postgres with more than one process.
    assert!(pids.len() > 6);
    assert!(!pids.iter().any(|pid| runs(*pid)));
}

fn all_available() -> Result<(), Missing> {
    Redis::available()?;
    Postgres::available()?;
    Etcd::available()
}

fn start_helper(ending: &str, folder: &TempDir) -> Process {
    let test = Launch::new(env::current_exe().unwrap())
        .args(["--exact", "tidy::helper", "--nocapture"])
        .env(ENDING, ending)
        .env("TMPDIR", folder.path());
    Process::start(&test)
}

/// One of each; the ids of their processes, which run, are added to `pids`.
fn start_one_of_each(pids: &mut Vec<u32>) -> Vec<Box<dyn Any>> {
    let service = Service::builder("stand_in").start();
    let redis = Redis::start();
    let postgres = Postgres::start();
    let etcd = Etcd::start_with(etcd::Options {
        members: 3,
        ..etcd::Options::default()
    });
    let postmaster = postgres.process().pid();
    pids.extend([service.pid(), redis.process().pid(), postmaster]);
    pids.extend((0..3).map(|member| etcd.process(member).pid()));
    pids.extend(children(postmaster));
    assert!(pids.iter().all(|pid| runs(*pid)));
    vec![
        Box::new(service),
        Box::new(redis),
        Box::new(postgres),
        Box::new(etcd),
    ]
}

fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let pids = fs::read_to_string(path).unwrap();
    let pids = pids.split_whitespace();
    pids.map(|pid| pid.parse().unwrap()).collect()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A Postgres server that was killed leaves a few bytes of shared memory behind; the lock file in
/// its folder has their id.
fn remove_shared_memory(folder: &Path) {
    let folders = fs::read_dir(folder).unwrap();
    let lock_files = folders.map(|entry| entry.unwrap().path().join("cluster/postmaster.pid"));
    for lock_file in lock_files.filter_map(|path| fs::read_to_string(path).ok()) {
        let line = lock_file.lines().nth(6).unwrap();
        let segment = line.split_whitespace().nth(1).unwrap();
        let ipcrm = Launch::new("ipcrm").args(["--shmem-id", segment]);
        assert!(ipcrm.run_to_end(LIMIT).status.success());
    }
}
