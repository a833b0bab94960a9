//! A build of Limn that is measured, with a database of its own.

use crate::client::Connection;
use limn_tests::{Database, Limn, Signal};
use std::path::{Path, PathBuf};

/// A build, its server and its database.
#[derive(Debug)]
pub struct Subject {
    program: PathBuf,
    database: Database,
    limn: Limn,
}

impl Subject {
    /// Not started yet.
    pub fn new(program: &Path, database: Database) -> Self {
        let mut limn = Limn::stopped(&database, &["--max-concurrent-requests", r#"{"existing":20000}"#]);
        limn.run_program(program);
        Self { program: program.to_owned(), database, limn }
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

    /// The most memory that the process has had at one time, in kB.
    pub fn peak_memory_kb(&self) -> Option<u64> {
        self.limn.peak_memory_kb()
    }
}
