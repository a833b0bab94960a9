//! The storage folder: whose it is, and what it is called where.

use limn_core::log::shape_log::PackPlace;
use limn_disk::{Files, Layout, Native, Packs, Recovered};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of everything that is written to the folder.
const FORMAT: u32 = 2;
/// Those that are read; a folder of another version is refused. In version 1 each shape has its table's description.
pub(super) const FORMATS_READ: RangeInclusive<u32> = 1..=FORMAT;
pub(super) const IDENTITY_FILE: &str = "limn.json";
pub(super) const LOCK_FILE: &str = "lock";
/// The length at which a pack of small snapshots is full.
const PACK_BYTES_MAX: u64 = 1 << 20;

/// A storage folder of ours. Only who holds its [`FolderLock`] may write to it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    layout: Layout,
    /// Small snapshots, once this process writes to the folder.
    packs: Mutex<Option<Packs<Native>>>,
}

/// The right to write to the folder, for one process at a time.
#[derive(Debug)]
pub struct FolderLock {
    /// Held, not read: the operating system drops the lock with the process.
    _file: File,
}

/// The Postgres whose shapes the folder holds. Another one has other LSNs: its shapes start afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// `IDENTIFY_SYSTEM`: `systemid`
    pub system_id: String,
    /// `IDENTIFY_SYSTEM`: `timeline`
    pub timeline: u32,
    /// The replication slot.
    pub slot: String,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There are files, and none of them says that they are ours.
    #[error(
        "storage folder `{path}` is not empty and was not made by Limn: it is left untouched; \
         choose another with `--storage-dir`"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error(
        "storage folder `{path}` has format {found}, this version reads formats up to {FORMAT}: \
         start with an empty `--storage-dir`, and clients will sync again"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The version that its file names.
        found: u32,
    },
    /// Another process holds it, for another slot.
    #[error(
        "storage folder `{path}` is in use by another process, which follows another slot: \
         stop it, or choose another `--storage-dir`"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use storage folder `{path}`: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// Who used the replication slot last, as it is written in the database: a folder that was not the last,
/// or is an older copy of it, has missed what the slot has confirmed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotClaim {
    /// A number that the folder was given when it was made.
    folder: u64,
    /// Rises with every connection.
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Identity {
    product: String,
    pub(super) format: u32,
    claim: SlotClaim,
    pub(super) origin: Option<SourceIdentity>,
}

impl SlotClaim {
    /// The claim of a new folder. The time tells folders apart that anybody made by hand.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { folder: now as u64 ^ u64::from(std::process::id()).rotate_left(48), epoch: 0 }
    }

    /// The identity that the database's side keeps of the folder.
    #[must_use]
    pub fn text(&self) -> String {
        format!("Limn storage {:016x}, connection {}", self.folder, self.epoch)
    }

    /// True where a connection was made with it.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.epoch > 0
    }

    /// True where `found` is this claim, or the one before it: a crash may have kept the newest from the
    /// database.
    #[must_use]
    pub fn continues(&self, found: &str) -> bool {
        let before = Self { epoch: self.epoch.saturating_sub(1), ..*self };
        found == self.text() || found == before.text()
    }
}

impl Folder {
    /// Finds the folder, or makes it where it is missing or empty.
    ///
    /// # Errors
    /// Where the folder is not ours to use.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let io_error = |source| FolderError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io_error)?;
        if path.join(IDENTITY_FILE).exists() {
            let found = read_identity(path).map_err(io_error)?.format;
            if !FORMATS_READ.contains(&found) {
                return Err(FolderError::Format { path: path.to_owned(), found });
            }
        } else if holds_something(path).map_err(io_error)? {
            return Err(FolderError::Foreign { path: path.to_owned() });
        }
        let layout = Layout::new(path.to_owned());
        Ok(Self { path: path.to_owned(), layout, packs: Mutex::default() })
    }

    /// Takes the lock and makes what is missing; `None` while another process has it.
    ///
    /// # Errors
    /// Where the operating system refuses.
    pub fn try_lock(&self) -> Result<Option<FolderLock>, FolderError> {
        let io_error = |source| FolderError::Io { path: self.path.clone(), source };
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).open(self.path.join(LOCK_FILE));
        let file = file.map_err(io_error)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(io_error(error)),
            Ok(()) => {}
        }
        if !self.path.join(IDENTITY_FILE).exists() {
            write_identity(&self.path, SlotClaim::new(), None).map_err(io_error)?;
        }
        let identity = read_identity(&self.path).map_err(io_error)?;
        if identity.format < FORMAT {
            // Before anything is written that an older version cannot read.
            write_identity(&self.path, identity.claim, identity.origin.as_ref()).map_err(io_error)?;
        }
        fs::create_dir_all(self.layout().commit_dir()).map_err(io_error)?;
        fs::create_dir_all(self.layout().shapes_dir()).map_err(io_error)?;
        Ok(Some(FolderLock { _file: file }))
    }

    /// This process writes small snapshots from now on.
    pub fn open_packs(&self, recovered: &Recovered) {
        *self.packs() = Some(Packs::new(Native, self.layout(), recovered, PACK_BYTES_MAX));
    }

    /// Appends a small snapshot to a pack, without a sync.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn append_to_pack(&self, content: &[u8]) -> io::Result<PackPlace> {
        let mut packs = self.packs();
        packs
            .as_mut()
            .ok_or_else(|| io::Error::other("another process writes to the folder"))?
            .append(content)
    }

    /// A shape whose snapshot is in a pack is gone.
    ///
    /// # Errors
    /// Whatever the operating system says; the next start removes the pack then.
    pub fn release_pack(&self, place: PackPlace) -> io::Result<()> {
        self.packs().as_mut().map_or(Ok(()), |packs| packs.release(place))
    }

    fn packs(&self) -> MutexGuard<'_, Option<Packs<Native>>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to wait for a folder whose shapes follow another slot.
    ///
    /// # Errors
    /// [`FolderError::InUse`]
    pub fn expect_slot(&self, slot: &str) -> Result<(), FolderError> {
        // What its owner is only just making says nothing yet.
        let origin = self.origin().ok().flatten();
        match origin.is_none_or(|origin| origin.slot == slot) {
            true => Ok(()),
            false => Err(FolderError::InUse { path: self.path.clone() }),
        }
    }

    /// The Postgres whose shapes are here, if any yet.
    ///
    /// # Errors
    /// Where the identity file cannot be read.
    pub fn origin(&self) -> io::Result<Option<SourceIdentity>> {
        Ok(read_identity(&self.path)?.origin)
    }

    /// Notes whose shapes will be here.
    ///
    /// # Errors
    /// Where the identity file cannot be written.
    pub fn set_origin(&self, origin: &SourceIdentity) -> io::Result<()> {
        write_identity(&self.path, self.claim()?, Some(origin))
    }

    /// The claim of the last connection.
    ///
    /// # Errors
    /// Where the identity file cannot be read.
    pub fn claim(&self) -> io::Result<SlotClaim> {
        Ok(read_identity(&self.path)?.claim)
    }

    /// Makes the claim for a new connection.
    ///
    /// # Errors
    /// Where the identity file cannot be read or written.
    pub fn advance_claim(&self) -> io::Result<SlotClaim> {
        let identity = read_identity(&self.path)?;
        let claim = SlotClaim { epoch: identity.claim.epoch + 1, ..identity.claim };
        write_identity(&self.path, claim, identity.origin.as_ref())?;
        Ok(claim)
    }

    /// The paths in it.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout.clone()
    }
}

