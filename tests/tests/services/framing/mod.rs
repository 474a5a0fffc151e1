//! Requests whose end can be mistaken: `requests.txt` holds them and what becomes of each.

mod proxies;

use std::{io, net::SocketAddr};

use e2e::http::Connection;

use crate::started::{hash, hello, memory};

/// One of them.
struct Request {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
    keeps_connection: bool,
}

fn requests() -> Vec<Request> {
    let mut lines = include_str!("requests.txt").lines();
    let mut requests = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (status, rest) = line.split_once(' ').expect("a status");
        let (fate, name) = rest.split_once(' ').expect("keep or close");
        let bytes = lines.next().and_then(|line| line.strip_prefix("    "));
        requests.push(Request {
            name: name.trim_start(),
            bytes: unescaped(bytes.expect("an indented line").as_bytes()),
            status: status.parse().expect("a status"),
            keeps_connection: match fate {
                "keep" => true,
                "close" => false,
                other => panic!("{other:?} is neither keep nor close"),
            },
        });
    }
    requests
}

/// The bytes that the beginning of `requests.txt` describes.
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        text = match (first, rest) {
            (b'\\', [b'r', rest @ ..]) => push(&mut bytes, b"\r", rest),
            (b'\\', [b'n', rest @ ..]) => push(&mut bytes, b"\n", rest),
            (b'\\', [b't', rest @ ..]) => push(&mut bytes, b"\t", rest),
            (b'\\', [b'x', high, low, rest @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two digits");
                let byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits");
                push(&mut bytes, &[byte], rest)
            }
            (b'{', _) => {
                let end = rest.iter().position(|&byte| byte == b'}').expect("a }");
                let repeated = std::str::from_utf8(&rest[..end]).expect("text");
                let (count, repeated) = repeated.split_once('*').expect("N*TEXT");
                let repeated = unescaped(repeated.as_bytes()).repeat(count.parse().expect("N"));
                push(&mut bytes, &repeated, &rest[end + 1..])
            }
            _ => push(&mut bytes, &[*first], rest),
        }
    }
    bytes
}

fn push<'a>(bytes: &mut Vec<u8>, more: &[u8], rest: &'a [u8]) -> &'a [u8] {
    bytes.extend(more);
    rest
}

/// Sends a request on a connection that was used before, and says what was not as it should be.
fn check(addr: SocketAddr, request: &Request) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut connection = Connection::open(addr).map_err(text)?;
    honest(&mut connection, "/before")?;
    connection.send(&request.bytes).map_err(text)?;
    let mut answer = connection.receive().map_err(text)?;
    if answer.status == 100 {
        answer = connection.receive().map_err(text)?;
    }
    if answer.status != request.status {
        return Err(format!("{}, {}", answer.status, answer.text()));
    }
    if request.keeps_connection {
        return honest(&mut connection, "/behind");
    }
    let rest = connection.receive_rest().map_err(text)?;
    match &*rest {
        [] => Ok(()),
        _ => Err(format!("and {}", String::from_utf8_lossy(&rest))),
    }
}

/// Asks for what is not there, and makes sure that this is what is answered.
fn honest(connection: &mut Connection, path: &str) -> Result<(), String> {
    let sent = connection.send(get(path));
    sent.map_err(|error| format!("{path}: {error}"))?;
    let answer = connection.receive();
    let answer = answer.map_err(|error| format!("{path}: {error}"))?;
    match answer.text() {
        text if text.contains(&nothing_at(path)) => Ok(()),
        text => Err(format!("{path}: {}, {text}", answer.status)),
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A part of the answer to that.
fn nothing_at(path: &str) -> String {
    format!("there is nothing at {path}\"")
}

#[test]
fn each_request_has_one_end_and_one_answer() {
    let persistence = memory();
    let mut wrong = Vec::new();
    for service in [&hello(), &hash(&persistence), &persistence] {
        for addr in [service.addr(), service.admin_addr()] {
            for request in requests() {
                if let Err(error) = check(addr, &request) {
                    wrong.push(format!("{} at {addr}: {error}", request.name));
                }
            }
        }
        assert!(service.alive());
        assert!(!service.stderr().contain("panic"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
