//! Binding the ports, how many connections they take, and giving them up.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    os::fd::AsFd,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use socket2::{Domain, Socket, Type};
use tokio::time::sleep;
use tracing::warn;

use crate::settings::Host;

/// How many connections the kernel accepts for us before we do. It takes this down to
/// `net.core.somaxconn`, which is the same by default.
const BACKLOG: i32 = 4096;

/// Listens on `host` and `port`; `setting` is the variable that holds the port.
///
/// # Errors
///
/// A sentence that names the address, the settings that chose it, and what is wrong.
pub(crate) fn bind(host: &Host, port: u16, setting: &str) -> Result<TcpListener, String> {
    listen(host, port).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => "another process is using the port".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "not permitted: ports below 1024 need extra rights".to_owned()
            }
            _ => error.to_string(),
        };
        let host = host.as_str();
        format!("cannot listen on {host} port {port} (settings HOST and {setting}): {reason}")
    })
}

fn listen(host: &Host, port: u16) -> io::Result<TcpListener> {
    let mut refused = io::Error::other("the host name has no address");
    for address in (host.as_str(), port).to_socket_addrs()? {
        let listening = match listen_at(address) {
            // `::` listens on IPv4 too, but not where the kernel has no IPv6 at all.
            Err(error) if host.as_str() == "::" && !has_ipv6() => {
                warn!(%error, "no IPv6 here; listening on all IPv4 addresses instead");
                listen_at((Ipv4Addr::UNSPECIFIED, port).into())
            }
            listening => listening,
        };
        match listening {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the standard library does: connections of an earlier process that linger are no obstacle.
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Also where net.ipv6.bindv6only says otherwise.
        socket.set_only_v6(false)?;
    }
    // An answer is one small write: waiting to fill a packet would only delay it. A connection has
    // this from its listener.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Lets the kernel accept no more connections, and waits until none waits to be taken over.
///
/// Closing the listener would reset those, although their clients may have sent a request.
pub(crate) async fn refuse_more(listener: &impl AsFd) {
    /// Far longer than it takes to take over one connection.
    const PAUSE: Duration = Duration::from_millis(5);
    #[cfg(target_os = "linux")]
    drop_new_connections(listener);
    while has_waiting(listener) {
        sleep(PAUSE).await;
    }
    sleep(PAUSE).await;
}

/// Elsewhere than on Linux, those that arrive in the next milliseconds may be reset.
#[cfg(target_os = "linux")]
fn drop_new_connections(listener: &impl AsFd) {
    use socket2::{SockFilter, SockRef};
    // Classic BPF on the TCP header: drops a SYN that is no answer to one. A client tries again
    // after a second, and then nothing listens.
    let drop_syn = [
        SockFilter::new(0x30, 0, 0, 13),       // load the byte with the flags
        SockFilter::new(0x54, 0, 0, 0x12),     // of them, SYN and ACK
        SockFilter::new(0x15, 0, 1, 0x02),     // is it SYN alone?
        SockFilter::new(0x06, 0, 0, 0),        // yes: drop it
        SockFilter::new(0x06, 0, 0, u32::MAX), // no: keep all of it
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&drop_syn) {
        tracing::debug!(%error, "filtering new connections failed");
    }
}

fn has_waiting(listener: &impl AsFd) -> bool {
    let mut listener = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut listener, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Where a process on the same machine reaches a listener on `host` and `port`.
pub(crate) fn reach(host: &Host, port: u16) -> io::Result<SocketAddr> {
    let mut address = (host.as_str(), port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the host name has no address"))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        // A listener on `::` takes IPv4 connections as well, and does so without IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

/// Connections to the admin port, which are kept back for it.
pub(crate) const ADMIN_CONNECTIONS: usize = 64;

/// Kept back for everything that is no connection to a listener, and for each worker: what its
/// runtime needs, and its connection to what stands behind the service.
const OTHER_FILES: usize = 32;
const FILES_PER_WORKER: usize = 8;

/// As many as actix-web takes by default.
const MOST_CONNECTIONS: usize = 25_600;

/// The memory that a connection may take, in bytes: what it does at work, with its buffers.
const MEMORY_PER_CONNECTION: usize = 32 * 1024;

/// Raises the limit of open files as far as the process may, and divides what is not kept back
/// among the workers of the public port, as far as the container's memory goes: so many
/// connections each.
pub(crate) fn connections_per_worker(workers: usize) -> usize {
    let in_memory = memory_limit().map_or(usize::MAX, |bytes| bytes / MEMORY_PER_CONNECTION);
    divide(raise_open_files(), workers).min((in_memory / workers).max(1))
}

/// The memory limit of the container, in bytes, from its control group of version 2 or 1.
fn memory_limit() -> Option<usize> {
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let mut texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    // Without a limit it is `max`, or a number beyond all memory.
    texts.find_map(|text| text.trim().parse().ok())
}

fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            warn!(%error, "raising the limit of open files failed");
            limit.current
        }
    };
    let unlimited = usize::MAX;
    current.map_or(unlimited, |files| {
        usize::try_from(files).unwrap_or(unlimited)
    })
}

fn divide(limit: usize, workers: usize) -> usize {
    let kept_back = ADMIN_CONNECTIONS + OTHER_FILES + FILES_PER_WORKER * workers;
    // Below that nothing is safe; but a little is served all the same.
    let connections = limit.saturating_sub(kept_back).max(limit / 4);
    (connections / workers).clamp(1, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn host(text: &str) -> Host {
        Host::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_port_in_use_is_named_together_with_its_setting() {
        let taken = bind(&host("127.0.0.1"), 0, "PORT").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&host("127.0.0.1"), port, "ADMIN_PORT").unwrap_err();
        assert_eq!(
            error,
            format!(
                "cannot listen on 127.0.0.1 port {port} (settings HOST and ADMIN_PORT): \
                 another process is using the port"
            )
        );
    }

    #[test]
    fn hundreds_of_connections_at_once_need_not_wait() {
        let listener = bind(&host("127.0.0.1"), 0, "PORT").unwrap();
        let address = listener.local_addr().unwrap();
        // Nothing takes them over. One for which there is no room would try again for a minute.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(30));
        let connected: io::Result<Vec<_>> = (0..400).map(connect).collect();
        assert_eq!(connected.unwrap().len(), 400);
    }

    #[tokio::test]
    async fn connections_that_wait_are_not_reset_when_no_more_are_accepted() {
        let listener = bind(&host("127.0.0.1"), 0, "PORT").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        let refusing = refuse_more(&listener);
        let taking_over = async {
            // The filter is in place from the first poll of the other future.
            tokio::task::yield_now().await;
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
            listener.accept().unwrap();
        };
        tokio::join!(refusing, taking_over);
        assert!(listener.accept().is_err(), "there was only one");
    }

    #[test]
    fn all_addresses_are_reached_through_loopback() {
        for all in ["0.0.0.0", "::"] {
            assert_eq!(
                reach(&host(all), 80).unwrap().to_string(),
                "127.0.0.1:80",
                "{all}"
            );
        }
        assert_eq!(reach(&host("::1"), 80).unwrap().to_string(), "[::1]:80");
    }

    #[test]
    fn what_others_need_is_kept_back() {
        assert_eq!(divide(1024, 2), (1024 - 64 - 32 - 16) / 2);
        assert_eq!(divide(64, 2), 8);
        assert_eq!(divide(0, 2), 1);
        assert_eq!(divide(usize::MAX, 2), MOST_CONNECTIONS);
    }
}
