//! LIKE patterns: `%` for any run, `_` for one character, an escape character before what stands for itself.
//! ILIKE compares lower case by the rules of a collation.

use super::text::lower_char;
use crate::pg::Collation;

/// A pattern ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
    fold_case: Option<Collation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Symbol(char),
    AnyOne,
    AnyRun,
}

impl Pattern {
    /// `None` where the pattern ends with its escape character.
    pub(crate) fn new(pattern: &str, escape: Option<char>, fold_case: Option<Collation>) -> Option<Self> {
        let mut pieces = Vec::with_capacity(pattern.len());
        let mut symbols = pattern.chars();
        while let Some(symbol) = symbols.next() {
            pieces.push(match symbol {
                _ if Some(symbol) == escape => Piece::Symbol(folded(symbols.next()?, fold_case)),
                '%' if pieces.last() == Some(&Piece::AnyRun) => continue,
                '%' => Piece::AnyRun,
                '_' => Piece::AnyOne,
                _ => Piece::Symbol(folded(symbol, fold_case)),
            });
        }
        Some(Self { pieces, fold_case })
    }

    /// The symbols before the first wildcard.
    pub(crate) fn prefix(&self) -> String {
        self.pieces.iter().map_while(Piece::symbol).collect()
    }

    /// The longest run of symbols, in bytes: every text that fits has it in it, once its case is folded.
    pub(crate) fn longest_piece(&self) -> String {
        let runs = self.pieces.split(|piece| piece.symbol().is_none());
        let runs = runs.map(|run| run.iter().filter_map(Piece::symbol).collect::<String>());
        runs.max_by_key(String::len).unwrap_or_default()
    }

    /// True where it has no wildcard.
    pub(crate) fn is_plain(&self) -> bool {
        self.pieces.iter().all(|piece| piece.symbol().is_some())
    }

    /// True where anything may follow its prefix, and nothing else is asked.
    pub(crate) fn is_prefix(&self) -> bool {
        matches!(self.pieces.as_slice(), [prefix @ .., Piece::AnyRun] if prefix.iter().all(|p| p.symbol().is_some()))
    }

    /// True where anything may stand around its longest piece, and nothing else is asked.
    pub(crate) fn is_piece(&self) -> bool {
        matches!(self.pieces.as_slice(), [Piece::AnyRun, piece @ .., Piece::AnyRun] if piece.iter().all(|p| p.symbol().is_some()))
    }

    /// The collation by which case does not count.
    pub(crate) const fn folds_case_by(&self) -> Option<Collation> {
        self.fold_case
    }

    /// Whether the whole of `text` fits. After a mismatch only the last `%` needs to be tried further on.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut piece = 0;
        let mut retry = None;
        loop {
            let before = rest.clone();
            let fits = match (self.pieces.get(piece), rest.next()) {
                (Some(Piece::AnyRun), _) => {
                    rest = before;
                    piece += 1;
                    retry = Some((piece, rest.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(Piece::AnyOne), Some(_)) => true,
                (Some(Piece::Symbol(wanted)), Some(symbol)) => *wanted == folded(symbol, self.fold_case),
                _ => false,
            };
            if fits {
                piece += 1;
                continue;
            }
            let Some((after_run, from)) = retry.as_mut() else { return false };
            if from.next().is_none() {
                return false;
            }
            piece = *after_run;
            rest = from.clone();
        }
    }
}

impl Piece {
    const fn symbol(&self) -> Option<char> {
        match self {
            Self::Symbol(symbol) => Some(*symbol),
            Self::AnyOne | Self::AnyRun => None,
        }
    }
}

fn folded(symbol: char, fold_case: Option<Collation>) -> char {
    fold_case.map_or(symbol, |collation| lower_char(symbol, collation))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn like(text: &str, pattern: &str) -> bool {
        Pattern::new(pattern, Some('\\'), None).expect("a whole pattern").matches(text)
    }

    #[test]
    fn wildcards_and_escapes() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc\n", "abc", false),
            ("a\nc", "a_c", true),
            ("abcabd", "%ab_", true),
            ("abcab", "%abd%", false),
            ("aab", "%ab", true),
            ("", "%", true),
            ("", "_", false),
            ("é", "_", true),
            ("a%c", r"a\%c", true),
            ("abc", r"a\%c", false),
            (r"a\c", r"a\\c", true),
            ("ac", r"a\c", true),
            ("a.c", "a_c", true),
            ("mississippi", "%is%ip%", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text} LIKE {pattern}");
        }
        assert_eq!(Pattern::new(r"a\", Some('\\'), None), None);
        assert!(Pattern::new(r"a\", None, None).expect("no escape").matches(r"a\"));
    }

    #[test]
    fn case_folding() {
        let ilike = |text: &str, pattern: &str| {
            let pattern = Pattern::new(pattern, Some('\\'), Some(Collation::CodePoint));
            pattern.expect("whole").matches(text)
        };
        assert!(ilike("ÀÉß", "àé_"));
        assert!(ilike("abc", "A%C"));
        assert!(!ilike("abc", "A_"));
    }
}
