//! A number on a disk that only grows.

use std::io;

use tracing::info;

use super::{
    Problem,
    disk::{Disk, DiskFile},
    slots::{FILE, Slot, newest},
};

/// The file of one sequence, and what it says.
#[derive(Debug)]
pub(super) struct Counter<F> {
    file: F,
    newest: Slot,
}

impl<F: DiskFile> Counter<F> {
    /// Opens the file of the sequence `name`, and makes it if it is new.
    pub(super) fn open(disk: &impl Disk<File = F>, name: &str) -> Result<Self, Problem> {
        let file_name = format!("{name}.sequence");
        let open = || {
            disk.open(&file_name).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Problem::Locked("file"),
                _ => Problem::Io("open the file", error),
            })
        };
        let mut file = match open()? {
            Some(file) => file,
            None => {
                info!(
                    file = file_name,
                    "STORE=file: the file does not exist yet; a new sequence begins"
                );
                create(disk, &file_name).map_err(|error| Problem::Io("create the file", error))?;
                open()?
                    .ok_or_else(|| Problem::Io("open the file", io::ErrorKind::NotFound.into()))?
            }
        };
        // One byte more than a good file has is enough to see that it is not one.
        let bytes = file
            .read(FILE + 1)
            .map_err(|error| Problem::Io("read the file", error))?;
        let newest = newest(&bytes).map_err(|damage| Problem::Damaged {
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
            .map_err(|error| Problem::Io("write to the file", error))?;
        Ok(Self { file, newest })
    }

    /// The last number that is taken.
    pub(super) fn last(&self) -> u64 {
        self.newest.last
    }

    /// Makes sure that the next process will find what is written here: a file that was removed,
    /// moved or replaced is still open, and nothing that is written to it counts.
    pub(super) fn must_be_in_place(&self) -> Result<(), Problem> {
        match self.file.is_in_place() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::NotInPlace(self.newest.last)),
            Err(error) => Err(Problem::Io("find the file", error)),
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
