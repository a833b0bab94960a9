//! No unsafe code, unless its file says in its first lines why there is no other way.

use std::path::Path;

/// How unsafe code begins, or the lint that forbids it is turned off. Joined here, so that this file has none.
const BEGINNINGS: [&str; 6] = [
    concat!("unsafe", " {"),
    concat!("unsafe", " fn"),
    concat!("unsafe", " impl"),
    concat!("unsafe", " trait"),
    concat!("unsafe", " extern"),
    concat!("unsafe", "_code)"),
];

/// With these words a file says why.
const REASON: &str = concat!("//! Un", "safe code: ");

/// The places of one file that break the rule.
pub fn violations(path: &Path, text: &str) -> Vec<String> {
    if path.extension().is_none_or(|extension| extension != "rs") || text.contains(REASON) {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if BEGINNINGS.iter().any(|beginning| code.contains(beginning)) {
            let (shown, line) = (path.display(), index + 1);
            broken.push(format!("{shown}:{line}: unsafe code, and no line `{REASON}…` says why"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_needs_a_reason() {
        let path = Path::new("origin/src/a.rs");
        let code = format!("fn a() {{ {} b() }} }}\n", BEGINNINGS[0]);
        assert_eq!(violations(path, &code).len(), 1);
        assert_eq!(violations(path, &format!("#![allow({}\n", BEGINNINGS[5])).len(), 1);
        assert_eq!(violations(path, &format!("{REASON}the kernel asks for a pointer\n{code}")).len(), 0);
        assert_eq!(violations(path, &format!("// {code}")).len(), 0);
    }
}
