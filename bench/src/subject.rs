//! A build of Limn that is measured, with a database of its own.

use crate::client::Connection;
use crate::figures::Memory;
use crate::waiter::Waiter;
use limn_tests::{Database, Limn, Signal};
use std::path::{Path, PathBuf};

/// Of the systems that this runs on.
const PAGE_BYTES: u64 = 4096;

/// A build, its server and its database.
#[derive(Debug)]
pub struct Subject {
    program: PathBuf,
    database: Database,
    limn: Limn,
    /// The memory that it had while it was idle, in kB.
    idle_kb: Option<u64>,
}

impl Subject {
    /// Not started yet.
    pub fn new(program: &Path, database: Database) -> Self {
        Self::with_options(program, database, &[])
    }

    /// The same, with more options of the server.
    pub fn with_options(program: &Path, database: Database, options: &[&str]) -> Self {
        let all = [&["--max-concurrent-requests", r#"{"existing":20000}"#], options].concat();
        let mut limn = Limn::stopped(&database, &all);
        limn.run_program(program);
        Self { program: program.to_owned(), database, limn, idle_kb: None }
    }

    /// Starts the server and waits until it is active.
    pub async fn start(&mut self) {
        self.limn.resume().await;
    }

    /// Ends the server in order, with everything durable.
    pub async fn stop(&mut self) {
        self.limn.stop().await;
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&mut self) {
        self.limn.spawn();
    }

    /// Lets the server stand still.
    pub fn pause(&self) {
        self.limn.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.limn.signal(Signal::SIGCONT);
    }

    /// The file's name.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// Where its tables are.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// The server.
    pub const fn limn(&self) -> &Limn {
        &self.limn
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.limn.port()
    }

    /// Opens a connection that stays open.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.limn.port()).await
    }

    /// It is idle: what it has in memory from now on comes by what is measured.
    pub fn note_idle(&mut self) {
        // Not every system can forget the peak that the start has led to.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.limn.process()), "5");
        self.idle_kb = self.limn.peak_memory_kb();
    }

    /// The memory of the process.
    pub fn memory_kb(&self) -> Memory {
        let peak_kb = self.limn.peak_memory_kb();
        Memory {
            peak_kb,
            above_idle_kb: peak_kb.zip(self.idle_kb).map(|(peak, idle)| peak.saturating_sub(idle)),
        }
    }

    /// Opens a connection that waits for one reply.
    pub async fn waiter(&self) -> Waiter {
        Waiter::open(self.limn.port()).await
    }

    /// How many files and sockets the process has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.limn.process())).map_or(0, Iterator::count)
    }

    /// The files of the storage folder: how many, and their bytes.
    pub fn stored(&self) -> Stored {
        Stored::of(self.limn.storage())
    }

    /// The memory that the process has now, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.limn.process());
        let pages = std::fs::read_to_string(path).expect("the process runs");
        let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        resident.expect("the second number") * PAGE_BYTES
    }
}

/// What a folder holds, with those in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    /// Files, no folders.
    pub files: u64,
    /// Their lengths.
    pub bytes: u64,
}

impl Stored {
    /// A file that is removed meanwhile is none.
    pub fn of(folder: &Path) -> Self {
        let mut stored = Self::default();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => {
                    let inner = Self::of(&entry.path());
                    stored.files += inner.files;
                    stored.bytes += inner.bytes;
                }
                Ok(found) => {
                    stored.files += 1;
                    stored.bytes += found.len();
                }
                Err(_) => {}
            }
        }
        stored
    }
}
