//! The store in a Redis server.
//!
//! The sequence `numbers` is the key `sequence:numbers`, whose value is the last number taken as
//! plain decimal digits. A block is taken with `INCRBY`, inside a script that stops at the end of
//! the sequence.
//!
//! `INCRBY` alone does not keep the promise: a number that was answered comes back when the
//! server loses the write, in a crash without `appendfsync always` or in a fail-over to a replica
//! that did not have it yet. So each connection is checked before it is used, again whenever the
//! readiness check finds an error, and with `REDIS_MIN_REPLICAS=k` a block that `k` replicas did
//! not confirm is thrown away.

mod check;
mod connection;

use std::sync::{
    Arc, Mutex, Once, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use chassis::{
    BadSettings,
    settings::{BadValue, Host, Secret, Switch},
};
use redis::{Pipeline, Value};
use rustls::pki_types::ServerName;
use sequence::{Block, Count, Error, MAX_NUMBER, Reusable, Sequence, Store};
use tracing::{info, warn};

use self::{
    check::check,
    connection::{RedisConnection, RedisError, Tls},
};
use super::{Backend, Operations};
use crate::{RedisSettings, SequenceName, tls};

/// How long the replicas get to confirm a write, in milliseconds. It leaves room for the rest of
/// a readiness check, which has 950 in all.
const CONFIRMATION_MS: u32 = 750;

/// A sequence in a Redis server.
#[derive(Clone, Debug)]
pub struct RedisStore {
    server: Arc<RedisServer>,
    connection: Reusable<RedisConnection>,
}

/// The server as all handles of one process know it.
#[derive(Debug)]
struct RedisServer {
    host: Host,
    port: u16,
    username: Option<String>,
    password: Option<Secret>,
    tls: Option<Tls>,
    db: u32,
    key: String,
    /// Whether a server that may lose writes is refused.
    requires_durable: bool,
    /// How many replicas must confirm each write.
    replicas: u8,
    operations: Operations,
    /// Raised when something was found wrong: then each connection is checked again before it is
    /// used.
    epoch: AtomicU64,
    /// Whether the server has ever answered.
    answered: AtomicBool,
    /// That the sequence is new was logged.
    new: Once,
    /// The warning that was logged last, so that each is logged once.
    warned: Mutex<String>,
}

impl RedisStore {
    /// The sequence in the server that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Settings that do not go together, or a file that cannot be read.
    pub fn open(
        settings: &RedisSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        let server = RedisServer {
            host: settings.redis_host.clone(),
            port: settings.redis_port.get(),
            username: settings.redis_username.clone(),
            password: settings.redis_password.clone(),
            tls: encryption(settings).map_err(|bad| BadSettings(vec![bad]))?,
            db: settings.redis_db,
            key: format!("sequence:{}", sequence.as_str()),
            requires_durable: settings.redis_require_durable == Switch::On,
            replicas: settings.redis_min_replicas,
            operations,
            epoch: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            new: Once::new(),
            warned: Mutex::default(),
        };
        Ok(Self {
            server: Arc::new(server),
            connection: Reusable::default(),
        })
    }

    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut RedisConnection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        let open = async || RedisConnection::open(&self.server).await;
        let call = async |connection: &mut RedisConnection| {
            let result = call(connection).await;
            if let Err(error) = &result {
                connection.idle &= error.keeps_connection();
            }
            result
        };
        let result = self.connection.call(open, call).await;
        result.map_err(|error| match error {
            RedisError::Exhausted => Error::Exhausted,
            RedisError::Closed if !self.server.is_encrypted_or_has_answered() => {
                self.unavailable(&RedisError::ClosedAtOnce)
            }
            error => self.unavailable(&error),
        })
    }

    fn unavailable(&self, error: &RedisError) -> Error {
        Error::unavailable(format!("{}: {error}", self.target()))
    }

    /// Checks the server, unless it was found in order over this connection in this epoch.
    async fn ensure_checked(&self, connection: &mut RedisConnection) -> Result<(), RedisError> {
        if connection.inspected != Some(self.server.epoch.load(Ordering::Acquire)) {
            self.inspect(connection).await?;
        }
        Ok(())
    }

    /// Makes sure that the server keeps the promise and takes writes. Returns the last number
    /// taken, and takes none.
    async fn inspect(&self, connection: &mut RedisConnection) -> Result<u64, RedisError> {
        let epoch = self.server.epoch.load(Ordering::Acquire);
        check(&self.server, connection).await?;
        let last = self.raise(connection, 0).await?;
        connection.inspected = Some(epoch);
        Ok(last)
    }

    /// Makes `floor` the last number taken if it is larger. Returns the last number taken.
    async fn raise(&self, connection: &mut RedisConnection, floor: u64) -> Result<u64, RedisError> {
        match self.write(connection, RAISE, floor).await? {
            Reply::Last(last) => Ok(last),
            Reply::Stored(text) => Err(self.server.not_a_number(format!("{text:?}"))),
        }
    }

    async fn take(
        &self,
        connection: &mut RedisConnection,
        count: Count,
    ) -> Result<Block, RedisError> {
        let wanted = u64::from(count.get());
        self.server.operations.add_one();
        match self.write(connection, TAKE, wanted).await? {
            // The script keeps the last number between the count and the end.
            Reply::Last(last) => last
                .checked_sub(wanted)
                .and_then(|before| Block::after(before, count).ok())
                .ok_or_else(|| RedisError::UnexpectedReply(format!("INCRBY answered {last}"))),
            Reply::Stored(text) if is_number(&text) => Err(RedisError::Exhausted),
            Reply::Stored(text) => Err(self.server.not_a_number(format!("{text:?}"))),
        }
    }

    /// Runs a script that writes, and waits for the replicas.
    async fn write(
        &self,
        connection: &mut RedisConnection,
        script: &str,
        argument: u64,
    ) -> Result<Reply, RedisError> {
        let server = &*self.server;
        let mut commands = Pipeline::with_capacity(2);
        let eval = commands.cmd("EVAL").arg(script).arg(1).arg(&server.key);
        eval.arg(argument);
        if server.replicas > 0 {
            // In the same pipeline: WAIT counts the writes of its own connection only.
            let wait = commands.cmd("WAIT").arg(server.replicas);
            wait.arg(CONFIRMATION_MS);
        }
        let mut replies = connection.exchange(&commands).await?.into_iter();
        let reply = Reply::read(server, replies.next())?;
        if server.replicas > 0 {
            let confirmed = match replies.next() {
                Some(Value::Int(confirmed)) => confirmed,
                other => return Err(RedisError::reply("WAIT", other)),
            };
            if confirmed < i64::from(server.replicas) {
                // A replica that is promoted in a fail-over may not know of it, so no caller may
                // have it. The check before the next call takes no numbers.
                server.epoch.fetch_add(1, Ordering::AcqRel);
                return Err(RedisError::Unconfirmed {
                    confirmed,
                    wanted: server.replicas,
                    milliseconds: CONFIRMATION_MS,
                });
            }
        }
        Ok(reply)
    }
}

