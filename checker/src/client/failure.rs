//! The ways in which a request brings no number.

use std::error::Error;
use std::fmt;
use std::io;

use hyper::StatusCode;

/// A kind of failure, to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The service answered with a status other than 200.
    Status(u16),
    /// A 200 without a number in it.
    NoNumber,
    /// What came is not HTTP, or far too long.
    Unreadable,
    /// The connection was closed before the answer was complete.
    Closed,
    /// The connection was reset before the answer was complete.
    Reset,
    /// No answer in time.
    Timeout,
    /// No connection: the port is closed.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// The service closed a new connection before anything was sent on it.
    Rejected,
    /// No connection for another reason.
    Unreachable,
    /// The host's name has no address.
    UnknownHost,
}

impl Failure {
    /// Whether it is unknown if the service took a number for it: the request was sent, and no
    /// answer says what came of it.
    pub fn is_lost(self) -> bool {
        match self {
            Self::Unreadable | Self::Closed | Self::Reset | Self::Timeout => true,
            Self::Status(_)
            | Self::NoNumber
            | Self::Refused
            | Self::ConnectTimeout
            | Self::Rejected
            | Self::Unreachable
            | Self::UnknownHost => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(code) => {
                write!(f, "{code}")?;
                let status = StatusCode::from_u16(*code).ok();
                return match status.and_then(|status| status.canonical_reason()) {
                    Some(reason) => write!(f, " {reason}"),
                    None => Ok(()),
                };
            }
            Self::NoNumber => "200 without a number",
            Self::Unreadable => "unreadable answer",
            Self::Closed => "connection closed",
            Self::Reset => "connection reset",
            Self::Timeout => "no answer in time",
            Self::Refused => "connection refused",
            Self::ConnectTimeout => "no connection in time",
            Self::Rejected => "connection closed before a request",
            Self::Unreachable => "unreachable",
            Self::UnknownHost => "unknown host",
        })
    }
}

/// One failed request.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// What the service or the system said, on one line; may be empty.
    pub(crate) detail: String,
}

impl Failed {
    pub(crate) fn new(failure: Failure, detail: impl fmt::Display) -> Self {
        Self {
            failure,
            detail: detail.to_string(),
        }
    }

    /// An error of an exchange that had begun.
    pub(crate) fn exchange(error: &(dyn Error + 'static)) -> Self {
        let mut failure = Failure::Closed;
        let mut detail = String::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
                if let ConnectionReset | ConnectionAborted | BrokenPipe = error.kind() {
                    failure = Failure::Reset;
                }
            } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse() {
                    failure = Failure::Unreadable;
                }
            } else if error.is::<http_body_util::LengthLimitError>() {
                failure = Failure::Unreadable;
            }
            detail = error.to_string();
            cause = error.source();
        }
        Self { failure, detail }
    }
}
