//! What a journal needs of a disk: the file system's in a process, and one that
//! is slow, fails and forgets where a simulation tries what is left then.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// The files of one directory, by name. What was written is sure to be there
/// after a power cut once its file is synced, and a name once the disk is.
pub trait Disk {
    type File: DiskFile;

    /// A new file to append to, for its owner alone. Fails where there is one.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// A file to read.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn names(&self) -> io::Result<Vec<String>>;
    fn sync(&self) -> io::Result<()>;
    /// Puts a whole text in place of the file, or leaves the old one; synced
    /// before it takes the name, if it is to be.
    fn replace(&self, name: &str, text: &str, synced: bool) -> io::Result<()>;
    fn read(&self, name: &str) -> io::Result<String>;
    /// Cuts a file to this length, which is synced.
    fn cut(&self, name: &str, length: u64) -> io::Result<()>;
    fn copy(&self, from: &str, to: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// For errors and logs.
    fn path(&self, name: &str) -> PathBuf;
}

pub trait DiskFile {
    fn append(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Waits until what was appended would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    fn cut(&mut self, length: u64) -> io::Result<()>;
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
}

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Disk for Directory {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn replace(&self, name: &str, text: &str, synced: bool) -> io::Result<()> {
        let path = self.path(name);
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        file.write_all(text.as_bytes())?;
        if synced {
            file.sync_data()?;
        }
        std::fs::rename(&part, &path)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        std::fs::read_to_string(self.path(name))
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::copy(self.path(from), self.path(to)).map(drop)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl DiskFile for File {
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.write_all(octets)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
