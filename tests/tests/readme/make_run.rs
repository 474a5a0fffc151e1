//! `make run`, typed in a terminal.

use std::{
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use e2e::{
    guide, http,
    launch::{Launch, find},
    port::Port,
    skip::{self, Missing},
    wait,
};
use tempfile::TempDir;

use crate::{readme, root, shown_commands};

const LIMIT: Duration = Duration::from_secs(60);

/// How long it may take until all is built, also on a machine where nothing is.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

const SERVICES: [&str; 3] = ["persistence_server", "hash_server", "hello_server"];

/// The README names the services' own ports, and the guide stops services by their name: so there
/// can be one run at a time.
static PORTS: Mutex<()> = Mutex::new(());

/// `make run` in a terminal, with a `DATA_DIR` of its own.
struct MakeRun {
    terminal: Child,
    screen: PathBuf,
    _data: TempDir,
}

impl MakeRun {
    fn start(typed: &str) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let screen = data.path().join("screen");
        let terminal = command("script")
            .args(["--quiet", "--flush", "--return", "--command", typed])
            .arg(&screen)
            .env("DATA_DIR", data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it was looked for");
        Self {
            terminal,
            screen,
            _data: data,
        }
    }

    /// Starts it with these settings on ports that are free, which are returned too.
    fn on_free_ports(settings: &str) -> (Self, Vec<Port>) {
        let mut typed = settings.to_owned();
        let mut ports = Vec::new();
        for name in ["PERSISTENCE", "HASH", "HELLO"] {
            let (port, admin) = (Port::free(), Port::free());
            typed += &format!(" {name}_PORT={}", port.number());
            typed += &format!(" {name}_ADMIN_PORT={}", admin.number());
            ports.extend([port, admin]);
        }
        (Self::start(&(typed + " make run")), ports)
    }

    /// All lines that it has shown so far.
    fn lines(&self) -> Vec<String> {
        let screen = fs::read(&self.screen).unwrap_or_default();
        let screen = String::from_utf8_lossy(&screen);
        screen.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let shown = wait::within(BUILD_LIMIT, || {
            let lines = self.lines();
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
        if shown.is_none() {
            panic!("no line with {text:?}:\n{}", self.lines().join("\n"));
        }
    }

    /// The process of a service, after it was started for this many times.
    #[track_caller]
    fn process(&self, service: &str, starts: usize) -> String {
        let shown = format!("{service} is process ");
        wait::until("a start", BUILD_LIMIT, || {
            let lines = self.lines();
            let mut processes = lines.iter().filter_map(|line| line.strip_prefix(&shown));
            processes.nth(starts - 1).map(str::to_owned)
        })
    }

    fn ctrl_c(&mut self) {
        let keyboard = self.terminal.stdin.as_mut().expect("it is piped");
        // It is not read where the command has ended already.
        let _ = keyboard.write_all(b"\x03");
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let ended = || self.terminal.try_wait().ok().flatten();
        match wait::within(LIMIT, ended) {
            Some(status) => status,
            None => panic!("it did not end:\n{}", self.lines().join("\n")),
        }
    }
}

impl Drop for MakeRun {
    fn drop(&mut self) {
        self.ctrl_c();
        let ended = || self.terminal.try_wait().ok().flatten();
        if wait::within(LIMIT, ended).is_none() {
            // What runs in the terminal is told that it is gone.
            let _ = self.terminal.kill();
            let _ = self.terminal.wait();
        }
    }
}

/// True when the test should return at once, because there is no terminal to type in.
fn skip() -> bool {
    let script = find("script").ok_or(Missing::elsewhere("script", "a part of util-linux"));
    skip::unless(script.map(drop))
}

/// A command in the repository, with the environment of a user: crates that read what cargo tells a
/// test would be compiled again.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in env::vars() {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

fn kill(signal: &str, process: &str) {
    let output = Launch::new("kill")
        .args([signal, process])
        .run_to_end(LIMIT);
    assert!(output.status.success(), "{output:?}");
}

fn is_free(port: u16) -> bool {
    Port::reserve(port).is_ok()
}

#[test]
fn make_run_and_the_commands_in_the_readme_do_what_it_shows() {
    if skip() {
        return;
    }
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = [8080, 8081, 8082, 9080, 9081, 9082];
    for port in ports {
        assert!(is_free(port), "port {port} is in use");
    }
    let mut run = MakeRun::start("make run");
    run.wait_for("The three services are running");

    let commands = shown_commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for (command, shown) in commands {
        let quiet = command.replace("curl ", "curl --silent ");
        let output = Launch::new("bash").args(["-c", &quiet]).run_to_end(LIMIT);
        assert_eq!(output.stdout, shown, "$ {command}\n{}", output.stderr);
    }

    let mut second = MakeRun::start("make run");
    assert!(!second.wait().success());
    let refused = second.lines().join("\n");
    for port in ports {
        let message = format!("port {port} is in use: ");
        assert!(refused.contains(&message), "{refused}");
    }
    assert!(refused.contains("choose another with HASH_ADMIN_PORT="));
    assert!(!refused.contains("is process"), "{refused}");

    run.ctrl_c();
    run.wait();
    for port in ports {
        assert!(is_free(port), "port {port} is still in use");
    }
}

#[test]
fn the_guide_shows_what_a_process_does() {
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    guide::follow("01-process.md", &[]);
}

#[test]
fn the_proof_in_the_readme_holds_while_services_are_killed() {
    if skip() {
        return;
    }
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let readme = readme();
    let (_, section) = readme.split_once("\n### Prove it\n").expect("a section");
    let mut blocks = section.split("```sh\n").skip(1);
    let mut typed = || blocks.next()?.split("```").next();
    let run = MakeRun::start(typed().expect("a command"));
    run.wait_for("The three services are running");
    let mut proof = command("bash")
        .args(["-c", typed().expect("another command")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash is installed");
    wait::until("load", BUILD_LIMIT, || {
        let ended = proof.try_wait().expect("it can be waited for");
        assert_eq!(ended, None, "without a load");
        // Others take numbers between two of ours.
        let before = number()?;
        (number()? > before + 10).then_some(())
    });
    let mut kills = 0;
    while proof.try_wait().expect("it can be waited for").is_none() {
        kills += 1;
        for service in SERVICES {
            kill("-KILL", &run.process(service, kills));
            run.process(service, kills + 1);
        }
    }
    let output = proof.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("PROVEN"), "{said}");

    let screen = run.lines();
    for service in SERVICES {
        let begin = format!("{service} (process ");
        let told = screen.iter().filter(|line| {
            line.starts_with(&begin) && line.ends_with(" was killed by SIGKILL; starting it again")
        });
        assert_eq!(told.count(), kills, "{service}");
    }
}

fn number() -> Option<u64> {
    let answer = http::get(([127, 0, 0, 1], 8081).into(), "/").ok()?;
    if answer.status != 200 {
        return None;
    }
    answer.json()["data"]["number"].as_u64()
}

#[test]
fn ctrl_c_stops_everything_also_before_all_is_ready() {
    if skip() {
        return;
    }
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    // Nothing listens there, so persistence_server does not become ready.
    let store = Port::free();
    let settings = format!("STORE=redis REDIS_PORT={}", store.number());
    let (mut run, ports) = MakeRun::on_free_ports(&settings);
    for port in ports.chunks(2) {
        let livez = || http::get(port[1].addr(), "/livez").ok();
        wait::until("a service to listen", BUILD_LIMIT, livez);
    }
    // So its health check hangs, and Ctrl-C comes meanwhile.
    let persistence = run.process("persistence_server", 1);
    kill("-STOP", &persistence);
    thread::sleep(Duration::from_secs(1));
    run.ctrl_c();
    kill("-CONT", &persistence);
    run.wait();
    for port in ports {
        assert!(is_free(port.number()), "port {} is in use", port.number());
    }
    let screen = run.lines().join("\n");
    assert!(!screen.contains("are running"), "{screen}");
}

#[test]
fn a_service_that_fails_is_named_with_its_status_and_lines_stay_whole() {
    if skip() {
        return;
    }
    let _one = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    // All three complain about it, at the same time.
    let (mut run, _ports) = MakeRun::on_free_ports("REQUEST_TIMEOUT_MS=none");
    assert!(!run.wait().success());
    let screen = run.lines();
    let failed = " failed with status 2; stopping the others";
    assert!(
        screen.iter().any(|line| line.ends_with(failed)),
        "{screen:?}"
    );
    for service in SERVICES {
        let begin = format!("{service}:{service}: ");
        let own: Vec<&String> = screen.iter().filter(|l| l.starts_with(&begin)).collect();
        assert_eq!(own.len(), 1, "{screen:?}");
        assert_eq!(
            own[0].matches("REQUEST_TIMEOUT_MS").count(),
            1,
            "{screen:?}"
        );
    }
}
