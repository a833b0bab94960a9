//! Every limit is tested by its name: a test that spells the number out does not notice that the limit was moved. The
//! name of a field that is declared beside it counts as well: by it a short test sets a smaller one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::house_rules::split_tests;
use crate::limits::limits;

/// The folders whose limits are tested.
const SOURCES: [&str; 5] = ["core/src", "disk/src", "origin/src", "edge-worker/src", "client/src"];

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
const UNTESTED: [(&str, &str); 43] = [
    ("ALTER_TIME_MAX", TIME),
    ("ANSWER_BYTES_MAX", UNREACHED),
    ("BATCH_MAX", PACE),
    ("COMMANDS_MAX", PACE),
    ("CONFIRM_LOCK_MS_MAX", TIME),
    ("CONFIRM_TIME_MAX", TIME),
    ("CONNECTIONS_MAX", SIZE),
    ("CONNECT_SECONDS_MAX", TIME),
    ("DELAY_MS_MAX", TIME),
    ("EVENTS_WAITING_MAX", OUTSIDE),
    ("EXPORT_TIME_MAX", TIME),
    ("FREE_SECONDS_MAX", TIME),
    ("GROUP_BYTES_MAX", PACE),
    ("HEAD_BYTES_MAX", OUTSIDE),
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
    ("PACK_BYTES_MAX", PACE),
    ("QUERY_TIME_MAX", TIME),
    ("QUESTION_MS_MAX", TIME),
    ("QUEUE_BYTES_MAX", PACE),
    ("QUEUE_PIECES_MAX", PACE),
    ("READ_ON_MAX", UNREACHED),
    ("RECORD_BYTES_MAX", SIZE),
    ("REWRITES_MAX", UNREACHED),
    ("ROUNDS_MAX", UNREACHED),
    ("ROW_BYTES_MAX", SIZE),
    ("SCHEMAS_MAX", PACE),
    ("SERVED_MAX", PACE),
    ("SETTLED_KEYS_MAX", SIZE),
    ("SLICE_MAX", PACE),
    ("SNAPSHOTS_MAX", UNREACHED),
    ("STATEMENTS_MAX", UNREACHED),
    ("STATEMENT_MS_MAX", TIME),
    ("STOP_TIME_MAX", TIME),
    ("WRITE_BYTES_MAX", PACE),
];

/// What breaks the rule, and a line that says what was looked at.
pub fn check(files: &[(PathBuf, String)]) -> (Vec<String>, String) {
    check_except(files, &UNTESTED)
}

fn check_except(files: &[(PathBuf, String)], untested: &[(&str, &str)]) -> (Vec<String>, String) {
    let mut declared = BTreeMap::new();
    let mut words = BTreeSet::new();
    for (path, text) in files {
        let (code, tests) = if is_test(path) { ("", text.as_str()) } else { split_tests(text) };
        if SOURCES.iter().any(|source| path.starts_with(source)) {
            declared.extend(limits(code).map(|name| (name, (path, field(name, code)))));
        }
        words.extend(tests.split(|c: char| !c.is_alphanumeric() && c != '_'));
    }
    let is_named = |name: &str, field: &Option<String>| {
        words.contains(name) || field.as_ref().is_some_and(|field| words.contains(field.as_str()))
    };
    let all = declared.len();
    declared.retain(|name, (_, field)| !is_named(name, field));
    let unnamed = declared.len();
    declared.retain(|name, _| !untested.iter().any(|(listed, _)| listed == name));
    let broken = declared
        .iter()
        .map(|(name, (path, _))| format!("{}: no test names the limit `{name}`", path.display()));
    let (named, listed) = (all - unnamed, unnamed - declared.len());
    (
        broken.collect(),
        format!("  {named} of {all} limits are named in tests; {listed} are listed as untested"),
    )
}

/// The field that carries a limit, where one is declared beside it.
fn field(limit: &str, code: &str) -> Option<String> {
    let field = limit.to_lowercase();
    code.contains(&format!("pub {field}: ")).then_some(field)
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
        let field = "let limits = Limits { a_max: 1, ..Limits::default() };";
        let made = "const A_MAX: u8 = 9;\nstruct Limits { pub a_max: u8 }\n";
        assert_eq!(broken(&[("core/src/limits.rs", made), ("core/src/tests.rs", field)]), [""; 0]);
        let elsewhere = ["const A_MAX: u8 = 9;\n", "struct Options { pub a_max: u8 }\n"];
        let files =
            [("core/src/a.rs", elsewhere[0]), ("core/src/b.rs", elsewhere[1]), ("core/src/tests.rs", field)];
        assert_eq!(broken(&files), ["core/src/a.rs: no test names the limit `A_MAX`"]);
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
