//! What was asked, what was answered, and when.

mod csv;
mod operation;

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

pub use operation::Operation;
pub(crate) use operation::seconds;

/// The answered requests of one or several runs, in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The moment that the operations call 0, in nanoseconds since 1970-01-01 00:00 UTC.
    pub epoch: u64,
    /// Requests without an answer are not here: it is unknown whether they took a number.
    pub operations: Vec<Operation>,
}

/// Why a recorded history was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be opened or read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file that was asked for.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be created or written.
    #[error("cannot write {file}")]
    Unwritable {
        /// The file that was asked for.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a history, or is damaged.
    #[error("{file}, line {line}: {reason}")]
    Malformed {
        /// The file that was asked for.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the line should have been.
        reason: &'static str,
    },
}

/// An open file for a history.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
}

impl History {
    /// Creates a file to [`write`](Self::write) to, or empties it.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unwritable`] if the system does not let us.
    pub fn create(path: impl AsRef<Path>) -> Result<Output, HistoryError> {
        let path = path.as_ref().to_owned();
        match File::create(&path) {
            Ok(file) => Ok(Output { path, file }),
            Err(source) => Err(HistoryError::Unwritable { file: path, source }),
        }
    }

    /// Writes the history as CSV: a header, then one line for each operation.
    ///
    /// Times are written in nanoseconds since 1970, so that the files of several runs on one
    /// machine can be put together again.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Unwritable`], for one when the disk is full.
    pub fn write(&self, Output { path, file }: Output) -> Result<(), HistoryError> {
        csv::write(self, BufWriter::new(file))
            .map_err(|source| HistoryError::Unwritable { file: path, source })
    }

    /// Reads one or several recorded histories as one.
    ///
    /// The first file's operations belong to run 1, the second file's to run 2, and so on. Time 0
    /// is when the first request of all was sent. This is only meaningful for runs on one machine
    /// whose clock was not set in between: clocks of two machines differ by more than a request
    /// takes.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if one of the files cannot be read or is not such a history.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, HistoryError> {
        let mut operations = Vec::new();
        for (run, file) in (1..).zip(files) {
            let file = file.as_ref();
            let unreadable = |source| HistoryError::Unreadable {
                file: file.to_owned(),
                source,
            };
            let input = BufReader::new(File::open(file).map_err(unreadable)?);
            csv::read(input, run, &mut operations).map_err(|error| match error {
                csv::CsvError::Io(source) => unreadable(source),
                csv::CsvError::Malformed { line, reason } => HistoryError::Malformed {
                    file: file.to_owned(),
                    line,
                    reason,
                },
            })?;
        }
        let epoch = operations.iter().map(|o| o.sent).min().unwrap_or(0);
        for operation in &mut operations {
            operation.sent -= epoch;
            operation.received -= epoch;
        }
        Ok(Self { epoch, operations })
    }
}
