//! Child processes: run and checked one at a time, or kept running and ended with us, last started first ended.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a child may take until it says that it is ready; for `limn dev` that includes an initdb.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a child may take to end after SIGTERM before it is killed.
const END_GRACE: Duration = Duration::from_secs(10);

/// Lines of a command's output that its error repeats.
const TOLD_LINES: usize = 40;

/// A command that runs in `dir`, without what cargo put into our own environment.
pub fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"]
    {
        command.env_remove(name);
    }
    command
}

/// Prints the command, runs it with our own output, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    println!("  $ {}", shown(command));
    run_silently(command)
}

/// Runs the command with our own output, and fails unless it succeeds.
pub fn run_silently(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", program(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Prints the command and runs it; an error holds the end of what it printed, which may have gone by since.
pub fn run_telling(command: &mut Command) -> Result<()> {
    println!("  $ {}", shown(command));
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start `{}`", program(command)))?;
    let mut told = VecDeque::new();
    for line in BufReader::new(child.stdout.take().context("its output is piped")?).lines() {
        let line = line.with_context(|| format!("cannot read the output of `{}`", program(command)))?;
        println!("{line}");
        told.push_back(line);
        if told.len() > TOLD_LINES {
            told.pop_front();
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let told: Vec<String> = told.into();
        bail!("`{}` ended with {status}\n{}", shown(command), told.join("\n"));
    }
    Ok(())
}

/// The trimmed standard output of a command that must succeed.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", program(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the command exists and ends well; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The command as one would type it: changed variables first, then program and arguments.
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value.to_string_lossy())))
    });
    let words = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    variables.chain([program(command)]).chain(words).collect::<Vec<_>>().join(" ")
}

