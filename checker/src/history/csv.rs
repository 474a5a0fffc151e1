//! The file format: a header, then five whole numbers a line.

use std::io::{self, BufRead, Write};

use super::{History, Operation};

const HEADER: &str = "sent,received,number,count,connection";

#[derive(Debug, thiserror::Error)]
pub(super) enum CsvError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("line {line}: {reason}")]
    Malformed { line: usize, reason: &'static str },
}

pub(super) fn write(history: &History, mut output: impl Write) -> io::Result<()> {
    writeln!(output, "{HEADER}")?;
    for operation in &history.operations {
        writeln!(
            output,
            "{},{},{},{},{}",
            history.epoch + operation.sent,
            history.epoch + operation.received,
            operation.number,
            operation.count,
            operation.connection,
        )?;
    }
    output.flush()
}

/// Appends what `input` holds to `operations`, with times as they stand in the file.
pub(super) fn read(
    input: impl BufRead,
    run: u16,
    operations: &mut Vec<Operation>,
) -> Result<(), CsvError> {
    let mut lines = input.lines();
    if lines.next().transpose()?.as_deref() != Some(HEADER) {
        return Err(CsvError::Malformed {
            line: 1,
            reason: "this is not a history that `--history` wrote",
        });
    }
    for (line, text) in (2..).zip(lines) {
        let operation = parse(&text?, run).ok_or(CsvError::Malformed {
            line,
            reason: "expected sent,received,number,count,connection, \
                     whole numbers with sent not after received",
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

    #[test]
    fn what_is_written_is_read_again_in_absolute_time() {
        let operation = Operation {
            sent: 5,
            received: 9,
            number: 41,
            count: 2,
            connection: 7,
            run: 0,
        };
        let history = History {
            epoch: 1_000,
            operations: vec![operation],
        };
        let mut file = Vec::new();
        write(&history, &mut file).unwrap();

        let mut operations = Vec::new();
        read(file.as_slice(), 3, &mut operations).unwrap();
        assert_eq!(
            operations,
            [Operation {
                sent: 1_005,
                received: 1_009,
                run: 3,
                ..operation
            }]
        );
    }

    #[test]
    fn a_damaged_line_is_named() {
        for damaged in ["1,2,3,4", "2,1,3,1,0", "1,2,3,1,0,6", "1,2,x,1,0", ""] {
            let file = format!("{HEADER}\n1,2,3,1,0\n{damaged}\n");
            let error = read(file.as_bytes(), 1, &mut Vec::new()).unwrap_err();
            assert!(
                matches!(error, CsvError::Malformed { line: 3, .. }),
                "{damaged:?}: {error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        for file in ["", "hello\n", "1,2,3,1,0\n"] {
            let error = read(file.as_bytes(), 1, &mut Vec::new()).unwrap_err();
            assert!(
                matches!(error, CsvError::Malformed { line: 1, .. }),
                "{file:?}"
            );
        }
    }
}
