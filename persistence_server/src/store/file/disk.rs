//! What the file store needs of a disk, and the disk of the operating system.
//!
//! It is a trait so that tests can put a disk in its place that loses, tears and fails writes.

use std::{
    fs::{self, Permissions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
};

/// A directory with files.
pub(super) trait Disk {
    type File: DiskFile;

    /// Opens a file for reading and writing, and keeps others from doing so; none if there is no
    /// such file.
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

    /// Whether the name under which it was opened still leads to this file.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// A directory of the operating system.
pub(super) struct Directory(pub(super) PathBuf);

/// A file in that directory.
pub(super) struct NamedFile {
    file: fs::File,
    path: PathBuf,
}

impl Disk for Directory {
    type File = NamedFile;

    fn open(&self, name: &str) -> io::Result<Option<NamedFile>> {
        let path = self.0.join(name);
        match fs::File::options().read(true).write(true).open(&path) {
            Ok(file) => {
                // The lock on the directory is not enough: a link leads here from others.
                file.try_lock()?;
                Ok(Some(NamedFile { file, path }))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) if path.is_symlink() => Err(io::Error::other(format!(
                "{name} is a symbolic link to a file that does not exist"
            ))),
            Err(_) => Ok(None),
        }
    }

    fn create(&self, name: &str) -> io::Result<NamedFile> {
        let path = self.0.join(name);
        let file = fs::File::create(&path)?;
        // As open as its directory: where that is writable to a group, the next process may be
        // another user of it.
        let mode = fs::metadata(&self.0)?.mode() & 0o666;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(NamedFile { file, path })
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

impl DiskFile for NamedFile {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.file.write_all_at(bytes, offset as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
