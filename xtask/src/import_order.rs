//! The order of core's modules and of origin's: each imports only what stands before it. Core's files form no large
//! circles either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::imports::{Imports, Module};

/// Core's modules, in their order; those of one line do not import each other.
const CORE: [&[&str]; 11] = [
    &["handle", "lsn", "named_enum", "offset", "shape_id"],
    &["client"],
    &["pg"],
    &["pgoutput"],
    &["filter", "protocol"],
    &["edge"],
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
    &["access", "alike", "clause", "membership", "mod", "narrowing", "resolver", "subquery", "text"],
];

/// Origin's modules, the same. Of `health` and `shapes` some parts are what the engine works with, others work with the
/// engine.
const ORIGIN: [&[&str]; 12] = [
    &["observe", "postgres", "random", "stopping", "supervisor"],
    &["shapes::schemas", "shapes::waiters", "store"],
    &["health::degraded", "health::preflight", "health::vitals", "shapes::catalog_changes", "shapes::shape"],
    &["health::soundness", "health::status", "shapes::registry"],
    &["engine"],
    &["shapes::creation", "shapes::expiry", "standby"],
    &["health::reconcile", "http"],
    &["config"],
    &["health::client", "health::doctor"],
    &["serve"],
    &["dev", "token", "typescript"],
    &["command"],
];

/// Beyond this no file of a circle can be understood without reading all of them.
const CIRCLE_FILES_MAX: usize = 3;

/// What breaks the rule, and a line that says what was looked at.
pub fn check(files: &[(PathBuf, String)]) -> (Vec<String>, String) {
    let mut broken = Vec::new();
    let core = imports("core/src", files);
    out_of_order("core", &core, &[], &CORE, &mut broken);
    out_of_order("core", &core, &["filter"], &FILTER, &mut broken);
    let largest = large_circles(&core, &mut broken);
    let origin = imports("origin/src", files);
    out_of_order("origin", &origin, &[], &ORIGIN, &mut broken);
    let (core, origin) = (core.edges().count(), origin.edges().count());
    let looked_at = format!(
        "  core: {core} imports keep the order; its largest circle has {largest} files\n  \
         origin: {origin} imports keep the order"
    );
    (broken, looked_at)
}

/// The imports of the crate whose sources are in this folder.
fn imports(sources: &str, files: &[(PathBuf, String)]) -> Imports {
    Imports::read(files.iter().filter_map(|(path, text)| {
        let name = path.strip_prefix(Path::new(sources)).ok()?.to_str()?;
        (!is_test(name)).then_some((name, text.as_str()))
    }))
}

/// Files that hold nothing but tests.
fn is_test(name: &str) -> bool {
    name.split(['/', '.']).any(|part| part == "tests" || part.ends_with("_tests"))
}

/// Adds each import among the parts of `folder` that leads to a later line or to another module of the same one.
fn out_of_order(
    crate_name: &str,
    imports: &Imports,
    folder: &[&str],
    order: &[&[&str]],
    broken: &mut Vec<String>,
) {
    let line_of = |part: &str| order.iter().position(|line| line.contains(&part));
    let mut without_place = BTreeSet::new();
    for (from, to) in imports.edges() {
        let parts = (part_of(from, folder, order), part_of(to, folder, order));
        let (Some(importer), Some(imported)) = parts else { continue };
        if importer == imported {
            continue;
        }
        let (Some(after), Some(before)) = (line_of(&importer), line_of(&imported)) else {
            without_place.extend([importer, imported].into_iter().filter(|part| line_of(part).is_none()));
            continue;
        };
        let is_own = !folder.is_empty() && after == order.len() - 1 || after == 0;
        if before > after || (before == after && !is_own) {
            let place = if before == after { "beside" } else { "after" };
            let (from, to) = (name(from), name(to));
            broken.push(format!("{crate_name}: `{from}` imports `{to}`, which stands {place} it"));
        }
    }
    let unplaced = without_place.into_iter();
    broken
        .extend(unplaced.map(|part| format!("{crate_name}: `{part}` has no place in the order of imports")));
}

/// The part of a folder to which a module belongs: the file or folder in it, or the part of that which has a place of
/// its own in the order.
fn part_of(module: &Module, folder: &[&str], order: &[&[&str]]) -> Option<String> {
    let is_inside = module.len() >= folder.len() && module.iter().zip(folder).all(|(a, b)| a == b);
    let inside = is_inside.then(|| &module[folder.len()..])?;
    let own = if folder.is_empty() { "lib" } else { "mod" };
    let part = |depth: usize| inside.get(..depth).map(|path| path.join("::"));
    let placed = part(2).filter(|part| order.iter().any(|line| line.contains(&part.as_str())));
    Some(placed.or_else(|| part(1)).unwrap_or_else(|| own.to_owned()))
}

