//! Connecting to a host that may have several addresses.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long an address may be silent before the next one is tried beside it: the "Connection
/// Attempt Delay" that RFC 8305, section 5, recommends.
const NEXT: Duration = Duration::from_millis(250);

/// Opens a TCP connection without delay (`TCP_NODELAY`) to the first address of `host` that
/// answers.
///
/// The name is resolved every time: after a fail-over it leads elsewhere. There is no time limit;
/// the caller has one.
///
/// # Errors
///
/// The name has no address, or the last address tried refused.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?.collect();
    connect_to_any(addresses).await
}

async fn connect_to_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = by_turns(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::Error::other("the host name has no address");
    loop {
        let wait = match addresses.next() {
            Some(address) => {
                attempts.push(TcpStream::connect(address));
                NEXT
            }
            None => Duration::MAX,
        };
        match timeout(wait, attempts.next()).await {
            Ok(Some(Ok(stream))) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Some(Err(refused))) => error = refused,
            Ok(None) => return Err(error),
            Err(_silent) => {}
        }
    }
}

/// Both families by turns, as RFC 8305, section 4, has it, so that a network without one of them
/// costs one delay and not one for each of its addresses.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let mut turn = [0, 0];
    let mut ordered: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let other = usize::from(address.is_ipv6() != first_is_ipv6);
            turn[other] += 1;
            (turn[other], other, address)
        })
        .collect();
    ordered.sort_by_key(|&(turn, other, _)| (turn, other));
    ordered.into_iter().map(|(_, _, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that drops what it is sent: its accept queue is full.
    async fn silent() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(NEXT, TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
        }
        (socket, queued, address)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_or_refuses_does_not_keep_the_next_from_being_tried() {
        let (_socket, _queued, silent) = silent().await;
        let (_good, good) = listener();
        let refuses = listener().1;
        let stream = connect_to_any(vec![silent, refuses, silent, good])
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(stream.nodelay().unwrap());
        let error = connect_to_any(vec![refuses, refuses]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_to_any(Vec::new()).await.is_err());
    }

    #[test]
    fn the_families_take_turns() {
        let addresses = ["[::1]:1", "[::1]:2", "[::1]:3", "1.1.1.1:1", "1.1.1.1:2"];
        let ordered = by_turns(addresses.map(|address| address.parse().unwrap()).into());
        let expected = ["[::1]:1", "1.1.1.1:1", "[::1]:2", "1.1.1.1:2", "[::1]:3"];
        assert_eq!(
            ordered,
            expected.map(|address| address.parse::<SocketAddr>().unwrap())
        );
    }
}