impl Backend for RedisStore {
    fn target(&self) -> String {
        format!("redis at {}", self.server.host.with_port(self.server.port))
    }
}

#[async_trait(?Send)]
impl Sequence for RedisStore {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        self.call(async |connection| {
            self.ensure_checked(connection).await?;
            self.take(connection, count).await
        })
        .await
    }
}

#[async_trait(?Send)]
impl Store for RedisStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.call(async |connection| {
            self.ensure_checked(connection).await?;
            self.raise(connection, floor.min(MAX_NUMBER))
                .await
                .map(drop)
        })
        .await
    }

    async fn check(&self) -> Result<u64, Error> {
        let last = self
            .call(async |connection| self.inspect(connection).await)
            .await;
        if last.is_err() {
            // What is wrong here may be wrong for connections that were good so far.
            self.server.epoch.fetch_add(1, Ordering::AcqRel);
        }
        last
    }
}

fn encryption(settings: &RedisSettings) -> Result<Option<Tls>, BadValue> {
    let ca_file = settings.redis_tls_ca_file.as_deref();
    if settings.redis_tls == Switch::Off {
        return match ca_file {
            None => Ok(None),
            Some(_) => Err(BadValue::together(
                "REDIS_TLS_CA_FILE is set but REDIS_TLS is off; set REDIS_TLS=on or remove the file",
            )),
        };
    }
    let host = settings.redis_host.as_str();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let reason = "no certificate can name it; expected another with REDIS_TLS=on";
        BadValue::invalid("REDIS_HOST", host, reason)
    })?;
    let authorities = match ca_file {
        Some(path) => tls::read_authorities(path).map_err(|reason| {
            BadValue::invalid("REDIS_TLS_CA_FILE", &path.to_string_lossy(), reason)
        })?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    let config = tls::verify_name(authorities);
    Ok(Some(Tls { config, name }))
}

impl RedisServer {
    /// Otherwise a connection that is closed without an answer may be one that needs TLS.
    fn is_encrypted_or_has_answered(&self) -> bool {
        self.tls.is_some() || self.answered.load(Ordering::Relaxed)
    }

