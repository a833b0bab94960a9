//! `cargo x test`: every check of a change, step by step, with a summary at the end. What runs long has commands of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use crate::process::{capture, command, run as run_command};
use crate::setup::{self, Missing, Part, browser, nginx, schemathesis};
use crate::wasm::{self, TARGET, Toolchain};
use crate::workspace::Workspace;
use crate::{check, client, deny, edge, house_rules, instructions, oracle, postgres, sizes};

/// Options of `cargo x test`.
#[derive(Args)]
pub struct Options {
    /// Only these steps, in their usual order; all of them when none is named
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    steps: Vec<String>,
}

/// One check. A step whose `needs` were run and failed is skipped.
struct Step {
    name: &'static str,
    title: &'static str,
    machine: &'static [Part],
    needs: &'static [&'static str],
    run: fn(&Workspace) -> Result<()>,
}

const WASM: &[Part] = &[Part::Native, Part::WasmTarget, Part::Npm];

/// Cheap ones first: what fails early saves the rest of the time.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        title: "every file is as rustfmt writes it",
        machine: &[Part::Native],
        needs: &[],
        run: check::format,
    },
    Step {
        name: "house-rules",
        title: "file lengths, names, no IO in the core, order of imports",
        machine: &[],
        needs: &[],
        run: house_rules::run,
    },
    Step {
        name: "clippy",
        title: "no warnings in any member",
        machine: &[Part::Native],
        needs: &[],
        run: check::clippy,
    },
    Step {
        name: "clippy-wasm",
        title: "no warnings in the code that only compiles for wasm32",
        machine: &[Part::Native, Part::WasmTarget],
        needs: &[],
        run: clippy_for_wasm,
    },
    Step {
        name: "doc",
        title: "the documentation builds without warnings",
        machine: &[Part::Native],
        needs: &[],
        run: check::documentation,
    },
    Step {
        name: "deny",
        title: "licences, bans and sources of all dependencies",
        machine: &[Part::Native],
        needs: &[],
        run: deny::run,
    },
    Step {
        name: "unit",
        title: "unit tests, natively",
        machine: &[Part::Native],
        needs: &[],
        run: check::unit_tests,
    },
    Step {
        name: "core-wasm",
        title: "the core's tests on wasm32, and what it imports there",
        machine: WASM,
        needs: &[],
        run: core_on_wasm,
    },
    Step {
        name: "build",
        title: "limn (release), edge worker, browser client",
        machine: WASM,
        needs: &[],
        run: build,
    },
    Step {
        name: "deploy",
        title: "plain `wrangler deploy` would work, from a build of its own",
        machine: WASM,
        needs: &["build"],
        run: edge::deploy_dry_run,
    },
    Step {
        name: "sizes",
        title: "what is downloaded stays small",
        machine: &[Part::Npm],
        needs: &["build"],
        run: sizes::run,
    },
    Step {
        name: "instructions",
        title: "what every change and read costs, by callgrind, beside the baseline",
        machine: &[Part::Native],
        needs: &[],
        run: instructions::gate,
    },
    Step {
        name: "container",
        title: "what the Dockerfile relies on, without a container",
        machine: &[Part::Native],
        needs: &["build"],
        run: container,
    },
    Step {
        name: "client-wasm",
        title: "the browser client's wasm-bindgen tests",
        machine: Part::ALL,
        needs: &[],
        run: client_on_wasm,
    },
    Step {
        name: "black-box",
        title: "limn from outside, with real Postgres servers",
        machine: &[Part::Native, Part::Npm, Part::Postgres],
        needs: &["build"],
        run: black_box,
    },
    Step {
        name: "oracle",
        title: "random clients and writers, every up-to-date judged by SQL",
        machine: &[Part::Native, Part::Postgres],
        needs: &["build"],
        run: oracle::known,
    },
    Step {
        name: "openapi",
        title: "docs/openapi.yaml against the server, by schemathesis",
        machine: &[Part::Native, Part::Postgres],
        needs: &["build"],
        run: openapi,
    },
    Step {
        name: "node",
        title: "unmodified npm clients, against the origin and through the edge in workerd",
        machine: &[Part::Npm, Part::Postgres],
        needs: &["build"],
        run: node_tests,
    },
    Step {
        name: "nginx",
        title: "nginx as a cache before the origin",
        machine: &[Part::Npm, Part::Postgres],
        needs: &["build"],
        run: nginx_tests,
    },
    Step {
        name: "page",
        title: "the demo in a real Chromium, and its end",
        machine: &[Part::Npm, Part::Postgres, Part::Browser],
        needs: &["build"],
        run: page_tests,
    },
];

