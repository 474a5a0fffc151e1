//! A real browser without a window: Chromium, driven through `chromedriver` (W3C `WebDriver`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::launch::Launch;
use crate::port::Port;
use crate::process::Process;
use crate::skip::{Missing, installed};
use crate::wait;

/// One browser with one page. It ends when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    port: Port,
    session: String,
    /// It leaves files behind.
    _folder: TempDir,
}

/// A browser takes a while to start.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Browser {
    /// Whether it is installed.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn available() -> Result<(), Missing> {
        installed("chromedriver", "chromium-driver")
    }

    /// Starts it with a window of 1280 by 1000 pixels.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        let port = Port::free();
        let folder = TempDir::new().expect("a folder for the browser");
        let launch = Launch::new("chromedriver")
            .arg(format!("--port={}", port.number()))
            .env("TMPDIR", folder.path());
        let mut browser = Self {
            driver: Process::start(&launch),
            port,
            session: String::new(),
            _folder: folder,
        };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                "--window-size=1280,1000",
            ]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = wait::until("a browser", START_LIMIT, || {
            browser.try_command("POST", "/session", &wanted).ok()
        });
        let id = session["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("/session/{id}");
        browser
    }

    /// Goes to a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url}));
    }

    /// Runs a function body in the page and returns what it returns, or what its promise becomes.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        let script = json!({"script": script, "args": []});
        self.command("POST", "/execute/sync", &script)
    }

    /// Presses keys on the element that this CSS selector finds.
    #[track_caller]
    pub fn press(&self, selector: &str, keys: &str) {
        let by = json!({"using": "css selector", "value": selector});
        let element = self.command("POST", "/element", &by);
        let id = element
            .as_object()
            .and_then(|object| object.values().next());
        let id = id.and_then(Value::as_str).expect("an element has an id");
        self.command(
            "POST",
            &format!("/element/{id}/value"),
            &json!({"text": keys}),
        );
    }

    /// Gives the browser one command of the `DevTools` protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) {
        let command = json!({"cmd": command, "params": parameters});
        self.command("POST", "/goog/cdp/execute", &command);
    }

    /// What was logged since this was last called: `browser` for the console, or `performance`.
    #[track_caller]
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.command("POST", "/se/log", &json!({"type": kind}));
        log.as_array().cloned().expect("a list of entries")
    }

    /// Writes a picture of what is to be seen.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) -> io::Result<()> {
        let picture = self.command("GET", "/screenshot", &Value::Null);
        let picture = picture.as_str().expect("a picture in Base64");
        fs::write(file, BASE64_STANDARD.decode(picture).expect("Base64"))
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        let done = self.try_command(method, &path, body);
        done.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let addr: SocketAddr = self.port.addr();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = http::request(addr, request).map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(answer.json()["value"].take()),
            _ => Err(answer.text()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser too, which would outlive its driver.
        let _ = self.try_command("DELETE", &self.session, &Value::Null);
        self.driver.kill9_with_children();
    }
}
