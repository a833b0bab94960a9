//! Versions as Cargo.lock pins them: a command line tool must match the library whose output it reads.

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The version of `package` in the workspace's Cargo.lock.
pub fn version_of(workspace: &Workspace, package: &str) -> Result<String> {
    let path = workspace.path("Cargo.lock");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let versions = versions_in(&text, package);
    match versions.as_slice() {
        [version] => Ok((*version).to_owned()),
        [] => bail!("`{package}` is not in Cargo.lock"),
        several => bail!("`{package}` is in Cargo.lock more than once: {}", several.join(", ")),
    }
}

/// All versions of `package` in the text of a lock file, in its order.
fn versions_in<'a>(lockfile: &'a str, package: &str) -> Vec<&'a str> {
    lockfile
        .split("[[package]]")
        .filter(|entry| field(entry, "name") == Some(package))
        .filter_map(|entry| field(entry, "version"))
        .collect()
}

fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "wasm-bindgen"
version = "0.2.130"
source = "registry"
dependencies = [
 "cfg-if",
 "wasm-bindgen-macro",
]

[[package]]
name = "wasm-bindgen-macro"
version = "0.2.131"

[[package]]
name = "syn"
version = "1.0.109"

[[package]]
name = "syn"
version = "2.0.111"
"#;

    #[test]
    fn finds_the_package_of_exactly_that_name() {
        assert_eq!(versions_in(LOCK, "wasm-bindgen"), ["0.2.130"]);
        assert_eq!(versions_in(LOCK, "wasm-bindgen-macro"), ["0.2.131"]);
    }

    #[test]
    fn lists_every_version_of_a_package() {
        assert_eq!(versions_in(LOCK, "syn"), ["1.0.109", "2.0.111"]);
    }

    #[test]
    fn knows_nothing_of_dependencies_that_have_no_entry() {
        assert!(versions_in(LOCK, "cfg-if").is_empty());
    }
}
