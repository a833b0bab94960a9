//! A disk that keeps what was synced, and of the rest whatever it likes.
//!
//! Each file has two contents: what programs read (the page cache), and what is on the platters. A write goes to
//! the first at once and to the second when the file is synced. When power fails, each write that was not synced is
//! lost, or there, or torn into sectors of which some are there, whatever was written before or after it. Names
//! (created, removed) become durable when their folder is synced; until then a folder keeps some first part of what
//! happened to it, as journalling file systems do.
//!
//! Operations can be made to fail: a write that ends half way for want of room, a sync that reports an error and
//! leaves behind what it did not write for good, and a power failure at any operation, after which every
//! operation fails until [`Disk::restart`].

use crate::random::Random;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Result};

/// Bytes that reach the platters together.
const SECTOR_BYTES: usize = 16;

/// Files by their path: `folder/name`.
#[derive(Debug)]
pub struct Disk {
    random: Random,
    names: BTreeMap<String, FileNumber>,
    durable_names: BTreeMap<String, FileNumber>,
    /// What happened to names since their folder was synced, oldest first.
    unsynced_names: Vec<NameChange>,
    files: Vec<File>,
    /// Operations until the power fails.
    power_fails_in: Option<u64>,
    /// Operations until one fails for another reason.
    fails_in: Option<u64>,
    is_off: bool,
}

#[derive(Debug, Default)]
struct File {
    content: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// The length that the file was cut to since it was synced.
    cut: Option<usize>,
}

#[derive(Debug)]
struct Write {
    at: usize,
    bytes: Vec<u8>,
}

/// What happened to a path.
#[derive(Debug)]
pub enum NameChange {
    /// It is that of a new file.
    Created(String, FileNumber),
    /// It is no file's any more.
    Removed(String),
}

/// What programs hold of a file, also after its name has gone.
pub type FileNumber = usize;

impl Disk {
    /// An empty disk.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self {
            random,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            files: Vec::new(),
            power_fails_in: None,
            fails_in: None,
            is_off: false,
        }
    }

    /// Lets the power fail after so many more operations.
    pub const fn fail_power_in(&mut self, operations: u64) {
        self.power_fails_in = Some(operations);
    }

    /// Lets one operation fail after so many more.
    pub const fn fail_in(&mut self, operations: u64) {
        self.fails_in = Some(operations);
    }

    /// True after the power failed.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.is_off
    }

    /// The faults that were asked for and have not come are off.
    pub const fn cancel_faults(&mut self) {
        self.power_fails_in = None;
        self.fails_in = None;
    }

    /// The power fails and comes back: only what the platters hold is left.
    pub fn restart(&mut self) {
        self.keep_some_names();
        for file in &mut self.files {
            for write in std::mem::take(&mut file.unsynced) {
                keep_some(&mut file.durable, &write, &mut self.random);
            }
            file.content.clone_from(&file.durable);
            file.cut = None;
        }
        self.is_off = false;
        self.cancel_faults();
    }

    /// Creates a file, or empties it; its name is durable once its folder is synced.
    pub fn create(&mut self, path: &str) -> Result<FileNumber> {
        self.operate()?;
        self.files.push(File::default());
        let file = self.files.len() - 1;
        self.names.insert(path.to_owned(), file);
        self.unsynced_names.push(NameChange::Created(path.to_owned(), file));
        Ok(file)
    }

    /// The file of a name.
    pub fn open(&self, path: &str) -> Result<FileNumber> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Writes at a position, where the file grows if need be.
    pub fn write_at(&mut self, file: FileNumber, bytes: &[u8], at: u64) -> Result<()> {
        let outcome = self.operate();
        let written = match outcome {
            Ok(()) => bytes.len(),
            Err(_) => self.random.index(bytes.len() + 1),
        };
        let write = Write { at: at as usize, bytes: bytes[..written].to_vec() };
        let file = &mut self.files[file];
        put(&mut file.content, &write, |_| true);
        file.unsynced.push(write);
        outcome
    }

    /// Shortens a file; durable with its next sync, before which nothing else is written to it.
    pub fn cut(&mut self, file: FileNumber, length: u64) -> Result<()> {
        self.operate()?;
        let (file, length) = (&mut self.files[file], length as usize);
        file.content.truncate(length);
        file.cut = Some(length);
        Ok(())
    }

    /// Makes a file's content durable. Where it fails, what did not reach the platters never will.
    pub fn sync(&mut self, file: FileNumber) -> Result<()> {
        let outcome = self.operate();
        let file = &mut self.files[file];
        match outcome {
            Ok(()) => {
                file.unsynced.drain(..).for_each(|write| put(&mut file.durable, &write, |_| true));
                file.cut.take().into_iter().for_each(|length| file.durable.truncate(length));
            }
            // After a power failure it is decided by the restart.
            Err(_) if self.is_off => {}
            Err(_) => {
                for write in std::mem::take(&mut file.unsynced) {
                    keep_some(&mut file.durable, &write, &mut self.random);
                }
            }
        }
        outcome
    }

    /// Makes durable what happened to the names in a folder, as far as `takes` takes it.
    pub fn sync_folder(&mut self, folder: &str, takes: impl Fn(&NameChange) -> bool) -> Result<()> {
        self.operate()?;
        for change in std::mem::take(&mut self.unsynced_names) {
            if folder_of(change.path()) == folder && takes(&change) {
                change.apply(&mut self.durable_names);
            } else {
                self.unsynced_names.push(change);
            }
        }
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        self.operate()?;
        self.names.remove(path).ok_or(ErrorKind::NotFound)?;
        self.unsynced_names.push(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    /// Removes every file of a folder, one by one.
    pub fn remove_folder(&mut self, folder: &str) -> Result<()> {
        let inside = self.list(folder);
        inside.iter().try_for_each(|name| self.remove(&format!("{folder}/{name}")))
    }

    /// The names in a folder, in order: files, and folders that hold some.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let inside =
            |path: &str| Some(path.strip_prefix(folder)?.strip_prefix('/')?.split('/').next()?.to_owned());
        let mut names: Vec<String> = self.names.keys().filter_map(|path| inside(path)).collect();
        names.dedup();
        names
    }

    /// A file's content as programs see it.
    #[must_use]
    pub fn read(&self, file: FileNumber) -> &[u8] {
        &self.files[file].content
    }

    /// An operation begins: does it fail?
    fn operate(&mut self) -> Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if count_down(&mut self.power_fails_in) {
            self.is_off = true;
            return Err(io::Error::other("the power fails"));
        }
        if count_down(&mut self.fails_in) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Each folder keeps some first part of the changes that were not synced.
    fn keep_some_names(&mut self) {
        let mut stopped: Vec<String> = Vec::new();
        for change in std::mem::take(&mut self.unsynced_names) {
            let folder = folder_of(change.path()).to_owned();
            if stopped.contains(&folder) {
                continue;
            }
            if self.random.once_in(3) {
                stopped.push(folder);
            } else {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
    }
}

impl NameChange {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Created(path, _) | Self::Removed(path) => path,
        }
    }

    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Created(path, file) => names.insert(path, file),
            Self::Removed(path) => names.remove(&path),
        };
    }
}

