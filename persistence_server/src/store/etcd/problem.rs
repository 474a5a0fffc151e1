//! What can be wrong with a server, in one line that a person can act on.

use std::{error::Error as StdError, io, time::Duration};

use sequence::MAX_NUMBER;
use tonic::{Code, Status};

/// How much of somebody else's text goes into a message, in characters.
const LONGEST: usize = 200;

/// Why a server cannot be used, or does not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Problem {
    /// There is no connection, or it broke. What was asked for may have been done.
    #[error("{0}")]
    Broken(String),

    /// It refused in its own words.
    #[error("{message}")]
    Refused { code: Code, message: String },

    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),

    /// Another handle has found out already that the server has a problem.
    #[error("it failed a moment ago")]
    InDoubt,

    #[error("it is not etcd, or it is broken: {0}")]
    Strange(&'static str),

    #[error(
        "it does not sync its log to disk, so a crash would repeat numbers; start it without \
         --unsafe-no-fsync"
    )]
    NotDurable,

    #[error("its version {0} can lose what it answered; 3.4.22, 3.5.6 or newer is needed")]
    TooOld(String),

    #[error(
        "it belongs to cluster {found:x}, and this process has taken numbers from cluster \
         {expected:x}; numbers might repeat. Correct ETCD_ENDPOINTS; or, if the cluster was \
         replaced on purpose, restart the service"
    )]
    OtherCluster { expected: u64, found: u64 },

    #[error(
        "it was restored from a backup: its revision is {found} after {before}, and what was \
         written in between is lost"
    )]
    Restored { before: i64, found: i64 },

    #[error(
        "key {key} holds {value}, which is not an integer from 0 to {MAX_NUMBER} in plain digits; \
         it is left alone. Put the last number that was taken there, or begin another SEQUENCE"
    )]
    NotANumber { key: String, value: String },

    #[error("others took numbers first, {0} times in a row")]
    Contended(u32),
}

impl Problem {
    /// What a failed connection attempt says.
    pub(super) fn broken(error: &(dyn StdError + 'static)) -> Self {
        Self::Broken(innermost(error))
    }

    /// Whether the server answered as it should, so that its connection is still good.
    pub(super) fn is_an_answer(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code, Code::PermissionDenied | Code::ResourceExhausted)
            }
            Self::NotANumber { .. }
            | Self::NotDurable
            | Self::Restored { .. }
            | Self::Contended(_) => true,
            _ => false,
        }
    }

    /// Whether other connections to the same server are likely to meet it too.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Silent(_)) || self.is(Code::Unavailable)
    }

    /// Whether the server refused with this code.
    pub(super) fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        // A server's words come without a cause; what has one went wrong on the way.
        if let Some(cause) = status.source() {
            return Self::broken(cause);
        }
        let message = status.message();
        let message = message.strip_prefix("etcdserver: ").unwrap_or(message);
        let message = match message {
            "" => status.code().description(),
            message => message,
        };
        let advice = match (status.code(), message) {
            (Code::PermissionDenied, _) => "; its user needs to read and write the key",
            (Code::ResourceExhausted, "mvcc: database space exceeded") => {
                "; compact and defragment it, then etcdctl alarm disarm, or raise \
                 --quota-backend-bytes"
            }
            (_, "no leader") => "; a majority of its members must run and reach each other",
            (_, "user name is empty") => "; set ETCD_USERNAME and ETCD_PASSWORD",
            _ => "",
        };
        Self::Refused {
            code: status.code(),
            message: one_line(message) + advice,
        }
    }
}

/// Somebody else's text, short and without control characters.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// The words of the innermost cause: the outer ones only say that something failed.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    match error.downcast_ref::<io::Error>() {
        // "connection refused", not "Connection refused (os error 111)".
        Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        _ => one_line(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        let status = Status::unavailable("etcdserver: no leader");
        let line = Problem::from(status).to_string();
        assert!(line.starts_with("no leader; a majority"), "{line}");
        let silent = Status::new(Code::Internal, "");
        assert!(!Problem::from(silent).to_string().is_empty());
    }

    #[test]
    fn a_strange_text_becomes_one_short_line() {
        let status = Status::unknown(format!("a\nb\r{}", "x".repeat(5000)));
        let line = Problem::from(status).to_string();
        assert!(line.starts_with("a b x") && line.chars().count() <= LONGEST + 1);
    }

    #[test]
    fn a_broken_connection_is_told_by_its_innermost_cause() {
        let refused = io::Error::from_raw_os_error(111);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(refused));
        assert_eq!(Problem::from(status).to_string(), "connection refused");
    }
}
