//! What the key of a sequence holds: the last number taken, in plain digits.

use sequence::MAX_NUMBER;

/// The state of a sequence in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// There is no key: nothing was taken yet.
    Absent,
    /// The key holds the last number taken, 0 to [`MAX_NUMBER`].
    Last(u64),
}

impl Value {
    /// The last number taken; 0 for none.
    pub(super) fn last(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Last(last) => last,
        }
    }

    /// Reads the bytes of a value; none if they are not exactly what [`render`] writes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let last: u64 = text.parse().ok()?;
        // One number has one text: the store compares texts.
        (last <= MAX_NUMBER && render(last) == bytes).then_some(Self::Last(last))
    }
}

/// The bytes that say that the numbers up to `last` are taken.
pub(super) fn render(last: u64) -> Vec<u8> {
    last.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_exactly_one_text() {
        for last in [0, 1, 10, 65_536, MAX_NUMBER] {
            assert_eq!(Value::parse(&render(last)), Some(Value::Last(last)));
        }
        for bad in [
            "",
            "x",
            "-1",
            "+1",
            "01",
            "00",
            " 1",
            "1\n",
            "1.0",
            "1e3",
            "0x1",
            "٣",
            "9007199254740992",
            "18446744073709551616",
        ] {
            assert_eq!(Value::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Value::parse(b"\xff"), None);
    }
}
