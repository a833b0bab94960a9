//! Links in the documents lead to files that are there, and so do the names of functions and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Where documents lie.
const FOLDERS: [&str; 6] = [".", "docs", "examples", "client", "tests", "core"];

/// The targets of `[text](target)` in a text, without what is elsewhere or inside the same document.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = links.filter(|target| !target.contains("://") && !target.starts_with(['#', '<']));
    local.map(|target| target.split('#').next().unwrap_or(target))
}

#[test]
fn relative_links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let mut broken = Vec::new();
    let mut seen = 0;
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        let entries = fs::read_dir(&folder).expect("the folder is there").flatten();
        let documents = entries.map(|entry| entry.path());
        for path in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            let text = fs::read_to_string(&path).expect("a text");
            for target in targets(&text) {
                seen += 1;
                if !folder.join(target).exists() {
                    broken.push(format!("{}: {target}", path.display()));
                }
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn targets_are_files_without_their_anchors() {
    let text = "[a](docs/a.md#part) and [b](https://b) and [c](#here) and ![d](d.png)";
    assert_eq!(
        targets(text).map(PathBuf::from).collect::<Vec<_>>(),
        [Path::new("docs/a.md"), Path::new("d.png")]
    );
}

/// The names of tests that a text has between backticks: several words, joined by underscores. One that ends with `…`
/// stands for all that begin so.
fn tests_named_in(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap_or(name));
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let names = quoted.map(|name| name.trim_end_matches('…'));
    let is_test = move |name: &&str| name.matches('_').count() > 2 && name.chars().all(is_word);
    names.filter(is_test).filter(|name| *name != "global_last_seen_lsn")
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn the_tests_that_hold_the_invariants_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a text");
    let invariants = architecture.split("\n## ").find(|section| section.starts_with("Invariants"));
    let names: Vec<_> = tests_named_in(invariants.expect("it lists the invariants")).collect();
    assert!(names.len() > 25, "{names:?}");
    let mut code = String::new();
    for folder in ["core/src", "disk/src", "origin", "edge-worker/src", "fuzz/src", "tests"] {
        sources(&root.join(folder), &mut code);
    }
    let missing: Vec<_> = names.iter().filter(|name| !code.contains(&format!("fn {name}"))).collect();
    assert!(missing.is_empty(), "no test has the name {missing:?}");
}

/// The functions that a text names with their files, as `` `Type::function` (`path`) ``: the function and the path.
fn functions_placed_in(text: &str) -> Vec<(String, String)> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts: Vec<_> = line.split("` (`").collect();
    let placed = parts.windows(2).filter_map(|pair| {
        let name = pair[0].rsplit('`').next()?.rsplit("::").next()?;
        let path = pair[1].split('`').next()?;
        (path.contains('/') && path.ends_with(".rs")).then(|| (name.to_owned(), path.to_owned()))
    });
    placed.collect()
}

#[test]
fn functions_and_files_that_the_map_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a text");
    let placed = functions_placed_in(&architecture);
    assert!(placed.len() > 30, "{placed:?}");
    let is_there = |(name, path): &&(String, String)| {
        fs::read_to_string(root.join(path))
            .is_ok_and(|code| ["(", "<"].iter().any(|next| code.contains(&format!("fn {name}{next}"))))
    };
    let missing: Vec<_> = placed.iter().filter(|place| !is_there(place)).collect();
    assert!(missing.is_empty(), "these are not where ARCHITECTURE.md says: {missing:?}");
    let quoted = architecture.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let mut whole = quoted.filter(|path| path.contains("/src/"));
    assert_eq!(whole.find(|path| !root.join(path).is_file()), None);
}

#[test]
fn a_function_stands_before_its_file() {
    let text = "`a::B::c`\n  (`d/src/e.rs`), `f` (`g::h`), i (`j/k.rs`)";
    assert_eq!(functions_placed_in(text), [("c".to_owned(), "d/src/e.rs".to_owned())]);
}
