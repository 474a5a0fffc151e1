//! The file on the disk: made once, then written in place.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{
    Problem,
    slots::{FILE, Slot, newest},
};

/// The open file, and what it says.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    newest: Slot,
}

/// Opens the file of the sequence `name`, and makes it if it is new.
pub(super) fn open(dir: &Path, name: &str) -> Result<Slots, Problem> {
    let file_name = format!("{name}.sequence");
    let path = dir.join(&file_name);
    let mut options = File::options();
    options.read(true).write(true);
    let mut file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(dir, &path).map_err(|error| Problem::Io("create the file", error))?;
            options.open(&path)
        }
        opened => opened,
    }
    .map_err(|error| Problem::Io("open the file", error))?;

    let mut bytes = Vec::with_capacity(FILE + 1);
    // One byte more than a good file has is enough to see that it is not one.
    io::Read::by_ref(&mut file)
        .take(FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::Io("read the file", error))?;
    match newest(&bytes) {
        Ok(newest) => Ok(Slots { file, newest }),
        Err(damage) => Err(Problem::Damaged {
            file: file_name,
            damage,
        }),
    }
}

/// Makes a new file so that a crash leaves either none or a whole one.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file = File::create(&unfinished)?;
        for slot in Slot::NEW {
            file.write_all(&slot.render())?;
        }
        file.sync_all()
    };
    if let Err(error) = write() {
        // The disk may be full; what is left of the attempt only takes more of it.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, path)?;
    // The directory's entry must be as durable as what it names.
    File::open(dir)?.sync_all()
}

impl Slots {
    /// The last number that is taken.
    pub(super) fn last(&self) -> u64 {
        self.newest.last
    }

    /// Takes all numbers up to `last`; durable when this returns.
    ///
    /// # Errors
    ///
    /// Nobody knows then what is on the disk: the kernel may report a failed write once and
    /// forget it, so trying again proves nothing. The sequence must not be used any more.
    pub(super) fn commit(&mut self, last: u64) -> io::Result<()> {
        let next = Slot {
            generation: self.newest.generation + 1,
            last,
        };
        self.file.write_all_at(&next.render(), next.offset())?;
        // The file keeps its size, so its metadata does not matter.
        self.file.sync_data()?;
        self.newest = next;
        Ok(())
    }
}
