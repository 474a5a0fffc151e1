//! One connection to the server, and why it gives no number.
//!
//! The words of [`RedisError`] are for the log and for readiness. None holds a password: what a
//! server says about a login is never quoted, because some quote the command back.

use std::{io, sync::Arc, time::Duration};

use chassis::connect;
use redis::{
    AsyncConnectionConfig, Pipeline, RedisConnectionInfo, ServerError, Value,
    aio::MultiplexedConnection,
};
use rustls::{ClientConfig, pki_types::ServerName};
use sequence::{Idle, MAX_NUMBER};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    super::{Stream, io_reason},
    RedisServer,
};

/// How long connecting may take, with the TLS handshake and the login.
const CONNECT: Duration = Duration::from_millis(950);

/// How long an answer may take: longer than the replicas get to confirm, and short enough that
/// the two seconds of an attempt suffice for a new connection after a kept one that hangs, and
/// for an error that names the server if that one hangs, too.
const ANSWER: Duration = Duration::from_millis(950);

/// How to encrypt, and which name the server must have.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// A connection for one call at a time.
#[derive(Debug)]
pub(super) struct RedisConnection {
    connection: MultiplexedConnection,
    /// What reads and writes; aborted, which closes the socket, when the connection is dropped.
    _driver: JoinSet<()>,
    pub(super) idle: bool,
    /// The [inspection epoch](RedisServer::epoch) in which the server was found in order over this
    /// connection.
    pub(super) inspected: Option<u64>,
}

impl Idle for RedisConnection {
    fn is_idle(&self) -> bool {
        self.idle
    }
}

impl RedisConnection {
    /// Connects and logs in.
    pub(super) async fn open(server: &RedisServer) -> Result<Self, RedisError> {
        let end = Instant::now() + CONNECT;
        let milliseconds = CONNECT.as_millis();
        let stream = timeout_at(end, connect(server.host.as_str(), server.port))
            .await
            .map_err(|_| RedisError::ConnectTimedOut(milliseconds))?
            .map_err(RedisError::Connect)?;
        let stream: Box<dyn Stream> = match &server.tls {
            None => Box::new(stream),
            Some(Tls { config, name }) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let handshake = timeout_at(end, connector.connect(name.clone(), stream)).await;
                let handshake =
                    handshake.map_err(|_| RedisError::HandshakeTimedOut(milliseconds))?;
                Box::new(handshake.map_err(RedisError::Handshake)?)
            }
        };
        // Without a user and a database in it, nothing is sent yet: the crate's own login would
        // quote the server.
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&nothing, stream, config)
            .await
            .map_err(|error| unreadable(&error))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let mut connection = Self {
            connection,
            _driver: tasks,
            idle: true,
            inspected: None,
        };
        timeout_at(end, connection.log_in(server))
            .await
            .unwrap_or(Err(RedisError::LoginTimedOut(milliseconds)))?;
        Ok(connection)
    }

    /// Sends the commands and reads one reply for each, of which any may be an error.
    pub(super) async fn exchange(&mut self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        timeout(ANSWER, self.send(commands))
            .await
            .unwrap_or(Err(RedisError::TimedOut(ANSWER.as_millis())))
    }

    async fn send(&mut self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        self.idle = false;
        let count = commands.len();
        let replies = self
            .connection
            .send_packed_commands(commands, 0, count)
            .await;
        let replies = replies.map_err(|error| unreadable(&error))?;
        self.idle = true;
        Ok(replies)
    }

    async fn log_in(&mut self, server: &RedisServer) -> Result<(), RedisError> {
        let mut commands = Pipeline::new();
        let wants_login = server.username.is_some() || server.password.is_some();
        if wants_login {
            let command = commands.cmd("AUTH").arg(server.username.as_deref());
            command.arg(
                server
                    .password
                    .as_ref()
                    .map_or("", |password| password.reveal()),
            );
        }
        if server.db != 0 {
            commands.cmd("SELECT").arg(server.db);
        }
        if commands.is_empty() {
            return Ok(());
        }
        let mut replies = self.send(&commands).await?.into_iter();
        if wants_login {
            accept_login(replies.next())?;
        }
        match replies.next() {
            None | Some(Value::Okay) => Ok(()),
            refused => Err(RedisError::reply(&format!("SELECT {}", server.db), refused)),
        }
    }
}

