//! What must hold of any bytes that reach the core from outside: from Postgres, from a client, from the disk.
//!
//! Each module has one function `check`, which panics where its property does not hold. The targets in `targets/`
//! hand it what libFuzzer makes up; the tests here hand it the corpora, so that an input that once failed stays
//! tested wherever `cargo test` runs.

pub mod commit_log;
pub mod copy_text;
pub mod edge_key;
pub mod pgoutput;
pub mod positions;
pub mod request;
pub mod segment;
pub mod where_clause;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "no corpus in `{}`", folder.display());
        for input in inputs {
            // Shown where the check fails.
            println!("{}", input.display());
            check(&fs::read(&input).unwrap());
        }
    }

    #[test]
    fn pgoutput() {
        replay("pgoutput", crate::pgoutput::check);
    }

    #[test]
    fn copy_text() {
        replay("copy_text", crate::copy_text::check);
    }

    #[test]
    fn where_clause() {
        replay("where_clause", crate::where_clause::check);
    }

    #[test]
    fn request() {
        replay("request", crate::request::check);
    }

    #[test]
    fn edge_key() {
        replay("edge_key", crate::edge_key::check);
    }

    #[test]
    fn commit_log() {
        replay("commit_log", crate::commit_log::check);
    }

    #[test]
    fn segment() {
        replay("segment", crate::segment::check);
    }

    #[test]
    fn positions() {
        replay("positions", crate::positions::check);
    }
}
