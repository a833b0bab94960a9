//! The `limn` program, started as a user starts it.

use crate::eventually::eventually;
use crate::follower::Follower;
use crate::http::{Client, Request, Response};
use crate::postgres::{Database, Sql};
use crate::process::{Process, Signal, peak_memory_kb};
use crate::scratch::{free_port, new_folder, target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

/// A `limn serve` with a storage folder of its own, on a database that no other one follows.
#[derive(Debug)]
pub struct Limn {
    /// Another build than [`binary`].
    program: Option<PathBuf>,
    database: Database,
    options: Vec<String>,
    port: u16,
    metrics_port: u16,
    storage: PathBuf,
    variables: Vec<(String, String)>,
    login: String,
    process: Option<Process>,
    /// The output of earlier processes.
    past_output: String,
}

/// A `limn dev` whose temporary files are in a folder of its own.
#[derive(Debug)]
pub struct DevServer {
    /// Where it makes temporary files.
    pub temporary: PathBuf,
    port: u16,
    process: Process,
}

/// The table that [`Limn::barrier`] writes to.
const BARRIER: &str = "limn_barrier";

impl Limn {
    /// Starts a server and waits until it is active. It asks for no secret, unless `options` name one.
    pub async fn start(database: &Database, options: &[&str]) -> Self {
        let mut server = Self::stopped(database, options);
        server.resume().await;
        server
    }

    /// A server that is yet to be started.
    #[must_use]
    pub fn stopped(database: &Database, options: &[&str]) -> Self {
        Self {
            program: None,
            database: database.clone(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            port: free_port(),
            metrics_port: free_port(),
            storage: new_folder("storage"),
            variables: Vec::new(),
            login: "postgres".to_owned(),
            process: None,
            past_output: String::new(),
        }
    }

    /// Starts every process with these variables.
    pub fn set_variables(&mut self, variables: Vec<(String, String)>) {
        self.variables = variables;
    }

    /// Starts every process from this build instead of [`binary`].
    pub fn run_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// Whether a process runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Everything that its processes printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        let current = self.process.as_ref().map(Process::output).unwrap_or_default();
        format!("{}{current}", self.past_output)
    }

    /// Another server for the same folder and slot, yet to be started.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            program: self.program.clone(),
            database: self.database.clone(),
            options: self.options.clone(),
            port: free_port(),
            metrics_port: free_port(),
            storage: self.storage.clone(),
            variables: self.variables.clone(),
            login: self.login.clone(),
            process: None,
            past_output: String::new(),
        }
    }

    /// Lets it log in to Postgres as another role than the superuser, or as `role:password`.
    pub fn log_in_as(&mut self, login: &str) {
        login.clone_into(&mut self.login);
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        self.past_output = self.output();
        self.process = Some(Process::start(self.command(), Signal::SIGKILL));
    }

    /// Starts it and waits until it is active.
    pub async fn resume(&mut self) {
        self.spawn();
        self.wait_active().await;
    }

    /// Waits until health says `active`.
    ///
    /// # Panics
    /// Where the process ends instead.
    pub async fn wait_active(&mut self) {
        self.wait_health("active").await;
    }

    /// Waits until health says this.
    ///
    /// # Panics
    /// Where the process ends instead.
    pub async fn wait_health(&mut self, status: &str) {
        let client = self.client();
        let health = Request { method: "GET", target: "/v1/health", ..Request::default() };
        eventually(&format!("limn is {status}"), async || {
            let process = self.process.as_mut().expect("it was started");
            assert!(process.ended().is_none(), "limn ended: {}", process.output());
            let answer = client.try_send(&health).await.ok()?;
            (answer.json()["status"] == status).then_some(())
        })
        .await;
    }

    /// Waits until the shape's snapshot is durable: a process that is killed from then on leaves it whole. One that is
    /// killed before begins the shape anew, under another handle.
    pub async fn wait_durable(&self, shape: &Follower) {
        let (handle, durable) = (shape.handle(), "snapshot is durable");
        eventually("the snapshot is durable", async || {
            let is_told = |line: &str| line.contains(durable) && line.contains(handle);
            self.output().lines().any(is_told).then_some(())
        })
        .await;
    }

    /// Ends it in the middle of whatever it does.
    ///
    /// # Panics
    /// Where it does not run.
    pub async fn kill(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        process.signal(Signal::SIGKILL);
        process.wait().await;
        self.past_output = self.output();
        self.process = None;
    }

    /// Ends it as a supervisor would.
    ///
    /// # Panics
    /// Where it does not run.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGTERM);
        process.wait().await
    }

    /// Sends it a signal that it may not notice.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Waits until it ends by itself: how, and what it printed.
    ///
    /// # Panics
    /// Where it was not started.
    pub async fn wait(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("it was started");
        (process.wait().await, process.output())
    }

    /// The id of the server's process.
    ///
    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// The peak memory of the server's process so far, in kB; `None` on a system without `/proc`.
    ///
    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn peak_memory_kb(&self) -> Option<u64> {
        peak_memory_kb(self.process())
    }

    /// A client of it.
    #[must_use]
    pub const fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// Where it serves, on the loopback interface.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its shapes.
    #[must_use]
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// A session on its database.
    pub async fn sql(&self) -> Sql {
        self.database.connect().await
    }

    /// `GET /v1/shape` with that query.
    pub async fn get(&self, query: &str) -> Response {
        self.client().get(&format!("/v1/shape?{query}")).await
    }

    /// Follows a shape, and is up to date with it.
    pub async fn follow(&self, query: &str) -> Follower {
        let mut follower = Follower::new(self.client(), query);
        follower.sync().await;
        follower
    }

    /// Returns a position in the WAL after everything that was committed before the call. An up-to-date
    /// message that has seen it says that the shape shows all of that.
    pub async fn barrier(&self, sql: &Sql) -> u64 {
        sql.execute(&format!("CREATE TABLE IF NOT EXISTS {BARRIER} (id serial PRIMARY KEY)")).await;
        // Only what touches a table with a shape is sure to be seen.
        let shape = self.get(&format!("table={BARRIER}&offset=-1")).await;
        assert_eq!(shape.status, 200, "{}", shape.text());
        let lsn = sql.lsn().await;
        sql.execute(&format!("INSERT INTO {BARRIER} DEFAULT VALUES")).await;
        lsn
    }

    /// What a metric says; `name` with its labels as written. 0 where there is none yet.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = Client::new(self.metrics_port).get("/metrics").await.text();
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        text.lines().find_map(value).unwrap_or(0)
    }

    /// Waits until that many live requests wait for changes.
    pub async fn wait_parked(&self, clients: u64) {
        let parked = async || (self.metric("limn_parked_clients").await == clients).then_some(());
        eventually(&format!("{clients} live requests wait"), parked).await;
    }

    /// What `limn check` is to be told, to check this server.
    #[must_use]
    pub fn check_arguments(&self) -> Vec<String> {
        let (url, storage) = (self.database.url_as(&self.login), self.storage.display().to_string());
        // Slots are named after the stream's id, and belong to the whole server.
        let arguments = [
            "--database-url",
            &url,
            "--storage-dir",
            &storage,
            "--replication-stream-id",
            &self.database.name,
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        if !self.options.iter().any(|option| option == "--secret") {
            arguments.push("--insecure".to_owned());
        }
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    fn command(&self) -> Command {
        let mut command = match &self.program {
            Some(program) => clean_command(program),
            None => command(),
        };
        command.args(["serve", "--host", "127.0.0.1"]).args(self.check_arguments());
        command.args(["--port", &self.port.to_string(), "--metrics-port", &self.metrics_port.to_string()]);
        command.envs(self.variables.iter().cloned());
        command
    }
}

impl DevServer {
    /// Starts it and waits until its page is there.
    pub async fn start() -> Self {
        let (temporary, port) = (new_folder("dev"), free_port());
        let mut command = command();
        command.args(["dev", "--port", &port.to_string()]).env("TMPDIR", &temporary).current_dir(&temporary);
        let mut process = Process::start(command, Signal::SIGTERM);
        let health = Request { method: "GET", target: "/v1/health", ..Request::default() };
        eventually("limn dev is active", async || {
            assert!(process.ended().is_none(), "limn dev ended: {}", process.output());
            Client::new(port).try_send(&health).await.ok().filter(|health| health.status == 200)
        })
        .await;
        Self { temporary, port, process }
    }

    /// A client of it.
    #[must_use]
    pub const fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// Ends it by a signal; Ctrl-C is `SIGINT`.
    pub async fn end(&mut self, signal: Signal) -> ExitStatus {
        self.process.signal(signal);
        self.process.wait().await
    }
}

/// The program that is tested: `LIMN_BIN`, else the newest that lies beside the tests. It is looked for once, since
/// some hundred sources are compared with it.
///
/// # Panics
/// Where there is none, or one of its sources is newer than it.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find_binary)
}

