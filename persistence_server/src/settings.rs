//! Which store holds the numbers, and where it is.

use std::path::PathBuf;

use chassis::settings::Secret;
use serde::Deserialize;

use crate::store::etcd::Endpoints;

chassis::settings! {
    /// The settings of `persistence_server`, besides those of every service.
    pub struct Settings {
        /// Where the numbers are kept; memory forgets them at every restart.
        store: StoreKind = "file", "file, etcd or memory";
        /// Name of the sequence: each name in a store counts by itself.
        sequence: SequenceName = "numbers", "a letter, then up to 62 letters, digits, _ or -";
        /// Directory of the file store. It must exist: a new one would begin again at 1.
        data_dir: PathBuf = "data", "the path of a directory";
        /// Members of the etcd cluster; the others take over where one fails.
        etcd_endpoints: Endpoints = "http://127.0.0.1:2379", "URLs as http://HOST:PORT or https://HOST:PORT, separated by commas";
        /// User of etcd, if it asks for one.
        etcd_username: Option<String> = "", "any text";
        /// Password of that user.
        etcd_password: Option<Secret> = "", "any text" (secret);
        /// Authority that signed the certificates of etcd; needed for https.
        etcd_ca_file: Option<PathBuf> = "", "the path of a PEM file";
    }
}

/// The stores there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file in `DATA_DIR`, durable before the answer.
    File,
    /// A key in the etcd cluster at `ETCD_ENDPOINTS`.
    Etcd,
    /// Nothing durable: a restart begins at 1 again.
    Memory,
}

/// The name of a sequence, which is safe as part of a file name and as a key in any store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SequenceName(String);

impl SequenceName {
    /// The longest name, in bytes: as PostgreSQL's longest identifier.
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
    use chassis::settings::Environment;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let environment: Environment = variables.iter().copied().collect();
        environment.read().map_err(|bad| bad[0].to_string())
    }

    #[test]
    fn without_variables_the_numbers_are_kept_in_a_file() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.store, StoreKind::File);
        assert_eq!(settings.sequence.as_str(), "numbers");
        assert_eq!(settings.data_dir, PathBuf::from("data"));
    }

    #[test]
    fn an_unknown_store_is_named_with_those_there_are() {
        let line = read(&[("STORE", "mongo")]).unwrap_err();
        assert!(
            line.starts_with("STORE=\"mongo\" cannot be used; it accepts file"),
            "{line}"
        );
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
                    .contains("SEQUENCE="),
                "{bad}"
            );
        }
    }
}
