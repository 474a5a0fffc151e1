//! Where the server's programs are, and what its data folder needs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Options, SUPERUSER};
use crate::launch::{Launch, find};
use crate::port::Port;
use crate::store::server::{READY_LIMIT, TOOL_LIMIT};

/// Where Debian keeps the servers, a folder per major version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// The user that the package made. The server refuses to run as root.
const SERVER_USER: &str = "postgres";

/// The newest version of one of the server's programs. `PATH` comes last: what it finds may be
/// a wrapper.
pub(super) fn binary(program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten();
    let versions = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let binary = version.path().join("bin").join(program);
        binary.is_file().then_some((number, binary))
    });
    let newest = versions.max_by_key(|(number, _)| *number);
    newest.map(|(_, binary)| binary).or_else(|| find(program))
}

/// Makes a new cluster in this folder, which becomes the server user's own.
#[track_caller]
pub(super) fn make(options: &Options, folder: &Path) {
    let password = options.password.as_deref().unwrap_or("unused");
    let password_file = folder.join("password");
    write(&password_file, password);
    if let Some(tls) = &options.tls {
        // The server wants the key to be its own and nobody else's to read.
        for (from, to) in [(tls.cert(), "cert.pem"), (tls.key(), "key.pem")] {
            let pem = fs::read_to_string(from).expect("a certificate");
            write(&folder.join(to), &pem);
        }
        let only_owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.join("key.pem"), only_owner).expect("a file of ours");
    }
    if rustix::process::geteuid().is_root() {
        let owner = format!("{SERVER_USER}:");
        let chown = Launch::new("chown").args(["-R", &owner]).arg(folder);
        let output = chown.run_to_end(TOOL_LIMIT);
        output.success().expect("the package made its user");
    }

    let auth = match options.password {
        Some(_) => "scram-sha-256",
        None => "trust",
    };
    let initdb = Launch::new(binary("initdb").expect("initdb is installed"))
        .args(["--username", SUPERUSER, "--auth", auth, "--pwfile"])
        .arg(&password_file)
        .args([
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
            "--pgdata",
        ])
        .arg(data(folder));
    let output = as_server_user(initdb).run_to_end(READY_LIMIT);
    output.success().expect("a new cluster");

    if options.tls.is_some() {
        let rule = format!("hostssl all all 127.0.0.1/32 {auth}\n");
        write(&data(folder).join("pg_hba.conf"), &rule);
    }
}

/// How the server on this folder is started.
pub(super) fn launch(options: &Options, port: &Port, folder: &Path) -> Launch {
    let on_or_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.number().to_string()),
        // No socket file: its path would be limited to about a hundred characters.
        ("unix_socket_directories", String::new()),
        ("fsync", on_or_off(options.fsync)),
    ];
    if options.tls.is_some() {
        let path = |name: &str| folder.join(name).display().to_string();
        settings.push(("ssl", on_or_off(true)));
        settings.push(("ssl_cert_file", path("cert.pem")));
        settings.push(("ssl_key_file", path("key.pem")));
    }
    settings.extend(options.settings.iter().cloned());

    let launch = Launch::new(binary("postgres").expect("postgres is installed"));
    let mut launch = launch.arg("-D").arg(data(folder));
    for (name, value) in settings {
        launch = launch.arg("-c").arg(format!("{name}={value}"));
    }
    as_server_user(launch)
}

/// Removes the shared memory segment of a server that has ended, unless it did so itself.
///
/// Its id is the second number in the seventh line of the lock file, which only a server that
/// was killed leaves behind.
pub(super) fn remove_shared_memory(folder: &Path) {
    let lock_file = fs::read_to_string(data(folder).join("postmaster.pid"));
    let lock_file = lock_file.unwrap_or_default();
    let line = lock_file.lines().nth(6).unwrap_or_default();
    if let Some(segment) = line.split_whitespace().nth(1) {
        let ipcrm = Launch::new("ipcrm").args(["--shmem-id", segment]);
        // What remains of a failure here is 56 bytes.
        let _ = ipcrm.try_run_to_end(TOOL_LIMIT);
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("cluster")
}

fn as_server_user(launch: Launch) -> Launch {
    match rustix::process::geteuid().is_root() {
        true => launch.user(SERVER_USER),
        false => launch,
    }
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file in a folder of ours");
}