fn find_binary() -> PathBuf {
    if let Some(told) = std::env::var_os("LIMN_BIN") {
        let told = PathBuf::from(told);
        assert!(told.is_file(), "LIMN_BIN is `{}`, and there is no such file", told.display());
        return told;
    }
    let built = ["release", "debug"].map(|profile| target().join(profile).join("limn"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let newest = built.into_iter().filter(|path| path.is_file()).max_by_key(age);
    let newest = newest.expect("`cargo build -p limn-origin` comes first, or LIMN_BIN names the program");
    let source = newer_source(&newest);
    assert!(
        source.is_none(),
        "`{}` was built before `{}` changed: run `cargo build -p limn-origin`, or name the program in LIMN_BIN",
        newest.display(),
        source.unwrap_or_default().display()
    );
    newest
}

/// A source of the program that changed after it was built. Cargo lists the sources beside the program, in `limn.d`.
fn newer_source(program: &Path) -> Option<PathBuf> {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let list = fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    // A blank inside a path is written with a backslash.
    let sources = sources.trim().replace("\\ ", "\0");
    let paths = sources.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " ")));
    let built = modified(program)?;
    // One that is no more would be built without, too.
    paths.into_iter().find(|source| modified(source).is_none_or(|changed| changed > built))
}

/// The program, with nothing in its environment that would set it up, except for `LIMN_LOG_LEVEL`.
#[must_use]
pub fn command() -> Command {
    clean_command(binary())
}

fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "LIMN_LOG_LEVEL" {
            continue;
        }
        if text.starts_with("LIMN_") || text.starts_with("ELECTRIC_") || text.ends_with("DATABASE_URL") {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_program_that_is_older_than_one_of_its_sources_is_stale() {
        let folder = new_folder("stale build");
        let [program, source, other] = ["limn", "main.rs", "lib.rs"].map(|name| folder.join(name));
        let now = SystemTime::now();
        let made = |path: &Path, age_s| {
            let file = File::create(path).expect("a new file");
            file.set_modified(now - Duration::from_secs(age_s)).expect("its own file");
        };
        made(&program, 10);
        made(&source, 20);
        made(&other, 20);
        assert_eq!(newer_source(&program), None, "nothing lists its sources");
        let escaped = |path: &Path| path.display().to_string().replace(' ', "\\ ");
        let list = format!("{}: {} {}\n", escaped(&program), escaped(&source), escaped(&other));
        fs::write(folder.join("limn.d"), list).expect("a new file");
        assert_eq!(newer_source(&program), None);
        made(&other, 5);
        assert_eq!(newer_source(&program), Some(other.clone()));
        made(&other, 20);
        fs::remove_file(&source).expect("it is there");
        assert_eq!(newer_source(&program), Some(source));
    }
}
