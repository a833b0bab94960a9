//! Why handles were given up, as the server itself said.

use std::collections::{BTreeMap, BTreeSet};

/// Causes that a server may have by itself: what a subquery with NOT IN returns has gained or lost a NULL, which changes
/// the truth of every row.
pub const OWN_CAUSES: [&str; 1] = ["null_in_subquery"];

/// The causes by handle, from everything that a server printed.
pub fn causes(output: &str) -> BTreeMap<String, String> {
    let plain = without_colours(output);
    let removed = plain.lines().filter(|line| line.contains("shape removed"));
    removed.filter_map(|line| Some((field(line, "handle")?, field(line, "cause")?))).collect()
}

/// The handles whose snapshot a server said to be durable.
pub fn durable(output: &str) -> BTreeSet<String> {
    let plain = without_colours(output);
    let durable = plain.lines().filter(|line| line.contains("snapshot is durable"));
    durable.filter_map(|line| field(line, "handle")).collect()
}

/// The value of a field of a line.
fn field(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(&format!("{name}="))?.1;
    Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
}

/// Text as it is without the terminal's escape sequences.
pub fn without_colours(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_read_from_what_the_server_prints() {
        let line = "INFO limn: shape removed \u{1b}[3mhandle\u{1b}[0m\u{1b}[2m=\u{1b}[0m12-34 table=t cause=\"truncated\"\n";
        assert_eq!(causes(line), BTreeMap::from([("12-34".to_owned(), "truncated".to_owned())]));
    }
}
