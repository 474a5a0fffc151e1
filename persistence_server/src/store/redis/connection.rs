//! One connection to the server, for one caller at a time.
//!
//! The protocol's encoding comes from the `redis` crate; the connection does not. That crate's
//! connections are shared: a task behind them matches replies to callers, and a caller that gives
//! up leaves its reply to be skipped later. Here the caller owns the socket, so that dropping a
//! call closes it, and it can be checked that nothing is left over after the last reply.

use std::{fmt, io, time::Duration};

use chassis::connect;
use combine::stream::{Decoder, PointerOffset};
use redis::{ErrorKind, Pipeline, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    failure::Failure,
    server::{Login, Server},
};

/// How long connecting may take, with the TLS handshake and the login.
const CONNECT: Duration = Duration::from_millis(950);

/// How long an answer may take: longer than the replicas get to confirm, and short enough that
/// the two seconds of an attempt suffice for a new connection after a kept one that hangs, and
/// for an error that names the server if that one hangs, too.
const ANSWER: Duration = Duration::from_millis(950);

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type State = combine::parser::combinator::AnySendSyncPartialState;

/// A connection on which no reply is outstanding.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    decoder: Decoder<State, PointerOffset<[u8]>>,
    /// How many suspicions there were when the server was last found in order over this
    /// connection.
    pub(super) inspected: Option<u64>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(server: &Server) -> Result<Self, Failure> {
        let end = Instant::now() + CONNECT;
        let milliseconds = CONNECT.as_millis();
        let stream = timeout_at(end, connect(server.host.as_str(), server.port))
            .await
            .map_err(|_| Failure::ConnectTimedOut(milliseconds))?
            .map_err(Failure::Connect)?;
        let stream = timeout_at(end, encrypt(server, stream))
            .await
            .unwrap_or(Err(Failure::HandshakeTimedOut(milliseconds)))?;
        let mut connection = Self {
            stream,
            decoder: Decoder::new(),
            inspected: None,
        };
        timeout_at(end, connection.log_in(server))
            .await
            .unwrap_or(Err(Failure::LoginTimedOut(milliseconds)))?;
        Ok(connection)
    }

    /// Sends the commands and reads one reply for each, of which any may be an error.
    pub(super) async fn exchange(&mut self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        let timed_out = Failure::TimedOut(ANSWER.as_millis());
        timeout(ANSWER, self.send_and_read(commands))
            .await
            .unwrap_or(Err(timed_out))
    }

    async fn send_and_read(&mut self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        let request = commands.get_packed_pipeline();
        let sent = async {
            self.stream.write_all(&request).await?;
            // A TLS stream keeps what it could not send yet.
            self.stream.flush().await
        };
        sent.await.map_err(Failure::Broken)?;
        let mut replies = Vec::with_capacity(commands.len());
        while replies.len() < commands.len() {
            let reply = redis::parse_redis_value_async(&mut self.decoder, &mut self.stream).await;
            replies.push(reply.map_err(|error| unreadable(&error))?);
        }
        if !self.decoder.buffer().is_empty() {
            return Err(Failure::Strange(
                "there are more replies than commands".to_owned(),
            ));
        }
        Ok(replies)
    }

    async fn log_in(&mut self, server: &Server) -> Result<(), Failure> {
        let mut commands = Pipeline::new();
        if let Some(Login { username, password }) = &server.login {
            let command = commands.cmd("AUTH").arg(username.as_deref());
            command.arg(password.as_ref().map_or("", |password| password.reveal()));
        }
        if server.db != 0 {
            commands.cmd("SELECT").arg(server.db);
        }
        if commands.is_empty() {
            return Ok(());
        }
        let mut replies = self.send_and_read(&commands).await?.into_iter();
        if server.login.is_some() {
            accept_login(replies.next())?;
        }
        match replies.next() {
            None | Some(Value::Okay) => Ok(()),
            refused => Err(Failure::reply(&format!("SELECT {}", server.db), refused)),
        }
    }
}

async fn encrypt(server: &Server, stream: TcpStream) -> Result<Box<dyn Stream>, Failure> {
    let Some(tls) = &server.tls else {
        return Ok(Box::new(stream));
    };
    let stream = TlsConnector::from(tls.config.clone())
        .connect(tls.name.clone(), stream)
        .await
        .map_err(Failure::Handshake)?;
    Ok(Box::new(stream))
}

/// Reads the answer to `AUTH`, and quotes nothing of it.
fn accept_login(reply: Option<Value>) -> Result<(), Failure> {
    let Some(Value::ServerError(error)) = reply else {
        return match reply {
            Some(Value::Okay) => Ok(()),
            _ => Err(Failure::Login),
        };
    };
    let details = error.details().unwrap_or_default();
    Err(match error.code() {
        "WRONGPASS" => Failure::WrongPassword,
        // Before 6.0.
        "ERR" if details == "invalid password" => Failure::WrongPassword,
        "ERR" if details.contains("without any password configured") => Failure::NoPasswordThere,
        _ => Failure::Login,
    })
}

/// Why a reply could not be read.
fn unreadable(error: &redis::RedisError) -> Failure {
    match error.kind() {
        ErrorKind::Io if error.is_connection_dropped() => Failure::Closed,
        ErrorKind::Io => Failure::Broken(io::Error::other(error.to_string())),
        // The parser quotes what it read, over several lines.
        _ => Failure::Strange("it does not parse".to_owned()),
    }
}
