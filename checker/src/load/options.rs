//! What to drive, how hard and for how long.

use std::time::Duration;

use crate::target::Target;

/// How the load is driven.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the requests go: the connections are dealt to these in turn. At least one.
    pub targets: Vec<Target>,
    /// Kept-alive connections, each with one request at a time: 1..=65535.
    pub connections: u16,
    /// Threads that share the connections; 1 is enough for tens of thousands of requests a second.
    pub threads: u16,
    /// Ends after so many answered requests. Failed ones are made again and do not count.
    pub requests: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// Numbers to ask for in one request: 1..=65536.
    pub count: u32,
    /// How long to wait for a connection, and for each answer.
    pub timeout: Duration,
    /// Gives up after this long without a successful response.
    pub keep_trying: Duration,
    /// Stops when more requests than this failed.
    pub max_failures: Option<u64>,
}

impl Options {
    /// 64 connections and no end but [`Control::stop`](super::Control::stop), with the defaults of
    /// the command line for the rest.
    pub fn new(target: Target) -> Self {
        Self {
            targets: vec![target],
            connections: 64,
            threads: 1,
            requests: None,
            duration: None,
            count: 1,
            timeout: Duration::from_secs(15),
            keep_trying: Duration::from_secs(10),
            max_failures: None,
        }
    }
}
