//! SQLSTATEs have names: a literal stands in one file only.

use std::path::Path;

/// Where the names are.
const NAMES: &str = "origin/src/postgres/sqlstate.rs";

/// The folder in which no other file has a literal.
const SOURCES: &str = "origin/src/";

/// What breaks the rule in one source file, up to its tests.
pub fn violations(path: &Path, text: &str) -> Vec<String> {
    if !path.starts_with(SOURCES) || path == Path::new(NAMES) {
        return Vec::new();
    }
    let shown = path.display();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = code.split('"').filter(|piece| is_sqlstate(piece));
    literals.map(|literal| format!("{shown}: the SQLSTATE {literal} has its name in {NAMES}")).collect()
}

/// Five digits or capital letters, as in the appendix *PostgreSQL Error Codes*: a class and a condition, of which one
/// has a digit.
fn is_sqlstate(literal: &str) -> bool {
    let is_of_code = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    literal.len() == 5 && literal.bytes().all(is_of_code) && literal.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_breaks_the_rule_outside_the_file_of_names() {
        let text = "Some(\"42P01\" | \"3D000\") => f(\"TABLE\", \"12345678\"),\n#[cfg(test)] \"55P03\"";
        assert_eq!(violations(Path::new("origin/src/http/subset.rs"), text).len(), 2);
        assert_eq!(violations(Path::new(NAMES), text).len(), 0);
        assert_eq!(violations(Path::new("tests/tests/blackbox/rights.rs"), text).len(), 0);
    }
}