const fn count_down(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(count) => {
            *count -= 1;
            false
        }
        None => false,
    }
}

/// A write that was not synced is there, lost, or torn.
fn keep_some(durable: &mut Vec<u8>, write: &Write, random: &mut Random) {
    match random.below(3) {
        0 => {}
        1 => put(durable, write, |_| true),
        _ => put(durable, write, |_| random.once_in(2)),
    }
}

/// Puts the sectors that `keep` wants.
fn put(content: &mut Vec<u8>, write: &Write, mut keep: impl FnMut(usize) -> bool) {
    let mut kept = true;
    let mut sector = usize::MAX;
    for (index, byte) in write.bytes.iter().enumerate() {
        let position = write.at + index;
        if position / SECTOR_BYTES != sector {
            sector = position / SECTOR_BYTES;
            kept = keep(sector);
        }
        if kept {
            if content.len() <= position {
                content.resize(position + 1, 0);
            }
            content[position] = *byte;
        }
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> Disk {
        Disk::new(Random::new(seed))
    }

    #[test]
    fn what_was_synced_survives_a_power_failure() {
        for seed in 0..200 {
            let mut disk = disk(seed);
            let file = disk.create("a/b").unwrap();
            disk.write_at(file, b"durable", 0).unwrap();
            disk.sync(file).unwrap();
            disk.sync_folder("a", |_| true).unwrap();
            disk.write_at(file, b" and a rest that nobody was promised", 7).unwrap();
            disk.restart();
            assert!(disk.read(disk.open("a/b").unwrap()).starts_with(b"durable"));
        }
    }

    #[test]
    fn what_was_not_synced_may_be_lost_torn_or_there() {
        let text = b"four sectors of sixteen bytes, of which each one may be missing!";
        let mut lengths = std::collections::BTreeSet::new();
        let mut torn = 0;
        let mut missing = 0;
        for seed in 0..200 {
            let mut disk = disk(seed);
            let file = disk.create("a/b").unwrap();
            disk.write_at(file, text, 0).unwrap();
            disk.restart();
            match disk.open("a/b") {
                Ok(file) => {
                    let content = disk.read(file);
                    lengths.insert(content.len());
                    torn += usize::from(content.contains(&0));
                }
                Err(_) => missing += 1,
            }
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 16, 32, 48, 64]);
        assert!(torn > 0 && missing > 0);
    }

    #[test]
    fn the_power_fails_at_the_operation_asked_for_and_stays_off() {
        let mut disk = disk(1);
        disk.fail_power_in(2);
        let file = disk.create("a/b").unwrap();
        disk.write_at(file, b"x", 0).unwrap();
        assert!(!disk.is_off());
        assert!(disk.sync(file).is_err() && disk.sync(file).is_err());
        assert!(disk.is_off());
        disk.restart();
        assert!(!disk.is_off());
    }
}
