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

/// Why a call did not succeed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}; start the server, or correct REDIS_HOST and REDIS_PORT", plainly(.0))]
    Connect(io::Error),

    #[error("no connection within {0} ms; start the server, or correct REDIS_HOST and REDIS_PORT")]
    ConnectTimedOut(u128),

    #[error("the TLS handshake failed: {0}; correct REDIS_TLS or REDIS_TLS_CA_FILE")]
    Handshake(io::Error),

    #[error("the TLS handshake was not answered within {0} ms; the server may not speak TLS")]
    HandshakeTimedOut(u128),

    #[error("the login was not answered within {0} ms; check that the server is not overloaded")]
    LoginTimedOut(u128),

    #[error("the connection broke: {0}; the server's log may say why")]
    Broken(io::Error),

    #[error(
        "the connection was closed before the answer was complete; the server's log may say why"
    )]
    Closed,

    #[error("the connection was closed without an answer; the server may want TLS (REDIS_TLS=on)")]
    ClosedAtOnce,

    #[error(
        "no answer within {0} ms; check that it runs, is not overloaded, and that no firewall \
         drops the connection"
    )]
    TimedOut(u128),

    #[error("unexpected reply from Redis: {0}; check REDIS_HOST and REDIS_PORT")]
    Strange(String),

    #[error("the user name or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD)")]
    WrongPassword,

    #[error("a password is required (REDIS_PASSWORD)")]
    PasswordRequired,

    #[error("REDIS_PASSWORD is set, but the server has no password for its default user")]
    NoPasswordThere,

    #[error(
        "the login was refused (REDIS_USERNAME, REDIS_PASSWORD); the answer is not shown, for it \
         may quote the password"
    )]
    Login,

    #[error("{command} was refused: {answer}{}", remedy(.answer))]
    Refused { command: String, answer: String },

    #[error(
        "it is a node of a Redis Cluster, which is not supported ({0}); REDIS_HOST must lead to a \
         primary outside of a cluster"
    )]
    Cluster(String),

    #[error(
        "it is a replica, which may lose what is written to it; REDIS_HOST must lead to the \
         primary"
    )]
    Replica,

    #[error("it is a Sentinel, which holds no data; REDIS_HOST must lead to the primary")]
    Sentinel,

    #[error("REDIS_REQUIRE_DURABLE is on, and the server may lose numbers: {0}")]
    NotDurable(String),

    #[error(
        "the replicas that follow are {following}, but REDIS_MIN_REPLICAS is {wanted}; start or \
         repair replicas"
    )]
    TooFewReplicas { following: usize, wanted: u8 },

    #[error(
        "{confirmed} of {wanted} replicas (REDIS_MIN_REPLICAS) confirmed a write within \
         {milliseconds} ms; start or repair replicas"
    )]
    Unconfirmed {
        confirmed: i64,
        wanted: u8,
        milliseconds: u32,
    },

    #[error(
        "the value of the key {key} is {text}, not a number from 0 to {MAX_NUMBER}; SET it to the \
         last number taken, or choose another SEQUENCE"
    )]
    NotANumber { key: String, text: String },

    #[error(
        "the key {0} has an expiry, after which the sequence would begin again at 1; PERSIST it"
    )]
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
        // To an error inside a script Redis adds the script's hash and line, over two lines.
        let details = error.details().unwrap_or_default();
        let details = details.split(" script: ").next().unwrap_or_default();
        let answer = format!("{} {}", error.code(), details.trim_end_matches('.'));
        let answer = answer.trim_end().to_owned();
        match error.code() {
            "NOAUTH" => Self::PasswordRequired,
            "READONLY" => Self::Replica,
            "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" => Self::Cluster(answer),
            _ => Self::Refused {
                command: command.to_owned(),
                answer,
            },
        }
    }
}

/// What to do about an answer that is an error.
fn remedy(answer: &str) -> &'static str {
    const RIGHTS: &str = "; the user needs the rights ~sequence:* +info +config|get +pttl +eval \
                          +get +incrby +wait";
    let remedies = [
        ("OOM", "; raise maxmemory, or free memory"),
        (
            "MISCONF",
            "; make its disk writable again, its log says what failed",
        ),
        (
            "NOREPLICAS",
            "; start or repair replicas, or lower min-replicas-to-write",
        ),
        ("LOADING", "; wait until it has read its data"),
        (
            "BUSY",
            "; wait for the script that it runs, or end it with SCRIPT KILL",
        ),
        ("NOPERM", RIGHTS),
        // Inside a script, which loses the code of the error: 7.0 and 7.2.
        ("ERR The user executing the script can't run", RIGHTS),
        ("ERR ACL failure in script", RIGHTS),
    ];
    let found = remedies.iter().find(|(begin, _)| answer.starts_with(begin));
    found.map_or("", |(_, remedy)| remedy)
}

/// Without the number of the error: `connection refused`.
fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(answer: &str) -> Failure {
        let (code, details) = answer.split_once(' ').unwrap();
        let reply = redis::parse_redis_value(format!("-{code} {details}\r\n").as_bytes());
        Failure::reply("EVAL", reply.ok())
    }

    #[test]
    fn the_documentation_lists_each_reason_as_it_is_said() {
        let other = || io::Error::other("…");
        let reasons = [
            Failure::Connect(io::ErrorKind::ConnectionRefused.into()),
            Failure::ConnectTimedOut(950),
            Failure::Handshake(other()),
            Failure::HandshakeTimedOut(950),
            Failure::LoginTimedOut(950),
            Failure::Broken(other()),
            Failure::Closed,
            Failure::ClosedAtOnce,
            Failure::TimedOut(950),
            Failure::Strange("…".to_owned()),
            Failure::WrongPassword,
            Failure::PasswordRequired,
            Failure::NoPasswordThere,
            Failure::Login,
            Failure::Replica,
            Failure::Sentinel,
            Failure::NotDurable("…".to_owned()),
            Failure::TooFewReplicas {
                following: 0,
                wanted: 1,
            },
            Failure::Unconfirmed {
                confirmed: 0,
                wanted: 1,
                milliseconds: 750,
            },
            Failure::NotANumber {
                key: "…".to_owned(),
                text: "…".to_owned(),
            },
            Failure::Expires("…".to_owned()),
            refused("CLUSTERDOWN Hash slot not served"),
            refused("OOM …"),
            refused("MISCONF …"),
            refused("NOREPLICAS …"),
            refused("LOADING …"),
            refused("BUSY …"),
            refused("NOPERM …"),
        ];
        let page = include_str!("../../../../docs/stores/redis.md");
        for reason in reasons {
            // In a table, the page has to escape this one.
            let reason = reason.to_string().replace('|', "\\|");
            assert!(page.contains(&format!("| `{reason}` |")), "{reason}");
        }
    }

    #[test]
    fn every_answer_of_a_cluster_is_recognised() {
        for answer in [
            "MOVED 12 10.0.0.1:6379",
            "ASK 12 10.0.0.1:6379",
            "TRYAGAIN …",
        ] {
            let reason = refused(answer).to_string();
            assert!(
                reason.contains(&format!("({answer}); REDIS_HOST must")),
                "{reason}"
            );
        }
    }

    #[test]
    fn where_in_a_script_an_error_was_is_left_out() {
        let reason = refused("OOM command not allowed. script: 05d8, on @user_script:2.");
        let expected = "EVAL was refused: OOM command not allowed; raise maxmemory";
        assert!(reason.to_string().starts_with(expected), "{reason}");
    }
}
