//! A look at a storage folder that changes nothing, and does not mind a server that uses it.

use super::folder::{FORMATS_READ, FolderError, IDENTITY_FILE, LOCK_FILE, SourceIdentity, read_identity};
use limn_core::ShapeId;
use limn_core::journal::record::{Record, read_frame};
use limn_core::journal::replay::{Event, Policy, Replay};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// A folder, as an inspection finds it.
#[derive(Debug)]
pub enum Inspected {
    /// Not there, or empty.
    Absent,
    /// A storage folder of this version.
    Ours {
        /// Whose shapes it holds.
        origin: Option<SourceIdentity>,
        /// Whether a server uses it.
        in_use: bool,
        /// The table of each shape: oid and name.
        tables: Vec<(u32, String)>,
    },
}

/// Looks at the folder.
///
/// # Errors
/// Where it is not ours to use, or cannot be read.
pub fn inspect(path: &Path) -> Result<Inspected, FolderError> {
    let io_error = |source| FolderError::Io { path: path.to_owned(), source };
    if !path.join(IDENTITY_FILE).exists() {
        let is_empty = !path.exists() || fs::read_dir(path).map_err(io_error)?.next().is_none();
        let foreign = FolderError::Foreign { path: path.to_owned() };
        return if is_empty { Ok(Inspected::Absent) } else { Err(foreign) };
    }
    let identity = read_identity(path).map_err(io_error)?;
    if !FORMATS_READ.contains(&identity.format) {
        return Err(FolderError::Format { path: path.to_owned(), found: identity.format });
    }
    let tables = tables(&path.join("commit")).map_err(io_error)?;
    Ok(Inspected::Ours { origin: identity.origin, in_use: is_locked(path), tables })
}

/// True where a process holds the folder's lock.
fn is_locked(path: &Path) -> bool {
    File::open(path.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// The table of each shape that the commit log speaks of last, as far as it can be read.
fn tables(commit_dir: &Path) -> io::Result<Vec<(u32, String)>> {
    let mut shapes: BTreeMap<ShapeId, (u32, String)> = BTreeMap::new();
    // Nobody reads the logs: their chunks need not close.
    let mut replay = Replay::new(Policy::AsItComes, u64::MAX);
    let mut files = fs::read_dir(commit_dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    // Their names are numbers of one length.
    files.sort();
    for file in files {
        // A server that runs may have removed it since.
        let Ok(bytes) = fs::read(&file) else { continue };
        let mut rest = bytes.as_slice();
        while let Some((payload, length)) = read_frame(rest) {
            rest = rest.get(length..).unwrap_or_default();
            let Ok(record) = Record::decode(payload) else { continue };
            let Ok(()) = replay.handle_record(record, |event| note(&mut shapes, event));
        }
    }
    Ok(shapes.into_values().collect())
}

fn note(shapes: &mut BTreeMap<ShapeId, (u32, String)>, event: Event<'_>) -> Result<(), Infallible> {
    match event {
        Event::Added(shape) => {
            let table = &shape.created.relation;
            shapes.insert(shape.created.id, (table.oid, table.name.to_string()));
        }
        Event::Removed(id) => drop(shapes.remove(&id)),
        _ => {}
    }
    Ok(())
}
