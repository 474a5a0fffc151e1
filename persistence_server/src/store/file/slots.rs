//! The format of the file: two slots that are written in turn.
//!
//! Each slot fills a block of its own, so a write that is cut short can spoil only the slot that
//! was being written, whose numbers no client has seen. A slot is a line of text in less than one
//! disk sector (512 bytes), which disks write whole or not at all; so after a crash both slots
//! are valid, and one that is not means damage.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The size of a slot in bytes: a page, and a block of all common file systems.
pub(super) const SLOT: usize = 4096;

/// The size of the file in bytes.
pub(super) const FILE: usize = 2 * SLOT;

/// What a slot says: after `generation` writes, all numbers up to `last` are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) generation: u64,
    pub(super) last: u64,
}

impl Slot {
    /// The first slots of a new sequence.
    pub(super) const NEW: [Slot; 2] = [
        Slot {
            generation: 0,
            last: 0,
        },
        Slot {
            generation: 1,
            last: 0,
        },
    ];

    /// Where in the file this generation is written.
    pub(super) fn offset(self) -> usize {
        if self.generation.is_multiple_of(2) {
            0
        } else {
            SLOT
        }
    }

    /// The bytes of the slot: a line, and spaces up to its size.
    pub(super) fn render(self) -> Vec<u8> {
        let Self { generation, last } = self;
        let mut line = format!("sequence v1 generation {generation} last {last}");
        let hash = Sha256::digest(line.as_bytes());
        line.push_str(" sha256 ");
        for byte in hash {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        let mut bytes = line.into_bytes();
        bytes.resize(SLOT, b' ');
        bytes
    }

    /// Reads what [`render`](Self::render) wrote; nothing else passes, to the last byte.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let rest = line.strip_prefix("sequence v1 generation ")?;
        let (generation, rest) = rest.split_once(" last ")?;
        let (last, _) = rest.split_once(" sha256 ")?;
        let slot = Self {
            generation: generation.parse().ok()?,
            last: last.parse().ok()?,
        };
        (slot.render() == bytes).then_some(slot)
    }
}

/// Reads a whole file: the slot that was written last.
///
/// # Errors
///
/// What is wrong with the file, in words.
pub(super) fn newest(bytes: &[u8]) -> Result<Slot, String> {
    if bytes.len() != FILE {
        return Err(format!("it has {} bytes instead of {FILE}", bytes.len()));
    }
    let (first, second) = bytes.split_at(SLOT);
    let (first, second) = match (Slot::parse(first), Slot::parse(second)) {
        (Some(first), Some(second)) => (first, second),
        (None, None) => return Err("neither of its two slots is valid".to_owned()),
        (Some(good), None) => return Err(one_bad(2, 1, good)),
        (None, Some(good)) => return Err(one_bad(1, 2, good)),
    };
    let (old, new) = if first.generation < second.generation {
        (first, second)
    } else {
        (second, first)
    };
    let in_place = first.offset() == 0 && second.offset() == SLOT;
    if in_place && new.generation - old.generation == 1 && new.last >= old.last {
        Ok(new)
    } else {
        Err(format!(
            "its two slots do not belong together: {first:?} and {second:?}"
        ))
    }
}

fn one_bad(bad: u8, good: u8, slot: Slot) -> String {
    format!(
        "slot {bad} is not valid (slot {good} says that the numbers up to {} are taken, but it may \
         be the older one)",
        slot.last
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(slots: [Slot; 2]) -> Vec<u8> {
        let mut bytes = vec![0; FILE];
        for slot in slots {
            let offset = slot.offset();
            bytes[offset..offset + SLOT].copy_from_slice(&slot.render());
        }
        bytes
    }

    fn slot(generation: u64, last: u64) -> Slot {
        Slot { generation, last }
    }

    #[test]
    fn the_slot_written_last_counts() {
        assert_eq!(newest(&file(Slot::NEW)), Ok(slot(1, 0)));
        assert_eq!(newest(&file([slot(6, 50), slot(7, 60)])), Ok(slot(7, 60)));
        assert_eq!(newest(&file([slot(8, 70), slot(7, 60)])), Ok(slot(8, 70)));
    }

    #[test]
    fn a_slot_fits_in_one_sector_whatever_it_says() {
        let line = slot(u64::MAX, u64::MAX).render();
        assert!(line.iter().position(|&byte| byte == b'\n').unwrap() < 512);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = file([slot(8, 70), slot(7, 60)]);
        for place in 0..FILE {
            let mut bad = good.clone();
            let bit = place % 8;
            bad[place] ^= 1 << bit;
            assert!(newest(&bad).is_err(), "bit {bit} of byte {place}");
        }
    }

    #[test]
    fn a_file_of_another_size_or_with_unreadable_slots_is_refused() {
        let good = file([slot(8, 70), slot(7, 60)]);
        assert!(newest(&good[..FILE - 1]).is_err());
        assert!(newest(&[]).is_err());
        assert!(newest(&[&good[..], b"\n"].concat()).is_err());
        assert!(newest(&vec![0; FILE]).is_err());
        for slots in [
            [slot(8, 70), slot(5, 60)],
            [slot(8, 50), slot(7, 60)],
            [slot(8, 70), slot(11, 80)],
        ] {
            assert!(newest(&file(slots)).is_err(), "{slots:?}");
        }
        let swapped = [slot(7, 60).render(), slot(8, 70).render()].concat();
        assert!(newest(&swapped).is_err());
    }
}