/// The outcome of a step.
enum Outcome {
    Passed,
    Failed(anyhow::Error),
    Skipped(String),
}

struct Report {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs the chosen steps; an error when one of them failed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let started = Instant::now();
    let chosen =
        |step: &&Step| options.steps.is_empty() || options.steps.iter().any(|name| name == step.name);
    let steps: Vec<_> = STEPS.iter().filter(chosen).collect();
    setup::run(workspace, &parts_of(&steps))?;
    let mut reports: Vec<Report> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n── {}/{}  {}: {}", index + 1, steps.len(), step.name, step.title);
        let report = run_step(workspace, step, &reports);
        reports.push(report);
    }
    summarize(&reports, started.elapsed())
}

/// What the steps need of the machine, in the order of the setup.
fn parts_of(steps: &[&Step]) -> Vec<Part> {
    Part::ALL.iter().copied().filter(|part| steps.iter().any(|step| step.machine.contains(part))).collect()
}

fn run_step(workspace: &Workspace, step: &Step, before: &[Report]) -> Report {
    let started = Instant::now();
    let outcome = match missing_need(step, before) {
        Some(need) => Outcome::Skipped(format!("it needs `{need}`")),
        None => match (step.run)(workspace) {
            Ok(()) => Outcome::Passed,
            Err(error) if error.is::<Missing>() => Outcome::Skipped(error.to_string()),
            Err(error) => {
                println!("  failed: {error:#}");
                Outcome::Failed(error)
            }
        },
    };
    Report { name: step.name, outcome, took: started.elapsed() }
}

/// The first need that was run before and did not pass. One that was not chosen is taken to be done already.
fn missing_need(step: &Step, before: &[Report]) -> Option<&'static str> {
    let failed = |need: &&&str| {
        before.iter().any(|report| report.name == **need && !matches!(report.outcome, Outcome::Passed))
    };
    step.needs.iter().find(failed).copied()
}

fn summarize(reports: &[Report], took: Duration) -> Result<()> {
    println!("\n── summary");
    for report in reports {
        let seconds = report.took.as_secs_f32();
        let (word, note) = match &report.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed(error) => ("FAILED", first_line(error)),
            Outcome::Skipped(why) => ("skipped", why.clone()),
        };
        println!("  {word:<8} {:<12} {seconds:>7.1} s  {note}", report.name);
    }
    let count =
        |wanted: fn(&Outcome) -> bool| reports.iter().filter(|report| wanted(&report.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Passed));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let (minutes, seconds) = (took.as_secs() / 60, took.as_secs() % 60);
    println!("\n{passed} passed, {failed} failed, {skipped} skipped, in {minutes} min {seconds} s");
    // What was printed where it happened is far above by now.
    for report in reports {
        if let Outcome::Failed(error) = &report.outcome {
            println!("\n── {} failed: {error:#}", report.name);
        }
    }
    // What was skipped for a need has a failed step before it; what the machine lacks is said, and no failure.
    if failed > 0 {
        bail!("not everything passed; one step again: cargo x test STEP");
    }
    Ok(())
}

/// The beginning of an error that was printed in full where it happened.
fn first_line(error: &anyhow::Error) -> String {
    const MAX_CHARS: usize = 100;
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MAX_CHARS {
        return line.to_owned();
    }
    line.chars().take(MAX_CHARS).chain(['…']).collect()
}

