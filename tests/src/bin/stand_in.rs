//! Stands in for a service in the harness's own tests, so that they need none of ours built.
//!
//! It says where it listens as our services do and answers every request with its process id.
//! With `--fail` it ends at once, as a service with a bad setting does.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it writes is what the tests look at"
)]

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{self, ExitCode};
use std::thread;

fn main() -> ExitCode {
    if env::args().any(|arg| arg == "--fail") {
        eprintln!("PORT: expected a number");
        return ExitCode::from(2);
    }
    if let Ok(word) = env::var("WORD") {
        eprintln!("the word is {word}");
    }
    let public = listen("PORT", "public");
    let admin = listen("ADMIN_PORT", "admin");
    thread::spawn(move || serve(&admin));
    serve(&public);
    ExitCode::SUCCESS
}

fn listen(variable: &str, name: &str) -> TcpListener {
    let host = env::var("HOST").expect("HOST is set");
    let port: u16 = env::var(variable).unwrap().parse().unwrap();
    let listener = TcpListener::bind((host, port)).expect("a free port");
    let address = listener.local_addr().unwrap().to_string();
    let line = serde_json::json!({"message": "listening", name: address});
    eprintln!("{line}");
    listener
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // A client that hangs up is its own business.
        let _ = answer(stream);
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    // The head ends with an empty line.
    let head: Vec<String> = lines
        .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
        .collect::<io::Result<_>>()?;
    println!("{}", head.first().map_or("", String::as_str));
    let body = process::id().to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
