//! One folder for everything that this test process makes, and a watchdog that clears up after it. Where a test failed,
//! the logs of all processes are kept in `target/failed-tests`.

use std::fs;
use std::net::TcpListener;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Waits for the end of its standard input, which comes when this process ends, however it ends. Then it
/// ends every process that is still noted (the file's name is its id, the content the signal), waits
/// until they have gone, copies the logs where the file `failed` says, if there is one, and removes the folder.
const WATCHDOG: &str = r#"dir=$1; trap '' INT TERM HUP; read -r _
    for note in "$dir"/processes/*; do kill -s "$(cat "$note")" "${note##*/}"; done 2>/dev/null
    for note in "$dir"/processes/*; do
        waited=0
        while kill -0 "${note##*/}" 2>/dev/null && [ $waited -lt 100 ]; do sleep 0.1; waited=$((waited + 1)); done
    done
    if [ -f "$dir/failed" ]; then mkdir -p "$(cat "$dir/failed")"; cp "$dir"/logs/* "$(cat "$dir/failed")"; fi
    rm -rf "$dir""#;

struct Scratch {
    path: PathBuf,
    _watchdog: Child,
}

/// A new empty folder; `name` is part of its name.
///
/// # Panics
/// Where the disk does not allow it.
pub fn new_folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = root().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&path).expect("a folder with a new name");
    path
}

/// A file for what a process prints; its name begins with a number, in the order of the starts.
pub(crate) fn new_log(program: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    root().join("logs").join(format!("{}-{name}.log", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Where running processes are noted for the watchdog.
pub(crate) fn note_of(process_id: u32) -> PathBuf {
    root().join("processes").join(process_id.to_string())
}

/// A port of the loopback interface that nobody listens on, outside the range from which the system
/// takes the ports of outgoing connections.
///
/// # Panics
/// Where all are taken.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % u32::from(COUNT)).expect("is smaller");
    (0..COUNT)
        .map(|_| FIRST + (own.wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of them is free")
}

fn root() -> &'static Path {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    &SCRATCH.get_or_init(start).path
}

fn start() -> Scratch {
    let path = std::env::temp_dir().join(format!("limn-tests-{}", std::process::id()));
    for folder in ["processes", "logs"] {
        fs::create_dir_all(path.join(folder)).expect("temporary files can be made");
    }
    keep_logs_of_failures(path.clone());
    let mut watchdog = Command::new("sh");
    watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&path);
    watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let watchdog = watchdog.spawn().expect("there is a shell");
    Scratch { path, _watchdog: watchdog }
}

/// Lets the first panic of any test say where the logs will be, and the watchdog copy them there.
fn keep_logs_of_failures(scratch: PathBuf) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        note_failure(&scratch);
    }));
}

/// Has the logs of every process kept, as behind a test that panicked.
pub fn keep_logs() {
    note_failure(root());
}

fn note_failure(scratch: &Path) {
    let kept = target().join("failed-tests").join(std::process::id().to_string());
    let note = scratch.join("failed");
    if !note.exists() && fs::write(note, kept.display().to_string()).is_ok() {
        eprintln!("--- when all tests have ended, the logs of their processes are in {}", kept.display());
    }
}

/// Cargo's target folder, where this program was built: cargo marks it. The program's own where it was moved elsewhere.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let target = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.or(own.parent()).expect("it stands in a folder").to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Process, Signal, eventually};

    #[tokio::test]
    #[ignore = "fails; `the_log_of_a_failed_test_is_kept` starts it"]
    async fn a_test_that_fails() {
        let mut server = Command::new("sh");
        server.args(["-c", "echo the words of the server"]);
        let mut server = Process::start(server, Signal::SIGKILL);
        server.wait().await;
        unreachable!("this is the failure");
    }

    #[tokio::test]
    async fn the_log_of_a_failed_test_is_kept() {
        let mut failing = Command::new(std::env::current_exe().expect("the test's own path"));
        failing.args(["--exact", "scratch::tests::a_test_that_fails", "--ignored", "--nocapture"]);
        let output = failing.output().expect("it starts");
        let printed = String::from_utf8_lossy(&output.stderr);
        let path = printed.lines().find_map(|line| line.split_once("processes are in ")).expect(&printed).1;
        let log = Path::new(path).join("1-sh.log");
        // The watchdog copies it after the end of the process.
        let text = eventually("the log is kept", async || fs::read_to_string(&log).ok()).await;
        assert_eq!(text, "the words of the server\n");
        fs::remove_dir_all(path).expect("nobody else writes there");
    }
}