fn clippy_for_wasm(workspace: &Workspace) -> Result<()> {
    check::clippy_for_wasm(workspace, &setup::ensure_wasm_clippy(workspace)?)
}

/// wasm-bindgen's own modules. Anything else in the core's tests would be a host that it must not know.
const IMPORTS_OF_TESTS: [&str; 2] = ["__wbindgen_placeholder__", "__wbindgen_externref_xform__"];

fn core_on_wasm(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::required(workspace)?;
    let test = ["test", "--package", "limn-core", "--lib", "--target", TARGET];
    run_command(wasm_runner(workspace, &mut toolchain.cargo(workspace))?.args(test))?;
    let mut artifacts = toolchain.cargo(workspace);
    artifacts.args(test).args(["--no-run", "--message-format=json-render-diagnostics"]);
    let messages = capture(&mut artifacts)?;
    let modules = executables(&messages);
    if modules.is_empty() {
        bail!("cargo named no test module for {TARGET}");
    }
    for module in modules {
        let bytes = std::fs::read(&module).with_context(|| format!("cannot read `{}`", module.display()))?;
        let imports = wasm::imports(&bytes)?;
        let stray = imports.iter().find(|(module, _)| !IMPORTS_OF_TESTS.contains(&module.as_str()));
        if let Some((module, name)) = stray {
            bail!("the core's tests import `{module}.{name}`");
        }
        println!("  {} imports, all of them wasm-bindgen's own", imports.len());
    }
    Ok(())
}

/// Lets `cargo test` run modules for wasm32.
fn wasm_runner<'a>(workspace: &Workspace, cargo: &'a mut Command) -> Result<&'a mut Command> {
    Ok(cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", wasm::test_runner(workspace)?))
}

/// The files of `"executable"` in cargo's messages.
fn executables(messages: &str) -> Vec<PathBuf> {
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    };
    messages.lines().filter_map(executable).collect()
}

fn build(workspace: &Workspace) -> Result<()> {
    run_command(command("cargo", workspace.root()).args(["build", "--release", "--package", "limn-origin"]))?;
    edge::build(workspace)?;
    client::build(workspace)
}

/// The Dockerfile builds with `container/build.sh`, which is the step `build`, and checks with this.
fn container(workspace: &Workspace) -> Result<()> {
    run_command(command("container/check.sh", workspace.root()).arg(workspace.limn()))
}

fn client_on_wasm(workspace: &Workspace) -> Result<()> {
    let mut cargo = Toolchain::required(workspace)?.cargo(workspace);
    wasm_runner(workspace, &mut cargo)?;
    match browser::driver() {
        Some(driver) => cargo.env("CHROMEDRIVER", driver),
        None => {
            println!("  no chromedriver on this machine: only the tests for node");
            cargo.env("WASM_BINDGEN_TEST_ONLY_NODE", "1")
        }
    };
    run_command(cargo.args(["test", "--package", "limn-client", "--lib", "--tests", "--target", TARGET]))
}

/// What tests that start servers are told by variables.
pub(crate) fn with_servers(workspace: &Workspace, command: &mut Command) -> Result<()> {
    let postgres = postgres::bin_dir().context("no Postgres server is here; run `cargo x setup`")?;
    command.env("LIMN_BIN", workspace.limn()).env("PG_BIN_DIR", postgres);
    Ok(())
}

fn black_box(workspace: &Workspace) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    with_servers(workspace, &mut cargo)?;
    run_command(cargo.args(["test", "--package", "limn-tests"]))
}

fn openapi(workspace: &Workspace) -> Result<()> {
    let schemathesis = schemathesis::ensure(workspace)?;
    let mut cargo = command("cargo", workspace.root());
    with_servers(workspace, &mut cargo)?;
    cargo.env("SCHEMATHESIS", schemathesis);
    run_command(cargo.args([
        "test",
        "--package",
        "limn-tests",
        "--test",
        "openapi",
        "--",
        "--ignored",
        "--nocapture",
    ]))
}