fn program(command: &Command) -> String {
    quoted(&command.get_program().to_string_lossy())
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What happened to the children while we waited.
enum Event {
    /// A line on the standard output of a child.
    Line { child: String, line: String },
    /// SIGINT, SIGTERM or SIGHUP reached us.
    Interrupted,
    /// A child ended by itself.
    Ended { child: String, status: ExitStatus },
}

/// How a child ended that was to end by itself.
#[derive(Debug)]
pub enum Ending {
    /// With success.
    Success,
    /// In another way.
    Failure(ExitStatus),
    /// Not yet: we were told to end.
    Interrupted,
}

/// Children that run until we end. Each has its own process group, so that a Ctrl-C typed at the terminal reaches
/// only us and the order of ending is ours; dropping this ends whatever still runs.
pub struct Children {
    running: Vec<(String, Child)>,
    events: Receiver<Event>,
    lines: mpsc::Sender<Event>,
}

impl Children {
    /// No children yet; from here on a Ctrl-C is an [`Event`] and no longer ends this program.
    pub fn supervised() -> Result<Self> {
        let (lines, events) = mpsc::channel();
        let interrupts = lines.clone();
        ctrlc::set_handler(move || {
            // The receiver is gone only while we are ending anyway.
            let _ = interrupts.send(Event::Interrupted);
        })?;
        Ok(Self { running: Vec::new(), events, lines })
    }

    /// Starts a child and waits for its line `ready: …`; false when we were told to end meanwhile.
    pub fn start_until_ready(&mut self, name: &str, command: &mut Command) -> Result<bool> {
        self.start(name, command)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.next_event(Some(deadline))? {
                Some(Event::Line { child, line }) => {
                    println!("  {child} | {line}");
                    if child == name && line.starts_with("ready: ") {
                        return Ok(true);
                    }
                }
                Some(Event::Interrupted) => return Ok(false),
                Some(Event::Ended { child, status }) => {
                    bail!("{child} ended with {status} before all was ready")
                }
                None => bail!("{name} was not ready within {} s", START_LIMIT.as_secs()),
            }
        }
    }

    /// Starts a child and waits for its end, passing on what all children print; another one that ends is an error.
    pub fn run_to_end(&mut self, name: &str, command: &mut Command) -> Result<Ending> {
        self.start(name, command)?;
        loop {
            match self.next_event(None)? {
                Some(Event::Line { child, line }) => println!("  {child} | {line}"),
                Some(Event::Interrupted) => return Ok(Ending::Interrupted),
                Some(Event::Ended { child, status }) if child == name => {
                    self.running.retain(|(running, _)| running != name);
                    return Ok(if status.success() { Ending::Success } else { Ending::Failure(status) });
                }
                Some(Event::Ended { child, status }) => bail!("{child} ended by itself with {status}"),
                None => {}
            }
        }
    }

    /// Passes on what the children print until we are told to end; one that ends by itself is an error.
    pub fn follow(&mut self) -> Result<()> {
        loop {
            match self.next_event(None)? {
                Some(Event::Line { child, line }) => println!("  {child} | {line}"),
                Some(Event::Interrupted) => return Ok(()),
                Some(Event::Ended { child, status }) => bail!("{child} ended by itself with {status}"),
                None => {}
            }
        }
    }

    /// Starts a child; its standard output arrives as [`Event::Line`], its standard error is ours.
    fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        println!("  $ {}", shown(command));
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", program(command)))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (lines, child_name) = (self.lines.clone(), name.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = Event::Line { child: child_name.clone(), line };
                if lines.send(event).is_err() {
                    return;
                }
            }
        });
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    /// The next thing that happens; `None` once `deadline` has passed.
    fn next_event(&mut self, deadline: Option<Instant>) -> Result<Option<Event>> {
        /// How often a child that closed nothing but ended is looked for.
        const POLL: Duration = Duration::from_millis(200);
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            match self.events.recv_timeout(POLL) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for (name, child) in &mut self.running {
                if let Some(status) = child.try_wait()? {
                    return Ok(Some(Event::Ended { child: name.clone(), status }));
                }
            }
        }
    }

    /// Ends all children, the last started first.
    pub fn end_all(&mut self) {
        while let Some((name, mut child)) = self.running.pop() {
            end(&name, &mut child);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// SIGTERM to the child's group, and SIGKILL to whatever of it is left: the group may hold grandchildren.
fn end(name: &str, child: &mut Child) {
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id fits in pid_t"));
    let deadline = Instant::now() + END_GRACE;
    // An error means that the group is gone already, which is what we want.
    let _ = killpg(group, Signal::SIGTERM);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            println!("  {name} did not end within {} s and is killed", END_GRACE.as_secs());
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_typed() {
        let mut command = Command::new("cargo");
        command.env("A", "1").env("B", "two words").args(["test", "it's"]);
        assert_eq!(shown(&command), r"A=1 B='two words' cargo test 'it'\''s'");
    }

    #[test]
    fn removed_variables_are_not_shown() {
        let command = command("true", Path::new("/"));
        assert_eq!(shown(&command), "true");
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let mut command = Command::new("sh");
        let error = capture(command.args(["-c", "echo wrong >&2; exit 3"])).expect_err("it exits with 3");
        assert!(error.to_string().contains("exit status: 3: wrong"), "{error}");
    }

    #[test]
    fn a_child_that_ends_by_itself_says_how_and_leaves_the_others_running() {
        let (lines, events) = mpsc::channel();
        let mut children = Children { running: Vec::new(), events, lines };
        children.start("server", Command::new("sleep").arg("60")).expect("sleep exists");
        let mut sh = |script: &str| {
            let mut command = Command::new("sh");
            children.run_to_end("build", command.args(["-c", script])).expect("sh exists")
        };
        assert!(matches!(sh("exit 0"), Ending::Success));
        assert!(matches!(sh("exit 3"), Ending::Failure(status) if status.code() == Some(3)));
        assert_eq!(children.running.len(), 1);
        children.start("short", &mut Command::new("true")).expect("true exists");
        let error =
            children.run_to_end("build", Command::new("sleep").arg("60")).expect_err("another one ended");
        assert!(error.to_string().starts_with("short ended by itself"), "{error}");
    }

    #[test]
    fn a_child_that_ignores_nothing_ends_at_once() {
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().expect("sleep exists");
        let started = Instant::now();
        end("sleep", &mut child);
        assert!(started.elapsed() < END_GRACE);
        assert!(child.try_wait().expect("it was ours").is_some());
    }
}
