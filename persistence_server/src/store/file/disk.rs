//! What the file store needs of a disk, and the disk of the operating system.
//!
//! It is a trait so that tests can put a disk in its place that loses, tears and fails writes.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

/// A directory with files.
pub(super) trait Disk {
    type File: DiskFile;

    /// Opens a file for reading and writing; none if there is no such file.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Makes an empty file, in the place of one with that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in the place of one that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(super) trait DiskFile: Send + 'static {
    /// Reads from the beginning, `limit` bytes at most.
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>>;

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()>;

    /// Makes what was written durable, but for the file's metadata.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the operating system.
pub(super) struct Directory(pub(super) PathBuf);

impl Disk for Directory {
    type File = fs::File;

    fn open(&self, name: &str) -> io::Result<Option<fs::File>> {
        match fs::File::options()
            .read(true)
            .write(true)
            .open(self.0.join(name))
        {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        fs::File::create(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for fs::File {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.write_all_at(bytes, offset as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
