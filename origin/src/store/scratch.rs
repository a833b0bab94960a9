//! A folder that goes with the process.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A temporary folder; dropping it removes it with everything inside.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A folder whose name tells what it is for, and whose.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("limn-{purpose}-{}", std::process::id()));
        // A process of that id may have been killed before.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "cannot remove the scratch folder");
        }
    }
}
