//! The ORDER BY clause of a subset: columns and positions, each with its direction; every other expression is
//! refused by name. What reaches Postgres is written anew from what was read.

use super::keywords;
use super::lexer::{Token, TokenKind, spelled, tokenize};
use super::subject::{Qualifier, Subject};
use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::{MAX_BYTES, SYNTAX_CURSOR_OFFSET};
use crate::pg::Column;
use crate::pg::relation::quote_identifier;
use thiserror::Error;

/// Sort keys of a clause.
pub const MAX_SORT_KEYS: usize = 100;
/// Locations count the bytes of `SELECT 1 ORDER BY ` before the clause.
const CURSOR_OFFSET: usize = 18;

/// A clause that was parsed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    sql: String,
}

/// A clause that is refused. `Display` is the text of the 400 answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderByError {
    /// An expression of a kind that is not allowed.
    #[error("At location {at}: {node} expressions are not allowed in ORDER BY clauses")]
    Expression {
        /// The byte position in the wrapped clause.
        at: usize,
        /// The name of Postgres's parse node.
        node: &'static str,
    },
    /// A placeholder: a subset's parameters belong to its WHERE clause.
    #[error("At location {at}: parameter ${number} is not supported in ORDER BY clauses")]
    Parameter {
        /// The byte position in the wrapped clause.
        at: usize,
        /// `n` of `$n`.
        number: u32,
    },
    /// A constant that names no position.
    #[error("At location {at}: non-integer constant in ORDER BY")]
    NotAPosition {
        /// The byte position in the wrapped clause.
        at: usize,
    },
    /// A position that no selected column has.
    #[error("At location {at}: ORDER BY position {position} is not in select list")]
    UnknownPosition {
        /// The byte position in the wrapped clause.
        at: usize,
        /// The number as it was written.
        position: String,
    },
    /// An operator after `USING` that is neither `<` nor `>`.
    #[error("At location {at}: operator {operator} is not a valid ordering operator")]
    Operator {
        /// The byte position in the wrapped clause.
        at: usize,
        /// The operator.
        operator: String,
    },
    /// No such column, or no such grammar.
    #[error("At location {at}: {reason}")]
    Syntax {
        /// The byte position in the wrapped clause.
        at: usize,
        /// The mistake there.
        reason: Reason,
    },
    /// A second statement.
    #[error("Unexpected `;` in order by")]
    Semicolon,
    /// `LIMIT`, `FOR UPDATE` and their like after the clause.
    #[error("malformed query ending with SQL clauses")]
    TrailingClause,
    /// More than `MAX_SORT_KEYS`.
    #[error("ORDER BY clause has more than {MAX_SORT_KEYS} sort keys")]
    TooManyKeys,
    /// More bytes than a WHERE clause may have.
    #[error("ORDER BY clause of {size} bytes is bigger than maximum size of {MAX_BYTES} bytes")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// What only a WHERE clause can be.
    #[error(transparent)]
    Clause(FilterError),
}

type Parsed<T> = Result<T, OrderByError>;

impl OrderBy {
    /// Reads a clause over the columns of `table`; `selected` is the number of columns that positions can name.
    ///
    /// # Errors
    /// Everything that is wrong with the clause, in the words of the 400 answer.
    pub fn parse<'a>(text: &str, table: impl Into<Subject<'a>>, selected: usize) -> Parsed<Self> {
        let Subject { name, columns } = table.into();
        if text.len() > MAX_BYTES {
            return Err(OrderByError::TooLarge { size: text.len() });
        }
        if let Some(at) = text.find('\0') {
            return Err(syntax(at, Reason::SyntaxAtEnd));
        }
        let qualifier = name.map(|table| Qualifier::new(table, None));
        let mut parser = Parser { text, tokens: tokenize(text)?, next: 0, qualifier, columns, selected };
        let mut keys = vec![parser.sort_key()?];
        while parser.eat(',') {
            if keys.len() == MAX_SORT_KEYS {
                return Err(OrderByError::TooManyKeys);
            }
            keys.push(parser.sort_key()?);
        }
        parser.finish()?;
        Ok(Self { sql: keys.join(", ") })
    }

    /// The clause without its keywords: columns quoted, directions spelled only where they are not the default.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

/// The lexer counts the bytes before a WHERE clause.
impl From<FilterError> for OrderByError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::At { at, reason } => syntax(at.saturating_sub(SYNTAX_CURSOR_OFFSET), reason),
            other => Self::Clause(other),
        }
    }
}

fn syntax(start: usize, reason: Reason) -> OrderByError {
    OrderByError::Syntax { at: start + CURSOR_OFFSET, reason }
}

