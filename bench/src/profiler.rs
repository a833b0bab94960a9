//! A profile of the server while it does a scenario's work, by `perf`.
//!
//! The whole machine is sampled, since a scenario may start the server again; which processes were the server's is written
//! beside the samples.

use limn_tests::{Signal, signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Samples per second on each processor: no divisor of what else ticks.
const RATE: &str = "499";
/// Until perf has made its file.
const START_TIME: Duration = Duration::from_secs(10);

/// Samples that are being taken.
#[derive(Debug)]
pub struct Profiler {
    perf: Child,
    file: PathBuf,
    processes: Vec<u32>,
}

impl Profiler {
    /// Begins, with a server of this process id; the samples go into `file`.
    pub fn begin(file: &Path, process: u32) -> Self {
        // A file of an earlier run would tell nothing about this one.
        let _ = fs::remove_file(file);
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--all-cpus", "--call-graph", "fp", "--freq", RATE, "--output"]);
        let perf = command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let profiler =
            Self { perf: perf.expect("perf is installed"), file: file.to_owned(), processes: vec![process] };
        let begun = Instant::now();
        while !file.exists() && begun.elapsed() < START_TIME {
            std::thread::sleep(Duration::from_millis(10));
        }
        profiler
    }

    /// Ends, with a server of this process id.
    pub fn end(mut self, process: u32) {
        signal(self.perf.id(), Signal::SIGINT);
        self.perf.wait().expect("perf ends");
        self.processes.push(process);
        self.processes.dedup();
        let processes: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        fs::write(self.file.with_extension("pids"), processes.join(",")).expect("it lies beside the samples");
    }
}
