//! What runs inside the server, and what it answers.
//!
//! `INCRBY` by itself goes past the end of the sequence, and undoing that afterwards is not
//! atomic: another replica of this service would see a number that is taken back. A script is
//! atomic, needs nothing but `GET`, `SET` and `INCRBY`, and leaves a value that people can read
//! and set. (`BITFIELD … OVERFLOW FAIL INCRBY u53` would stop at the same number, but its value
//! is binary, and a value set by hand would be taken for another number.)
//!
//! Lua counts in doubles, which are exact up to 2^53: so the scripts compare with the end before
//! they add, and a stored value past it is not rounded to one within. `INCRBY` itself counts in
//! 64-bit integers. They are sent whole each time: a server that restarted or was replaced has
//! forgotten those it was sent before, and a second round trip would cost more than 250 bytes.

use redis::{Pipeline, Value};
use sequence::MAX_NUMBER;

use super::failure::Failure;

/// Takes `ARGV[1]` numbers and answers the last; or, where they do not fit, the stored value as
/// text, and takes nothing.
pub(super) const TAKE: &str = "\
local stored = redis.call('GET', KEYS[1]) or '0'
local last = string.match(stored, '^%d+$') and tonumber(stored)
if last and last <= 9007199254740991 - tonumber(ARGV[1]) then
  return redis.call('INCRBY', KEYS[1], ARGV[1])
end
return string.sub(stored, 1, 40)";

/// Makes `ARGV[1]` the last number taken if it is larger, and answers the stored value as text.
/// With 0 it only looks.
pub(super) const RAISE: &str = "\
local stored = redis.call('GET', KEYS[1]) or '0'
local last = string.match(stored, '^%d+$') and tonumber(stored)
if last and last <= 9007199254740991 and last < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return string.sub(stored, 1, 40)";

/// Adds the call of a script.
pub(super) fn add(commands: &mut Pipeline, script: &str, key: &str, argument: u64) {
    let command = commands.cmd("EVAL").arg(script).arg(1).arg(key);
    command.arg(argument);
}

/// The answer of a script that ran.
pub(super) fn reply(reply: Option<Value>) -> Result<Value, Failure> {
    match reply {
        Some(value @ (Value::Int(_) | Value::BulkString(_))) => Ok(value),
        other => Err(Failure::reply("EVAL", other)),
    }
}

/// A stored value, as a script returned it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Number(u64),
    /// Something else, in quotes and in one line.
    Strange(String),
}

impl Stored {
    pub(super) fn read(reply: Value) -> Result<Self, Failure> {
        let Value::BulkString(bytes) = reply else {
            return Err(Failure::reply("EVAL", Some(reply)));
        };
        let text = String::from_utf8_lossy(&bytes);
        // What Redis itself takes for an integer: digits only, and no zero in front.
        let number = text
            .parse()
            .ok()
            .filter(|number: &u64| *number <= MAX_NUMBER && number.to_string() == text);
        Ok(match number {
            Some(number) => Self::Number(number),
            None => Self::Strange(format!("{text:?}")),
        })
    }
}

/// Refuses a stored value that is not a number of the sequence.
pub(super) fn expect_number(key: &str, reply: Option<Value>) -> Result<u64, Failure> {
    let key = key.to_owned();
    if let Some(Value::ServerError(error)) = &reply {
        let words = format!("{} {}", error.code(), error.details().unwrap_or_default());
        if words.contains("WRONGTYPE") {
            let text = "of another type".to_owned();
            return Err(Failure::NotANumber { key, text });
        }
    }
    match Stored::read(self::reply(reply)?)? {
        Stored::Number(last) => Ok(last),
        Stored::Strange(text) => Err(Failure::NotANumber { key, text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_know_the_end_of_the_sequence() {
        for script in [TAKE, RAISE] {
            assert!(script.contains(&MAX_NUMBER.to_string()));
        }
    }

    #[test]
    fn only_what_redis_takes_for_an_integer_is_a_number() {
        let read = |text: &str| Stored::read(Value::BulkString(text.into())).unwrap();
        assert_eq!(read("0"), Stored::Number(0));
        assert_eq!(read("9007199254740991"), Stored::Number(MAX_NUMBER));
        for strange in [
            "",
            "-1",
            "+1",
            "007",
            " 1",
            "1.0",
            "1e3",
            "0x10",
            "abc",
            "a\nb",
            "9007199254740992",
            "18446744073709551616",
        ] {
            assert_eq!(read(strange), Stored::Strange(format!("{strange:?}")));
        }
    }
}
