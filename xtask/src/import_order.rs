//! The order of core's modules: each imports only what stands before it, and its files form no large circles.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::imports::{Imports, Module};

/// The crate that the rule is about.
const SOURCES: &str = "core/src";

/// Core's modules, in their order; those of one line do not import each other.
const CORE: [&[&str]; 10] = [
    &["handle", "lsn", "named_enum", "offset", "shape_id"],
    &["client"],
    &["pg"],
    &["pgoutput"],
    &["filter", "protocol"],
    &["log"],
    &["shape"],
    &["journal"],
    &["store"],
    &["lib"],
];

/// The filter's, the same; the last line holds the files of the folder itself, which may import each other.
const FILTER: [&[&str]; 7] = [
    &["error", "limits"],
    &["syntax"],
    &["data_type"],
    &["eval"],
    &["check"],
    &["sql"],
    &["clause", "membership", "mod", "resolver", "subquery"],
];

/// Beyond this no file of a circle can be understood without reading all of them.
const CIRCLE_FILES_MAX: usize = 3;

/// Circles that are larger, by a module in them: how many files there are today, and why.
const LARGER_CIRCLES: [(&str, usize, &str); 0] = [];

/// What breaks the rule, and a line that says what was looked at.
pub fn check(files: &[(PathBuf, String)]) -> (Vec<String>, String) {
    let of_core = files.iter().filter_map(|(path, text)| {
        let name = path.strip_prefix(Path::new(SOURCES)).ok()?.to_str()?;
        (!is_test(name)).then_some((name, text.as_str()))
    });
    let imports = Imports::read(of_core);
    let mut broken = Vec::new();
    out_of_order(&imports, &[], &CORE, &mut broken);
    out_of_order(&imports, &["filter"], &FILTER, &mut broken);
    let largest = large_circles(&imports, &mut broken);
    let edges = imports.edges().count();
    (broken, format!("  core: {edges} imports keep the order; its largest circle has {largest} files"))
}

/// Files that hold nothing but tests.
fn is_test(name: &str) -> bool {
    name.split(['/', '.']).any(|part| part == "tests" || part.ends_with("_tests"))
}

/// Adds each import among the parts of `folder` that leads to a later line or to another module of the same one.
fn out_of_order(imports: &Imports, folder: &[&str], order: &[&[&str]], broken: &mut Vec<String>) {
    let line_of = |part: &str| order.iter().position(|line| line.contains(&part));
    let mut without_place = BTreeSet::new();
    for (from, to) in imports.edges() {
        let (Some(importer), Some(imported)) = (part_of(from, folder), part_of(to, folder)) else { continue };
        if importer == imported {
            continue;
        }
        let (Some(after), Some(before)) = (line_of(importer), line_of(imported)) else {
            without_place.extend([importer, imported].into_iter().filter(|part| line_of(part).is_none()));
            continue;
        };
        let is_own = !folder.is_empty() && after == order.len() - 1 || after == 0;
        if before > after || (before == after && !is_own) {
            broken.push(format!("core: `{}` imports `{}`, which stands after it", name(from), name(to)));
        }
    }
    broken.extend(
        without_place.into_iter().map(|part| format!("core: `{part}` has no place in the order of imports")),
    );
}

/// The part of a folder to which a module belongs: a file or a folder in it.
fn part_of<'m>(module: &'m Module, folder: &[&str]) -> Option<&'m str> {
    let is_inside = module.len() >= folder.len() && module.iter().zip(folder).all(|(a, b)| a == b);
    let own = if folder.is_empty() { "lib" } else { "mod" };
    is_inside.then(|| module.get(folder.len()).map_or(own, String::as_str))
}

/// Adds the circles that are too large, and gives the size of the largest of all.
fn large_circles(imports: &Imports, broken: &mut Vec<String>) -> usize {
    let circles = imports.circles();
    for circle in circles.iter().filter(|circle| circle.len() > CIRCLE_FILES_MAX) {
        let allowed =
            LARGER_CIRCLES.iter().find(|(module, ..)| circle.iter().any(|one| name(one) == *module));
        let names: Vec<String> = circle.iter().map(|module| name(module)).collect();
        if allowed.is_none_or(|(_, files, _)| circle.len() > *files) {
            let (files, names) = (circle.len(), names.join("`, `"));
            broken.push(format!("core: a circle of {files} files, at most {CIRCLE_FILES_MAX}: `{names}`"));
        }
    }
    circles.iter().map(Vec::len).max().unwrap_or(0)
}

fn name(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}
