//! The access log: one line for each request, on standard output.
//!
//! Each worker gathers its lines and hands them over in one piece, every 50 ms or 16 KiB; one
//! thread writes them. So a request costs no system call here, and a reader of the log that
//! stalls costs lines, which are counted, but never a request.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write as _},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_millis;
use opentelemetry::TraceId;
use serde::Serialize;

use crate::settings::LogFormat;

/// A piece is handed over when it has grown to this many bytes.
const PIECE: usize = 16 * 1024;

/// How long a line waits for others at most.
const LINGER: Duration = Duration::from_millis(50);

/// How many pieces may wait to be written; the next one is dropped.
const BACKLOG: usize = 256;

/// A method and a path are logged up to this many bytes each.
const LONGEST_METHOD: usize = 32;
const LONGEST_PATH: usize = 256;

/// The writing end: one for a process.
#[derive(Debug)]
pub(crate) struct AccessLog {
    pieces: SyncSender<Vec<u8>>,
    writer: JoinHandle<()>,
    template: Template,
}

/// What every worker needs to write lines. A clone shares the writer.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: SyncSender<Vec<u8>>,
    format: LogFormat,
    service: &'static str,
    instance: Arc<str>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread that writes to standard output.
    pub(crate) fn start(
        format: LogFormat,
        service: &'static str,
        instance: Arc<str>,
    ) -> io::Result<Self> {
        let (pieces, queue) = sync_channel(BACKLOG);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_out(&queue))?;
        let template = Template {
            pieces: pieces.clone(),
            format,
            service,
            instance,
            dropped: Arc::default(),
        };
        Ok(Self {
            pieces,
            writer,
            template,
        })
    }

    pub(crate) fn template(&self) -> Template {
        self.template.clone()
    }

    /// Reads how many lines were dropped because standard output was not read.
    pub(crate) fn dropped(&self) -> impl Fn() -> u64 + use<> {
        let dropped = Arc::clone(&self.template.dropped);
        move || dropped.load(Ordering::Relaxed)
    }

    /// Writes what is still waiting; the workers must have ended.
    pub(crate) fn finish(self) {
        let Self {
            pieces,
            writer,
            template,
        } = self;
        drop((pieces, template));
        // It ends with the last sender, unless standard output is stuck: then the process must
        // not wait for it.
        for _ in 0..50 {
            if writer.is_finished() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn write_out(queue: &Receiver<Vec<u8>>) {
    let mut out = io::stdout();
    for piece in queue {
        // Standard output may be closed: the service goes on without its access log.
        if out.write_all(&piece).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// One answered request, as the log shows it.
pub(crate) struct Line<'a> {
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// Of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) duration: Duration,
    pub(crate) trace_id: TraceId,
    /// What the client calls it, if it does.
    pub(crate) request_id: Option<&'a str>,
}

/// The lines that one worker gathers.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    template: Template,
    lines: RefCell<Vec<u8>>,
    flush_is_due: Cell<bool>,
}

impl WorkerLog {
    pub(crate) fn new(template: Template) -> Rc<Self> {
        Rc::new(Self {
            template,
            lines: RefCell::default(),
            flush_is_due: Cell::new(false),
        })
    }

    /// Adds a line; must be called on the worker's own runtime.
    pub(crate) fn write(self: &Rc<Self>, line: &Line<'_>) {
        let mut lines = self.lines.borrow_mut();
        self.template.format(&mut lines, line);
        if lines.len() >= PIECE {
            self.hand_over(&mut lines);
        } else if !self.flush_is_due.replace(true) {
            let log = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LINGER).await;
                log.flush_is_due.set(false);
                log.hand_over(&mut log.lines.borrow_mut());
            });
        }
    }

    fn hand_over(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let piece = std::mem::replace(lines, Vec::with_capacity(lines.len()));
        if let Err(refused) = self.template.pieces.try_send(piece) {
            let (std::sync::mpsc::TrySendError::Full(piece)
            | std::sync::mpsc::TrySendError::Disconnected(piece)) = refused;
            let count = piece.iter().filter(|&&byte| byte == b'\n').count();
            self.template
                .dropped
                .fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        let mut lines = std::mem::take(self.lines.get_mut());
        self.hand_over(&mut lines);
    }
}

impl Template {
    fn format(&self, out: &mut Vec<u8>, line: &Line<'_>) {
        let line = &Line {
            method: beginning(line.method, LONGEST_METHOD),
            path: beginning(line.path, LONGEST_PATH),
            ..*line
        };
        let milliseconds = line.duration.as_secs_f64() * 1000.0;
        let time = format_rfc3339_millis(SystemTime::now());
        // Writing to a vector cannot fail.
        let _ = match self.format {
            LogFormat::Text => self.text(out, line, milliseconds, &time),
            LogFormat::Json => self.json(out, line, milliseconds, &time.to_string()),
        };
        out.push(b'\n');
    }

