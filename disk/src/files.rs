//! The port: files and folders.

use limn_core::log::Rope;
use std::io::{self, Read};
use std::path::Path;

/// Files and folders, as an operating system has them. Errors are its own; what is missing is
/// [`NotFound`](io::ErrorKind::NotFound).
pub trait Files {
    /// An open file. It can be read and written also after its name has gone.
    type File: std::fmt::Debug;

    /// Opens a file, empty: a new one, or one that loses its content.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file to write to it, and makes it where it is missing.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn open_or_create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that is there, to read or to sync it.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Cuts a file off at `length` bytes, where it is longer.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn cut(&self, path: &Path, length: u64) -> io::Result<()>;

    /// Writes all of `bytes` at byte position `at`. Nothing is durable yet.
    ///
    /// # Errors
    /// Whatever the operating system says; some of the bytes may then be written.
    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Reads into `buffer` from byte position `at`, and returns how many bytes these are: 0 at the file's end.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// How many bytes a file has.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Makes a file's content durable, whoever wrote it.
    ///
    /// # Errors
    /// Whatever the operating system says; what was written since the last sync may then be lost.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Makes durable which names a folder holds.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes everything durable that was written to the file system of a folder; false where the system cannot do that at
    /// one stroke.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn sync_file_system(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all that it holds.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
}

/// Writes a rope at byte position `at`: what it shares is not copied for that.
pub(crate) fn write_rope<F: Files>(files: &F, file: &F::File, rope: &Rope, at: u64) -> io::Result<()> {
    let mut at = at;
    rope.slices().try_for_each(|slice| {
        files.write_at(file, slice, at)?;
        at += slice.len() as u64;
        Ok(())
    })
}

/// The rest of a file, to be read in order.
pub(crate) struct Unread<'a, F: Files> {
    pub(crate) files: &'a F,
    pub(crate) file: &'a F::File,
    /// The byte position of the next read.
    pub(crate) at: u64,
}

impl<F: Files> Read for Unread<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.files.read_at(self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
