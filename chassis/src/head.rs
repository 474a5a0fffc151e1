//! Where the head of a request ends, which is found as it arrives.

use memchr::memchr_iter;

/// The longest head, in bytes.
pub(crate) const LONGEST_HEAD: usize = 16 * 1024;

/// How far the head of a request has arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    pub(crate) length: usize,
    /// Whether nothing has arrived yet of the last line.
    line_is_empty: bool,
    /// Whether the last byte that has arrived is a CR.
    ends_with_cr: bool,
    /// Whether a line ended without a CR.
    has_bare_lf: bool,
}

impl Head {
    /// Adds what has arrived; returns how much of it belongs to the head, once that has ended.
    ///
    /// It ends where httparse ends it, which takes a bare LF for the end of a line and skips
    /// empty lines before the first. What is wrong with it is judged then, so that the client has
    /// sent all of it when it is refused.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let begin = match self.length {
            0 => bytes
                .iter()
                .take_while(|byte| b"\r\n".contains(byte))
                .count(),
            _ => 0,
        };
        let is_blank = |line: &[u8]| line.iter().all(|&byte| byte == b'\r');
        let mut line = begin;
        for end in memchr_iter(b'\n', &bytes[begin..]).map(|found| begin + found) {
            self.has_bare_lf |= match end.checked_sub(1) {
                Some(before) => bytes[before] != b'\r',
                None => !self.ends_with_cr,
            };
            if self.line_is_empty && is_blank(&bytes[line..end]) {
                self.length += end + 1 - begin;
                return Some(end + 1);
            }
            self.line_is_empty = true;
            line = end + 1;
        }
        self.line_is_empty &= is_blank(&bytes[line..]);
        self.length += bytes.len() - begin;
        self.ends_with_cr = bytes.ends_with(b"\r");
        None
    }

    /// The status with which it is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        if self.length > LONGEST_HEAD {
            Some("431 Request Header Fields Too Large")
        } else {
            self.has_bare_lf.then_some("400 Bad Request")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_wherever_it_is_cut() {
        for (head, rest, is_refused) in [
            ("GET / HTTP/1.1\r\n\r\n", "body", false),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", "\r\n", false),
            ("\r\n\nGET / HTTP/1.1\r\n\r\n", "\n", false),
            ("GET / HTTP/1.1\nA: b\n\n", "\n", true),
            ("GET / HTTP/1.1\n\r\n", "", true),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "", true),
            ("GET / HTTP/1.1\r\n\n", "", true),
        ] {
            let bytes = [head, rest].concat();
            for cut in 0..=head.len() {
                let mut read = Head::default();
                let in_first = read.push(&bytes.as_bytes()[..cut]);
                let in_all = in_first.or_else(|| {
                    let in_second = read.push(&bytes.as_bytes()[cut..])?;
                    Some(cut + in_second)
                });
                assert_eq!(in_all, Some(head.len()), "{bytes:?} at {cut}");
                assert_eq!(read.refusal().is_some(), is_refused, "{bytes:?} at {cut}");
            }
        }
    }
}
