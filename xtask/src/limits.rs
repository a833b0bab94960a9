//! Every limit of the server is told to those who run it: the table in `docs/operate.md` names each `…_MAX`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the table is.
const TABLE: &str = "docs/operate.md";

/// The folders whose limits the table names.
const SOURCES: [&str; 3] = ["origin/src/", "disk/src/", "core/src/store/"];

/// What breaks the rule in one source file, given the table's text.
pub fn violations(path: &Path, text: &str, table: &str) -> Vec<String> {
    if !SOURCES.iter().any(|folder| path.starts_with(folder)) {
        return Vec::new();
    }
    let shown = path.display();
    let missing = limits(text).filter(|name| !table.contains(&format!("`{name}`")));
    missing.map(|name| format!("{shown}: the limit `{name}` is missing in {TABLE}")).collect()
}

/// The table's text.
pub fn table(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(TABLE)).with_context(|| format!("cannot read `{TABLE}`"))
}

/// The names of all constants that end in `_MAX`, up to the tests of a file.
pub fn limits(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter_map(|line| {
        let (before, declaration) = line.split_once("const ")?;
        let is_declaration = before.trim().is_empty() || before.trim_start().starts_with("pub");
        let (name, _) = declaration.split_once(':').filter(|_| is_declaration)?;
        name.ends_with("_MAX").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_wherever_they_are_declared() {
        let text = "const A_MAX: usize = 1;\n    pub(super) const B_MAX: u32 = 2;\nlet const_MAX = 3;\n// const C_MAX: u8\n#[cfg(test)]\nconst D_MAX: u8 = 1;\n";
        assert_eq!(limits(text).collect::<Vec<_>>(), ["A_MAX", "B_MAX"]);
    }

    #[test]
    fn a_limit_that_nobody_is_told_breaks_the_rule() {
        let path = Path::new("origin/src/a.rs");
        assert_eq!(violations(path, "const A_MAX: u8 = 1;", "| things (`A_MAX`) | 1 |").len(), 0);
        assert_eq!(violations(path, "const A_MAX: u8 = 1;", "| things (`AA_MAX`) | 1 |").len(), 1);
        assert_eq!(violations(Path::new("core/src/a.rs"), "const A_MAX: u8 = 1;", "").len(), 0);
    }
}
