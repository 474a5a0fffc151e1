//! What `/proc` knows about a process.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// One line of `/proc/PID/stat`, as far as it is of use here.
struct Stat {
    state: char,
    parent: i32,
    user_ticks: u64,
    system_ticks: u64,
    /// Of the children that have ended.
    children_ticks: u64,
}

/// User and system time so far; none for a process that is gone.
pub(crate) fn cpu_time(pid: Pid) -> Option<Duration> {
    let stat = stat(pid)?;
    Some(from_ticks(stat.user_ticks + stat.system_ticks))
}

/// User and system time so far of a process and its children, of those that ended too.
pub(crate) fn family_cpu_time(pid: Pid) -> Duration {
    let own = stat(pid).map_or(0, |s| s.user_ticks + s.system_ticks + s.children_ticks);
    let children = children(pid).into_iter().filter_map(cpu_time);
    children.sum::<Duration>() + from_ticks(own)
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Resident memory; none for a process that is gone.
pub(crate) fn rss_bytes(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How many files, sockets included, are open; none for a process that is gone.
pub(crate) fn open_files(pid: Pid) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// The processes that `parent` started and that still run.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent.as_raw_pid()))
        .filter(|pid| runs(*pid))
        .collect()
}

/// True while the process exists; one that ended and waits to be collected does not count.
pub(crate) fn runs(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// True while the process is suspended.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

fn stat(pid: Pid) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, also spaces
    // and parentheses; what follows the last one is safe to split.
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |place: usize| -> Option<u64> { fields.get(place)?.parse().ok() };
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        user_ticks: field(11)?,
        system_ticks: field(12)?,
        children_ticks: field(13)? + field(14)?,
    })
}
