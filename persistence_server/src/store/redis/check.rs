//! Whether the server can be trusted with numbers.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use redis::{Pipeline, Value};

use super::{
    RedisServer,
    connection::{RedisConnection, RedisError},
};

/// The seconds for which a replica may be silent and still count as one that follows. It must
/// confirm a write within one second.
const LARGEST_LAG: i64 = 3;

/// Asks the server what it is, and refuses it for what would break the promise. It writes
/// nothing.
pub(super) async fn check(
    server: &RedisServer,
    connection: &mut RedisConnection,
) -> Result<(), RedisError> {
    let mut commands = Pipeline::with_capacity(5);
    commands.cmd("INFO").arg("server");
    commands.cmd("INFO").arg("replication");
    commands.cmd("CONFIG").arg("GET").arg("*append*");
    commands.cmd("CONFIG").arg("GET").arg("maxmemory*");
    commands.cmd("PTTL").arg(&server.key);
    let mut replies = connection.exchange(&commands).await?.into_iter();
    server.answered.store(true, Ordering::Relaxed);

    let about = Info::read(replies.next())?;
    let replication = Info::read(replies.next())?;
    let settings = read_settings(replies.next(), replies.next());
    if about.get("redis_mode") == "sentinel" {
        return Err(RedisError::Sentinel);
    }
    replication.must_be_primary()?;
    let exists = match replies.next() {
        Some(Value::Int(-2)) => false,
        Some(Value::Int(-1)) => true,
        Some(Value::Int(_)) => return Err(RedisError::Expires(server.key.clone())),
        other => return Err(RedisError::reply("PTTL", other)),
    };
    let warnings = judge(&about, &replication, &settings, server)?;
    server.warn(warnings.join("; "));
    if !exists {
        server.log_new();
    }
    Ok(())
}

/// Refuses what the settings forbid, and returns warnings about the rest that is risky.
fn judge(
    about: &Info,
    replication: &Info,
    settings: &Settings,
    server: &RedisServer,
) -> Result<Vec<String>, RedisError> {
    let mut warnings = Vec::new();
    let shortcomings = shortcomings(about, settings);
    if !shortcomings.is_empty() {
        let shortcomings = shortcomings.join(", ");
        if server.requires_durable {
            return Err(RedisError::NotDurable(shortcomings));
        }
        warnings.push(format!(
            "the server may lose numbers in a crash, and then they repeat: {shortcomings}"
        ));
    }
    let following = replication.replicas_following();
    if following < usize::from(server.replicas) {
        return Err(RedisError::TooFewReplicas {
            following,
            wanted: server.replicas,
        });
    }
    if following > usize::from(server.replicas) {
        warnings.push(format!(
            "replicas: {following}, and REDIS_MIN_REPLICAS is {}: after a fail-over to \
             one that had not received everything, numbers repeat",
            server.replicas
        ));
    }
    Ok(warnings)
}

/// Why the server may lose a write that it has answered.
fn shortcomings(about: &Info, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    match settings {
        Err(why) => found.push(format!("its settings are unknown ({why})")),
        Ok(settings) => {
            let get = |name: &str| settings.get(name).map_or("", String::as_str);
            for (name, safe) in [
                ("appendonly", "yes"),
                ("appendfsync", "always"),
                // Otherwise nothing is flushed while a snapshot or a new log is being written.
                ("no-appendfsync-on-rewrite", "no"),
            ] {
                if get(name) != safe {
                    found.push(format!("{name} is {:?} instead of {safe:?}", get(name)));
                }
            }
            let policy = get("maxmemory-policy");
            if get("maxmemory") != "0" && policy.starts_with("allkeys") {
                found.push(format!(
                    "maxmemory-policy is {policy:?}, which may evict the key"
                ));
            }
        }
    }
    // Older ones go on after a flush that failed, or answer some clients before the flush.
    if about.major_version() < 7 {
        let version = about.get("redis_version");
        found.push(format!("version {version:?} is older than 7.0"));
    }
    found
}

