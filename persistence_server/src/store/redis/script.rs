//! What runs inside the server, and what it answers.
//!
//! `INCRBY` by itself goes past the end of the sequence, and undoing that afterwards is not
//! atomic: another replica of this service would see a number that is taken back. A script is
//! atomic, needs nothing but `GET` and `INCRBY`, and leaves a value that people can read and set.
//! (`BITFIELD … OVERFLOW FAIL INCRBY u53` would stop at the same number, but its value is binary,
//! and a value set by hand would be taken for another number.)
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
local last = (stored == '0' or string.match(stored, '^[1-9]%d*$')) and tonumber(stored)
if last and last <= 9007199254740991 - tonumber(ARGV[1]) then
  return redis.call('INCRBY', KEYS[1], ARGV[1])
end
return string.sub(stored, 1, 40)";

/// Makes `ARGV[1]` the last number taken if it is larger, and answers the last number taken; or
/// the stored value as text if it is not a number of the sequence.
///
/// With 0 it takes no number, and still writes: a server that reads but refuses writes (out of
/// memory, a full disk, too few replicas, a right that is missing) refuses it like [`TAKE`].
pub(super) const RAISE: &str = "\
local stored = redis.call('GET', KEYS[1]) or '0'
local last = (stored == '0' or string.match(stored, '^[1-9]%d*$')) and tonumber(stored)
if last and last <= 9007199254740991 then
  return redis.call('INCRBY', KEYS[1], math.max(0, ARGV[1] - last))
end
return string.sub(stored, 1, 40)";

/// Adds the call of a script.
pub(super) fn add(commands: &mut Pipeline, script: &str, key: &str, argument: u64) {
    let command = commands.cmd("EVAL").arg(script).arg(1).arg(key);
    command.arg(argument);
}

/// The answer of a script that ran.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The last number taken.
    Last(u64),
    /// The stored value, of which nothing was taken.
    Stored(String),
}

impl Reply {
    pub(super) fn read(key: &str, reply: Option<Value>) -> Result<Self, Failure> {
        match &reply {
            Some(Value::Int(last)) if *last >= 0 => Ok(Self::Last(last.unsigned_abs())),
            Some(Value::BulkString(bytes)) => {
                Ok(Self::Stored(String::from_utf8_lossy(bytes).into_owned()))
            }
            // Before 7.0 the code is that of the script.
            Some(Value::ServerError(error))
                if error.code() == "WRONGTYPE"
                    || error.details().is_some_and(|d| d.contains("WRONGTYPE")) =>
            {
                Err(Failure::NotANumber {
                    key: key.to_owned(),
                    text: "of another type".to_owned(),
                })
            }
            _ => Err(Failure::reply("EVAL", reply)),
        }
    }
}

/// Whether a stored value is a number of the sequence, in the form that Redis itself takes for an
/// integer: digits only, and no zero in front.
pub(super) fn is_number(stored: &str) -> bool {
    let number = stored.parse().ok().filter(|number| *number <= MAX_NUMBER);
    number.is_some_and(|number: u64| number.to_string() == stored)
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
        assert!(is_number("0"));
        assert!(is_number("9007199254740991"));
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
            assert!(!is_number(strange), "{strange:?}");
        }
    }
}
