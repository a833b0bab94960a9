//! Every limit is tested by its name: a test that spells the number out does not notice that the limit was moved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::house_rules::split_tests;
use crate::limits::limits;

/// The folders whose limits are tested.
const SOURCES: [&str; 4] = ["core/src", "origin/src", "edge-worker/src", "client/src"];

/// A limit of time.
const TIME: &str = "a test would take that time";
/// A limit on bytes, entries or sockets that a test cannot reach.
const SIZE: &str = "a test would need that much memory, or that many sockets";
/// Beyond it nothing is refused, only done in another order or again.
const PACE: &str = "beyond it the same is done in other portions";
/// The limit shows only through Postgres or a socket, where black-box tests bring about what it bounds.
const OUTSIDE: &str = "black-box tests go beyond it, and cannot name a constant of the server";
/// The rest: a test is owed.
const UNREACHED: &str = "nothing reaches it yet in a test";

/// Limits that no test names, and why.
const UNTESTED: [(&str, &str); 42] = [
    ("ALTER_TIME_MAX", TIME),
    ("ANSWER_BYTES_MAX", UNREACHED),
    ("COMMANDS_MAX", PACE),
    ("COMMIT_FILE_BYTES_MAX", OUTSIDE),
    ("CONFIRM_LOCK_MS_MAX", TIME),
    ("CONFIRM_TIME_MAX", TIME),
    ("CONNECTIONS_MAX", SIZE),
    ("CONNECT_SECONDS_MAX", TIME),
    ("DELAY_MS_MAX", TIME),
    ("EXPORT_TIME_MAX", TIME),
    ("FRAGMENT_BYTES_MAX", PACE),
    ("FRAGMENT_DELIVERED_BYTES_MAX", PACE),
    ("FREE_SECONDS_MAX", TIME),
    ("GROUP_BYTES_MAX", PACE),
    ("HEAD_BYTES_MAX", OUTSIDE),
    ("HELD_BYTES_MAX", UNREACHED),
    ("IDLE_MAX", PACE),
    ("LOCKED_TIME_MAX", TIME),
    ("LOCK_MS_MAX", TIME),
    ("LOGIN_SECONDS_MAX", TIME),
    ("LOOKUP_TIME_MAX", TIME),
    ("LOOK_TIME_MAX", TIME),
    ("MEMBERS_MAX", OUTSIDE),
    ("MENDING_MAX", PACE),
    ("MESSAGE_BYTES_MAX", SIZE),
    ("NEWS_MAX", PACE),
    ("PENDING_BYTES_MAX", PACE),
    ("QUERY_TIME_MAX", TIME),
    ("QUESTION_MS_MAX", TIME),
    ("QUEUE_PIECES_MAX", PACE),
    ("RECORD_BYTES_MAX", SIZE),
    ("REWRITES_MAX", UNREACHED),
    ("ROUNDS_MAX", UNREACHED),
    ("ROW_BYTES_MAX", SIZE),
    ("SETTLED_KEYS_MAX", SIZE),
    ("SNAPSHOTS_MAX", UNREACHED),
    ("STATEMENTS_MAX", UNREACHED),
    ("STATEMENT_MS_MAX", TIME),
    ("STOP_TIME_MAX", TIME),
    ("TAILS_BYTES_MAX", PACE),
    ("TAIL_BYTES_MAX", PACE),
    ("WRITE_BYTES_MAX", PACE),
];

/// What breaks the rule, and a line that says what was looked at.
pub fn check(files: &[(PathBuf, String)]) -> (Vec<String>, String) {
    check_except(files, &UNTESTED)
}

fn check_except(files: &[(PathBuf, String)], untested: &[(&str, &str)]) -> (Vec<String>, String) {
    let mut declared: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for (path, text) in files {
        let (code, tests) = if is_test(path) { ("", text.as_str()) } else { split_tests(text) };
        if SOURCES.iter().any(|source| path.starts_with(source)) {
            declared.extend(limits(code).map(|name| (name, path.as_path())));
        }
        named.extend(
            tests.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.ends_with("_MAX")),
        );
    }
    let untested: BTreeMap<&str, &str> = untested.iter().copied().collect();
    let unnamed = || declared.iter().filter(|(name, _)| !named.contains(*name));
    let broken = unnamed().filter(|(name, _)| !untested.contains_key(*name));
    let broken = broken.map(|(name, path)| format!("{}: no test names the limit `{name}`", path.display()));
    let (all, excepted) =
        (declared.len(), unnamed().filter(|(name, _)| untested.contains_key(*name)).count());
    (
        broken.collect(),
        format!(
            "  {} of {all} limits are named in tests; {excepted} are listed as untested",
            all - unnamed().count()
        ),
    )
}

fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.components().any(|part| part.as_os_str() == "tests") || stem == "tests" || stem.ends_with("_tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| (PathBuf::from(path), (*text).to_owned());
        let files: Vec<_> = files.iter().map(file).collect();
        check_except(&files, &[("SLOW_MAX", "a test would take that time")]).0
    }

    #[test]
    fn a_limit_is_named_in_its_own_tests_or_in_others() {
        let own = "const A_MAX: u8 = 1;\n#[cfg(test)]\nmod tests {\n    assert!(f(A_MAX));\n}\n";
        assert_eq!(broken(&[("core/src/a.rs", own)]), [""; 0]);
        let limit = "pub const B_MAX: u8 = 1;\nfn f() { g(B_MAX) }\n";
        let expected = ["core/src/b.rs: no test names the limit `B_MAX`"];
        assert_eq!(broken(&[("core/src/b.rs", limit)]), expected);
        assert_eq!(
            broken(&[("core/src/b.rs", limit), ("core/src/b_tests.rs", "assert!(f(BB_MAX))")]),
            expected
        );
        assert_eq!(broken(&[("core/src/b.rs", limit), ("tests/tests/b.rs", "assert!(f(B_MAX))")]), [""; 0]);
    }

    #[test]
    fn tests_that_others_use_are_tests_too() {
        let text = "const A_MAX: u8 = 1;\n#[cfg(test)]\npub(crate) mod tests {\n    assert!(f(A_MAX));\n}\n";
        assert_eq!(broken(&[("core/src/a.rs", text)]), [""; 0]);
    }

    #[test]
    fn limits_of_tests_and_those_with_a_reason_need_none() {
        assert_eq!(broken(&[("tests/src/a.rs", "const A_MAX: u8 = 1;\n")]), [""; 0]);
        assert_eq!(broken(&[("origin/src/a.rs", "const SLOW_MAX: u8 = 1;\n")]), [""; 0]);
    }
}
