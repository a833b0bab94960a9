//! The paths in a storage folder.

use crate::Files;
use limn_core::Handle;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The paths in a storage folder. Its clones share the name of the folder: every shape has one.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Arc<Path>,
}

impl Layout {
    /// The paths in the folder `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the commit log's files.
    #[must_use]
    pub fn commit_dir(&self) -> PathBuf {
        self.root.join("commit")
    }

    /// The folder of all shapes' folders.
    #[must_use]
    pub fn shapes_dir(&self) -> PathBuf {
        self.root.join("shapes")
    }

    /// One shape's folder.
    #[must_use]
    pub fn shape_dir(&self, handle: Handle) -> PathBuf {
        self.shapes_dir().join(handle.to_string())
    }

    /// The path of pack `number`, which has the snapshots of many shapes.
    #[must_use]
    pub fn pack_file(&self, number: u64) -> PathBuf {
        pack_file(&self.shapes_dir(), number)
    }

    /// The path of commit log file `number`.
    #[must_use]
    pub fn commit_file(&self, number: u64) -> PathBuf {
        self.commit_dir().join(format!("{number:012}.log"))
    }

    /// The numbers of the commit log files that are there, lowest first: the oldest.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn commit_files(&self, files: &impl Files) -> io::Result<Vec<u64>> {
        let names = files.list(&self.commit_dir())?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The path of a pack beside the shapes' folders.
pub(crate) fn pack_file(shapes_dir: &Path, number: u64) -> PathBuf {
    shapes_dir.join(format!("{PACK_PREFIX}{number:012}"))
}

/// The number of the pack that has this name; `None` where it is none.
pub(crate) fn pack_number(name: &str) -> Option<u64> {
    name.strip_prefix(PACK_PREFIX)?.parse().ok()
}

const PACK_PREFIX: &str = "pack-";
