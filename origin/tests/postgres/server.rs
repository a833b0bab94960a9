//! A private Postgres for this test process, from the binaries that the machine has.

use limn_origin::postgres::{PostgresConfig, Session};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Who may log in how. `local` is for the tests' own sessions.
const HBA: &str = "
    local all all trust
    host all plain 127.0.0.1/32 trust
    hostssl all encrypted 127.0.0.1/32 trust
    hostnossl all unencrypted 127.0.0.1/32 trust
    host all scram 127.0.0.1/32 scram-sha-256
    hostssl all certified 127.0.0.1/32 cert
    host all md5 127.0.0.1/32 md5
    host all cleartext 127.0.0.1/32 password";

const ROLES: &str = "
    CREATE ROLE plain SUPERUSER LOGIN;
    CREATE ROLE encrypted LOGIN REPLICATION;
    CREATE ROLE unencrypted LOGIN REPLICATION;
    CREATE ROLE scram LOGIN REPLICATION PASSWORD 'sesame';
    CREATE ROLE cleartext LOGIN REPLICATION PASSWORD 'sesame';
    SET password_encryption = md5;
    CREATE ROLE md5 LOGIN REPLICATION PASSWORD 'sesame';
    CREATE ROLE bystander LOGIN";

pub struct Server {
    directory: PathBuf,
    port: u16,
    /// Whether we are root, and Postgres is another user.
    root: bool,
    /// Holds the watchdog's standard input: when this process ends, however it ends, the watchdog
    /// stops Postgres and removes the directory.
    _watchdog: Child,
}

impl Server {
    /// The one server of this process, started by whoever asks first.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start("shared"))
    }

    /// Creates an empty database with a name of its own.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let session = Session::connect(&self.local("postgres")).await.expect("connects");
        session.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("creates");
        name
    }

    /// A superuser's configuration over the Unix socket.
    pub fn local(&self, database: &str) -> PostgresConfig {
        self.local_as("postgres", database)
    }

    /// A role's configuration over the Unix socket.
    pub fn local_as(&self, role: &str, database: &str) -> PostgresConfig {
        let directory = self.directory.display();
        let url = format!("postgres://{role}@/{database}?host={directory}&port={}", self.port);
        PostgresConfig::parse(&url, None, false).expect("well-formed")
    }

    /// A configuration over TCP; `login` is `role` or `role:password`.
    pub fn tcp(&self, login: &str, mode: &str, ca_file: Option<&Path>) -> PostgresConfig {
        let url = format!("postgres://{login}@localhost:{}/postgres?sslmode={mode}", self.port);
        PostgresConfig::parse(&url, ca_file, false).expect("well-formed")
    }

    /// The certificate that the server shows, which also vouches for itself.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// A certificate for the same name that the server does not have.
    pub fn other_certificate(&self) -> PathBuf {
        self.directory.join("other.crt")
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file that Postgres can read.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("it is written");
    }

    /// Runs `openssl` in its folder, as the user who runs Postgres. Arguments have no blanks.
    pub fn openssl(&self, arguments: &str) {
        run(as_owner(self.root, Path::new("openssl"))
            .args(arguments.split(' '))
            .current_dir(&self.directory));
    }

    /// The certificate that the server shows now, as text.
    pub fn shown(&self) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{}", self.port)]);
        let output = openssl.stdin(Stdio::null()).output().expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether libpq connects.
    pub fn psql_connects(&self, url: &str, root: &Path) -> bool {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(["-XqAt", "-c", "SELECT 1", &format!("{url}&sslrootcert={}", root.display())]);
        psql.output().expect("psql runs").status.success()
    }

    /// A server of its own, with a name among those of this process.
    pub fn start(name: &str) -> Self {
        let binaries = binaries();
        let directory = std::env::temp_dir().join(format!("limn-origin-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("a fresh directory");
        let root = fs::metadata(&directory).expect("it exists").uid() == 0;
        if root {
            let owner = Command::new("id").args(["-u", "postgres"]).output().expect("id runs");
            let owner = String::from_utf8_lossy(&owner.stdout).trim().parse().ok();
            chown(&directory, owner, None).expect("root may change owners");
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("is ours");
        let data = directory.join("data");
        let mut initdb = as_owner(root, &binaries.join("initdb"));
        run(initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8"]));
        for name in ["server", "other"] {
            make_certificate(root, &directory, name);
        }
        fs::write(data.join("pg_hba.conf"), HBA).expect("writes");
        // Not by an option, which could not be changed while the server runs.
        let file = |name: &str| directory.join(name).display().to_string();
        let certificate =
            format!("ssl_cert_file='{}'\nssl_key_file='{}'\n", file("server.crt"), file("server.key"));
        fs::write(data.join("postgresql.auto.conf"), certificate).expect("writes");
        let port = free_port();
        let watchdog = watch(root, &binaries.join("postgres"), &directory, port);
        let server = Self { directory, port, root, _watchdog: watchdog };
        server.create_roles(&binaries.join("psql"));
        server
    }

    /// Waits until the server answers, then creates the roles.
    fn create_roles(&self, psql: &Path) {
        let started = Instant::now();
        loop {
            let mut command = Command::new(psql);
            command.args(["-qX", "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]);
            command.arg("-h").arg(&self.directory).args(["-p", &self.port.to_string(), "-c", ROLES]);
            let output = command.output().expect("psql runs");
            if output.status.success() {
                return;
            }
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(started.elapsed() < START_TIME_MAX, "Postgres does not start: {reason}");
            sleep(Duration::from_millis(100));
        }
    }
}

/// `PG_BIN_DIR` first, then PATH, then where Debian and Homebrew put them, the newest last.
fn binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|parent| fs::read_dir(parent).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    installed.sort();
    std::env::var_os("PG_BIN_DIR")
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(installed.into_iter().rev())
        .find(|directory| ["initdb", "postgres", "psql"].iter().all(|b| directory.join(b).exists()))
        .expect("Postgres is installed: `cargo x setup` does it")
}

/// Postgres refuses to run as root.
fn as_owner(root: bool, program: &Path) -> Command {
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn watch(root: bool, postgres: &Path, directory: &Path, port: u16) -> Child {
    const SCRIPT: &str = r#"dir=$1; shift; "$@" >"$dir/log" 2>&1 </dev/null & pid=$!
        read -r _; kill -QUIT $pid; wait $pid; rm -rf "$dir""#;
    let server = as_owner(root, postgres);
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "watchdog"]).arg(directory).arg(server.get_program());
    command.args(server.get_args()).arg("-D").arg(directory.join("data"));
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", directory.display()),
        "wal_level=logical".to_owned(),
        "max_wal_senders=20".to_owned(),
        "max_replication_slots=20".to_owned(),
        "fsync=off".to_owned(),
        "ssl=on".to_owned(),
        // Values must not depend on what the server prefers.
        "datestyle=German".to_owned(),
        "timezone=Asia/Kolkata".to_owned(),
        "intervalstyle=postgres".to_owned(),
        "bytea_output=escape".to_owned(),
    ] {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::piped()).spawn().expect("sh runs")
}

/// A certificate for `localhost` that vouches for itself.
fn make_certificate(root: bool, directory: &Path, name: &str) {
    let mut openssl = as_owner(root, Path::new("openssl"));
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(directory.join(format!("{name}.key")));
    run(openssl.arg("-out").arg(directory.join(format!("{name}.crt"))));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| unreachable!("{command:?}: {error}"));
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {reason}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
