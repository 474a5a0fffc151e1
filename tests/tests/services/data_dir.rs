//! The directory of the file store: whatever is wrong with it is said, and nothing is lost.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    http,
    launch::{Launch, Output},
    service::{Service, binary_path, run_to_end},
    skip, wait,
};
use rustix::process::{Pid, Resource, Rlimit, geteuid, prlimit};

use crate::started::{SOON, file, is_ready, not_ready_because, on_file, ready};

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

fn next(service: &Service) -> u64 {
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
    let is_root = geteuid().is_root();
    let launch = if is_root {
        launch.user("daemon")
    } else {
        launch
    };
    let output = launch.run_to_end(LIMIT);
    refused(&output, &dir, "Permission denied");
    let owner = fs::metadata(&dir).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    let owner = format!("belongs to user {uid} and group {gid} and has mode 555; run `chown -R ");
    refused(&output, &dir, &owner);
    let runs_as = match is_root {
        true => "the service runs as user 1 and group 1, ".to_owned(),
        false => format!("the service runs as user {uid} and group {gid}, "),
    };
    refused(&output, &dir, &runs_as);
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
    assert!(left.is_empty(), "{left:?}");
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
fn a_second_process_is_kept_out_also_without_a_lock_file() {
    let dir = tempfile::tempdir().unwrap();
    // Earlier versions locked this file.
    fs::write(dir.path().join("lock"), "").unwrap();
    let first = ready(on_file(&dir));
    fs::remove_file(dir.path().join("lock")).unwrap();
    let in_use = "another process is using the directory";
    refused(&start_on(dir.path()), dir.path(), in_use);
    // Another way to the same file.
    let other = tempfile::tempdir().unwrap();
    let [file, link] = [&dir, &other].map(|dir| dir.path().join("numbers.sequence"));
    symlink(file, link).unwrap();
    let in_use = "another process is using the file";
    refused(&start_on(other.path()), other.path(), in_use);
    assert_eq!(next(&first), 1);
}

#[test]
fn a_link_that_leads_nowhere_is_not_taken_for_a_new_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("elsewhere");
    symlink(&target, dir.path().join("numbers.sequence")).unwrap();
    let words = "numbers.sequence is a symbolic link to a file that does not exist";
    refused(&start_on(dir.path()), dir.path(), words);
    assert!(!target.exists());
}

#[test]
fn a_new_sequence_says_that_it_is_one() {
    let words = "a new sequence begins";
    let (mut service, _dir) = file();
    service.stderr().wait_for(words, LIMIT);
    service.restart();
    wait::until("readiness", SOON, || is_ready(&service).then_some(()));
    assert!(!service.stderr().contain(words));
}

#[test]
fn a_file_that_is_moved_or_replaced_stops_the_numbers_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let service = ready(on_file(&dir).env("REQUEST_TIMEOUT_MS", "100"));
    let path = dir.path().join("numbers.sequence");
    let elsewhere = dir.path().join("elsewhere");
    for replaced in [false, true] {
        let last = next(&service);
        fs::rename(&path, &elsewhere).unwrap();
        if replaced {
            fs::copy(&elsewhere, &path).unwrap();
        }
        let reason = wait::until("a reason", LIMIT, || not_ready_because(&service));
        let place = format!("file store in DATA_DIR={}: ", dir.path().display());
        assert!(reason.contains(&place), "{reason}");
        let floor = format!("start the service again with SEQUENCE_FLOOR={last}");
        assert!(reason.ends_with(&floor), "{reason}");
        assert_eq!(http::get(service.addr(), "/").unwrap().status, 503);
        fs::rename(&elsewhere, &path).unwrap();
        wait::until("readiness", LIMIT, || is_ready(&service).then_some(()));
        assert!(next(&service) > last);
    }
}

#[test]
fn a_write_that_fails_answers_all_who_wait_and_ends_the_process() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    let dir = tempfile::tempdir().unwrap();
    // Without a signal, a write beyond the limit is an error.
    let ignore = ["sh", "-c", "trap '' XFSZ; exec \"$0\""].map(str::to_owned);
    let timeout = TIMEOUT.as_millis().to_string();
    let service = on_file(&dir).env("REQUEST_TIMEOUT_MS", timeout);
    let service = ready(service.under(ignore));
    assert_eq!(next(&service), 1);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let pid = i32::try_from(service.pid()).ok().and_then(Pid::from_raw);
    let begin = Instant::now();
    prlimit(pid, Resource::Fsize, none).unwrap();
    let answers = thread::scope(|scope| {
        let get = || http::get(service.addr(), "/");
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(get)).collect();
        // Those that come once it is stopping find no listener.
        let answers = clients.into_iter().filter_map(|c| c.join().unwrap().ok());
        answers.map(|answer| answer.status).collect::<Vec<_>>()
    });
    assert!(!answers.is_empty() && answers.iter().all(|status| *status == 503));
    let status = service.wait(LIMIT);
    assert_eq!(status.code(), Some(1));
    assert!(begin.elapsed() < TIMEOUT / 2, "{:?}", begin.elapsed());
    service
        .stderr()
        .wait_for("cannot write: File too large", LIMIT);
}

#[test]
fn a_directory_of_group_0_serves_any_user_of_that_group() {
    if !geteuid().is_root() {
        let privilege = skip::Missing::new("setpriv (as root)", "util-linux");
        assert!(skip::unless(Err(privilege)));
        return;
    }
    let [place, dir] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let program = place.path().join("persistence_server");
    fs::copy(binary_path("persistence_server"), &program).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    for (number, user) in [(1, "1000650000"), (2, "1000660000")] {
        let other = ["setpriv", "--reuid", user, "--regid", "0", "--clear-groups"];
        let service = Service::builder_at(program.clone()).env("DATA_DIR", dir.path());
        let service = ready(service.under(other.map(str::to_owned)));
        assert_eq!(next(&service), number);
    }
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

#[test]
fn a_floor_is_kept_by_a_new_store_and_ignored_by_one_that_is_past_it() {
    let dir = tempfile::tempdir().unwrap();
    for (floor, expected) in [("1000", 1001), ("1000", 1002), ("7", 1003), ("5000", 5001)] {
        // Not ready yet: the floor must hold from the first request on.
        let service = on_file(&dir).env("SEQUENCE_FLOOR", floor).start();
        assert_eq!(next(&service), expected);
        let metrics = http::get(service.admin_addr(), "/metrics").unwrap().text();
        assert!(
            metrics.contains(&format!("sequence_highest_number {expected}")),
            "{metrics}"
        );
    }
}
