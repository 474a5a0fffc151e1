//! What an answer says.

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The body of a successful answer: `{"data":{"number":1}}`, with `"count"` if it is a block, with
/// `"hash"` if it comes from a service that hashes.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    #[serde(default = "one")]
    pub(crate) count: u32,
    pub(crate) hash: Option<String>,
}

/// The body of a refusal, of which people want to see a line.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Answer {
    /// Nothing if there is no number of at most 64 bits in it.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            data: Answer,
        }
        let Envelope { data } = serde_json::from_slice(body).ok()?;
        Some(data)
    }
}

/// The SHA-256 of the decimal digits of `number`, in lower-case hex.
pub(crate) fn hash_of(number: u64) -> String {
    let digest = Sha256::digest(number.to_string());
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("below 16");
    let digits = digest.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

/// One line about a refusal: the problem's title and detail, or how the body begins.
pub(crate) fn explain(body: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    match (problem.title, problem.detail) {
        (Some(title), Some(detail)) => excerpt(&format!("{title}: {detail}")),
        (Some(text), None) | (None, Some(text)) => excerpt(&text),
        (None, None) => excerpt(&String::from_utf8_lossy(body)),
    }
}

/// The first 120 characters, on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_answers_are_understood() {
        let answer = |number, count, hash: Option<&str>| Answer {
            number,
            count,
            hash: hash.map(str::to_owned),
        };
        for (body, expected) in [
            (r#"{"data":{"number":1}}"#, answer(1, 1, None)),
            (
                "{\"data\":{\"number\":7,\"count\":5}}\n",
                answer(7, 5, None),
            ),
            (
                r#"{"data":{"hash":"6b","number":1,"new":[]},"more":0}"#,
                answer(1, 1, Some("6b")),
            ),
        ] {
            assert_eq!(Answer::parse(body.as_bytes()), Some(expected), "{body}");
        }
    }

    #[test]
    fn an_answer_without_a_whole_number_is_none() {
        for body in [
            "",
            "Hello, World!\n",
            "{}",
            r#"{"data":{}}"#,
            r#"{"number":1}"#,
            r#"{"data":{"number":"1"}}"#,
            r#"{"data":{"number":-1}}"#,
            r#"{"data":{"number":1.5}}"#,
            r#"{"data":{"number":18446744073709551616}}"#,
            r#"{"data":{"number":1}} trailing"#,
        ] {
            assert_eq!(Answer::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_hash_is_the_one_that_sha256sum_prints() {
        assert_eq!(
            hash_of(1),
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        );
    }

    #[test]
    fn a_refusal_is_explained_in_one_line() {
        let problem = br#"{"type":"about:blank","title":"Store is down","detail":"try later"}"#;
        assert_eq!(explain(problem), "Store is down: try later");
        assert_eq!(explain(br#"{"title":"Store is down"}"#), "Store is down");
        assert_eq!(explain(b"<html>\n bad\tgateway"), "<html> bad gateway");
        assert_eq!(explain("é".repeat(500).as_bytes()).chars().count(), 121);
    }
}
