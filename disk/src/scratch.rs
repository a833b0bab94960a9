//! A folder for a test.

use std::fs;
use std::path::{Path, PathBuf};

/// A temporary folder; dropping it removes it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder whose name tells what it is for.
    pub(crate) fn new(purpose: &str) -> Self {
        let path = std::env::temp_dir().join(format!("limn-disk-{purpose}-{}", std::process::id()));
        // A process of that id may have been killed before.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
