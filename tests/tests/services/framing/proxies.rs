//! The same requests through proxies that keep their connections to the service: it must see no
//! more of them than the proxy answers, and what comes next must get its own answer.

use std::{fs, io::ErrorKind, net::SocketAddr, time::Duration};

use e2e::{
    http::Connection, launch::Launch, port::Port, process::Process, service::Service, skip, wait,
};

use super::{get, honest, nothing_at, requests};
use crate::started::{SOON, ready};

/// How long a proxy may take to answer. One that sees no end where the service does waits for more.
const ENOUGH: Duration = Duration::from_secs(3);

#[test]
fn behind_nginx_no_request_is_split_or_joined() {
    check("nginx", ["-p", "-c"], |proxy, service| {
        format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
             fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
             large_client_header_buffers 8 128k;\n\
             upstream service {{ server {service}; keepalive 1; }}\n\
             server {{ listen {proxy}; location / {{ proxy_pass http://service;\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_request_buffering off; }} }} }}\n"
        )
    });
}

#[test]
fn behind_haproxy_no_request_is_split_or_joined() {
    check("haproxy", ["-C", "-f"], |proxy, service| {
        format!(
            "global\n maxconn 100\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
             http-reuse always\n\
             listen service\n bind {proxy}\n server one {service}\n"
        )
    });
}

#[track_caller]
fn check(
    program: &'static str,
    [in_folder, with_file]: [&str; 2],
    config: impl Fn(SocketAddr, SocketAddr) -> String,
) {
    if skip::unless(skip::installed(program, program)) {
        return;
    }
    // One worker, so that the lines of its log have an order.
    let service = ready(
        Service::builder("hello_server")
            .env("WORKERS", "1")
            .env("REQUEST_TIMEOUT_MS", "2000"),
    );
    let port = Port::free();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("proxy.conf");
    fs::write(&file, config(port.addr(), service.addr())).expect("a file in a folder of ours");
    let launch = Launch::new(program).arg(in_folder).arg(folder.path());
    let _proxy = Process::start(&launch.arg(with_file).arg(file));
    wait::until("the proxy", SOON, || {
        let mut connection = Connection::open(port.addr()).ok()?;
        honest(&mut connection, "/start").ok()
    });

    service.stdout().wait_for("/start", SOON);

    let mut wrong = Vec::new();
    for (number, request) in requests().into_iter().enumerate() {
        let mut report = |error: String| wrong.push(format!("{}: {error}", request.name));
        let before = service.stdout().len();
        let mut connection = Connection::open(port.addr()).expect("a proxy that accepts");
        connection.set_timeout(ENOUGH).expect("a time");
        let next = format!("/next-{number}");
        let bytes = [&request.bytes, get(&next).as_bytes()].concat();
        connection.send(bytes).expect("a proxy that reads");
        let mut answers = 0;
        let end = loop {
            match connection.receive() {
                Ok(answer) if answer.text().contains(&nothing_at(&next)) => break None,
                Ok(answer) => answers += usize::from(answer.status != 100),
                Err(error) => break Some(error.kind()),
            }
        };
        if answers > 0 && end == Some(ErrorKind::WouldBlock) {
            report("the next request is not answered".to_owned());
        }
        // Another client, on the same connection to the service.
        let path = format!("/other-{number}");
        let mut other = Connection::open(port.addr()).expect("a proxy that accepts");
        if let Err(error) = honest(&mut other, &path) {
            report(error);
        }
        service.stdout().wait_for(&path, SOON);
        let mut seen = service.stdout().all().split_off(before);
        seen.retain(|line| !line.contains(&path) && !line.contains(&next));
        // One was sent. The answer to HTTP/0.9, which nginx still speaks, has no head to count.
        if seen.len() > answers.max(1) {
            report(format!("{answers} answers to {seen:?}"));
        }
    }
    assert!(service.alive());
    assert!(!service.stderr().contain("panic"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
