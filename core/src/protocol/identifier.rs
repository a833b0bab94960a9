//! Names of tables and columns as they are spelled in a request (protocol §2.1).

use crate::pg::QualifiedName;

/// Postgres's limit (`NAMEDATALEN` - 1), counted in characters here.
const IDENTIFIER_CHARS_MAX: usize = 63;
/// The schema of a table that is named without one.
const DEFAULT_SCHEMA: &str = "public";

/// Why a name cannot be read; the texts are part of the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing between two delimiters or quotes.
    #[error("Invalid zero-length delimited identifier")]
    Empty,
    /// A character that only a quoted name may have.
    #[error("Invalid unquoted identifier contains special characters: {0}")]
    SpecialCharacters(String),
    /// A quote inside a quoted name that is not doubled.
    #[error("Invalid identifier with unescaped quote: {0}")]
    UnescapedQuote(String),
    /// Longer than Postgres keeps.
    #[error("Identifier is too long (max length is {IDENTIFIER_CHARS_MAX})")]
    TooLong,
    /// More than `schema.table`.
    #[error("Invalid relation identifier, too many delimiters: {0}")]
    TooManyDelimiters(String),
}

/// Reads `table` or `schema.table`, each part quoted or not.
///
/// # Errors
/// As [`IdentifierError`] tells.
pub fn parse_table(text: &str) -> Result<QualifiedName, IdentifierError> {
    match *split_outside_quotes(text, '.') {
        [name] => Ok(QualifiedName::new(DEFAULT_SCHEMA, parse_identifier(name)?)),
        [schema, name] => Ok(QualifiedName::new(parse_identifier(schema)?, parse_identifier(name)?)),
        _ => Err(IdentifierError::TooManyDelimiters(text.to_owned())),
    }
}

/// Reads a comma separated list of column names.
///
/// # Errors
/// As [`IdentifierError`] tells of the first name that is wrong.
pub fn parse_columns(text: &str) -> Result<Vec<String>, IdentifierError> {
    split_outside_quotes(text, ',').into_iter().map(parse_identifier).collect()
}

/// Reads one name: unquoted names are folded to lower case in ASCII only, quoted ones are exact.
///
/// # Errors
/// As [`IdentifierError`] tells.
pub fn parse_identifier(text: &str) -> Result<String, IdentifierError> {
    let name = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => unquote(quoted)?,
        None => fold(text)?,
    };
    if name.chars().count() > IDENTIFIER_CHARS_MAX {
        return Err(IdentifierError::TooLong);
    }
    Ok(name)
}

fn unquote(quoted: &str) -> Result<String, IdentifierError> {
    if quoted.is_empty() {
        return Err(IdentifierError::Empty);
    }
    if quoted.replace("\"\"", "").contains('"') {
        return Err(IdentifierError::UnescapedQuote(quoted.to_owned()));
    }
    Ok(quoted.replace("\"\"", "\""))
}

fn fold(text: &str) -> Result<String, IdentifierError> {
    let mut chars = text.chars();
    let first = chars.next().ok_or(IdentifierError::Empty)?;
    let starts = first == '_' || first.is_alphabetic();
    if !starts || !chars.all(|c| c == '_' || c == '$' || c.is_alphanumeric() || is_combining(c)) {
        return Err(IdentifierError::SpecialCharacters(text.to_owned()));
    }
    Ok(text.to_ascii_lowercase())
}

/// The blocks of combining marks, which are letters to nobody but belong to the letter before them.
const fn is_combining(c: char) -> bool {
    matches!(c as u32, 0x300..=0x36F | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE20..=0xFE2F)
}

fn split_outside_quotes(text: &str, delimiter: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == delimiter && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn table(text: &str) -> Result<(String, String), String> {
        parse_table(text).map(|name| (name.schema, name.name)).map_err(|error| error.to_string())
    }

    fn named(schema: &str, name: &str) -> Result<(String, String), String> {
        Ok((schema.to_owned(), name.to_owned()))
    }

    fn refused(text: &str) -> Result<(String, String), String> {
        Err(text.to_owned())
    }

    #[test]
    fn schema_defaults_to_public_and_case_folds_without_quotes() {
        assert_eq!(table("Items"), named("public", "items"));
        assert_eq!(table("Public.\"T40\""), named("public", "T40"));
        assert_eq!(table("\"s.77a\".\"a/b\"\"c.d\""), named("s.77a", "a/b\"c.d"));
        assert_eq!(table("É_1$"), named("public", "É_1$"));
        assert_eq!(table("e\u{301}x"), named("public", "e\u{301}x"));
    }

    #[test]
    fn empty_parts_are_refused() {
        for text in [".t", "t.", "\"\"", "public.\"\"", "."] {
            assert_eq!(table(text), refused("Invalid zero-length delimited identifier"), "{text}");
        }
    }

    #[test]
    fn refusals_quote_the_part_at_fault() {
        assert_eq!(table("a.b.c"), refused("Invalid relation identifier, too many delimiters: a.b.c"));
        for text in ["no-pe", "1t", " t", "a\"b", "$a", "\""] {
            let expected = format!("Invalid unquoted identifier contains special characters: {text}");
            assert_eq!(table(text), refused(&expected));
        }
        assert_eq!(table("\"a\"b\""), refused("Invalid identifier with unescaped quote: a\"b"));
    }

    #[test]
    fn length_is_counted_in_characters_after_unquoting() {
        let too_long = refused("Identifier is too long (max length is 63)");
        assert_eq!(table(&"a".repeat(IDENTIFIER_CHARS_MAX + 1)), too_long);
        assert_eq!(table(&format!("\"{}\"", "a".repeat(IDENTIFIER_CHARS_MAX + 1))), too_long);
        assert!(table(&"é".repeat(IDENTIFIER_CHARS_MAX)).is_ok());
        assert!(table(&format!("\"{}\"", "\"\"".repeat(63))).is_ok());
    }

    #[test]
    fn columns_keep_commas_inside_quotes() {
        assert_eq!(parse_columns("id,\"we,ird\",A").unwrap(), ["id", "we,ird", "a"]);
        assert_eq!(parse_columns("id,,a"), Err(IdentifierError::Empty));
        assert_eq!(
            parse_columns("id, \"we,ird\"").unwrap_err().to_string(),
            "Invalid unquoted identifier contains special characters:  \"we,ird\""
        );
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn a_quoted_name_is_read_as_it_is(name in ".{1,63}") {
            let quoted = crate::pg::relation::quote_identifier(&name);
            proptest::prop_assert_eq!(parse_identifier(&quoted), Ok(name.clone()));
            let expected = QualifiedName::new(name.clone(), name);
            proptest::prop_assert_eq!(parse_table(&expected.to_string()), Ok(expected));
        }
    }
}
