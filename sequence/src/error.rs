//! Why a reservation failed.

use std::{error::Error as StdError, sync::Arc};

/// What lies behind an [`Error`]: for the log, never for a client.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a reservation failed. A clone costs at most one reference count.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sequence ends before the wanted block does. Nothing was taken, and waiting is no help.
    #[error("the sequence is exhausted")]
    Exhausted,

    /// More callers are waiting than allowed. Nothing was taken.
    #[error("too many requests are waiting for a number")]
    Overloaded,

    /// No answer within the time allowed. The numbers may have been taken.
    #[error("no answer in time")]
    TimedOut,

    /// What the numbers come from is down at the moment. They may have been taken.
    #[error("the sequence is unavailable")]
    Unavailable(#[source] Cause),

    /// The store has lost writes that it had confirmed. A [`Ratchet`](crate::Ratchet) raises it.
    #[error("the store lost writes")]
    Regressed(#[source] Cause),

    /// What the numbers come from has failed for good: no later call can succeed.
    #[error("the sequence has failed")]
    Failed(#[source] Cause),
}

impl Error {
    /// An [`Error::Unavailable`] with its cause, an error or just a sentence.
    pub fn unavailable(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into().into())
    }

    /// An [`Error::Regressed`] with its cause.
    pub fn regressed(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Regressed(cause.into().into())
    }

    /// An [`Error::Failed`] with its cause.
    pub fn failed(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(cause.into().into())
    }

    /// Whether the same call could succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::Unavailable(_) | Self::Regressed(_)
        )
    }

    /// The error and its causes in one line, for the log and for readiness.
    pub fn chain(&self) -> String {
        let mut line = String::new();
        let mut next: Option<&(dyn StdError + 'static)> = match self {
            // Its own words add nothing to the cause.
            Self::Unavailable(cause) | Self::Failed(cause) => Some(&**cause),
            other => Some(other),
        };
        while let Some(error) = next {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&error.to_string());
            next = error.source();
        }
        line
    }
}

impl From<crate::InvalidBlock> for Error {
    /// A store that cannot take the next block has come to its end.
    fn from(_: crate::InvalidBlock) -> Self {
        Self::Exhausted
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("redis at redis:6379")]
        struct Outer(#[source] io::Error);

        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let error = Error::unavailable(Outer(refused));
        assert_eq!(error.chain(), "redis at redis:6379: connection refused");
        assert_eq!(error.to_string(), "the sequence is unavailable");
        assert_eq!(Error::TimedOut.chain(), "no answer in time");
    }
}
