//! Ports that stay ours, also while nothing listens on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

/// A port on 127.0.0.1 that nobody else gets while this exists.
///
/// It holds a socket that is bound and does not listen. On Linux, a server that sets
/// `SO_REUSEADDR`, as servers do, can listen on the same port in spite of it; the kernel's own
/// choice of a free port, for listeners and for outgoing connections, passes it by. So there is
/// no moment between choosing a port and using it in which another process could take it, and a
/// server that was killed gets its port back.
///
/// While no server listens, connections are refused.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _socket: OwnedFd,
}

impl Port {
    /// Reserves a port that is free now.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn free() -> Self {
        Self::reserve(0).expect("a free port on 127.0.0.1")
    }

    /// Reserves this port.
    ///
    /// # Errors
    ///
    /// When something listens on it.
    pub fn reserve(number: u16) -> io::Result<Self> {
        // Servers must not inherit it, or the reservation would outlive this value.
        let flags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        net::sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, number)))?;
        let bound = SocketAddr::try_from(net::getsockname(&socket)?)?;
        Ok(Self {
            number: bound.port(),
            _socket: socket,
        })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port with its address, 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
