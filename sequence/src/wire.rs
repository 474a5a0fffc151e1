//! The JSON and the query that carry blocks between services.
//!
//! `GET /` is answered `{"data":{"number":7}}`, and `GET /?count=3`
//! `{"data":{"number":8,"count":3}}`: the block 8, 9, 10.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::{Block, Count};

/// The problem type (RFC 9457) of a sequence that has come to its end.
pub const EXHAUSTED: &str = "urn:problem-type:sequence-exhausted";

/// The header field in which an answer to OPTIONS names the last number known to be taken.
pub const LAST: &str = "sequence-last";

/// A query whose `count` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// It is not an integer in range.
    #[error(transparent)]
    Count(#[from] crate::InvalidCount),

    /// It is there more than once, and which one was meant cannot be known.
    #[error("count may be given only once")]
    Repeated,
}

/// Reads `count` from a query, percent-encoded or not; other parameters are ignored, as HTTP
/// servers do.
///
/// # Errors
///
/// [`InvalidQuery`] when `count` is there but is not one integer from 1 to [`Count::MAX`].
pub fn parse_query(query: &str) -> Result<Option<Count>, InvalidQuery> {
    let mut found = None;
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if percent_decode_str(name).eq(*b"count") {
            let count = percent_decode_str(value).decode_utf8_lossy().parse()?;
            if found.replace(count).is_some() {
                return Err(InvalidQuery::Repeated);
            }
        }
    }
    Ok(found)
}

/// The path and query that ask for `count` numbers.
pub fn request_target(count: Count) -> String {
    format!("/?count={count}")
}

/// The answer to a request without a count.
pub fn encode_number(number: u64) -> String {
    format!("{{\"data\":{{\"number\":{number}}}}}\n")
}

/// The answer to a request with a count.
pub fn encode_block(block: Block) -> String {
    let (first, count) = (block.first(), block.count());
    format!("{{\"data\":{{\"number\":{first},\"count\":{count}}}}}\n")
}

/// The answer of a service that adds the hash (lower-case hexadecimal) of its number.
pub fn encode_hashed(number: u64, hash: &[u8]) -> String {
    let mut json = String::with_capacity(2 * hash.len() + 56);
    // Writing to a string cannot fail.
    let _ = write!(json, "{{\"data\":{{\"number\":{number},\"hash\":\"");
    for byte in hash {
        for nibble in [byte >> 4, byte & 15] {
            json.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    json.push_str("\"}}\n");
    json
}

/// Reads the answer to [`request_target`] and makes sure that it is one to that request.
///
/// # Errors
///
/// [`InvalidAnswer`] when it is not the JSON described above, or for another count.
pub fn decode_block(json: &[u8], wanted: Count) -> Result<Block, InvalidAnswer> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }

    #[derive(Deserialize)]
    struct Data {
        number: u64,
        count: u32,
    }

    let Answer { data } = serde_json::from_slice(json).map_err(|_| InvalidAnswer)?;
    if data.count != wanted.get() {
        return Err(InvalidAnswer);
    }
    Block::new(data.number, wanted).map_err(|_| InvalidAnswer)
}

/// An answer that is not a block, or not the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the block of numbers that was asked for")]
pub struct InvalidAnswer;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{InvalidCount, MAX_NUMBER};

    fn block(first: u64, count: u32) -> Block {
        Block::new(first, Count::new(count).unwrap()).unwrap()
    }

    #[test]
    fn answers_are_the_documented_json() {
        assert_eq!(encode_number(1), "{\"data\":{\"number\":1}}\n");
        assert_eq!(
            encode_block(block(8, 3)),
            "{\"data\":{\"number\":8,\"count\":3}}\n"
        );
        assert_eq!(
            encode_hashed(7, &[0x6b, 0x06, 0xff]),
            "{\"data\":{\"number\":7,\"hash\":\"6b06ff\"}}\n"
        );
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_block() {
        for block in [block(1, 1), block(8, 3), block(MAX_NUMBER - 65_535, 65_536)] {
            assert_eq!(
                decode_block(encode_block(block).as_bytes(), block.count()),
                Ok(block)
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_the_block_is_refused() {
        let three = Count::new(3).unwrap();
        for bad in [
            "",
            "{}",
            "{\"data\":{\"number\":8}}",
            "{\"data\":{\"number\":8,\"count\":2}}",
            "{\"data\":{\"number\":0,\"count\":3}}",
            "{\"data\":{\"number\":-8,\"count\":3}}",
            "{\"data\":{\"number\":9007199254740991,\"count\":3}}",
            "{\"data\":{\"number\":8,\"count\":3}} {}",
            "{\"data\":{\"number\":8,\"count\":3}",
            "<html></html>",
        ] {
            assert_eq!(
                decode_block(bad.as_bytes(), three),
                Err(InvalidAnswer),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_query_has_at_most_one_count_and_a_good_one() {
        assert_eq!(parse_query(""), Ok(None));
        assert_eq!(parse_query("counter=1&x&=&&y=2"), Ok(None));
        for five in [
            "a=1&count=5",
            "count=%35",
            "%63%6F%75%6e%74=5&%63",
            "%FF=%&count=5",
        ] {
            assert_eq!(parse_query(five), Ok(Count::new(5).ok()), "{five}");
        }
        for bad in [
            "count",
            "count=",
            "count=0",
            "count=-1",
            "count=65537",
            "count=x&count=1",
            "count=%",
            "count=%3",
            "count=5%FF",
            "count=%2535",
        ] {
            assert_eq!(
                parse_query(bad),
                Err(InvalidQuery::Count(InvalidCount)),
                "{bad}"
            );
        }
        for repeated in ["count=1&count=1", "count=1&%63ount=1"] {
            assert_eq!(parse_query(repeated), Err(InvalidQuery::Repeated));
        }
    }

    proptest! {
        #[test]
        fn a_count_is_found_however_it_is_encoded(
            count in 1..=Count::MAX.get(),
            encoded in any::<[bool; 10]>(),
            others in "([a-z]{0,3}=?[0-9a-z%+]{0,4}&){0,3}",
        ) {
            let parameter = format!("count={count}");
            let parameter: String = (parameter.bytes().zip(encoded.iter().cycle()))
                .map(|(byte, encoded)| match encoded {
                    true if byte != b'=' => format!("%{byte:02x}"),
                    _ => char::from(byte).to_string(),
                })
                .collect();
            prop_assert_eq!(parse_query(&(others + &parameter)), Ok(Count::new(count).ok()));
        }

        #[test]
        fn whatever_is_asked_is_a_count_in_range_or_refused(query in "([a-z%=&0-9]|count=|.){0,20}") {
            if let Ok(Some(count)) = parse_query(&query) {
                prop_assert!((1..=Count::MAX.get()).contains(&count.get()));
            }
        }

        #[test]
        fn a_damaged_answer_is_refused_or_another_block_of_the_size(
            first in 1..MAX_NUMBER - 65_536,
            count in 1..=Count::MAX.get(),
            place: prop::sample::Index,
            byte: u8,
        ) {
            let sent = block(first, count);
            let mut json = encode_block(sent).into_bytes();
            let place = place.index(json.len());
            json[place] = byte;
            if let Ok(read) = decode_block(&json, sent.count()) {
                prop_assert_eq!(read.count(), sent.count());
                prop_assert!(read.last() <= MAX_NUMBER);
            }
        }
    }
}
