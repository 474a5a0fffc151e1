//! How a process is started: what runs, with which environment, and so that it dies with us.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wait;

/// What to run. It can be run any number of times.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, OsString>,
    user: Option<String>,
}

/// How a program that ran to its end went.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// What it wrote to standard output, if it succeeded.
    ///
    /// # Errors
    ///
    /// All that it wrote, if it did not.
    pub fn success(self) -> Result<String, String> {
        match self.status.success() {
            true => Ok(self.stdout.trim_end().to_owned()),
            false => Err(self.stdout + &self.stderr),
        }
    }
}

impl Launch {
    /// Runs `program`, with an environment that holds nothing but `PATH`: a setting in the
    /// developer's shell must not change what a test sees.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            user: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Sets one variable, in place of an earlier value.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Gives it these variables as they are here, where they are set.
    pub fn inherit(mut self, names: &[&str]) -> Self {
        for name in names {
            if let Some(value) = env::var_os(name) {
                self.env.insert((*name).to_owned(), value);
            }
        }
        self
    }

    /// Runs it as another user, which only root may do.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Lets a tool start the program: `strace`, `taskset` and the like, with their arguments.
    ///
    /// # Panics
    ///
    /// Without a tool.
    pub fn under(mut self, tool: impl IntoIterator<Item = String>) -> Self {
        let mut tool = tool.into_iter().map(OsString::from);
        let program = tool.next().expect("a tool");
        let program = std::mem::replace(&mut self.program, program.into());
        let args = std::mem::take(&mut self.args);
        self.args = tool.chain([program.into()]).chain(args).collect();
        self
    }

    /// The program's file name.
    pub fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Starts it with both output streams piped and nothing to read.
    pub(crate) fn spawn(&self) -> io::Result<Child> {
        // The wrapper would start and then fail in its own words.
        let found = match self.program.components().count() {
            1 => find(&self.name()).is_some(),
            _ => is_program(&self.program),
        };
        if !found {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        spawn_from_lasting_thread(command)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started or has not ended within `limit`; then it is killed.
    #[track_caller]
    pub fn run_to_end(&self, limit: Duration) -> Output {
        let output = self.try_run_to_end(limit);
        output.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or has not ended within `limit`; then it is killed.
    pub fn try_run_to_end(&self, limit: Duration) -> Result<Output, String> {
        let name = self.name();
        let child = self.spawn();
        let mut child = child.map_err(|error| format!("{name} cannot be started: {error}"))?;
        let stdout = read_in_background(child.stdout.take().expect("stdout is piped"));
        let stderr = read_in_background(child.stderr.take().expect("stderr is piped"));
        let status = wait::within(limit, || {
            child.try_wait().expect("a child can be waited for")
        });
        if status.is_none() {
            // Already gone is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
        let stdout = stdout.join().expect("reading does not panic");
        let stderr = stderr.join().expect("reading does not panic");
        match status {
            Some(status) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            None => Err(format!(
                "{name} did not end within {limit:?}\nstdout: {stdout}\nstderr: {stderr}"
            )),
        }
    }

    /// The command, wrapped so that the kernel kills it when this process ends.
    ///
    /// `setpriv` replaces itself by the program, so the process id is the program's own.
    fn command(&self) -> Command {
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                if let Some(user) = &self.user {
                    command.args(["--reuid", user, "--regid", user, "--init-groups"]);
                }
                command.args(["--pdeathsig", "KILL", "--"]);
                command.arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).env_clear().envs(&self.env);
        command
    }
}

/// Looks a program up on `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut candidates = env::split_paths(&path).map(|folder| folder.join(program));
    candidates.find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Starts a command from a thread that lives as long as this process.
///
/// The "parent" whose death the kernel watches for is the thread that started the child, not its
/// process: a server started by a test's own thread would be killed at the end of that test,
/// although another test may still share it.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static JOBS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    let jobs = JOBS.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Whoever asked waits for the answer, so it is only gone if it was killed.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    jobs.send((command, reply)).expect("the thread lasts");
    answer.recv().expect("the thread answers")
}

fn read_in_background(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
