//! What was asked, what was answered, and when; and the file format of it: CSV with a header and
//! five whole numbers a line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One request that was answered, and when.
///
/// Times are nanoseconds since the [epoch](History::epoch) of the history it belongs to.
/// A run of a million requests holds a million of these, so the size counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Taken just before the request was written: the number was not asked for before this.
    pub sent: u64,
    /// Taken right after the answer was read: the number was not handed out after this.
    pub received: u64,
    /// The first number of the answer.
    pub number: u64,
    /// How many numbers the answer brought, `number` being the first; 0 if it held none.
    pub count: u32,
    /// The connection that the request was sent on, counted from 0.
    pub connection: u16,
    /// The recorded run it belongs to, counted from 1; 0 while the run goes on.
    pub run: u16,
}

const _: () = assert!(size_of::<Operation>() == 32);

impl Operation {
    /// The last number of the answer.
    pub fn last(&self) -> u64 {
        self.number
            .saturating_add(u64::from(self.count).saturating_sub(1))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.run > 0 {
            write!(f, "run {}, ", self.run)?;
        }
        write!(
            f,
            "connection {}: sent at {}, answered at {} with ",
            self.connection,
            seconds(self.sent),
            seconds(self.received),
        )?;
        match self.count {
            0 => f.write_str("no number"),
            1 => write!(f, "{}", self.number),
            _ => write!(f, "{} to {}", self.number, self.last()),
        }
    }
}

/// A time as people read it, exact to the nanosecond: two times that differ look different.
pub(crate) fn seconds(nanoseconds: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        if rest % 1_000_000 == 0 {
            write!(f, "{whole}.{:03} s", rest / 1_000_000)
        } else {
            write!(f, "{whole}.{rest:09} s")
        }
    })
}

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
        self.write_csv(BufWriter::new(file))
            .map_err(|source| HistoryError::Unwritable { file: path, source })
    }

    fn write_csv(&self, mut output: impl Write) -> io::Result<()> {
        writeln!(output, "{HEADER}")?;
        for operation in &self.operations {
            writeln!(
                output,
                "{},{},{},{},{}",
                self.epoch + operation.sent,
                self.epoch + operation.received,
                operation.number,
                operation.count,
                operation.connection,
            )?;
        }
        output.flush()
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
            read_file(file.as_ref(), run, &mut operations)?;
        }
        let epoch = operations.iter().map(|o| o.sent).min().unwrap_or(0);
        for operation in &mut operations {
            operation.sent -= epoch;
            operation.received -= epoch;
        }
        Ok(Self { epoch, operations })
    }
}

const HEADER: &str = "sent,received,number,count,connection";

/// Appends what the file holds to `operations`, with times as they stand in it.
fn read_file(file: &Path, run: u16, operations: &mut Vec<Operation>) -> Result<(), HistoryError> {
    let unreadable = |source| HistoryError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let malformed = |line, reason| HistoryError::Malformed {
        file: file.to_owned(),
        line,
        reason,
    };
    let mut lines = BufReader::new(File::open(file).map_err(unreadable)?).lines();
    let header = lines.next().transpose().map_err(unreadable)?;
    if header.as_deref() != Some(HEADER) {
        let reason = "this is not a history that `--history` wrote";
        return Err(malformed(1, reason));
    }
    for (number, line) in (2..).zip(lines) {
        let operation = parse(&line.map_err(unreadable)?, run).ok_or_else(|| {
            let reason = "expected sent,received,number,count,connection, \
                          whole numbers with sent not after received";
            malformed(number, reason)
        })?;
        operations.push(operation);
    }
    Ok(())
}

fn parse(line: &str, run: u16) -> Option<Operation> {
    let mut fields = line.split(',');
    let operation = Operation {
        sent: fields.next()?.parse().ok()?,
        received: fields.next()?.parse().ok()?,
        number: fields.next()?.parse().ok()?,
        count: fields.next()?.parse().ok()?,
        connection: fields.next()?.parse().ok()?,
        run,
    };
    (fields.next().is_none() && operation.sent <= operation.received).then_some(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: Operation = Operation {
        sent: 1_204_000_000,
        received: 1_205_317_251,
        number: 17,
        count: 1,
        connection: 3,
        run: 0,
    };

    #[test]
    fn an_operation_names_its_connection_its_times_and_its_numbers() {
        assert_eq!(
            OPERATION.to_string(),
            "connection 3: sent at 1.204 s, answered at 1.205317251 s with 17"
        );
        let block = Operation {
            count: 5,
            run: 2,
            ..OPERATION
        };
        assert_eq!(
            block.to_string(),
            "run 2, connection 3: sent at 1.204 s, answered at 1.205317251 s with 17 to 21"
        );
    }

    #[test]
    fn a_block_that_runs_past_the_largest_integer_does_not_wrap() {
        let operation = Operation {
            number: u64::MAX,
            count: 2,
            ..OPERATION
        };
        assert_eq!(operation.last(), u64::MAX);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        let history = History {
            epoch: 1_000,
            operations: vec![OPERATION],
        };
        history.write(History::create(&file).unwrap()).unwrap();
        let read = History::read(&[&file]).unwrap();
        assert_eq!(read.epoch, 1_000 + OPERATION.sent);
        let expected = Operation {
            sent: 0,
            received: OPERATION.received - OPERATION.sent,
            run: 1,
            ..OPERATION
        };
        assert_eq!(read.operations, [expected]);
    }

    #[test]
    fn a_file_that_is_something_else_or_damaged_is_refused_with_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        let refusal = |text: &str| {
            std::fs::write(&file, text).unwrap();
            History::read(&[&file]).unwrap_err().to_string()
        };
        for text in ["", "hello\n", "1,2,3,1,0\n"] {
            assert!(refusal(text).contains(", line 1: "), "{text:?}");
        }
        for damaged in ["1,2,3,4", "2,1,3,1,0", "1,2,3,1,0,6", "1,2,x,1,0", ""] {
            let error = refusal(&format!("{HEADER}\n1,2,3,1,0\n{damaged}\n"));
            assert!(error.contains(", line 3: expected sent"), "{error}");
        }
    }
}
