//! A running process, its output and its end.

use std::io::Write as _;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::launch::Launch;
use crate::lines::Lines;
use crate::{procfs, wait};

/// How long a signal may take to show its effect, on a machine that is busy.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// How many lines of each stream are shown when a test fails.
const SHOWN_LINES: usize = 200;

/// A process that is killed when this is dropped.
///
/// If that happens because a test panics, the last lines that it wrote are printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start(launch: &Launch) -> Self {
        let name = launch.name();
        let child = launch.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self {
            name,
            pid: Pid::from_child(&child),
            stdout: Lines::collect(child.stdout.take().expect("stdout is piped")),
            stderr: Lines::collect(child.stderr.take().expect("stderr is piped")),
            child: Mutex::new(child),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Sends a signal; a process that has ended is left alone. One that is suspended stands still
    /// when this returns.
    pub fn signal(&self, signal: Signal) {
        // While the lock is held nobody else collects the child, so its id cannot have been
        // given to another process.
        let mut child = self.child();
        if ended(&mut child).is_none() {
            // The only failure left is that it ended this moment.
            let _ = kill_process(self.pid, signal);
        }
        drop(child);
        if signal == Signal::STOP {
            until_stopped(self.pid);
        }
    }

    /// True until it has ended.
    pub fn alive(&self) -> bool {
        ended(&mut self.child()).is_none()
    }

    /// Waits for its end and for the last of its output.
    ///
    /// # Panics
    ///
    /// When it has not ended within `limit`.
    #[track_caller]
    pub fn wait(&self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {} (process {})", self.name, self.pid);
        let status = wait::until(&what, limit, || ended(&mut self.child()));
        // A child of the process may hold the pipes open; then there is no last line to wait for.
        self.stdout.wait_closed(Duration::from_secs(1));
        self.stderr.wait_closed(Duration::from_secs(1));
        status
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill9(&self) {
        self.signal(Signal::KILL);
        self.wait(SIGNAL_LIMIT);
    }

    /// Ends it and the processes that it started with SIGKILL, as a power failure would: none of
    /// them sees another one die first.
    pub fn kill9_with_children(&self) {
        let family = self.stop_family();
        for pid in &family {
            // Gone already is fine.
            let _ = kill_process(*pid, Signal::KILL);
        }
        self.kill9();
        wait::until("the end of the children", SIGNAL_LIMIT, || {
            (!family.iter().any(|pid| procfs::runs(*pid))).then_some(())
        });
    }

    /// Suspends it and the processes that it started; they stand still when this returns.
    pub fn pause(&self) {
        self.stop_family();
    }

    /// Lets it and the processes that it started go on.
    pub fn resume(&self) {
        if !self.alive() {
            return;
        }
        for pid in procfs::children(self.pid) {
            // Gone already is fine.
            let _ = kill_process(pid, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    /// User and system time so far.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        procfs::cpu_time(self.pid).expect("the process runs")
    }

    /// Resident memory.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    #[track_caller]
    pub fn rss_bytes(&self) -> u64 {
        procfs::rss_bytes(self.pid).expect("the process runs")
    }

    /// How many files, sockets included, it has open.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        procfs::open_files(self.pid).expect("the process runs")
    }

    /// Prints the last lines of both streams, where the test runner shows them with the test
    /// that failed.
    pub(crate) fn print_output(&self) {
        for (stream, lines) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let lines = lines.all();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            if shown.is_empty() {
                continue;
            }
            let text: String = shown.iter().map(|line| format!("    {line}\n")).collect();
            let Self { name, pid, .. } = self;
            let (some, all) = (shown.len(), lines.len());
            print(&format!(
                "{name} (process {pid}), last {some} of {all} lines of {stream}:\n{text}"
            ));
        }
    }

    /// Suspends it, then its children; suspended first, it starts no more of them meanwhile.
    fn stop_family(&self) -> Vec<Pid> {
        self.signal(Signal::STOP);
        if !self.alive() {
            return Vec::new();
        }
        let children = procfs::children(self.pid);
        for pid in &children {
            // Gone already is fine.
            let _ = kill_process(*pid, Signal::STOP);
        }
        for pid in &children {
            until_stopped(*pid);
        }
        children
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        // No guard lives across anything that could leave the child half changed.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.alive() {
            self.signal(Signal::KILL);
            // Not `kill9`: a second panic while the first one unwinds would abort the test run.
            let _ = self.child().wait();
        }
        if thread::panicking() {
            self.stdout.wait_closed(Duration::from_millis(200));
            self.stderr.wait_closed(Duration::from_millis(200));
            self.print_output();
        }
    }
}

/// True while a process of this id exists, whoever started it.
pub fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(procfs::runs)
}

/// Resident memory of a process, whoever started it; none for one that is gone.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    procfs::rss_bytes(pid?)
}

/// User and system time of a process and of what it started, also of children that have ended;
/// zero for one that is gone.
pub fn family_cpu_time(pid: u32) -> Duration {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.map_or(Duration::ZERO, procfs::family_cpu_time)
}

/// A signal is delivered a moment after it was sent; a process can still answer meanwhile.
fn until_stopped(pid: Pid) {
    wait::until("a suspended process to stand still", SIGNAL_LIMIT, || {
        (procfs::is_stopped(pid) || !procfs::runs(pid)).then_some(())
    });
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("a child can be waited for")
}

#[expect(
    clippy::print_stderr,
    reason = "only the macro's output is captured and shown with the failed test"
)]
fn print(text: &str) {
    eprint!("{text}");
    // What is not captured should not stay in a buffer.
    let _ = std::io::stderr().flush();
}
