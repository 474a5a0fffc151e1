//! Which store holds the numbers, and where it is.

use std::{num::NonZeroU16, path::PathBuf};

use chassis::settings::{
    A_HOST, BadValue, Environment, Host, ON_OR_OFF, Secret, Switch, Variable, both,
};
use sequence::MAX_NUMBER;
use serde::Deserialize;

use crate::store::{
    etcd::Endpoints,
    postgres::{PgHost, SslMode},
};

chassis::settings! {
    /// Which store is in use.
    struct StoreChoice {
        /// Where the numbers are kept; memory forgets them at every restart.
        store: StoreKind = "file", "file, redis, postgres, etcd or memory";
    }
}

chassis::settings! {
    /// What is kept in the store.
    struct SequenceSettings {
        /// Name of the sequence: each name in a store counts by itself.
        sequence: SequenceName = "numbers", "a letter, then up to 62 letters, digits, _ or -";
        /// All numbers up to this one are taken, whatever the store says: for a move to another store.
        sequence_floor: Number = "0", "a number from 0 to 9007199254740991";
    }
}

chassis::settings! {
    /// The settings of the file store.
    pub struct FileSettings {
        /// Directory of the file store. It must exist: a new one would begin again at 1.
        data_dir: PathBuf = "data", "the path of a directory";
    }
}

chassis::settings! {
    /// The settings of the Postgres store.
    pub struct PostgresSettings {
        /// Host of PostgreSQL; these settings have the names and meanings that libpq gives them.
        pghost: PgHost = "127.0.0.1", "a host name or an IP address, without a port, or the directory of a Unix socket";
        /// Port of PostgreSQL.
        pgport: NonZeroU16 = "5432", "a port: a number from 1 to 65535";
        /// User of PostgreSQL.
        pguser: String = "postgres", "the name of a user";
        /// Password of that user.
        pgpassword: Option<Secret> = "", "any text" (secret);
        /// Database of PostgreSQL; the one with the user's name when not set.
        pgdatabase: Option<String> = "", "the name of a database";
        /// Whether the connection to PostgreSQL is encrypted, and how far its server is verified.
        pgsslmode: SslMode = "disable", "disable, prefer, require, verify-ca or verify-full";
        /// Authorities that may have issued PostgreSQL's certificate.
        pgsslrootcert: Option<String> = "", "the path of a PEM file, or system for those of the system";
    }
}

chassis::settings! {
    /// The settings of the Redis store.
    pub struct RedisSettings {
        /// Host of the Redis server, the primary.
        redis_host: Host = "127.0.0.1", A_HOST;
        /// Port of the Redis server.
        redis_port: NonZeroU16 = "6379", "a port: a number from 1 to 65535";
        /// User at the Redis server; the server's default user when not set.
        redis_username: Option<String> = "", "the name of a user";
        /// Password at the Redis server.
        redis_password: Option<Secret> = "", "any text" (secret);
        /// Whether the connection to the Redis server is encrypted.
        redis_tls: Switch = "off", ON_OR_OFF;
        /// Authorities that may vouch for the Redis server; those that browsers trust when not set.
        redis_tls_ca_file: Option<PathBuf> = "", "the path of a PEM file";
        /// Number of the database in the Redis server.
        redis_db: u32 = "0", "a number from 0 to 4294967295";
        /// Whether a Redis server that may lose writes is refused; otherwise the log warns of it.
        redis_require_durable: Switch = "off", ON_OR_OFF;
        /// Replicas of the Redis server that must confirm each write; 0 for none.
        redis_min_replicas: u8 = "0", "a number from 0 to 255";
    }
}

chassis::settings! {
    /// The settings of the etcd store.
    pub struct EtcdSettings {
        /// Members of the etcd cluster; the others take over where one fails.
        etcd_endpoints: Endpoints = "http://127.0.0.1:2379", "URLs as http://HOST:PORT or https://HOST:PORT, separated by commas";
        /// User of etcd, if it asks for one.
        etcd_username: Option<String> = "", "the name of a user";
        /// Password of that user.
        etcd_password: Option<Secret> = "", "any text" (secret);
        /// Authority that signed the certificates of etcd; needed for https.
        etcd_ca_file: Option<PathBuf> = "", "the path of a PEM file";
    }
}

/// The settings of `persistence_server`, besides those of every service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which sequence is served.
    pub sequence: SequenceName,
    /// All numbers up to this one are taken.
    pub floor: Number,
    /// Which store is in use, and its settings.
    pub store: StoreSettings,
}