/// Adds the circles that are too large, and gives the size of the largest of all.
fn large_circles(imports: &Imports, broken: &mut Vec<String>) -> usize {
    let circles = imports.circles();
    for circle in circles.iter().filter(|circle| circle.len() > CIRCLE_FILES_MAX) {
        let names: Vec<String> = circle.iter().map(|module| name(module)).collect();
        let (files, names) = (circle.len(), names.join("`, `"));
        broken.push(format!("core: a circle of {files} files, at most {CIRCLE_FILES_MAX}: `{names}`"));
    }
    circles.iter().map(Vec::len).max().unwrap_or(0)
}

fn name(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(files: &[(&str, &str)]) -> Vec<String> {
        let file =
            |(name, text): &(&str, &str)| (PathBuf::from(format!("core/src/{name}")), (*text).to_owned());
        check(&files.iter().map(file).collect::<Vec<_>>()).0
    }

    #[test]
    fn imports_of_what_stands_before_are_allowed() {
        let files = [
            ("lib.rs", "pub mod lsn;\npub mod pg;\npub mod log;\npub use lsn::Lsn;\n"),
            ("lsn.rs", ""),
            ("pg/mod.rs", "use crate::Lsn;\n"),
            ("log/mod.rs", "use crate::{Lsn, pg};\n"),
            ("log/tests.rs", "use crate::shape::Router;\n"),
            ("shape/mod.rs", ""),
        ];
        assert_eq!(broken(&files), [""; 0]);
    }

    #[test]
    fn an_import_of_what_stands_after_or_beside_is_named() {
        let files = [
            ("pg/mod.rs", "use crate::log::Fragment;\n"),
            ("log/mod.rs", "mod fragment;\npub use fragment::Fragment;\n"),
            ("log/fragment.rs", ""),
            ("filter/mod.rs", ""),
            ("protocol/mod.rs", "use crate::filter;\n"),
        ];
        let expected = [
            "core: `pg` imports `log::fragment`, which stands after it",
            "core: `protocol` imports `filter`, which stands beside it",
        ];
        assert_eq!(broken(&files), expected);
    }

    #[test]
    fn folders_of_the_filter_have_an_order_and_new_ones_need_a_place() {
        let files = [
            ("filter/mod.rs", "mod syntax;\nmod eval;\nmod plan;\n"),
            ("filter/syntax/lexer.rs", "use crate::filter::eval::cast;\n"),
            ("filter/eval/cast.rs", "use crate::filter::plan;\n"),
            ("filter/plan.rs", ""),
        ];
        let expected = [
            "core: `filter::syntax::lexer` imports `filter::eval::cast`, which stands after it",
            "core: `plan` has no place in the order of imports",
        ];
        assert_eq!(broken(&files), expected);
    }

    #[test]
    fn parts_of_origins_folders_have_places_of_their_own() {
        let files = [
            ("health/mod.rs", "mod reconcile;\nmod status;\npub(crate) use status::Status;\n"),
            ("health/status.rs", "use crate::store::Folder;\n"),
            ("health/reconcile.rs", "use super::Status;\n"),
            ("health/reconcile/tables.rs", "use super::Reconciler;\nuse crate::engine::Stopped;\n"),
            ("store/mod.rs", ""),
            ("engine/mod.rs", "use crate::health::Status;\nuse crate::health::reconcile;\n"),
        ];
        let file =
            |(name, text): &(&str, &str)| (PathBuf::from(format!("origin/src/{name}")), (*text).to_owned());
        let (broken, _) = check(&files.iter().map(file).collect::<Vec<_>>());
        assert_eq!(broken, ["origin: `engine` imports `health::reconcile`, which stands after it"]);
    }

    #[test]
    fn a_circle_of_more_than_three_files_is_listed() {
        let four = [
            ("log/a.rs", "use super::b;\n"),
            ("log/b.rs", "use super::c;\n"),
            ("log/c.rs", "use super::d;\n"),
            ("log/d.rs", "use super::a;\n"),
        ];
        assert_eq!(
            broken(&four),
            ["core: a circle of 4 files, at most 3: `log::a`, `log::b`, `log::c`, `log::d`"]
        );
        let three = [four[0], four[1], ("log/c.rs", "use super::a;\n")];
        assert_eq!(broken(&three), [""; 0]);
    }
}