    fn not_a_number(&self, text: String) -> RedisError {
        let key = self.key.clone();
        RedisError::NotANumber { key, text }
    }

    /// Logs a warning unless it is the one that was logged last.
    fn warn(&self, warning: String) {
        // The text is replaced whole, so a panic elsewhere cannot have left half of it.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if *warned != warning && !warning.is_empty() {
            let (host, port) = (self.host.as_str(), self.port);
            warn!(host, port, "STORE=redis: {warning}");
        }
        *warned = warning;
    }

    /// Logs, once, that the sequence begins here.
    fn log_new(&self) {
        self.new.call_once(|| {
            let (host, port, key) = (self.host.as_str(), self.port, &*self.key);
            info!(
                host,
                port, key, "STORE=redis: the key does not exist yet; a new sequence begins"
            );
        });
    }
}

// `INCRBY` by itself goes past the end of the sequence, and undoing that afterwards is not
// atomic: another replica of this service would see a number that is taken back. A script is
// atomic, needs nothing but `GET` and `INCRBY`, and leaves a value that people can read and set.
// (`BITFIELD … OVERFLOW FAIL INCRBY u53` would stop at the same number, but its value is binary,
// and a value set by hand would be taken for another number.)
//
// Lua counts in doubles, which are exact up to 2^53: so the scripts compare with the end before
// they add, and a stored value past it is not rounded to one within. `INCRBY` itself counts in
// 64-bit integers. They are sent whole each time: a server that restarted or was replaced has
// forgotten those it was sent before, and a second round trip would cost more than 250 bytes.

/// Takes `ARGV[1]` numbers and answers the last; or, where they do not fit, the stored value as
/// text, and takes nothing.
const TAKE: &str = "\
local stored = redis.call('GET', KEYS[1]) or '0'
local last = (stored == '0' or string.match(stored, '^[1-9]%d*$')) and tonumber(stored)
if last and last <= 9007199254740991 - tonumber(ARGV[1]) then
  return redis.call('INCRBY', KEYS[1], ARGV[1])
end
return string.sub(stored, 1, 40)";

/// Makes `ARGV[1]` the last number taken if it is larger, and answers the last number taken; or
/// the stored value as text if it is not a number of the sequence.
///
/// With 0 it takes no number, and still writes: a server that reads but refuses writes (out of
/// memory, a full disk, too few replicas, a right that is missing) refuses it like [`TAKE`].
const RAISE: &str = "\
local stored = redis.call('GET', KEYS[1]) or '0'
local last = (stored == '0' or string.match(stored, '^[1-9]%d*$')) and tonumber(stored)
if last and last <= 9007199254740991 then
  return redis.call('INCRBY', KEYS[1], math.max(0, ARGV[1] - last))
end
return string.sub(stored, 1, 40)";

/// The answer of a script that ran.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// The last number taken.
    Last(u64),
    /// The stored value, of which nothing was taken.
    Stored(String),
}

impl Reply {
    fn read(server: &RedisServer, reply: Option<Value>) -> Result<Self, RedisError> {
        match &reply {
            Some(Value::Int(last)) if *last >= 0 => Ok(Self::Last(last.unsigned_abs())),
            Some(Value::BulkString(bytes)) => {
                Ok(Self::Stored(String::from_utf8_lossy(bytes).into_owned()))
            }
            // Before 7.0 the code is that of the script.
            Some(Value::ServerError(error))
                if error.code() == "WRONGTYPE"
                    || error.details().is_some_and(|d| d.contains("WRONGTYPE")) =>
            {
                Err(server.not_a_number("of another type".to_owned()))
            }
            _ => Err(RedisError::reply("EVAL", reply)),
        }
    }
}

/// Whether a stored value is a number of the sequence, in the form that Redis itself takes for an
/// integer: digits only, and no zero in front.
fn is_number(stored: &str) -> bool {
    let number = stored.parse().ok().filter(|number| *number <= MAX_NUMBER);
    number.is_some_and(|number: u64| number.to_string() == stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_know_the_end_of_the_sequence() {
        for script in [TAKE, RAISE] {
            assert!(script.contains(&MAX_NUMBER.to_string()));
        }
    }

    #[test]
    fn only_what_redis_takes_for_an_integer_is_a_number() {
        assert!(is_number("0"));
        assert!(is_number("9007199254740991"));
        for bad in [
            "",
            "-1",
            "+1",
            "007",
            " 1",
            "1.0",
            "1e3",
            "0x10",
            "abc",
            "a\nb",
            "9007199254740992",
            "18446744073709551616",
        ] {
            assert!(!is_number(bad), "{bad:?}");
        }
    }
}
