//! The `healthcheck` command: for images that have no shell and no curl.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use crate::{listener::reach, settings::Common};

/// How long the service may take to connect, and then to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the service that runs with the same settings whether it is ready.
///
/// # Errors
///
/// A sentence that says why it is not, or why it could not be asked.
pub(crate) fn run(common: &Common) -> Result<(), String> {
    let unreachable =
        |error: io::Error| format!("cannot ask port {} for /readyz: {error}", common.admin_port);
    let answer = ask(common).map_err(unreachable)?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return Err(unreachable(io::Error::other("the answer is not HTTP"))),
    };
    match head.code {
        Some(200) => Ok(()),
        _ => Err(reason(&answer[length..])),
    }
}

/// The reason in the document that `/readyz` answers; of any other answer, the first line.
fn reason(body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    match document
        .as_ref()
        .and_then(|document| document["reason"].as_str())
    {
        Some(reason) => reason.to_owned(),
        None => {
            let text = String::from_utf8_lossy(body);
            text.trim().lines().next().unwrap_or("not ready").to_owned()
        }
    }
}

fn ask(common: &Common) -> io::Result<Vec<u8>> {
    let address = reach(&common.host, common.admin_port)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // What answers there may be another program: it does not get to fill the memory.
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(answer)
}
