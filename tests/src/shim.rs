//! Faults of the machine that a program runs on: its disk, its clock. They are a small library in C, compiled when it is
//! needed, that the program is started with.

use crate::scratch::new_folder;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SOURCE: &str = include_str!("shim.c");

/// What the library reads: one byte that syncs fail, one that the disk is full, six of nothing, and the clock.
const CONTROL_BYTES: usize = 16;

/// The faults of one program.
#[derive(Debug)]
pub struct Shim {
    file: PathBuf,
    control: File,
}

impl Shim {
    /// No faults yet; `None` where there is no C compiler, or the system has no such libraries.
    #[must_use]
    pub fn new() -> Option<Self> {
        library()?;
        let file = new_folder("faults").join("control");
        let control = File::create(&file).expect("a new file");
        control.write_all_at(&[0; CONTROL_BYTES], 0).expect("it can be written");
        Some(Self { file, control })
    }

    /// The variables that start a program with it; the files concerned lie below `folder`.
    #[must_use]
    pub fn variables(&self, folder: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let library = library().expect("there is one, since there is a shim");
        let variables =
            [("LD_PRELOAD", text(library)), ("FAULTS_FILE", text(&self.file)), ("FAULTS_DIR", text(folder))];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Lets every sync fail, or no longer.
    pub fn fail_syncs(&self, fails: bool) {
        self.set(0, &[u8::from(fails)]);
    }

    /// Fills the disk, or makes room.
    pub fn fill_disk(&self, full: bool) {
        self.set(1, &[u8::from(full)]);
    }

    /// Sets the clock that far ahead of the system's.
    pub fn set_clock(&self, ahead_s: i64) {
        self.set(8, &ahead_s.to_ne_bytes());
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, at).expect("it can be written");
    }
}

/// Compiled once.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let folder = new_folder("shim");
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        std::fs::write(&source, SOURCE).expect("a new file");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source).arg("-ldl");
        cc.status().is_ok_and(|status| status.success()).then_some(library)
    };
    LIBRARY.get_or_init(compile).as_deref()
}