/// The settings of the store in use; those of the others are never read.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// A file in `DATA_DIR`, durable before the answer.
    File(FileSettings),
    /// A row in a Postgres database.
    Postgres(PostgresSettings),
    /// A key in a Redis server.
    Redis(RedisSettings),
    /// A key in the etcd cluster at `ETCD_ENDPOINTS`.
    Etcd(EtcdSettings),
    /// Nothing durable: a restart begins at 1 again.
    Memory,
}

impl chassis::settings::Settings for Settings {
    fn variables() -> Vec<Variable> {
        [
            StoreChoice::variables(),
            SequenceSettings::variables(),
            FileSettings::variables(),
            PostgresSettings::variables(),
            RedisSettings::variables(),
            EtcdSettings::variables(),
        ]
        .concat()
    }

    fn read(environment: &Environment) -> Result<Self, Vec<BadValue>> {
        let store = environment.read().and_then(|StoreChoice { store }| {
            Ok(match store {
                StoreKind::File => StoreSettings::File(environment.read()?),
                StoreKind::Postgres => StoreSettings::Postgres(environment.read()?),
                StoreKind::Redis => StoreSettings::Redis(environment.read()?),
                StoreKind::Etcd => StoreSettings::Etcd(environment.read()?),
                StoreKind::Memory => StoreSettings::Memory,
            })
        });
        let (sequence, store) = both(environment.read::<SequenceSettings>(), store)?;
        Ok(Self {
            sequence: sequence.sequence,
            floor: sequence.sequence_floor,
            store,
        })
    }
}

/// The stores there are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoreKind {
    File,
    Postgres,
    Redis,
    Etcd,
    Memory,
}

/// A number of the sequence, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Number(u64);

impl Number {
    /// The number as an integer, 0 to [`MAX_NUMBER`].
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Number {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, &'static str> {
        (number <= MAX_NUMBER)
            .then_some(Self(number))
            .ok_or("past the last number")
    }
}

/// The name of a sequence, which is safe as part of a file name and as a key in any store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SequenceName(String);

impl SequenceName {
    /// The longest name, in bytes: as long as an identifier in `PostgreSQL`.
    pub const LONGEST: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SequenceName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        let letter_first = name.starts_with(|first: char| first.is_ascii_alphabetic());
        let rest_is_safe = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if letter_first && rest_is_safe && name.len() <= Self::LONGEST {
            Ok(Self(name))
        } else {
            Err("not the name of a sequence")
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::settings::Settings as _;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let environment: Environment = variables.iter().copied().collect();
        Settings::read(&environment)
            .map_err(|bad| bad.iter().map(|bad| format!("{bad}\n")).collect())
    }

    #[test]
    fn without_variables_the_numbers_are_kept_in_a_file() {
        let settings = read(&[]).unwrap();
        let StoreSettings::File(FileSettings { data_dir }) = settings.store else {
            panic!("{settings:?}");
        };
        assert_eq!(data_dir, PathBuf::from("data"));
        assert_eq!(settings.sequence.as_str(), "numbers");
    }

    #[test]
    fn an_unknown_store_is_named_with_those_there_are() {
        let line = read(&[("STORE", "mongo")]).unwrap_err();
        assert!(
            line.starts_with("invalid STORE \"mongo\": expected file, redis, "),
            "{line}"
        );
    }

    #[test]
    fn only_the_settings_of_the_store_in_use_are_judged() {
        let bad = [
            ("file", "DATA_DIR", None),
            ("redis", "REDIS_PORT", Some("tcp://10.0.0.1:6379")),
            ("redis", "REDIS_PASSWORD_FILE", Some("/nowhere")),
            ("postgres", "PGPASSWORD_FILE", Some("/nowhere")),
            ("etcd", "ETCD_ENDPOINTS", Some("tcp://10.0.0.1:2379")),
            ("etcd", "ETCD_PASSWORD_FILE", Some("/nowhere")),
        ];
        for store in ["file", "redis", "postgres", "etcd", "memory"] {
            let mut variables = vec![("STORE", store)];
            variables.extend(
                bad.iter()
                    .filter_map(|(_, name, value)| Some((*name, (*value)?))),
            );
            let lines = read(&variables).err().unwrap_or_default();
            let named: Vec<&str> = bad
                .iter()
                .filter(|(owner, _, value)| *owner == store && value.is_some())
                .map(|(_, name, _)| *name)
                .collect();
            assert_eq!(lines.lines().count(), named.len(), "{store}: {lines}");
            for name in named {
                assert!(lines.contains(name), "{store}: {lines}");
            }
        }
    }

