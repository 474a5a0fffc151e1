//! Why Postgres gives no number, in words for the log and for readiness.

use std::{error::Error as _, fmt, io, sync::Arc, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

/// Why the server at an address gives no number; the reason is its source.
#[derive(Debug, thiserror::Error)]
#[error("postgres at {address}")]
pub(super) struct PostgresError {
    pub(super) address: Arc<str>,
    #[source]
    pub(super) problem: Problem,
}

/// The reason alone, in one line and without secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The connection failed, or broke.
    #[error("{0}")]
    Connection(String),

    #[error(
        "no answer within {} ms; check that it is not overloaded, and that no firewall drops the \
         connection", .0.as_millis()
    )]
    Silent(Duration),

    /// The server answered with an error.
    #[error("{message}")]
    Server { code: SqlState, message: String },

    #[error("the server asks for a password, and PGPASSWORD is not set")]
    NoPassword,

    /// See `session::MINIMUM` for why.
    #[error("its version is {found}, and before {minimum} a failed fsync may be taken for success")]
    TooOld { found: String, minimum: u32 },

    #[error("it is a hot standby, which takes no writes")]
    InRecovery,

    #[error("its transactions are read-only (default_transaction_read_only)")]
    ReadOnly,

    #[error("fsync is off, so a crash would repeat numbers; set fsync=on")]
    NoFsync,

    #[error(
        "synchronous_commit is {0} in spite of our setting, so a crash would repeat numbers; \
         remove what changes it, such as a trigger on table numbers"
    )]
    NotSynchronous(String),

    #[error(
        "commits wait for a synchronous standby (synchronous_standby_names) that does not answer"
    )]
    NoStandby,

    #[error("table numbers cannot be used: {0}")]
    WrongTable(&'static str),

    #[error("permission denied for table numbers: the user needs SELECT, INSERT and UPDATE on it")]
    NoRights,

    #[error("there is no table numbers, and it cannot be created: {0}")]
    NoTable(String),

    #[error("the value of {name:?} in table numbers is {value}, not a number from 0 to 2^53-1")]
    NotANumber { name: String, value: String },

    #[error("the row in table numbers was not written; a trigger may prevent it")]
    Changed,

    #[error("the row of {0:?} in table numbers was gone")]
    RowGone(String),

    /// A commit that did not wait for its standby is reported in this way, and as a success.
    #[error("the server warned, so its answer is not used: {0}")]
    Warned(String),

    #[error("the value in table numbers became {0}, which is not what was written")]
    Strange(String),
}

impl Problem {
    /// Whether the connection is still good: the server took the call in order, and with a new
    /// connection the same would have happened.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Changed | Self::RowGone(_) => true,
            Self::Server { code, .. } => {
                [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code)
            }
            _ => false,
        }
    }

    /// Whether somebody else is creating the table at this moment, or just has.
    pub(super) fn is_creation_race(&self) -> bool {
        let Self::Server { code, .. } = self else {
            return false;
        };
        // `CREATE TABLE IF NOT EXISTS` looks before it takes a lock; whoever comes second meets
        // the unique indexes of the catalogue.
        [
            SqlState::UNIQUE_VIOLATION,
            SqlState::DUPLICATE_TABLE,
            SqlState::DUPLICATE_OBJECT,
        ]
        .contains(code)
    }

    /// What the server said by itself, in a notice or an error, and what to do about it where
    /// that needs to be told.
    pub(super) fn words(error: &DbError) -> String {
        let advice = match *error.code() {
            SqlState::TOO_MANY_CONNECTIONS => {
                "; raise max_connections, or the limit of the user or the database: each process \
                 takes WORKERS + 1 connections"
            }
            SqlState::LOCK_NOT_AVAILABLE => {
                "; another transaction holds the row or the table numbers: end it (see \
                 pg_stat_activity, pg_blocking_pids)"
            }
            SqlState::RAISE_EXCEPTION => "; a trigger on table numbers refuses the write",
            SqlState::DISK_FULL => "; free space on the disk of the server",
            _ => "",
        };
        one_line(format_args!("{}{advice}", error.message()))
    }

    /// Why there is no connection, or none any more.
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Connection(match error.raw_os_error() {
            // "connection refused", not "Connection refused (os error 111)".
            Some(_) => error.kind().to_string(),
            None => one_line(error),
        })
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::Server {
                code: answer.code().clone(),
                message: Self::words(answer),
            };
        }
        let Some(cause) = error.source() else {
            return Self::Connection(error.to_string());
        };
        if let Some(cause) = cause.downcast_ref::<io::Error>()
            && cause.raw_os_error().is_some()
        {
            return Self::io(cause);
        }
        let cause = cause.to_string();
        if cause == "password missing" {
            return Self::NoPassword;
        }
        Self::Connection(one_line(format_args!("{error}: {cause}")))
    }
}

/// What comes from the network stays in one line of the log.
fn one_line(words: impl fmt::Display) -> String {
    let words = words.to_string();
    words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_server_stay_in_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[31mc"), "a b [31mc");
    }
}
