//! Clients that close their connection, or one side of it, before they have their answer.

use std::{io::Write as _, net::TcpStream};

use e2e::{
    http::{self, Connection},
    metrics::metric,
    process::Signal,
    service::Service,
    wait,
};

use crate::started::{SOON, hash, hello, in_front_of, memory, ready};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Two requests, of which the first is answered at once: the answer shows that the second is
/// waiting for its number.
const NOTHING_THEN_GET: &str =
    "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_client_that_closes_its_sending_side_is_answered() {
    let persistence = memory();
    for service in [&hello(), &hash(&persistence), &persistence] {
        // So it finds the requests and the end of them at the same time.
        service.signal(Signal::STOP);
        let mut connection = Connection::open(service.addr()).unwrap();
        connection.send(GET.repeat(3)).unwrap();
        connection.finish_sending().unwrap();
        service.signal(Signal::CONT);
        for _ in 0..3 {
            assert_eq!(connection.receive().unwrap().status, 200);
        }
        let rest = connection.receive_rest().unwrap();
        assert!(rest.is_empty(), "and then the connection is closed");
        service.stdout().wait_for("\"status\":200", SOON);
    }
}

#[test]
fn a_request_whose_connection_is_reset_while_it_waits_takes_no_number() {
    let persistence = memory();
    let hash = ready(in_front_of(&persistence).env("WORKERS", "1"));
    persistence.signal(Signal::STOP);
    let mut first = waiting(&hash);
    let mut second = TcpStream::connect(hash.addr()).unwrap();
    second.write_all(NOTHING_THEN_GET.as_bytes()).unwrap();
    assert_eq!(second.peek(&mut [0]).unwrap(), 1);
    // With an answer that was not read, this is a reset.
    drop(second);
    let mut last = waiting(&hash);
    persistence.signal(Signal::CONT);
    for connection in [&mut first, &mut last] {
        assert_eq!(connection.receive().unwrap().status, 200);
    }
    assert_eq!(metric(hash.admin_addr(), "sequence_numbers_total"), 2);
}

#[test]
fn clients_that_hang_up_leave_no_connection_open() {
    let persistence = memory();
    let hash = ready(in_front_of(&persistence).env("WORKERS", "1"));
    // So it has its connection to the other.
    assert_eq!(http::get(hash.addr(), "/").unwrap().status, 200);
    persistence.signal(Signal::STOP);
    let before = hash.open_files();
    let mut kept = Vec::new();
    for _ in 0..10 {
        // They are closed one after another, by the test or at its end.
        drop(waiting(&hash));
        let half_closed = waiting(&hash);
        half_closed.finish_sending().unwrap();
        kept.push(half_closed);
        let mut unfinished = Connection::open(hash.addr()).unwrap();
        unfinished.send("GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        unfinished.finish_sending().unwrap();
        kept.push(unfinished);
    }
    persistence.signal(Signal::CONT);
    wait::until("no connection of a client", SOON, || {
        (hash.open_files() <= before).then_some(())
    });
}

fn waiting(service: &Service) -> Connection {
    let mut connection = Connection::open(service.addr()).unwrap();
    connection.send(NOTHING_THEN_GET).unwrap();
    assert_eq!(connection.receive().unwrap().status, 404);
    connection
}