/// True where there is more than the lock of a process that is about to make the folder.
fn holds_something(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != LOCK_FILE {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn read_identity(path: &Path) -> io::Result<Identity> {
    let text = fs::read(path.join(IDENTITY_FILE))?;
    Ok(serde_json::from_slice(&text)?)
}

fn write_identity(path: &Path, claim: SlotClaim, origin: Option<&SourceIdentity>) -> io::Result<()> {
    let identity = Identity { product: "limn".to_owned(), format: FORMAT, claim, origin: origin.cloned() };
    let new = path.join("limn.json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&identity)?)?;
    file.sync_all()?;
    fs::rename(new, path.join(IDENTITY_FILE))?;
    Native.sync_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("limn-folder-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_foreign_folder_is_left_untouched() {
        let path = scratch("foreign");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("thesis.txt"), "dear").unwrap();
        assert!(matches!(Folder::open(&path), Err(FolderError::Foreign { .. })));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_of_an_older_version_is_read_and_becomes_one_of_this() {
        let path = scratch("older");
        drop(Folder::open(&path).unwrap().try_lock().unwrap());
        let with_format = |format| {
            let identity = Identity { format, ..read_identity(&path).unwrap() };
            fs::write(path.join(IDENTITY_FILE), serde_json::to_vec(&identity).unwrap()).unwrap();
        };
        with_format(1);
        let claim = read_identity(&path).unwrap().claim;
        let folder = Folder::open(&path).unwrap();
        assert_eq!(read_identity(&path).unwrap().format, 1, "another process may write to it");
        let _lock = folder.try_lock().unwrap().unwrap();
        let now = read_identity(&path).unwrap();
        assert_eq!((now.format, now.claim), (FORMAT, claim));
        with_format(FORMAT + 1);
        assert!(matches!(Folder::open(&path), Err(FolderError::Format { .. })));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_the_newest_state_of_the_last_folder_continues() {
        let claim = |folder, epoch| SlotClaim { folder, epoch };
        assert!(claim(7, 3).continues(&claim(7, 3).text()));
        assert!(claim(7, 3).continues(&claim(7, 2).text()), "the database was not told yet");
        assert!(!claim(7, 3).continues(&claim(7, 4).text()), "an older copy");
        assert!(!claim(7, 3).continues(&claim(8, 3).text()), "another folder");
    }

    #[test]
    fn a_folder_has_one_user_and_remembers_its_postgres() {
        let path = scratch("ours");
        let folder = Folder::open(&path).unwrap();
        let lock = folder.try_lock().unwrap();
        assert!(lock.is_some());
        let other = Folder::open(&path).unwrap();
        assert!(other.try_lock().unwrap().is_none());
        assert_eq!(folder.origin().unwrap(), None);
        assert!(other.expect_slot("any").is_ok(), "nothing is known yet");
        let origin = SourceIdentity { system_id: "7".to_owned(), timeline: 1, slot: "s".to_owned() };
        folder.set_origin(&origin).unwrap();
        assert!(other.expect_slot("s").is_ok());
        assert!(matches!(other.expect_slot("t"), Err(FolderError::InUse { .. })));
        drop(lock);
        assert!(other.try_lock().unwrap().is_some());
        assert_eq!(other.origin().unwrap(), Some(origin));
        fs::remove_dir_all(path).unwrap();
    }
}