    fn text(
        &self,
        out: &mut Vec<u8>,
        line: &Line<'_>,
        milliseconds: f64,
        time: &impl std::fmt::Display,
    ) -> io::Result<()> {
        let Self {
            service, instance, ..
        } = self;
        let Line {
            method,
            path,
            status,
            bytes,
            trace_id,
            ..
        } = line;
        write!(
            out,
            "{time} {service}@{instance} {status} {method} {path} {bytes}B {milliseconds:.3}ms"
        )?;
        if let Some(remote) = line.remote {
            write!(out, " from {remote}")?;
        }
        write!(out, " trace {trace_id}")?;
        match line.request_id {
            Some(id) => write!(out, " request {id}"),
            None => Ok(()),
        }
    }

    fn json(
        &self,
        out: &mut Vec<u8>,
        line: &Line<'_>,
        milliseconds: f64,
        time: &str,
    ) -> io::Result<()> {
        #[derive(Serialize)]
        struct Record<'a> {
            timestamp: &'a str,
            message: &'static str,
            service: &'static str,
            instance: &'a str,
            remote: Option<SocketAddr>,
            method: &'a str,
            path: &'a str,
            status: u16,
            bytes: u64,
            duration_ms: f64,
            trace_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }

        let trace_id = hex(line.trace_id);
        let record = Record {
            timestamp: time,
            message: "request",
            service: self.service,
            instance: &self.instance,
            remote: line.remote,
            method: line.method,
            path: line.path,
            status: line.status,
            bytes: line.bytes,
            duration_ms: (milliseconds * 1000.0).round() / 1000.0,
            trace_id: std::str::from_utf8(&trace_id).unwrap_or_default(),
            request_id: line.request_id,
        };
        serde_json::to_writer(out, &record).map_err(io::Error::from)
    }
}

/// A trace's id in hexadecimal digits; its own `Display` takes a tenth of the time that a line does.
fn hex(id: TraceId) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 32];
    for (digits, byte) in hex.chunks_exact_mut(2).zip(id.to_bytes()) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

/// At most `longest` bytes of a text that a client sent.
fn beginning(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, method: &str, path: &str) -> String {
        let (pieces, _queue) = sync_channel(1);
        let template = Template {
            pieces,
            format,
            service: "greeter",
            instance: "pod-1".into(),
            dropped: Arc::default(),
        };
        let mut out = Vec::new();
        template.format(
            &mut out,
            &Line {
                remote: "127.0.0.1:999".parse().ok(),
                method,
                path,
                status: 200,
                bytes: 14,
                duration: Duration::from_micros(1234),
                trace_id: TraceId::from(0xabc),
                request_id: Some("the-client's"),
            },
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_names_the_instance_the_request_and_the_answer() {
        let line = line(LogFormat::Text, "GET", "/?count=3");
        let (_time, rest) = line.split_once(' ').unwrap();
        assert_eq!(
            rest,
            "greeter@pod-1 200 GET /?count=3 14B 1.234ms from 127.0.0.1:999 \
             trace 00000000000000000000000000000abc request the-client's\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line_and_quotes_what_the_client_sent() {
        let line = line(LogFormat::Json, "GET", "/a\"b");
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["instance"], "pod-1");
        assert_eq!(json["path"], "/a\"b");
        assert_eq!(json["status"], 200);
        assert_eq!(json["bytes"], 14);
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["trace_id"], "00000000000000000000000000000abc");
        assert_eq!(json["request_id"], "the-client's");
    }

    #[test]
    fn a_line_is_bounded_whatever_the_client_sends() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for (method, path) in [
                ("GET", format!("/{}", "a".repeat(5000))),
                // The last byte that is logged would split a character.
                ("GET", format!("/a{}", "ä".repeat(5000))),
                (&"M".repeat(5000), "\"".repeat(5000)),
            ] {
                let line = line(format, method, &path);
                assert!(line.len() < 890, "{line}");
            }
        }
    }

    #[tokio::test]
    async fn a_reader_that_stalls_costs_lines_and_not_requests() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let (pieces, _stalled) = sync_channel(1);
                let dropped = Arc::new(AtomicU64::new(0));
                let log = WorkerLog::new(Template {
                    pieces,
                    format: LogFormat::Text,
                    service: "greeter",
                    instance: "pod-1".into(),
                    dropped: Arc::clone(&dropped),
                });
                for _ in 0..1000 {
                    log.write(&Line {
                        remote: None,
                        method: "GET",
                        path: "/",
                        status: 200,
                        bytes: 0,
                        duration: Duration::ZERO,
                        trace_id: TraceId::INVALID,
                        request_id: None,
                    });
                }
                assert!(dropped.load(Ordering::Relaxed) > 0);
            })
            .await;
    }
}
