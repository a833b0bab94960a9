//! Which modules of a crate a source file names, read from its text.

use std::collections::{BTreeMap, BTreeSet};

use crate::house_rules::split_tests;

/// A module's path below the crate's root: `["filter", "eval", "cast"]`; the root itself is empty.
pub type Module = Vec<String>;

/// The modules of one crate, and which of them each names outside of its tests.
#[derive(Default)]
pub struct Imports {
    modules: BTreeSet<Module>,
    /// What a module re-exports, by the name it gives it.
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

/// One path of the text, with what stands before it.
struct Mention {
    path: Vec<String>,
    is_exported: bool,
}

impl Imports {
    /// Reads a crate. Files are named by their path below `src`, with `/` between folders.
    pub fn read<'t>(files: impl Iterator<Item = (&'t str, &'t str)> + Clone) -> Self {
        let mut imports = Self::default();
        imports.modules.extend(files.clone().map(|(name, _)| module(name)));
        let mentions: Vec<(Module, Vec<Mention>)> =
            files.map(|(name, text)| (module(name), mentions(&code(text)))).collect();
        for (from, mentions) in &mentions {
            for mention in mentions.iter().filter(|mention| mention.is_exported) {
                let (Some(path), Some(name)) = (imports.absolute(from, &mention.path), mention.path.last())
                else {
                    continue;
                };
                imports.exports.entry(from.clone()).or_default().insert(name.clone(), path);
            }
        }
        for (from, mentions) in &mentions {
            for mention in mentions {
                let Some(path) = imports.absolute(from, &mention.path) else { continue };
                let to = imports.defining(&path);
                // What a folder hands on from its own files is no import.
                let hands_on = mention.is_exported && to.starts_with(from);
                if to != *from && !hands_on {
                    imports.edges.entry(from.clone()).or_default().insert(to);
                }
            }
        }
        imports
    }

    /// Each pair of modules of which the first names the second.
    pub fn edges(&self) -> impl Iterator<Item = (&Module, &Module)> {
        self.edges.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
    }

    /// The circles of modules: the sets in which each module leads to each other one.
    pub fn circles(&self) -> Vec<Vec<&Module>> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            self.modules.iter().map(|module| (module, self.reached(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, of_module) in &reached {
            let back = |other: &&&Module| reached.get(**other).is_some_and(|of| of.contains(module));
            let circle: Vec<&Module> = of_module.iter().filter(back).copied().collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached<'m>(&'m self, from: &'m Module) -> BTreeSet<&'m Module> {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for to in self.edges.get(module).into_iter().flatten() {
                if found.insert(to) {
                    open.push(to);
                }
            }
        }
        found
    }

    /// A path from the crate's root; `None` for one that leads out of the crate.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Module::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            child => {
                let module = [from.as_slice(), &[child.to_owned()]].concat();
                return self.modules.contains(&module).then(|| [from.as_slice(), path].concat());
            }
        };
        for segment in rest {
            if segment == "super" {
                base.pop()?;
            } else if segment != "self" && segment != "*" {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    /// The module in which a path's item is defined, re-exports followed.
    fn defining(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|depth| self.modules.contains(&path[..*depth]));
            let (module, rest) = path.split_at(depth.unwrap_or(0));
            let exported =
                rest.first().and_then(|name| self.exports.get(module).and_then(|names| names.get(name)));
            match exported {
                Some(target) => path = [target.as_slice(), &rest[1..]].concat(),
                None => return module.to_vec(),
            }
        }
        path
    }
}

fn module(file: &str) -> Module {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut parts: Module = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let (code, _) = split_tests(text);
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path that a `use` brings in, and every other one that begins at `crate` or `super`.
fn mentions(code: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut rest = code;
    while !rest.is_empty() {
        if let Some((tree, is_exported)) = use_tree(rest) {
            let mut paths = Vec::new();
            expand(tree, &[], &mut paths);
            found.extend(paths.into_iter().map(|path| Mention { path, is_exported }));
            rest = rest.split_once(';').map_or("", |(_, below)| below);
        } else {
            let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
            found.extend(inline(line).map(|path| Mention { path, is_exported: false }));
            rest = below;
        }
    }
    found
}

/// The tree of a `use` statement with which a text begins, and whether it is a re-export.
fn use_tree(text: &str) -> Option<(&str, bool)> {
    let text = text.trim_start();
    let after_pub = text.strip_prefix("pub").map(|rest| match rest.split_once(") use ") {
        Some((scope, _)) if scope.starts_with('(') && !scope.contains('\n') => &rest[scope.len() + 2..],
        _ => rest.trim_start(),
    });
    let tree = after_pub.unwrap_or(text).strip_prefix("use ")?;
    Some((tree.split(';').next().unwrap_or_default(), after_pub.is_some()))
}

/// The paths of a line from the crate's root or from a module above.
fn inline(line: &str) -> impl Iterator<Item = Vec<String>> {
    let beginnings = ["crate::", "super::"].into_iter().flat_map(|root| line.match_indices(root));
    beginnings.filter_map(|(at, _)| {
        let before = &line[..at];
        if before.ends_with("in ") || before.ends_with(|c| is_part(c) || c == ':' || c == '$') {
            return None;
        }
        let path = &line[at..];
        let end = path.find(|c| !is_part(c) && c != ':').unwrap_or(path.len());
        Some(path[..end].trim_end_matches(':').split("::").map(str::to_owned).collect())
    })
}

/// The paths of a use tree: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn expand(tree: &str, before: &[String], into: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let segments = path.split("::").map(|segment| segment.trim().to_owned());
        into.push(before.iter().cloned().chain(segments).collect());
        return;
    };
    let head = head.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned);
    let before: Vec<String> = before.iter().cloned().chain(head).collect();
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    expand(part, &before, into);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let imports = Imports::read(files.iter().copied());
        imports.edges().map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::"))).collect()
    }

    #[test]
    fn uses_of_every_form_are_found() {
        let files = [
            ("lib.rs", "pub mod a;\npub mod b;\nmod c;\npub use c::C;\n"),
            ("a/mod.rs", "mod x;\nmod y;\n\npub use x::X;\nuse y::{Y, Z as W};\n"),
            ("a/x.rs", "use super::y::Y;\nuse crate::C;\n"),
            ("a/y.rs", "pub struct Y;\n"),
            ("b.rs", "use crate::a::{\n    X,\n    y::{self, Y},\n};\nuse std::fmt;\n"),
            ("c.rs", "fn f() -> super::a::X { crate::b::g() }\n"),
        ];
        let expected =
            ["a -> a::y", "a::x -> a::y", "a::x -> c", "b -> a::x", "b -> a::y", "c -> a::x", "c -> b"];
        assert_eq!(edges(&files), expected);
    }

    #[test]
    fn comments_tests_and_visibilities_are_no_imports() {
        let text =
            "//! [`crate::b`]\npub(in crate::b) fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n";
        assert_eq!(edges(&[("a.rs", text), ("b.rs", "")]), [""; 0]);
    }

    #[test]
    fn a_circle_is_found_with_all_its_modules() {
        let files = [
            ("a.rs", "use crate::b;\n"),
            ("b.rs", "use crate::c;\n"),
            ("c.rs", "use crate::a;\nuse crate::d;\n"),
            ("d.rs", ""),
        ];
        let imports = Imports::read(files.iter().copied());
        let circles = imports.circles();
        let names: Vec<String> = circles.iter().flatten().map(|module| module.join("::")).collect();
        assert_eq!((circles.len(), names), (1, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    }
}
