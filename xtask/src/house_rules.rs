//! The rules of style that no compiler checks, over every source file of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{import_order, limits, sqlstates, tested_limits, unsafe_code};

/// The folders that hold code of ours.
const SOURCES: [&str; 9] =
    ["core", "disk", "origin", "edge-worker", "client", "tests", "fuzz", "xtask", "bench"];

/// Folders in them that hold something else.
const NOT_OURS: [&str; 5] = ["target", "node_modules", "pkg", "build", "golden"];

const EXTENSIONS: [&str; 4] = ["rs", "mjs", "js", "ts"];

/// Beyond this a file holds more than one thing.
const MAX_LINES: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "types", "helpers", "manager", "misc"];

/// Words by which IO, clocks, threads and async would enter the core.
const NOT_IN_CORE: [&str; 18] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "time::Instant",
    "Instant::now",
    "SystemTime",
    "async fn",
    "async move",
    ".await",
    "tokio",
    "println!",
    "eprintln!",
    "thread_local!",
    "js_sys",
    "web_sys",
];

/// The one condition on the target that the core may have: its tests run on wasm32 as well.
const TEST_ALIAS: &str = "wasm_bindgen_test as test";

/// Fails with the list of everything that breaks a rule.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(&workspace.path(folder), &mut files)?;
    }
    let table = limits::table(workspace.root())?;
    let read = |path: PathBuf| -> Result<(PathBuf, String)> {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok((path.strip_prefix(workspace.root()).unwrap_or(&path).to_owned(), text))
    };
    let files = files.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let (mut broken, imports) = import_order::check(&files);
    let (untested, tested) = tested_limits::check(&files);
    broken.extend(untested);
    for (path, text) in &files {
        broken.extend(violations(path, text));
        broken.extend(limits::violations(path, text, &table));
        broken.extend(sqlstates::violations(path, text));
        broken.extend(unsafe_code::violations(path, text));
    }
    if !broken.is_empty() {
        bail!("{} house rules are broken:\n  {}", broken.len(), broken.join("\n  "));
    }
    println!("{imports}\n{tested}\n  {} files keep the house rules", files.len());
    Ok(())
}

/// A source file's code, and the module of tests at its end.
pub fn split_tests(text: &str) -> (&str, &str) {
    let begins = |at: usize| {
        let module = text[at..].lines().nth(1).unwrap_or_default();
        module.contains("mod ") && module.ends_with('{')
    };
    let at = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(|at| begins(*at));
    text.split_at(at.unwrap_or(text.len()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = !NOT_OURS.iter().any(|other| name == *other);
        if path.is_dir() && is_ours {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// The places of one file that break a rule.
fn violations(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        broken.push(format!("{shown}: {lines} lines, at most {MAX_LINES}"));
    }
    let words = path.components().map(|part| part.as_os_str().to_string_lossy());
    let stems = words.map(|word| word.split('.').next().unwrap_or_default().to_owned());
    for name in stems.filter(|stem| EMPTY_NAMES.contains(&stem.as_str())) {
        broken.push(format!("{shown}: the name `{name}` says nothing"));
    }
    if path.starts_with("core/src") {
        broken
            .extend(core_violations(text).into_iter().map(|(line, what)| format!("{shown}:{line}: {what}")));
    }
    broken
}

/// What the core must not contain, with the number of its line.
fn core_violations(text: &str) -> Vec<(usize, String)> {
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if let Some(word) = NOT_IN_CORE.iter().find(|word| contains_word(code, word)) {
            broken.push((index + 1, format!("`{word}` does not belong into the core")));
        }
        if code.contains("cfg(") && code.contains("target_arch") && !is_allowed_condition(code) {
            broken.push((index + 1, "the core has no conditions on the target".to_owned()));
        }
    }
    if text.contains("#[test]") && !text.contains(TEST_ALIAS) {
        broken.push((1, format!("its tests do not run on wasm32: `{TEST_ALIAS}` is missing")));
    }
    broken
}

/// Only tests may ask for the target: the alias for wasm32, and what cannot run there.
fn is_allowed_condition(code: &str) -> bool {
    let code = code.trim();
    code.starts_with("#[cfg(target_arch = \"wasm32\")]") || code == "#[cfg(not(target_arch = \"wasm32\"))]"
}

fn contains_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joined_before = before.is_some_and(is_part) && word.starts_with(is_part);
        let joined_after = after.is_some_and(is_part) && word.ends_with(is_part);
        !joined_before && !joined_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        violations(Path::new(path), text)
    }

    #[test]
    fn a_plain_file_keeps_the_rules() {
        assert_eq!(broken("core/src/lsn.rs", "//! Positions.\npub struct Lsn(u64);\n"), Vec::<String>::new());
    }

    #[test]
    fn long_files_are_named_with_their_length() {
        let text = "\n".repeat(MAX_LINES + 1);
        assert_eq!(broken("origin/src/main.rs", &text), ["origin/src/main.rs: 601 lines, at most 600"]);
    }

    #[test]
    fn empty_names_are_refused_as_file_and_as_folder() {
        assert_eq!(broken("client/src/utils.rs", "").len(), 1);
        assert_eq!(broken("client/src/common/rows.rs", "").len(), 1);
        assert_eq!(broken("client/src/commonplace.rs", "").len(), 0);
    }

    #[test]
    fn io_in_the_core_is_found_by_line_and_allowed_in_comments_and_elsewhere() {
        let text = "// std::fs is not ours\nuse std::fs::File;\n";
        assert_eq!(
            broken("core/src/a.rs", text),
            ["core/src/a.rs:2: `std::fs` does not belong into the core"]
        );
        assert_eq!(broken("origin/src/a.rs", text).len(), 0);
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(!contains_word("use crate::SystemTimetable;", "SystemTime"));
        assert!(contains_word("SystemTime::now()", "SystemTime"));
        assert!(contains_word("x.await?", ".await"));
    }

    #[test]
    fn core_tests_must_run_on_wasm_too() {
        let without = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn a() {}\n}\n";
        assert_eq!(broken("core/src/a.rs", without).len(), 1);
        let alias =
            "    #[cfg(target_arch = \"wasm32\")]\n    use wasm_bindgen_test::wasm_bindgen_test as test;\n";
        let with = without.replace("mod tests {\n", &format!("mod tests {{\n{alias}"));
        assert_eq!(broken("core/src/a.rs", &with), Vec::<String>::new());
    }

    #[test]
    fn other_conditions_on_the_target_are_refused() {
        let text = "if cfg!(target_arch = \"wasm32\") {}\n#[cfg(all(target_arch = \"wasm32\"))]\nfn a() {}\n";
        assert_eq!(broken("core/src/a.rs", text).len(), 1);
    }
}