/// Tests that need a browser or the terminal's way of ending; they are the step `page`.
const PAGE_TESTS: [&str; 2] = ["page.test.mjs", "demo.test.mjs"];

/// It needs a program that nothing else does; it is the step `nginx`.
const NGINX_TEST: &str = "nginx.test.mjs";

/// Where tests for Node lie; the folders of the members need what the step `build` made.
const NODE_TESTS: [&str; 5] =
    ["tests/js", "tests/js/ecosystem", "tests/js/ecosystem/multi-shape", "edge-worker/test", "client/tests"];

fn node_tests(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    for folder in NODE_TESTS {
        files.extend(test_files(workspace, folder)?);
    }
    files.retain(|file| !PAGE_TESTS.iter().chain([&NGINX_TEST]).any(|other| file.ends_with(other)));
    let mut node = node_test_runner(workspace)?;
    run_command(node.args(files))
}

fn page_tests(workspace: &Workspace) -> Result<()> {
    let chromium = browser::chromium(workspace).context("no Chromium is here; run `cargo x setup`")?;
    let mut node = node_test_runner(workspace)?;
    node.env("CHROMIUM", chromium).env("XTASK_BIN", std::env::current_exe()?);
    run_command(node.args(PAGE_TESTS.map(|file| format!("tests/js/{file}"))))
}

fn nginx_tests(workspace: &Workspace) -> Result<()> {
    let mut node = node_test_runner(workspace)?;
    node.env("NGINX", nginx::ensure(workspace)?);
    run_command(node.arg(format!("tests/js/{NGINX_TEST}")))
}

/// One file at a time: each starts servers of its own. The npm client leaves timers behind, hence the forced exit.
fn node_test_runner(workspace: &Workspace) -> Result<Command> {
    let mut node = command("node", workspace.root());
    with_servers(workspace, &mut node)?;
    node.args(["--test", "--test-reporter=spec", "--test-concurrency=1", "--test-force-exit"]);
    Ok(node)
}

fn test_files(workspace: &Workspace, folder: &str) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(workspace.path(folder)).with_context(|| format!("cannot list `{folder}`"))?;
    let names = entries.flatten().map(|entry| PathBuf::from(folder).join(entry.file_name()));
    let mut files: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(".test.mjs")).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &'static str, outcome: Outcome) -> Report {
        Report { name, outcome, took: Duration::ZERO }
    }

    fn step(name: &str) -> &'static Step {
        STEPS.iter().find(|step| step.name == name).expect("a step of that name")
    }

    #[test]
    fn every_need_is_an_earlier_step() {
        for (index, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(
                    STEPS[..index].iter().any(|earlier| earlier.name == *need),
                    "{} needs {need}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn a_step_is_skipped_only_when_its_need_was_run_and_failed() {
        assert_eq!(missing_need(step("sizes"), &[]), None);
        assert_eq!(missing_need(step("sizes"), &[report("build", Outcome::Passed)]), None);
        let failed = report("build", Outcome::Failed(anyhow::anyhow!("broken")));
        assert_eq!(missing_need(step("sizes"), &[failed]), Some("build"));
    }

    #[test]
    fn single_steps_ask_little_of_the_machine() {
        assert_eq!(parts_of(&[step("format")]), [Part::Native]);
        assert_eq!(parts_of(&STEPS.iter().collect::<Vec<_>>()), Part::ALL);
    }

    #[test]
    fn cargo_names_the_test_modules() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/core-1.wasm\"}\n{\"reason\":\"build-finished\"}";
        assert_eq!(executables(messages), [PathBuf::from("/t/core-1.wasm")]);
    }

    #[test]
    fn a_failed_step_fails_the_run() {
        assert!(summarize(&[report("format", Outcome::Passed)], Duration::ZERO).is_ok());
        let failed = report("format", Outcome::Failed(anyhow::anyhow!("broken")));
        assert!(summarize(&[failed], Duration::ZERO).is_err());
    }
}