    #[test]
    fn bad_values_of_the_sequence_and_of_the_store_are_reported_together() {
        let lines = read(&[
            ("STORE", "redis"),
            ("SEQUENCE", "../up"),
            ("REDIS_DB", "-1"),
        ])
        .unwrap_err();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(
            lines.contains("SEQUENCE") && lines.contains("REDIS_DB"),
            "{lines}"
        );
    }

    #[test]
    fn a_password_in_a_url_is_never_printed() {
        for (store, name, url) in [
            ("redis", "REDIS_HOST", "redis://:hush@h"),
            ("postgres", "PGHOST", "postgresql://me:hush@h/db"),
            (
                "etcd",
                "ETCD_ENDPOINTS",
                "http://me:hush@a:2379,http://b:2379",
            ),
        ] {
            let line = read(&[("STORE", store), (name, url)]).unwrap_err();
            assert!(
                line.starts_with(&format!("invalid {name} (not shown")),
                "{line}"
            );
            assert!(
                line.contains("expected") && !line.contains("hush"),
                "{line}"
            );
        }
    }

    #[test]
    fn the_host_of_postgres_may_be_a_directory() {
        let host = |host: &str| {
            let environment: Environment = [("PGHOST", host)].into_iter().collect();
            let settings = environment.read::<PostgresSettings>();
            settings.map(|settings| settings.pghost.with_port(5432))
        };
        assert_eq!(host("/run/postgresql").unwrap(), "/run/postgresql:5432");
        assert_eq!(host("[::1]").unwrap(), "[::1]:5432");
        for bad in ["run/postgresql", "/run/\rpostgresql", "db:5432"] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_service_link_of_kubernetes_in_place_of_the_redis_port_is_recognised() {
        let line = read(&[("STORE", "redis"), ("REDIS_PORT", "tcp://10.0.0.1:6379")]).unwrap_err();
        assert!(
            line.starts_with("invalid REDIS_PORT ") && line.contains("enableServiceLinks: false"),
            "{line}"
        );
    }

    #[test]
    fn the_redis_settings_have_safe_bounds_and_hide_the_password() {
        let environment: Environment = [("REDIS_PASSWORD", "hush"), ("REDIS_USERNAME", "me")]
            .into_iter()
            .collect();
        let settings: RedisSettings = environment.read().unwrap();
        assert_eq!(settings.redis_port.get(), 6379);
        assert_eq!(settings.redis_username.as_deref(), Some("me"));
        assert!(!format!("{settings:?}").contains("hush"));
        assert_eq!(settings.redis_require_durable, Switch::Off);
        assert_eq!(settings.redis_min_replicas, 0);
        for (name, bad) in [
            ("REDIS_PORT", "0"),
            ("REDIS_DB", "-1"),
            ("REDIS_TLS", "tls"),
            ("REDIS_REQUIRE_DURABLE", "maybe"),
            ("REDIS_HOST", "redis:6379"),
            ("REDIS_HOST", "redis://h"),
            ("REDIS_MIN_REPLICAS", "256"),
        ] {
            let line = read(&[("STORE", "redis"), (name, bad)]).unwrap_err();
            assert!(line.starts_with(&format!("invalid {name} ")), "{line}");
        }
    }

    #[test]
    fn the_floor_is_a_number_of_the_sequence() {
        assert_eq!(read(&[]).unwrap().floor.get(), 0);
        let max = MAX_NUMBER.to_string();
        let settings = read(&[("SEQUENCE_FLOOR", &max)]).unwrap();
        assert_eq!(settings.floor.get(), MAX_NUMBER);
        for bad in ["9007199254740992", "-1", "1e6", "many"] {
            assert!(
                read(&[("SEQUENCE_FLOOR", bad)])
                    .unwrap_err()
                    .contains("invalid SEQUENCE_FLOOR ")
            );
        }
    }

    #[test]
    fn a_sequence_name_cannot_leave_its_store() {
        for good in ["a", "numbers", "Orders-2026_07", &"a".repeat(63)] {
            assert!(read(&[("SEQUENCE", good)]).is_ok(), "{good}");
        }
        for bad in [
            "../x",
            "a/b",
            "1a",
            "-a",
            "a b",
            "ä",
            "a\0",
            &"a".repeat(64),
        ] {
            assert!(
                read(&[("SEQUENCE", bad)])
                    .unwrap_err()
                    .contains("invalid SEQUENCE "),
                "{bad}"
            );
        }
    }
}
