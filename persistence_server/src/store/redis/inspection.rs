//! Whether the server can be trusted with numbers.

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::{
    connection::Connection,
    failure::Failure,
    script::{self, RAISE},
    server::{Rules, Server},
};

/// Asks the server what it is, and refuses it for what would break the promise. It writes
/// nothing and takes no number.
pub(super) async fn inspect(server: &Server, connection: &mut Connection) -> Result<(), Failure> {
    let mut commands = Pipeline::with_capacity(6);
    commands.cmd("INFO").arg("server");
    commands.cmd("INFO").arg("replication");
    commands.cmd("CONFIG").arg("GET").arg("*append*");
    commands.cmd("CONFIG").arg("GET").arg("maxmemory*");
    commands.cmd("PTTL").arg(&server.key);
    script::add(&mut commands, RAISE, &server.key, 0);
    let mut replies = connection.exchange(&commands).await?.into_iter();

    let about = Info::read(replies.next())?;
    let replication = Info::read(replies.next())?;
    let settings = Config::read(replies.next(), replies.next());
    let expiry = replies.next();
    about.must_hold_data()?;
    replication.must_be_primary()?;
    match expiry {
        Some(Value::Int(milliseconds)) if milliseconds < 0 => {}
        Some(Value::Int(_)) => return Err(Failure::Expires(server.key.clone())),
        other => return Err(Failure::reply("PTTL", other)),
    }
    script::expect_number(&server.key, replies.next())?;

    let warnings = judge(&about, &replication, &settings, server.rules)?;
    server.warn(warnings.join("; "));
    Ok(())
}

/// Applies the rules: what they do not forbid and people should know is a warning.
fn judge(
    about: &Info,
    replication: &Info,
    settings: &Config,
    rules: Rules,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let shortcomings = shortcomings(about, settings);
    if !shortcomings.is_empty() {
        let shortcomings = shortcomings.join(", ");
        if rules.durable {
            return Err(Failure::NotDurable(shortcomings));
        }
        warnings.push(format!(
            "the server may lose numbers in a crash, and then they repeat: {shortcomings}"
        ));
    }
    let online = replication.replicas_online();
    if online < usize::from(rules.replicas) {
        return Err(Failure::TooFewReplicas {
            online,
            wanted: rules.replicas,
        });
    }
    if online > usize::from(rules.replicas) {
        warnings.push(format!(
            "{online} replicas are connected and REDIS_MIN_REPLICAS is {}: after a fail-over to \
             one that had not received everything, numbers repeat",
            rules.replicas
        ));
    }
    Ok(warnings)
}

/// Why the server may lose a write that it has answered.
fn shortcomings(about: &Info, settings: &Config) -> Vec<String> {
    let mut found = Vec::new();
    match settings {
        Config::Unknown(why) => found.push(format!("its settings are unknown, because {why}")),
        Config::Known(settings) => {
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
        found.push(format!("version {version} is older than 7.0"));
    }
    found
}

/// A section of `INFO`: lines of `name:value`.
#[derive(Debug)]
struct Info(BTreeMap<String, String>);

impl Info {
    fn read(reply: Option<Value>) -> Result<Self, Failure> {
        let text = match reply {
            Some(Value::BulkString(bytes)) => bytes,
            other => return Err(Failure::reply("INFO", other)),
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

    fn must_hold_data(&self) -> Result<(), Failure> {
        match self.get("redis_mode") {
            "sentinel" => Err(Failure::Sentinel),
            _ => Ok(()),
        }
    }

    fn must_be_primary(&self) -> Result<(), Failure> {
        match self.get("role") {
            "master" => Ok(()),
            "slave" => Err(Failure::Replica),
            other => Err(Failure::Strange(format!("its role is {other:?}"))),
        }
    }

    /// How many replicas receive what is written: `slave0:ip=…,port=…,state=online,…`.
    fn replicas_online(&self) -> usize {
        let of_replicas = self.0.iter().filter(|(name, _)| {
            name.strip_prefix("slave")
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        });
        of_replicas
            .filter(|(_, value)| value.split(',').any(|part| part == "state=online"))
            .count()
    }
}

/// The server's settings that matter here, if it tells them.
#[derive(Debug)]
enum Config {
    Known(BTreeMap<String, String>),
    /// With the reason: many managed servers forbid it.
    Unknown(String),
}

impl Config {
    fn read(log: Option<Value>, memory: Option<Value>) -> Self {
        let mut known = BTreeMap::new();
        for reply in [log, memory] {
            match reply.map(redis::from_redis_value::<BTreeMap<String, String>>) {
                Some(Ok(settings)) => known.extend(settings),
                Some(Err(error)) => return Self::Unknown(error.to_string()),
                None => return Self::Unknown("an answer is missing".to_owned()),
            }
        }
        match known.contains_key("appendonly") {
            true => Self::Known(known),
            false => Self::Unknown("CONFIG GET does not tell them".to_owned()),
        }
    }
}