/// A section of `INFO`: lines of `name:value`.
#[derive(Debug)]
struct Info(BTreeMap<String, String>);

impl Info {
    fn read(reply: Option<Value>) -> Result<Self, RedisError> {
        let text = match reply {
            Some(Value::BulkString(bytes)) => bytes,
            other => return Err(RedisError::reply("INFO", other)),
        };
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(
            lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn major_version(&self) -> u32 {
        let major = self.get("redis_version").split('.').next();
        major.and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    fn must_be_primary(&self) -> Result<(), RedisError> {
        match self.get("role") {
            "master" => Ok(()),
            "slave" => Err(RedisError::Replica),
            other => Err(RedisError::UnexpectedReply(format!(
                "its role is {other:?}"
            ))),
        }
    }

    /// How many replicas follow: `slave0:ip=…,port=…,state=online,offset=…,lag=0`, where the lag
    /// is the seconds since one last said how far it was, which each does every second.
    fn replicas_following(&self) -> usize {
        let follows = |replica: &str| {
            let part = |name| {
                let mut parts = replica.split(',');
                parts.find_map(|part| part.strip_prefix(name))
            };
            let lag = part("lag=").and_then(|lag| lag.parse().ok());
            part("state=") == Some("online") && lag.is_none_or(|lag: i64| lag <= LARGEST_LAG)
        };
        let numbered = |name: &str| {
            let number = name.strip_prefix("slave");
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let replicas = self.0.iter().filter(|(name, _)| numbered(name));
        replicas.filter(|(_, replica)| follows(replica)).count()
    }
}

/// The server's settings that matter here, or why they are unknown: many managed servers forbid to
/// read them.
type Settings = Result<BTreeMap<String, String>, String>;

fn read_settings(log: Option<Value>, memory: Option<Value>) -> Settings {
    let mut known = BTreeMap::new();
    for reply in [log, memory] {
        let settings: BTreeMap<_, _> = match reply {
            Some(reply @ Value::Array(_)) => redis::from_redis_value(reply)
                .map_err(|_| "unexpected reply to CONFIG GET".to_owned())?,
            other => return Err(RedisError::reply("CONFIG GET", other).to_string()),
        };
        known.extend(settings);
    }
    match known.contains_key("appendonly") {
        true => Ok(known),
        false => Err("CONFIG GET does not show them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        Info::read(Some(Value::BulkString(text.into()))).unwrap()
    }

    #[test]
    fn replicas_count_while_they_follow() {
        let replication = info(
            "# Replication\r\nrole:master\r\nconnected_slaves:4\r\nslave_read_only:1\r\n\
             slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
             slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
             slave2:ip=10.0.0.3,port=6379,state=online,offset=1,lag=4\r\n\
             slave3:ip=10.0.0.4,port=6379,state=online,offset=1\r\n",
        );
        assert_eq!(replication.replicas_following(), 2);
        assert!(replication.must_be_primary().is_ok());
    }

    #[test]
    fn a_server_before_7_may_lose_writes_in_any_case() {
        let settings = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory", "0"),
            ("maxmemory-policy", "allkeys-lru"),
        ];
        let settings = settings.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let settings = Ok(settings.into());
        for version in ["7.0.0", "8.2.1", "10.0"] {
            let about = info(&format!("redis_version:{version}\r\n"));
            assert!(shortcomings(&about, &settings).is_empty(), "{version}");
        }
        for version in ["6.2.14", "3.0", "", "x"] {
            let about = info(&format!("redis_version:{version}\r\n"));
            let found = shortcomings(&about, &settings).concat();
            assert_eq!(found, format!("version {version:?} is older than 7.0"));
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_no_panic() {
        for other in [
            None,
            Some(Value::Nil),
            Some(Value::Int(1)),
            Some(Value::Okay),
        ] {
            assert!(Info::read(other.clone()).is_err());
            assert!(read_settings(other, None).is_err());
        }
        let odd = Value::Array(vec![Value::Int(1)]);
        assert!(read_settings(Some(odd), None).is_err());
        assert!(info("role").must_be_primary().is_err());
    }
}
