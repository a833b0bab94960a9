//! A process that was started for a test.

use crate::eventually::eventually;
use crate::scratch::{new_log, note_of};
pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Ends with the value, and with the test process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
    end: Signal,
}

impl Process {
    /// Starts `command`; `end` is the signal that ends it at once and leaves nothing behind.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, end: Signal) -> Self {
        let output = new_log(&command.get_program().to_string_lossy());
        let file = File::create(&output).expect("a new file");
        let both = file.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(file).stderr(both);
        let child = command.spawn().unwrap_or_else(|error| unreachable!("cannot start {command:?}: {error}"));
        let name = end.as_str().trim_start_matches("SIG");
        fs::write(note_of(child.id()), name).expect("the watchdog's note is written");
        Self { child, output, end }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it has gone.
    pub fn signal(&self, signal: Signal) {
        self::signal(self.id(), signal);
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// Where the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's state can be read")
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        let id = self.id();
        eventually(&format!("process {id} ends"), async || self.ended()).await
    }

    /// Everything it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(self.end);
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(note_of(self.child.id()));
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().rev().take(30).collect();
            let last: Vec<&str> = lines.into_iter().rev().collect();
            eprintln!("--- the last that process {} printed:\n{}", self.child.id(), last.join("\n"));
        }
    }
}

/// Sends a signal to a process that a test started, or that one of those started.
///
/// # Panics
/// Where it has gone.
pub fn signal(process: u32, signal: Signal) {
    let id = i32::try_from(process).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("the process is there");
}

/// The most memory that a process has had at one time so far, in kB; `None` where the system does not say.
#[must_use]
pub fn peak_memory_kb(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// How long the threads that a process has now have run on a processor; `None` where the system does not say.
#[must_use]
pub fn processor_time(process: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    // Each begins with nanoseconds (`proc_pid_schedstat`).
    let told = threads.map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
    let times = told.map(|told| told?.split(' ').next()?.parse().ok().map(Duration::from_nanos));
    times.sum()
}

/// The command lines of running processes that contain `text`.
///
/// # Panics
/// Where the system has no `ps`.
#[must_use]
pub fn command_lines_with(text: &str) -> Vec<String> {
    let mut ps = Command::new("ps");
    let output = ps.args(["-A", "-ww", "-o", "args="]).output().expect("`ps` is part of every system");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
