//! Finds the programs of a Postgres server: in `PG_BIN_DIR`, on the PATH, or where the distributions put them.

use std::env;
use std::path::{Path, PathBuf};

/// Folders that hold one folder per installed version, and where below that the programs are.
const VERSIONED: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/usr/local", "bin"),
    ("/usr", "bin"),
];

/// The folder with `initdb` and `postgres`; the newest version where there are several.
pub fn bin_dir() -> Option<PathBuf> {
    let told = env::var_os("PG_BIN_DIR").map(PathBuf::from);
    let on_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut installed: Vec<_> =
        VERSIONED.iter().flat_map(|(parent, below)| versions_in(parent, below)).collect();
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let installed = installed.into_iter().map(|(_, dir)| dir);
    told.into_iter().chain(on_path).chain(installed).find(|dir| holds_a_server(dir))
}

fn holds_a_server(dir: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|program| dir.join(program).is_file())
}

fn versions_in(parent: &str, below: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let versions = entries.flatten().filter_map(|entry| {
        let version = version_of_folder(entry.file_name().to_str()?)?;
        Some((version, entry.path().join(below)))
    });
    versions.collect()
}

/// The major version in a folder's name: `16`, `postgresql@16`, `pgsql-16`; 0 for an unversioned `postgresql`.
fn version_of_folder(name: &str) -> Option<u32> {
    if name == "postgresql" {
        return Some(0);
    }
    ["postgresql@", "pgsql-", ""].iter().find_map(|prefix| name.strip_prefix(prefix)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_tell_the_major_version() {
        assert_eq!(version_of_folder("16"), Some(16));
        assert_eq!(version_of_folder("postgresql@17"), Some(17));
        assert_eq!(version_of_folder("pgsql-15"), Some(15));
        assert_eq!(version_of_folder("postgresql"), Some(0));
        assert_eq!(version_of_folder("postgresql-common"), None);
        assert_eq!(version_of_folder("bin"), None);
    }

    #[test]
    fn a_folder_without_the_programs_is_no_server() {
        assert!(!holds_a_server(Path::new("/nowhere")));
    }
}
