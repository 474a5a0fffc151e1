//! The one transaction: put if the key is as expected, else read.

use super::{
    connection::Connection,
    messages::{
        Compare, Comparison, Field, Operand, Operation, Outcome, PutRequest, RangeRequest,
        RequestOp, ResponseOp, TXN, TxnRequest, TxnResponse,
    },
    problem::{Problem, one_line},
    value::{Value, render},
};

/// What came of a wish to put the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// It is put, and durable.
    Done,
    /// Nothing was changed, for the key holds this.
    Found(Value),
}

impl Connection {
    /// Puts `last` into `key` if the key is as `seen`, and reads it if not, in one atomic step
    /// that a majority of the members has on disk before it is answered.
    pub(super) async fn swap(
        &mut self,
        key: &str,
        seen: Value,
        last: u64,
    ) -> Result<Swap, Problem> {
        let compare = match seen {
            Value::Absent => Compare {
                result: Comparison::Equal.into(),
                target: Field::Version.into(),
                key: key.into(),
                operand: Some(Operand::Version(0)),
            },
            Value::Last(seen) => Compare {
                result: Comparison::Equal.into(),
                target: Field::Value.into(),
                key: key.into(),
                operand: Some(Operand::Value(render(seen))),
            },
        };
        let put = PutRequest {
            key: key.into(),
            value: render(last),
            ignore_value: false,
        };
        self.put_or_read(key, compare, put).await
    }

    /// Reads `key` by way of a transaction that could have written it.
    ///
    /// It changes nothing, but it takes the way of one that does: it fails without a leader, a
    /// majority, the right to write or room to write.
    pub(super) async fn probe(&mut self, key: &str) -> Result<Value, Problem> {
        let never = Compare {
            result: Comparison::Less.into(),
            target: Field::Version.into(),
            key: key.into(),
            operand: Some(Operand::Version(0)),
        };
        let harmless = PutRequest {
            key: key.into(),
            value: Vec::new(),
            ignore_value: true,
        };
        match self.put_or_read(key, never, harmless).await? {
            Swap::Found(value) => Ok(value),
            Swap::Done => Err(Problem::Strange("it found a version below 0")),
        }
    }

    async fn put_or_read(
        &mut self,
        key: &str,
        compare: Compare,
        put: PutRequest,
    ) -> Result<Swap, Problem> {
        let range = RangeRequest { key: key.into() };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![Operation::Put(put).into()],
            failure: vec![Operation::Range(range).into()],
        };
        let before = self.cluster.revision();
        let answer: TxnResponse = self.call(TXN, request).await?;
        self.cluster
            .follow(before, self.recognise(answer.header)?)?;
        let outcome = match <[ResponseOp; 1]>::try_from(answer.responses) {
            Ok([ResponseOp { outcome }]) => outcome,
            Err(_) => None,
        };
        match (answer.succeeded, outcome) {
            (true, Some(Outcome::Put(_))) => Ok(Swap::Done),
            (false, Some(Outcome::Range(found))) => match &found.kvs[..] {
                [] => Ok(Swap::Found(Value::Absent)),
                [pair] if pair.key == key.as_bytes() => {
                    let value = Value::parse(&pair.value);
                    value.map(Swap::Found).ok_or_else(|| Problem::NotANumber {
                        key: key.to_owned(),
                        value: format!("{:?}", one_line(&String::from_utf8_lossy(&pair.value))),
                    })
                }
                _ => Err(Problem::Strange("it read another key than was asked for")),
            },
            _ => Err(Problem::Strange(
                "its transaction did something that was not asked for",
            )),
        }
    }
}

impl From<Operation> for RequestOp {
    fn from(operation: Operation) -> Self {
        Self {
            operation: Some(operation),
        }
    }
}
