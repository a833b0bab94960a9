//! Temporary Postgres servers, from the binaries that the machine has.

use crate::eventually::eventually;
use crate::process::{Process, Signal};
use crate::scratch::{free_port, new_folder};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Names of columns and their text; `None` is NULL.
pub type Row = BTreeMap<String, Option<String>>;

/// Settings of every server. The last ones ask for texts that nobody on the wire may see.
const SETTINGS: [&str; 14] = [
    "wal_level=logical",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "max_wal_senders=60",
    "max_replication_slots=200",
    "shared_buffers=32MB",
    "fsync=off",
    "autovacuum=off",
    "deadlock_timeout=100ms",
    "datestyle=German",
    "timezone=Asia/Kolkata",
    "intervalstyle=postgres",
    "bytea_output=escape",
];

/// A server with databases of its own.
#[derive(Debug)]
pub struct Cluster {
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
    /// Settings that are left to the server's own files.
    left: Vec<String>,
    process: Option<Process>,
}

/// A database, empty at first.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name, unlike any other of this process: slots are named after it.
    pub name: String,
    port: u16,
}

/// A session of the superuser.
#[derive(Debug)]
pub struct Sql {
    client: Client,
}

impl Cluster {
    /// The server that tests share. Tests that keep transactions open must not: every session's snapshot
    /// and every new slot waits for them.
    pub async fn shared() -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER.get_or_init(|| Self::start(&[])).await
    }

    /// A server of its own, `settings` being over the common ones.
    pub async fn start(settings: &[&str]) -> Self {
        let data = new_folder("cluster").join("data");
        let mut copy = Command::new("cp");
        run(copy.arg("-a").arg(template()).arg(&data));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut cluster = Self { data, port: free_port(), settings, left: Vec::new(), process: None };
        cluster.resume().await;
        cluster
    }

    /// Creates a database.
    pub async fn database(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.postgres().connect().await.execute(&format!("CREATE DATABASE {name}")).await;
        Database { name, port: self.port }
    }

    /// Removes a database, the slots that follow it, and every session in it.
    pub async fn discard(&self, database: &Database) {
        let (sql, name) = (self.postgres().connect().await, &database.name);
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}'"
        );
        // Who read of a slot a moment ago may still be leaving it.
        eventually("the slots go", async || sql.try_execute(&slots).await.ok()).await;
        sql.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    /// Ends the server as an administrator would, with every session.
    ///
    /// # Panics
    /// Where it does not run.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGINT);
        process.wait().await;
    }

    /// Ends the server at once: it starts from its WAL.
    ///
    /// # Panics
    /// Where it does not run.
    pub async fn crash(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGQUIT);
        process.wait().await;
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the server logged since it was started last.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().expect("it runs").output()
    }

    /// From the next start on, a setting is what `ALTER SYSTEM` made it.
    pub fn leave(&mut self, setting: &str) {
        self.left.push(format!("{setting}="));
    }

    /// Starts the server again.
    pub async fn resume(&mut self) {
        let mut command = as_owner(&binaries().join("postgres"));
        command.arg("-D").arg(&self.data);
        let common = SETTINGS.iter().map(|setting| (*setting).to_owned());
        let settings = common.chain([format!("port={}", self.port)]).chain(self.settings.iter().cloned());
        let is_left = |setting: &String| self.left.iter().any(|name| setting.starts_with(name));
        for setting in settings.filter(|setting| !is_left(setting)) {
            command.args(["-c", &setting]);
        }
        let mut process = Process::start(command, Signal::SIGQUIT);
        eventually("Postgres accepts connections", async || {
            assert!(process.ended().is_none(), "Postgres ended: {}", process.output());
            self.postgres().try_connect().await.ok()
        })
        .await;
        self.process = Some(process);
    }

    fn postgres(&self) -> Database {
        Database { name: "postgres".to_owned(), port: self.port }
    }
}

