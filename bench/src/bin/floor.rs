//! The floor: the least that a process can do to answer HTTP on Linux.
//!
//! One thread, one epoll, one read and one write for each request. It parses nothing, so it is
//! not an HTTP server: it takes whatever one read brings for one request. What a real server
//! costs above this is its own doing.
//!
//! `floor PORT`

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n\
    Hello, World!\n";

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let port = args.next().and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| io::Error::other("usage: floor PORT"))?;

    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let watch = |fd: &dyn std::os::fd::AsFd| {
        let data = EventData::new_u64(fd.as_fd().as_raw_fd().unsigned_abs().into());
        epoll::add(&epoll, fd.as_fd(), data, EventFlags::IN)
    };
    watch(&listener)?;

    // By the number of their file descriptors, which the kernel keeps small.
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(512);
    let mut buffer = [0; 4096];
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let place = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
            if place == usize::try_from(listener.as_raw_fd()).map_err(io::Error::other)? {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                watch(&stream)?;
                let place = usize::try_from(stream.as_raw_fd()).map_err(io::Error::other)?;
                connections.resize_with(connections.len().max(place + 1), || None);
                connections[place] = Some(stream);
                continue;
            }
            let Some(stream) = &mut connections[place] else {
                continue;
            };
            let answered = match stream.read(&mut buffer) {
                Ok(0) | Err(_) => false,
                Ok(_) => stream.write_all(ANSWER).is_ok(),
            };
            if !answered {
                connections[place] = None;
            }
        }
    }
}
