//! The workflows and the Dockerfile only call what exists: each is read, and each command that it runs is looked up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use yaml_rust2::{Yaml, YamlLoader};

use crate::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

/// The text of a file of the checkout.
fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| unreachable!("{path}: {error}"))
}

/// All texts under a key `run`, wherever it stands.
fn commands<'a>(yaml: &'a Yaml, found: &mut Vec<&'a str>) {
    match yaml {
        Yaml::Array(values) => values.iter().for_each(|value| commands(value, found)),
        Yaml::Hash(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value.as_str()) {
                    (Some("run"), Some(command)) => found.push(command),
                    _ => commands(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Fails where a line calls `cargo x` with what it does not know, or a script that is not there.
fn check(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["cargo", "x", arguments @ ..] => {
            let parsed = Cli::try_parse_from([&["x"], arguments].concat());
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
        }
        [script, ..] if script.starts_with(".ci/") || script.starts_with("container/") => {
            let file =
                fs::metadata(root().join(script)).unwrap_or_else(|error| unreachable!("{line}: {error}"));
            assert!(file.permissions().mode() & 0o111 != 0, "{line}: the script cannot be run");
        }
        _ => {}
    }
}

#[test]
fn what_the_workflows_run_exists() {
    for name in ["ci", "nightly", "release"] {
        let path = format!(".github/workflows/{name}.yml");
        // What GitHub puts in for an expression is a number wherever it is part of a command of ours.
        let pieces = text(&path);
        let text: String = pieces
            .split("${{")
            .enumerate()
            .map(|(index, piece)| match piece.split_once("}}") {
                Some((_, rest)) if index > 0 => format!("1{rest}"),
                _ => piece.to_owned(),
            })
            .collect();
        let documents =
            YamlLoader::load_from_str(&text).unwrap_or_else(|error| unreachable!("{path}: {error}"));
        let workflow = documents.first().unwrap_or_else(|| unreachable!("{path} is empty"));
        let mut found = Vec::new();
        commands(&workflow["jobs"], &mut found);
        assert!(!found.is_empty(), "{path} runs nothing");
        found.iter().flat_map(|command| command.lines()).for_each(check);
    }
}

#[test]
fn the_nightly_run_has_every_search() {
    let nightly = text(".github/workflows/nightly.yml");
    for verb in ["fuzz", "sim", "oracle", "chaos", "mutants", "matrix"] {
        assert!(nightly.contains(&format!("cargo x {verb}")), "{verb}");
    }
}

#[test]
fn the_image_is_built_by_scripts_that_exist_and_runs_without_rights() {
    let dockerfile = text("Dockerfile");
    let run = dockerfile.lines().filter_map(|line| line.strip_prefix("RUN "));
    run.flat_map(|line| line.split("&&")).for_each(|command| check(command.trim()));
    for needed in [
        "RUN container/build.sh && container/check.sh ",
        "USER 65532",
        "HEALTHCHECK ",
        "\"limn\", \"health\"",
    ] {
        assert!(dockerfile.contains(needed), "the Dockerfile has no `{needed}`");
    }
}

#[test]
#[should_panic(expected = "unrecognized subcommand")]
fn an_unknown_verb_is_found() {
    check("cargo x no-such-verb");
}
