//! Binding the ports.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
};

use socket2::{Domain, Socket, Type};
use tracing::warn;

use crate::settings::Host;

/// How many connections the kernel accepts for us before we do. It takes this down to
/// `net.core.somaxconn`, which is the same by default.
const BACKLOG: i32 = 4096;

/// A port that cannot be listened on, and which setting chose it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host} port {port} (settings HOST and {setting}): {reason}")]
pub(crate) struct BindError {
    host: String,
    port: u16,
    setting: &'static str,
    reason: Reason,
}

#[derive(Debug)]
struct Reason(io::Error);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::AddrInUse => f.write_str("another process is using the port"),
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("this machine does not have the address")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("not permitted: ports below 1024 need extra rights")
            }
            _ => self.0.fmt(f),
        }
    }
}

/// Listens on `host` and `port`; `setting` is the variable that holds the port.
pub(crate) fn bind(
    host: &Host,
    port: u16,
    setting: &'static str,
) -> Result<TcpListener, BindError> {
    listen(host, port).map_err(|error| BindError {
        host: host.as_str().to_owned(),
        port,
        setting,
        reason: Reason(error),
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
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

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    fn host(text: &str) -> Host {
        Host::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_port_in_use_is_named_together_with_its_setting() {
        let taken = bind(&host("127.0.0.1"), 0, "PORT").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&host("127.0.0.1"), port, "ADMIN_PORT")
            .unwrap_err()
            .to_string();
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
}