fn not_allowed<T>(start: usize, node: &'static str) -> Parsed<T> {
    Err(OrderByError::Expression { at: start + CURSOR_OFFSET, node })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    qualifier: Option<Qualifier>,
    columns: &'a [Column],
    selected: usize,
}

impl Parser<'_> {
    /// The token `count` places further; the last one is [`TokenKind::End`] and stays.
    fn ahead(&self, count: usize) -> &Token {
        let last = self.tokens.len() - 1;
        self.tokens.get((self.next + count).min(last)).expect("the token list ends with `End`")
    }

    fn word(&self, count: usize) -> &str {
        match &self.ahead(count).kind {
            TokenKind::Word(word) => word,
            _ => "",
        }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word(0) == word;
        self.next += usize::from(found);
        found
    }

    fn is(&self, count: usize, symbol: char) -> bool {
        self.ahead(count).kind == TokenKind::Punct(symbol)
    }

    fn eat(&mut self, symbol: char) -> bool {
        let found = self.is(0, symbol);
        self.next += usize::from(found);
        found
    }

    /// The error for a token that the grammar does not allow where it stands.
    fn unexpected(&self) -> OrderByError {
        let token = self.ahead(0);
        match (&token.kind, self.text.get(token.start..token.end)) {
            (TokenKind::Punct(';'), _) => OrderByError::Semicolon,
            (TokenKind::End, _) | (_, None) => syntax(token.start, Reason::SyntaxAtEnd),
            (_, Some(near)) => syntax(token.start, Reason::Syntax(near.to_owned())),
        }
    }

    fn finish(&self) -> Parsed<()> {
        match &self.ahead(0).kind {
            TokenKind::End => Ok(()),
            TokenKind::Word(word) if keywords::begins_clause(word) => Err(OrderByError::TrailingClause),
            _ => Err(self.unexpected()),
        }
    }

    /// One expression with its direction, as SQL.
    fn sort_key(&mut self) -> Parsed<String> {
        let mut sql = self.parenthesised()?;
        if self.direction()? {
            sql.push_str(" DESC");
        }
        if self.eat_word("nulls") {
            let place = match self.word(0) {
                "first" => " NULLS FIRST",
                "last" => " NULLS LAST",
                _ => return Err(self.unexpected()),
            };
            self.next += 1;
            sql.push_str(place);
        }
        Ok(sql)
    }

    /// Whether the greatest comes first.
    fn direction(&mut self) -> Parsed<bool> {
        if self.eat_word("asc") {
            return Ok(false);
        }
        if !self.eat_word("using") {
            return Ok(self.eat_word("desc"));
        }
        let token = self.ahead(0);
        let TokenKind::Op(operator) = &token.kind else { return Err(self.unexpected()) };
        let descending = match operator.as_str() {
            "<" => false,
            ">" => true,
            _ => {
                let (at, operator) = (token.start + CURSOR_OFFSET, operator.clone());
                return Err(OrderByError::Operator { at, operator });
            }
        };
        self.next += 1;
        Ok(descending)
    }

    /// A column or position inside any number of parentheses, which mean nothing. Not recursive: the number is
    /// the client's choice.
    fn parenthesised(&mut self) -> Parsed<String> {
        let mut opened = Vec::new();
        while self.is(0, '(') {
            let start = self.ahead(0).start;
            if matches!(self.word(1), "select" | "values" | "with" | "table") {
                return not_allowed(start, "SubLink");
            }
            opened.push(start);
            self.next += 1;
        }
        let sql = self.operand()?;
        self.refuse_continuation()?;
        while let Some(start) = opened.pop() {
            if self.is(0, ',') {
                return not_allowed(start, "RowExpr");
            }
            if !self.eat(')') {
                return Err(self.unexpected());
            }
            self.refuse_continuation()?;
        }
        Ok(sql)
    }

    fn operand(&mut self) -> Parsed<String> {
        let token = self.ahead(0).clone();
        let at = token.start + CURSOR_OFFSET;
        let sql = match token.kind {
            TokenKind::Quoted(name) => return self.name(&name, token.start),
            TokenKind::Word(word) => return self.keyword_or_name(&word, token.start),
            TokenKind::Param(number) => return Err(OrderByError::Parameter { at, number }),
            TokenKind::Text(_) | TokenKind::Bits(_) => return Err(OrderByError::NotAPosition { at }),
            TokenKind::Number(digits) => self.position(digits, at)?,
            TokenKind::Op(operator) if operator != "*" => return not_allowed(token.start, "A_Expr"),
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(sql)
    }

    /// A position in the select list, from 1.
    fn position(&self, digits: String, at: usize) -> Parsed<String> {
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(OrderByError::NotAPosition { at });
        }
        match digits.parse::<usize>() {
            Ok(position) if (1..=self.selected).contains(&position) => Ok(position.to_string()),
            _ => Err(OrderByError::UnknownPosition { at, position: digits }),
        }
    }

    fn keyword_or_name(&mut self, word: &str, start: usize) -> Parsed<String> {
        let called = self.is(1, '(');
        match word {
            "null" | "true" | "false" => {
                return Err(OrderByError::NotAPosition { at: start + CURSOR_OFFSET });
            }
            _ => {}
        }
        if let Some(node) = expression_of(word, called) {
            return not_allowed(start, node);
        }
        if let Some((node, needs_parenthesis)) = keywords::construct(word)
            && (called || !needs_parenthesis)
        {
            return not_allowed(start, node);
        }
        if called && keywords::can_name_function(word) {
            return not_allowed(start, "FuncCall");
        }
        if !keywords::can_name_column(word) {
            return Err(self.unexpected());
        }
        self.name(word, start)
    }

    /// A column by its name alone.
    fn name(&mut self, name: &str, start: usize) -> Parsed<String> {
        self.next += 1;
        match &self.ahead(0).kind {
            TokenKind::Punct('(') => return not_allowed(start, "FuncCall"),
            // `date '2026-01-01'`
            TokenKind::Text(_) => return not_allowed(start, "TypeCast"),
            TokenKind::Punct('.') => return self.qualified(name, start),
            _ => {}
        }
        self.column(std::slice::from_ref(&name.to_owned()), start)
    }

    fn column(&self, parts: &[String], start: usize) -> Parsed<String> {
        let found = parts.split_last().filter(|(name, before)| {
            let is_ours =
                before.is_empty() || self.qualifier.as_ref().is_some_and(|table| table.matches(before));
            is_ours && self.columns.iter().any(|column| column.name == **name)
        });
        let unknown = || {
            let parts: Vec<_> = parts.iter().map(|part| spelled(part)).collect();
            syntax(start, Reason::UnknownReference(parts.join(".")))
        };
        found.map(|(name, _)| quote_identifier(name)).ok_or_else(unknown)
    }

    /// `t.a`, `s.t.a`
    fn qualified(&mut self, first: &str, start: usize) -> Parsed<String> {
        let mut parts = vec![first.to_owned()];
        while self.eat('.') {
            match &self.ahead(0).kind {
                TokenKind::Word(part) | TokenKind::Quoted(part) => parts.push(part.clone()),
                _ => return Err(self.unexpected()),
            }
            self.next += 1;
        }
        if self.is(0, '(') {
            return not_allowed(start, "FuncCall");
        }
        self.column(&parts, start)
    }

    /// Refuses what would make a larger expression of the operand before it.
    fn refuse_continuation(&self) -> Parsed<()> {
        let token = self.ahead(0);
        let node = match &token.kind {
            TokenKind::Op(_) => "A_Expr",
            // The cast is known by its type.
            TokenKind::Cast => return not_allowed(self.ahead(1).start, "TypeName"),
            TokenKind::Punct('[') => "A_Indirection",
            TokenKind::Word(word) => match word.as_str() {
                "collate" => "CollateClause",
                "is" | "isnull" | "notnull" => "NullTest",
                "in" | "like" | "ilike" | "similar" | "between" | "not" | "operator" => "A_Expr",
                "and" | "or" => "BoolExpr",
                "at" => "FuncCall",
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        not_allowed(token.start, node)
    }
}

/// The expression that a word begins, by the name of its node; `called` where a parenthesis follows.
fn expression_of(word: &str, called: bool) -> Option<&'static str> {
    match word {
        "not" => Some("BoolExpr"),
        "case" => Some("CaseExpr"),
        "array" => Some("A_ArrayExpr"),
        "cast" if called => Some("TypeCast"),
        "exists" if called => Some("SubLink"),
        "row" if called => Some("RowExpr"),
        "coalesce" if called => Some("CoalesceExpr"),
        "greatest" | "least" if called => Some("MinMaxExpr"),
        "nullif" if called => Some("A_Expr"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::oid;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn parse(text: &str) -> Parsed<OrderBy> {
        let columns = ["id", "a", "A b\"c", "select"].map(|name| Column::new(name, oid::INT4, "int4"));
        OrderBy::parse(text, &columns[..], 2)
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn columns_directions_and_nulls() {
        for (text, sql) in [
            ("id", r#""id""#),
            ("ID ASC, \"a\" desc", r#""id", "a" DESC"#),
            ("id, id desc nulls first", r#""id", "id" DESC NULLS FIRST"#),
            ("\"A b\"\"c\" NULLS LAST", r#""A b""c" NULLS LAST"#),
            ("\"select\"", r#""select""#),
            ("((id)) desc", r#""id" DESC"#),
            ("id USING <, a using > nulls last", r#""id", "a" DESC NULLS LAST"#),
            ("2 desc", "2 DESC"),
            ("id -- x", r#""id""#),
            ("/* DROP */ id", r#""id""#),
        ] {
            assert_eq!(parse(text).expect(text).sql(), sql);
        }
    }

    #[test]
    fn expressions_are_refused_by_name() {
        for (text, at, node) in [
            ("(select 1)", 18, "SubLink"),
            ("exists (select 1)", 18, "SubLink"),
            ("pg_sleep(1)", 18, "FuncCall"),
            ("pg_catalog.pg_sleep(1)", 18, "FuncCall"),
            ("\"pg_sleep\"(1)", 18, "FuncCall"),
            ("CASE WHEN true THEN id END", 18, "CaseExpr"),
            ("coalesce(id, 1)", 18, "CoalesceExpr"),
            ("current_user", 18, "SQLValueFunction"),
            ("id + 1", 21, "A_Expr"),
            ("(id) + 1", 23, "A_Expr"),
            ("-id", 18, "A_Expr"),
            ("id::text", 22, "TypeName"),
            ("id COLLATE \"C\"", 21, "CollateClause"),
            ("id IS NULL", 21, "NullTest"),
            ("id in (1)", 21, "A_Expr"),
            ("id AND a", 21, "BoolExpr"),
            ("id[1]", 20, "A_Indirection"),
            ("(id, a)", 18, "RowExpr"),
            ("cast(id as text)", 18, "TypeCast"),
            ("date '2026-01-01'", 18, "TypeCast"),
        ] {
            let expected =
                format!("At location {at}: {node} expressions are not allowed in ORDER BY clauses");
            assert_eq!(refused(text), expected, "{text}");
        }
        let expected = "At location 18: parameter $1 is not supported in ORDER BY clauses";
        assert_eq!(refused("$1"), expected);
    }

    #[test]
    fn nothing_follows_the_clause() {
        assert_eq!(refused("id; DROP TABLE t"), "Unexpected `;` in order by");
        assert_eq!(refused("id) UNION SELECT 1--"), "At location 20: syntax error at or near \")\"");
        assert_eq!(refused("id desc,"), "At location 26: syntax error at end of input");
        for text in ["id FOR UPDATE", "id LIMIT 1", "id UNION SELECT 1", "id OFFSET 1"] {
            assert_eq!(refused(text), "malformed query ending with SQL clauses", "{text}");
        }
        assert_eq!(refused("id a"), "At location 21: syntax error at or near \"a\"");
        assert_eq!(refused("id nulls"), "At location 26: syntax error at end of input");
        assert_eq!(refused("from"), "At location 18: syntax error at or near \"from\"");
        assert_eq!(refused("*"), "At location 18: syntax error at or near \"*\"");
        assert_eq!(refused("id /*"), "At location 21: unterminated /* comment at or near \"/*\"");
        assert_eq!(refused("id\0"), "At location 20: syntax error at end of input");
    }

    #[test]
    fn names_are_columns_and_numbers_positions() {
        assert_eq!(refused("t.id"), "At location 18: unknown reference t.id");
        assert_eq!(refused("id, zzz"), "At location 22: unknown reference zzz");
        for text in ["'a'", "NULL", "true", "1.5", "1e2", "B'1'"] {
            assert_eq!(refused(text), "At location 18: non-integer constant in ORDER BY", "{text}");
        }
        for position in ["0", "3", "99999999999999999999999"] {
            let expected = format!("At location 18: ORDER BY position {position} is not in select list");
            assert_eq!(refused(position), expected);
        }
        assert_eq!(refused("id USING ="), "At location 27: operator = is not a valid ordering operator");
    }

    #[test]
    fn sizes_are_bounded() {
        let keys = |count: usize| vec!["id"; count].join(",");
        assert!(parse(&keys(MAX_SORT_KEYS)).is_ok());
        assert_eq!(parse(&keys(MAX_SORT_KEYS + 1)), Err(OrderByError::TooManyKeys));
        assert_eq!(parse(&" ".repeat(MAX_BYTES + 1)), Err(OrderByError::TooLarge { size: MAX_BYTES + 1 }));
        assert!(parse(&"(".repeat(MAX_BYTES)).is_err());
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        /// What is written is read again as the same, so nothing else can hide in it.
        #[test]
        fn what_is_written_is_canonical(text in "((id|a|\"A b\"\"c\"|1|[a-z(]{0,3}|.{0,2})( (asc|desc|nulls last|using >|.{0,3}))?(,|;|--)?){0,4}") {
            if let Ok(order_by) = parse(&text) {
                let again = parse(order_by.sql());
                proptest::prop_assert_eq!(again, Ok(order_by));
            }
        }
    }
}
