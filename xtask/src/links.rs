//! Links in the documents lead to files that are there.

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