impl Database {
    /// Another database of the same server, which may not be there.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self { name: name.to_owned(), port: self.port }
    }

    /// The same, as seen through another port.
    #[must_use]
    pub fn through(&self, port: u16) -> Self {
        Self { name: self.name.clone(), port }
    }

    /// Its URL for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// Its URL for a role, or `role:password`.
    #[must_use]
    pub fn url_as(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/{}?sslmode=disable", self.port, self.name)
    }

    /// Begins a session.
    ///
    /// # Panics
    /// Where the server refuses.
    pub async fn connect(&self) -> Sql {
        self.try_connect()
            .await
            .unwrap_or_else(|error| unreachable!("cannot connect to `{}`: {error}", self.name))
    }

    /// Begins a session, if the server is there and willing.
    ///
    /// # Errors
    /// Where it is not.
    pub async fn try_connect(&self) -> Result<Sql, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(async move {
            // Whoever uses the session learns of its end.
            let _ = connection.await;
        });
        // The texts that shapes show.
        let session = "SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC'; SET IntervalStyle = iso_8601; SET bytea_output = hex";
        client.batch_execute(session).await?;
        Ok(Sql { client })
    }
}

impl Sql {
    /// Runs statements.
    ///
    /// # Panics
    /// Where one fails.
    pub async fn execute(&self, sql: &str) {
        let result = self.try_execute(sql).await;
        result.unwrap_or_else(|error| unreachable!("{sql}: {error:?}"));
    }

    /// Runs statements that may fail.
    ///
    /// # Errors
    /// Where one fails.
    pub async fn try_execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// The rows of a query.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        let rows = self.try_rows(sql).await;
        rows.unwrap_or_else(|error| unreachable!("{sql}: {error:?}"))
    }

    /// The rows of a query that may fail.
    ///
    /// # Errors
    /// Where it does.
    pub async fn try_rows(&self, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        let rows = self.messages(sql).await?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = |row: tokio_postgres::SimpleQueryRow| {
            let cell = |(index, column): (usize, &tokio_postgres::SimpleColumn)| {
                (column.name().to_owned(), row.get(index).map(str::to_owned))
            };
            row.columns().iter().enumerate().map(cell).collect()
        };
        Ok(rows.map(row).collect())
    }

    /// Everything that comes of one or more queries.
    ///
    /// # Errors
    /// Where one fails.
    pub async fn messages(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        self.client.simple_query(sql).await
    }

    /// The one value of a query.
    ///
    /// # Panics
    /// Where it fails or has no value.
    pub async fn value(&self, sql: &str) -> String {
        let row = self.rows(sql).await.into_iter().next().expect("a row");
        row.into_values().next().flatten().expect("a value that is not NULL")
    }

    /// The position in the WAL that the next commit will be beyond.
    ///
    /// # Panics
    /// Where Postgres does not say.
    pub async fn lsn(&self) -> u64 {
        let lsn = self.value("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text").await;
        lsn.parse().expect("a number")
    }
}

/// The folder of a fresh cluster, made once and copied: that is faster than making each.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = new_folder("template");
        if let Some((user, group)) = owner() {
            chown(&folder, Some(user), Some(group)).expect("root may change owners");
        }
        let data = folder.join("data");
        let mut initdb = as_owner(&binaries().join("initdb"));
        run(initdb.arg("-D").arg(&data).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
            "-E",
            "UTF8",
            "--locale=C",
        ]));
        data
    })
}

/// `PG_BIN_DIR` first, then PATH, then where packages put them, the newest first.
fn binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let parents = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
    let folders = parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten();
    let mut installed: Vec<PathBuf> =
        folders.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    installed.sort();
    let told = std::env::var_os("PG_BIN_DIR").map(PathBuf::from);
    let mut candidates =
        told.into_iter().chain(std::env::split_paths(&path)).chain(installed.into_iter().rev());
    let found =
        candidates.find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()));
    found.expect("Postgres is installed (`cargo x setup` does it), or PG_BIN_DIR names its folder")
}

/// Postgres refuses to run as root.
fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

/// The user and group that run Postgres where we are root.
fn owner() -> Option<(u32, u32)> {
    static OWNER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let id = |arguments: &[&str]| -> u32 {
        let output = Command::new("id").args(arguments).output().expect("`id` is part of every system");
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("Postgres's package made a user `postgres`")
    };
    let is_root = || id(&["-u"]) == 0;
    *OWNER.get_or_init(|| is_root().then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"]))))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| unreachable!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
