//! Why the server cannot be used, in words for the log and for readiness.
//!
//! None of them holds a password: what a server says about a login is never quoted, because some
//! quote the command back.

use std::io;

use redis::{ServerError, Value};
use sequence::MAX_NUMBER;

/// A [`Failure`] and where it happened.
#[derive(Debug, thiserror::Error)]
#[error("redis at {address}")]
pub(super) struct At {
    /// The server in messages: host and port.
    pub(super) address: String,
    #[source]
    pub(super) failure: Failure,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", plainly(.0))]
    Connect(io::Error),

    #[error("no connection within {0} ms")]
    ConnectTimedOut(u128),

    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),

    #[error("the TLS handshake was not answered within {0} ms; the server may not speak TLS")]
    HandshakeTimedOut(u128),

    #[error("the login was not answered within {0} ms")]
    LoginTimedOut(u128),

    #[error("the connection broke: {0}")]
    Broken(io::Error),

    #[error("the connection was closed before the answer was complete")]
    Closed,

    #[error("the connection was closed without an answer; the server may want TLS (REDIS_TLS=on)")]
    ClosedAtOnce,

    #[error("no answer within {0} ms")]
    TimedOut(u128),

    #[error("the answer is not what a Redis server says: {0}")]
    Strange(String),

    #[error("the user name or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD)")]
    WrongPassword,

    #[error("a password is required (REDIS_PASSWORD)")]
    PasswordRequired,

    #[error("REDIS_PASSWORD is set, but the server has no password for its default user")]
    NoPasswordThere,

    #[error("the login was refused; the answer is not shown, for it may quote the password")]
    Login,

    #[error("{command} was refused: {answer}")]
    Refused { command: String, answer: String },

    #[error(
        "it is a replica, which may lose what is written to it; REDIS_HOST must lead to the \
         primary"
    )]
    Replica,

    #[error("it is a Sentinel, which holds no data; REDIS_HOST must lead to the primary")]
    Sentinel,

    #[error("REDIS_REQUIRE_DURABLE is on, and the server may lose numbers: {0}")]
    NotDurable(String),

    #[error("the replicas that follow are {following}, but REDIS_MIN_REPLICAS is {wanted}")]
    TooFewReplicas { following: usize, wanted: u8 },

    #[error("{confirmed} of {wanted} replicas confirmed in time; the numbers are thrown away")]
    Unconfirmed { confirmed: i64, wanted: u8 },

    #[error("the value of the key {key} is {text}, not a number from 0 to {MAX_NUMBER}")]
    NotANumber { key: String, text: String },

    #[error("the key {0} has an expiry, after which the sequence would begin again at 1")]
    Expires(String),
}

impl Failure {
    /// A command that the server answered with an error, or with something else than expected.
    pub(super) fn reply(command: &str, reply: Option<Value>) -> Self {
        match reply {
            Some(Value::ServerError(error)) => Self::refused(command, &error),
            _ => Self::Strange(format!("{command} has another kind of answer")),
        }
    }

    fn refused(command: &str, error: &ServerError) -> Self {
        let details = error.details().unwrap_or_default();
        match error.code() {
            "NOAUTH" => return Self::PasswordRequired,
            "READONLY" => return Self::Replica,
            _ => {}
        }
        Self::Refused {
            command: command.to_owned(),
            answer: format!("{} {details}", error.code()).trim_end().to_owned(),
        }
    }
}

/// Without the number of the error: `connection refused`.
fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}
