//! One folder for everything that this test process makes, and a watchdog that clears up after it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Waits for the end of its standard input, which comes when this process ends, however it ends. Then it
/// ends every process that is still noted (the file's name is its id, the content the signal), waits
/// until they have gone, and removes the folder.
const WATCHDOG: &str = r#"dir=$1; trap '' INT TERM HUP; read -r _
    for note in "$dir"/processes/*; do kill -s "$(cat "$note")" "${note##*/}"; done 2>/dev/null
    for note in "$dir"/processes/*; do
        waited=0
        while kill -0 "${note##*/}" 2>/dev/null && [ $waited -lt 100 ]; do sleep 0.1; waited=$((waited + 1)); done
    done
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
    fs::create_dir_all(path.join("processes")).expect("temporary files can be made");
    let mut watchdog = Command::new("sh");
    watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&path);
    watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let watchdog = watchdog.spawn().expect("there is a shell");
    Scratch { path, _watchdog: watchdog }
}