/// Reads the answer to `AUTH`, and quotes nothing of it.
fn accept_login(reply: Option<Value>) -> Result<(), RedisError> {
    let error = match reply {
        Some(Value::Okay) => return Ok(()),
        Some(Value::ServerError(error)) => error,
        _ => return Err(RedisError::Login),
    };
    let details = error.details().unwrap_or_default();
    Err(match error.code() {
        "WRONGPASS" => RedisError::WrongPassword,
        // Before 6.0.
        "ERR" if details == "invalid password" => RedisError::WrongPassword,
        "ERR" if details.contains("without any password configured") => RedisError::NoPassword,
        _ => RedisError::Login,
    })
}

/// Why a reply could not be read.
fn unreadable(error: &redis::RedisError) -> RedisError {
    if error.is_connection_dropped() {
        RedisError::Closed
    } else if error.is_io_error() {
        RedisError::Broken(io::Error::other(error.to_string()))
    } else {
        // The parser quotes what it read, over several lines.
        RedisError::UnexpectedReply("it does not parse".to_owned())
    }
}

/// Why a call did not succeed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisError {
    #[error("{}; start the server, or correct REDIS_HOST and REDIS_PORT", io_reason(.0))]
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

    #[error(
        "the connection was closed without an answer; the server may want TLS (REDIS_TLS=on), or \
         may not be Redis"
    )]
    ClosedAtOnce,

    #[error(
        "no answer within {0} ms; check that it runs, is not overloaded, and that no firewall \
         drops the connection"
    )]
    TimedOut(u128),

    #[error("unexpected reply from Redis: {0}; check REDIS_HOST and REDIS_PORT")]
    UnexpectedReply(String),

    #[error("the user name or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD)")]
    WrongPassword,

    #[error("a password is required (REDIS_PASSWORD)")]
    PasswordRequired,

    #[error("REDIS_PASSWORD is set, but the server has no password for its default user")]
    NoPassword,

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

    #[error("the sequence is exhausted")]
    Exhausted,
}

impl RedisError {
    /// Whether the server took the call in order, and would answer the same over another
    /// connection. After all others the name may lead to another server by now.
    pub(super) fn keeps_connection(&self) -> bool {
        matches!(
            self,
            Self::Unconfirmed { .. } | Self::NotANumber { .. } | Self::Exhausted
        )
    }

    /// A command that the server answered with an error, or with something else than expected.
    pub(super) fn reply(command: &str, reply: Option<Value>) -> Self {
        match reply {
            Some(Value::ServerError(error)) => Self::refused(command, &error),
            _ => Self::UnexpectedReply(format!("{command} has another kind of answer")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(answer: &str) -> RedisError {
        let (code, details) = answer.split_once(' ').unwrap();
        let reply = redis::parse_redis_value(format!("-{code} {details}\r\n").as_bytes());
        RedisError::reply("EVAL", reply.ok())
    }

    #[test]
    fn the_documentation_lists_each_reason_as_it_is_said() {
        let other = || io::Error::other("…");
        let reasons = [
            RedisError::Connect(io::ErrorKind::ConnectionRefused.into()),
            RedisError::ConnectTimedOut(950),
            RedisError::Handshake(other()),
            RedisError::HandshakeTimedOut(950),
            RedisError::LoginTimedOut(950),
            RedisError::Broken(other()),
            RedisError::Closed,
            RedisError::ClosedAtOnce,
            RedisError::TimedOut(950),
            RedisError::UnexpectedReply("…".to_owned()),
            RedisError::WrongPassword,
            RedisError::PasswordRequired,
            RedisError::NoPassword,
            RedisError::Login,
            RedisError::Replica,
            RedisError::Sentinel,
            RedisError::NotDurable("…".to_owned()),
            RedisError::TooFewReplicas {
                following: 0,
                wanted: 1,
            },
            RedisError::Unconfirmed {
                confirmed: 0,
                wanted: 1,
                milliseconds: 750,
            },
            RedisError::NotANumber {
                key: "…".to_owned(),
                text: "…".to_owned(),
            },
            RedisError::Expires("…".to_owned()),
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
