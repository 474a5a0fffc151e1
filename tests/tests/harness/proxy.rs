//! Each fault of the proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use e2e::port::Port;
use e2e::{Fault, Proxy, wait};

use crate::LIMIT;

const MOMENT: Duration = Duration::from_millis(200);

/// A server that sends back what it gets, on this address.
fn echo_at(addr: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(addr).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Faults break its connections; that is what the tests are about.
            thread::spawn(move || io::copy(&mut &stream, &mut &stream).unwrap_or_default());
        }
    });
    addr
}

fn proxy() -> Proxy {
    Proxy::start(echo_at(([127, 0, 0, 1], 0).into()))
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends `word` and reads as many bytes back.
fn echo(stream: &mut TcpStream, word: &str) -> io::Result<String> {
    stream.write_all(word.as_bytes())?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

#[track_caller]
fn assert_echoes(stream: &mut TcpStream) {
    assert_eq!(echo(stream, "hello").unwrap(), "hello");
}

#[track_caller]
fn assert_closed(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[track_caller]
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
}

#[test]
fn what_passes_is_counted() {
    let proxy = proxy();
    let mut one = client(&proxy);
    let mut two = client(&proxy);
    for _ in 0..3 {
        assert_echoes(&mut one);
    }
    assert_echoes(&mut two);
    assert_eq!(proxy.connections(), 2);
    assert_eq!(proxy.live_connections(), 2);
    assert_eq!(proxy.requests(), 4);
    assert_eq!((proxy.bytes_up(), proxy.bytes_down()), (20, 20));
    drop(one);
    wait::until("the connection to end", LIMIT, || {
        (proxy.live_connections() == 1).then_some(())
    });
}

#[test]
fn megabytes_arrive_whole_and_with_an_end() {
    let proxy = proxy();
    let mut stream = client(&proxy);
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent);
}

#[test]
fn latency_delays_each_answer_of_old_and_new_connections() {
    let proxy = proxy();
    let mut old = client(&proxy);
    assert_echoes(&mut old);
    proxy.set(Fault::Latency {
        delay: MOMENT,
        jitter: MOMENT,
    });
    for stream in [&mut old, &mut client(&proxy)] {
        let started = Instant::now();
        assert_echoes(stream);
        assert!(started.elapsed() >= MOMENT);
    }
}

#[test]
fn a_held_answer_is_let_go_by_the_next_fault() {
    let proxy = proxy();
    proxy.set(Fault::Latency {
        delay: LIMIT * 100,
        jitter: Duration::ZERO,
    });
    let mut stream = client(&proxy);
    stream.write_all(b"hello").unwrap();
    assert_silent(&mut stream);
    assert_eq!(proxy.bytes_up(), 5);
    proxy.set(Fault::Pass);
    stream.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn latency_does_not_add_up_over_what_is_sent_together() {
    let proxy = proxy();
    proxy.set(Fault::Latency {
        delay: MOMENT,
        jitter: Duration::ZERO,
    });
    let mut stream = client(&proxy);
    let started = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    stream.read_exact(&mut [0; 20]).unwrap();
    assert!(started.elapsed() < MOMENT * 10);
}

#[test]
fn bandwidth_limits_how_fast_bytes_pass() {
    let proxy = proxy();
    proxy.set(Fault::Bandwidth {
        bytes_per_second: 20_000,
    });
    let mut stream = client(&proxy);
    let started = Instant::now();
    echo(&mut stream, &"x".repeat(10_000)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(450));

    stream.write_all(&[b'x'; 1_000_000]).unwrap();
    proxy.set(Fault::Pass);
    stream.read_exact(&mut vec![0; 1_000_000]).unwrap();
    assert!(started.elapsed() < LIMIT);
}

#[test]
fn a_black_hole_swallows_and_what_it_touched_stays_silent() {
    let proxy = proxy();
    let mut touched = client(&proxy);
    let mut untouched = client(&proxy);
    assert_echoes(&mut touched);
    assert_echoes(&mut untouched);
    proxy.set(Fault::BlackHole);
    let mut new = client(&proxy);
    for stream in [&mut touched, &mut new] {
        stream.write_all(b"lost").unwrap();
        assert_silent(stream);
    }
    assert_eq!(proxy.bytes_up(), 10);
    proxy.set(Fault::Pass);
    assert_echoes(&mut untouched);
    assert_echoes(&mut client(&proxy));
    for stream in [&mut touched, &mut new] {
        stream.write_all(b"lost too").unwrap();
        assert_silent(stream);
    }
}

#[test]
fn refused_connections_heal_on_the_same_port() {
    let proxy = proxy();
    let mut old = client(&proxy);
    assert_echoes(&mut old);
    for _ in 0..3 {
        proxy.set(Fault::Refuse);
        let error = TcpStream::connect(proxy.addr()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        proxy.set(Fault::Pass);
        assert_echoes(&mut client(&proxy));
    }
    assert_closed(&mut old);
}

#[test]
fn a_cut_closes_what_is_there_and_nothing_else() {
    let proxy = proxy();
    let mut used = client(&proxy);
    assert_echoes(&mut used);
    let mut just_connected = client(&proxy);
    proxy.cut();
    assert_closed(&mut used);
    assert_closed(&mut just_connected);
    assert_echoes(&mut client(&proxy));
}

#[test]
fn a_reset_hits_what_is_there_and_nothing_else() {
    let proxy = proxy();
    let mut used = client(&proxy);
    assert_echoes(&mut used);
    let mut just_connected = client(&proxy);
    proxy.reset();
    assert_reset(&mut used);
    assert_reset(&mut just_connected);
    assert_echoes(&mut client(&proxy));
}

#[test]
fn resetting_goes_on_until_it_is_healed() {
    let proxy = proxy();
    let mut old = client(&proxy);
    assert_echoes(&mut old);
    proxy.set(Fault::Reset);
    assert_reset(&mut old);
    for _ in 0..3 {
        assert_reset(&mut client(&proxy));
    }
    proxy.set(Fault::Pass);
    assert_echoes(&mut client(&proxy));
}

#[test]
fn a_slow_close_tells_the_other_side_late() {
    let proxy = proxy();
    let mut stream = client(&proxy);
    assert_echoes(&mut stream);
    proxy.set(Fault::SlowClose { delay: MOMENT });
    let started = Instant::now();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_closed(&mut stream);
    // The client's close was late for the server, and the server's was late for the client.
    assert!(started.elapsed() >= MOMENT * 2);
}

#[test]
fn a_truncated_answer_ends_after_its_first_bytes() {
    let proxy = proxy();
    let mut old = client(&proxy);
    assert_echoes(&mut old);
    proxy.set(Fault::Truncate { bytes: 6 });
    for stream in [&mut old, &mut client(&proxy)] {
        assert_echoes(stream);
        assert_echoes(stream);
        stream.write_all(b"hello, world").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello,");
    }
}

#[test]
fn an_upstream_that_is_not_there_shows_as_a_reset_and_may_come_later() {
    let port = Port::free();
    let proxy = Proxy::start(port.addr());
    assert_reset(&mut client(&proxy));
    echo_at(port.addr());
    assert_echoes(&mut client(&proxy));
}

#[test]
fn new_connections_can_be_led_elsewhere() {
    let proxy = proxy();
    let mut old = client(&proxy);
    assert_echoes(&mut old);
    let nowhere = Port::free();
    proxy.redirect(nowhere.addr());
    assert_reset(&mut client(&proxy));
    assert_echoes(&mut old);
}

#[test]
fn a_proxy_ends_with_its_last_handle() {
    let proxy = proxy();
    let handle = proxy.clone();
    let addr = proxy.addr();
    let mut stream = client(&proxy);
    drop(proxy);
    assert_echoes(&mut stream);
    drop(handle);
    assert_closed(&mut stream);
    assert!(TcpStream::connect(addr).is_err());
}
