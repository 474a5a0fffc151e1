//! The directory of the file store: whatever is wrong with it is said, and nothing is lost.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use e2e::{
    http,
    launch::{Launch, Output},
    service::{binary_path, run_to_end},
    skip,
};

use crate::started::{file, on_file, ready};

const LIMIT: Duration = Duration::from_secs(10);

fn start_on(dir: &Path) -> Output {
    let dir = dir.to_str().expect("a path that is text");
    let env = [("DATA_DIR", dir), ("PORT", "0"), ("ADMIN_PORT", "0")];
    run_to_end("persistence_server", &env, &[], LIMIT)
}

#[track_caller]
fn refused(output: &Output, dir: &Path, words: &str) {
    let stderr = &output.stderr;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains(&format!("DATA_DIR={}", dir.display())),
        "{stderr}"
    );
    assert!(last.contains(words), "{stderr}");
}

fn next(service: &e2e::service::Service) -> u64 {
    let answer = http::get(service.addr(), "/").expect("an answer").json();
    answer["data"]["number"].as_u64().expect("a number")
}

#[test]
fn a_directory_that_is_missing_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    refused(&start_on(&missing), &missing, "does not exist");
    assert!(!missing.exists());
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "hello").unwrap();
    refused(&start_on(&path), &path, "not a directory");
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (program, dir) = (
        place.path().join("persistence_server"),
        place.path().join("data"),
    );
    fs::copy(binary_path("persistence_server"), &program).unwrap();
    fs::create_dir(&dir).unwrap();
    for path in [place.path(), &dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let launch = Launch::new(program)
        .env("DATA_DIR", &dir)
        .env("PORT", "0")
        .env("ADMIN_PORT", "0");
    // Nothing is read-only to root.
    let is_root = rustix::process::geteuid().is_root();
    let launch = if is_root {
        launch.user("daemon")
    } else {
        launch
    };
    refused(&launch.run_to_end(LIMIT), &dir, "Permission denied");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=4k,nr_inodes=8", "none"];
    let mounted = Launch::new("mount")
        .args(mount)
        .arg(dir.path())
        .run_to_end(LIMIT);
    if !mounted.status.success() {
        let privilege = skip::Missing::new("mount (as root)", "mount");
        assert!(skip::unless(Err(privilege)));
        return;
    }
    let output = start_on(dir.path());
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    Launch::new("umount").arg(dir.path()).run_to_end(LIMIT);
    refused(&output, dir.path(), "No space left on device");
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_second_process_is_kept_out() {
    let (first, dir) = file();
    assert_eq!(next(&first), 1);
    refused(
        &start_on(dir.path()),
        dir.path(),
        "another process is using the directory",
    );
    assert_eq!(next(&first), 2);
}

#[test]
fn a_damaged_file_stops_the_start_and_is_left_alone() {
    let (service, dir) = file();
    for _ in 0..3 {
        next(&service);
    }
    service.kill9();
    let path = dir.path().join("numbers.sequence");
    let good = fs::read(&path).unwrap();
    for damage in [
        &good[..good.len() - 1],
        b"garbage",
        b"",
        &vec![0; good.len()],
    ] {
        fs::write(&path, damage).unwrap();
        refused(
            &start_on(dir.path()),
            dir.path(),
            "numbers.sequence is damaged",
        );
        assert_eq!(fs::read(&path).unwrap(), damage);
    }
    fs::write(&path, good).unwrap();
    assert_eq!(next(&ready(on_file(&dir))), 4);
}

#[test]
fn each_sequence_in_a_directory_counts_by_itself() {
    let (service, dir) = file();
    assert_eq!((next(&service), next(&service)), (1, 2));
    service.kill9();
    let orders = ready(on_file(&dir).env("SEQUENCE", "orders"));
    assert_eq!(next(&orders), 1);
    orders.kill9();
    assert_eq!(next(&ready(on_file(&dir))), 3);
}
