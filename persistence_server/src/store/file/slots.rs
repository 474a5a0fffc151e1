//! The file of a sequence: a number that only grows, in two slots that are written in turn.
//!
//! Each slot fills a block of its own, so a write that is cut short can spoil only the slot that
//! was being written, whose numbers no client has seen. A slot is a line of text in less than one
//! disk sector (512 bytes), which disks write whole or not at all; so after a crash both slots
//! are valid, and one that is not means damage.

use std::{fmt::Write as _, io};

use sha2::{Digest as _, Sha256};
use tracing::info;

use super::{
    FileError,
    disk::{Disk, DiskFile},
};

/// The file of one sequence, and what it says.
#[derive(Debug)]
pub(super) struct Counter<F> {
    file: F,
    newest: Slot,
}

impl<F: DiskFile> Counter<F> {
    /// Opens the file of the sequence `name`, and makes it if it is new.
    pub(super) fn open(disk: &impl Disk<File = F>, name: &str) -> Result<Self, FileError> {
        let file_name = format!("{name}.sequence");
        let open = || {
            disk.open(&file_name).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => FileError::Locked("file"),
                _ => FileError::Io("open the file", error),
            })
        };
        let mut file = match open()? {
            Some(file) => file,
            None => {
                info!(
                    file = file_name,
                    "STORE=file: the file does not exist yet; a new sequence begins"
                );
                create(disk, &file_name)
                    .map_err(|error| FileError::Io("create the file", error))?;
                open()?
                    .ok_or_else(|| FileError::Io("open the file", io::ErrorKind::NotFound.into()))?
            }
        };
        // One byte more than a good file has is enough to see that it is not one.
        let bytes = file
            .read(FILE + 1)
            .map_err(|error| FileError::Io("read the file", error))?;
        let newest = newest(&bytes).map_err(|damage| FileError::Damaged {
            file: file_name,
            damage,
        })?;
        // What was read may be only in the kernel's memory: the last process may have died
        // before it was durable, or because it could not be made so. A power failure later on
        // would bring back a slot too old to belong to the other, or no file at all. So both
        // slots are written again, and the name is made durable again.
        file.write_at(&bytes, 0)
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync())
            .map_err(|error| FileError::Io("write to the file", error))?;
        Ok(Self { file, newest })
    }

    /// The last number that is taken.
    pub(super) fn last(&self) -> u64 {
        self.newest.last
    }

    /// Makes sure that the next process will find what is written here: a file that was removed,
    /// moved or replaced is still open, and nothing that is written to it counts.
    pub(super) fn must_be_in_place(&self) -> Result<(), FileError> {
        match self.file.is_in_place() {
            Ok(true) => Ok(()),
            Ok(false) => Err(FileError::NotInPlace(self.newest.last)),
            Err(error) => Err(FileError::Io("find the file", error)),
        }
    }

    /// Takes all numbers up to `last`; durable when this returns.
    ///
    /// # Errors
    ///
    /// It is unknown then what is on the disk: the kernel may report a failed write once and
    /// forget it, so trying again proves nothing. The counter must not be used any more.
    pub(super) fn commit(&mut self, last: u64) -> io::Result<()> {
        assert!(
            last > self.newest.last,
            "a number that was taken stays taken"
        );
        let next = Slot {
            generation: self.newest.generation + 1,
            last,
        };
        self.file.write_at(&next.render(), next.offset())?;
        // The file keeps its size, so its metadata does not matter.
        self.file.sync()?;
        self.newest = next;
        Ok(())
    }
}

/// Makes a new file so that a crash leaves either none or a whole one.
fn create(disk: &impl Disk, name: &str) -> io::Result<()> {
    let unfinished = format!("{name}.unfinished");
    let write = || {
        let mut file = disk.create(&unfinished)?;
        let slots = Slot::NEW.map(Slot::render).concat();
        file.write_at(&slots, 0)?;
        file.sync()
    };
    if let Err(error) = write() {
        // The disk may be full; what is left of the attempt only takes more of it.
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    // Who opens it makes the name durable.
    disk.rename(&unfinished, name)
}

/// The size of a slot in bytes: a page, and a block of all common file systems.
const SLOT: usize = 4096;

/// The size of the file in bytes.
const FILE: usize = 2 * SLOT;

/// What a slot says: after `generation` writes, all numbers up to `last` are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    generation: u64,
    last: u64,
}

impl Slot {
    /// The first slots of a new sequence.
    const NEW: [Slot; 2] = [
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
    fn offset(self) -> usize {
        if self.generation.is_multiple_of(2) {
            0
        } else {
            SLOT
        }
    }

    /// The bytes of the slot: a line, and spaces up to its size.
    fn render(self) -> Vec<u8> {
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
    fn parse(bytes: &[u8]) -> Option<Self> {
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
fn newest(bytes: &[u8]) -> Result<Slot, String> {
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_damaged_file_is_refused_or_says_what_it_said(
            generation in 0..u64::MAX,
            last in 0..u64::MAX,
            place in 0..FILE,
            damage in prop::collection::vec(any::<u8>(), 0..2 * SLOT),
        ) {
            let newer = slot(generation + 1, last + 1);
            let good = file([slot(generation, last), newer]);
            let mut bad = good.clone();
            for (byte, damaged) in bad[place..].iter_mut().zip(damage) {
                *byte = damaged;
            }
            prop_assert!(bad == good || newest(&bad).is_err());
            prop_assert_eq!(newest(&good), Ok(newer));
        }
    }
}
