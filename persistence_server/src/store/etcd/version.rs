//! Which versions of etcd keep what they have answered.

/// Whether this version, such as `3.5.9` or `3.6.0-rc.1`, has on disk what it answered, on every
/// member; none if it is not a version.
///
/// Before 3.4.21 and 3.5.5 a cluster of one member answered before it had written, and lost such
/// writes in a crash. 3.5.0 to 3.5.5 could apply a transaction twice or not at all after a crash,
/// and 3.4.20, 3.4.21 and 3.5.5 when a member was added, so that members disagreed for ever.
pub(super) fn keeps_its_word(version: &str) -> Option<bool> {
    let mut parts = version.splitn(3, '.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let patch: u32 = rest[..end.unwrap_or(rest.len())].parse().ok()?;
    Some(match (major, minor) {
        (3, 4) => patch >= 22,
        (3, 5) => patch >= 6,
        (major, minor) => (major, minor) > (3, 5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lose_writes_are_told_apart() {
        for good in ["3.4.22", "3.5.6", "3.5.21", "3.6.0-rc.1", "3.10.0", "4.0.0"] {
            assert_eq!(keeps_its_word(good), Some(true), "{good}");
        }
        for bad in [
            "2.3.8",
            "3.3.27",
            "3.4.21",
            "3.5.0",
            "3.5.5",
            "3.5.0-alpha.0",
        ] {
            assert_eq!(keeps_its_word(bad), Some(false), "{bad}");
        }
        for strange in ["", "3", "3.5", "x.y.z", "v3.5.6", "3.5.", "3.5.x"] {
            assert_eq!(keeps_its_word(strange), None, "{strange}");
        }
    }
}
