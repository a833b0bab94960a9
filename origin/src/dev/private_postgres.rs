//! A Postgres of our own, from the binaries of this machine.

use anyhow::{Context, Result, bail, ensure};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Where distributions put the server's binaries, apart from `PATH`.
const FOLDERS: [&str; 5] = [
    "/usr/lib/postgresql",
    "/usr/pgsql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
    "/Applications/Postgres.app/Contents/Versions",
];
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The user that runs the server where we are root, which Postgres refuses to be.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A running server on loopback, in a folder that goes with it.
pub(super) struct PrivatePostgres {
    server: Child,
    binaries: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    port: u16,
}

/// Who runs the server instead of root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl PrivatePostgres {
    /// Makes a cluster in `scratch` and starts it.
    pub(super) async fn start(scratch: &Path) -> Result<Self> {
        let binaries = find_binaries()?;
        let account = account(scratch)?;
        let home = scratch.join("postgres");
        std::fs::create_dir_all(&home).context("cannot create a folder for the private Postgres")?;
        if let Some(account) = account {
            // The server's user must reach its folder, and only that.
            chown(scratch, Some(account.uid), Some(account.gid))?;
            chown(&home, Some(account.uid), Some(account.gid))?;
        }
        let data = home.join("data");
        tracing::info!(binaries = %binaries.display(), "starting a private Postgres");
        initialise(&binaries, &data, account).await?;
        let port = free_port()?;
        let mut command = command(&binaries.join("postgres"), account);
        command.arg("-D").arg(&data).args(settings(port, &home));
        let log = std::fs::File::create(scratch.join("postgres.log"))?;
        command.stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let server = command.spawn().context("cannot start Postgres")?;
        let mut postgres = Self { server, binaries, data, account, port };
        if let Err(error) = postgres.wait_ready().await {
            let log = std::fs::read_to_string(scratch.join("postgres.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            return Err(error.context(last.join("; ")));
        }
        Ok(postgres)
    }

    /// The URL of its database.
    pub(super) fn url(&self) -> String {
        format!("postgres://limn@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        let mut stop = command(&self.binaries.join("pg_ctl"), self.account);
        stop.arg("-D").arg(&self.data).args(["stop", "-m", "immediate"]);
        let stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.server.start_kill();
        }
        let _ = self.server.wait().await;
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let ready = async {
            loop {
                if let Some(status) = self.server.try_wait()? {
                    bail!("the private Postgres ended at once ({status})");
                }
                let mut probe = command(&self.binaries.join("pg_isready"), None);
                probe.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
                if probe.status().await.is_ok_and(|status| status.success()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(START_TIMEOUT, ready).await.context("the private Postgres does not start")?
    }
}

fn settings(port: u16, sockets: &Path) -> Vec<String> {
    let sockets = sockets.display();
    [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={sockets}"),
        "wal_level=logical".to_owned(),
        // Nothing here outlives the process: there is nothing to keep from a crash.
        "fsync=off".to_owned(),
        "max_wal_senders=10".to_owned(),
        "max_replication_slots=10".to_owned(),
    ]
    .into_iter()
    .flat_map(|setting| ["-c".to_owned(), setting])
    .collect()
}

async fn initialise(binaries: &Path, data: &Path, account: Option<Account>) -> Result<()> {
    let mut initdb = command(&binaries.join("initdb"), account);
    initdb.arg("-D").arg(data).args(["-U", "limn", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
    let output = initdb.output().await.context("cannot run initdb")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "initdb failed: {}", errors.trim());
    Ok(())
}

/// A command as the server's user, in a process group of its own: Ctrl-C is ours to handle.
fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = std::process::Command::new(program);
    command.process_group(0).stdin(Stdio::null());
    // The folder that we were started in may be closed to the server's user.
    command.current_dir("/");
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    Command::from(command)
}

/// The server's user, where we are root ourselves.
fn account(scratch: &Path) -> Result<Option<Account>> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(scratch)?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("cannot find a user for Postgres")?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2);
        Some(Account { uid: ids.next()?.parse().ok()?, gid: ids.next()?.parse().ok()? })
    };
    let account = UNPRIVILEGED.iter().find_map(|name| of(name));
    account.map(Some).context("Postgres does not run as root, and there is no user `postgres` or `nobody`")
}

fn find_binaries() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter_map(|folder| {
        // Often only the client programs are there, as links: follow them to the rest.
        let real = std::fs::canonicalize(folder.join("postgres")).ok()?;
        Some(real.parent()?.to_owned())
    });
    let installed = FOLDERS.iter().flat_map(|folder| {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .collect();
        versions.sort();
        versions.reverse();
        versions
    });
    let complete = |folder: &PathBuf| {
        ["postgres", "initdb", "pg_ctl", "pg_isready"].iter().all(|program| folder.join(program).exists())
    };
    on_path.chain(installed).find(complete).context(if cfg!(target_os = "macos") {
        "no Postgres found: run `brew install postgresql@17`, or set DATABASE_URL"
    } else {
        "no Postgres found: run `sudo apt-get install -y postgresql`, or set DATABASE_URL"
    })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
