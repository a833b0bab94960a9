//! A Pratt parser for the expressions of Postgres's grammar (`a_expr` of `gram.y`), with its precedence and
//! its non-associative levels. Stack use is bounded by [`MAX_DEPTH`]; chains of AND and OR are flat.

use super::ast::{Kind, Node};
use super::keywords;
use super::lexer::{Token, TokenKind, tokenize};
use super::subject::Qualifier;
use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::{MAX_DEPTH, MAX_NESTING, MAX_TERMS, SYNTAX_CURSOR_OFFSET};
use crate::pg::QualifiedName;

mod call;
mod infix;
mod primary;
mod subquery;

/// Binding strengths, weakest first, as the `%left`/`%right`/`%nonassoc` lines of the grammar.
mod level {
    pub(crate) const OR: u8 = 1;
    pub(crate) const AND: u8 = 2;
    pub(crate) const NOT: u8 = 3;
    /// Non-associative: IS, ISNULL, NOTNULL.
    pub(crate) const IS: u8 = 4;
    /// Non-associative.
    pub(crate) const COMPARISON: u8 = 5;
    /// Non-associative: BETWEEN, IN, LIKE, ILIKE.
    pub(crate) const RANGE: u8 = 6;
    /// Every operator that has no level of its own.
    pub(crate) const OPERATOR: u8 = 8;
    pub(crate) const ADDITIVE: u8 = 9;
    pub(crate) const MULTIPLICATIVE: u8 = 10;
    pub(crate) const POWER: u8 = 11;
    pub(crate) const AT: u8 = 12;
    pub(crate) const COLLATE: u8 = 13;
    pub(crate) const SIGN: u8 = 14;
    pub(crate) const CAST: u8 = 16;
}

/// Parses one whole clause; its columns may be qualified by the name of their table.
pub(crate) fn parse(
    text: &str,
    subqueries: Subqueries,
    table: Option<&QualifiedName>,
) -> Result<Node, FilterError> {
    if let Some(at) = text.find('\0') {
        return Err(FilterError::at(at + SYNTAX_CURSOR_OFFSET, Reason::SyntaxAtEnd));
    }
    let mut parser = Parser {
        text,
        tokens: tokenize(text)?,
        next: 0,
        depth: 0,
        terms: 0,
        subqueries,
        queries: 0,
        qualifier: table.map(|table| Qualifier::new(table, None)),
    };
    let node = parser.expression(level::OR, Grammar::Full)?;
    parser.finish()?;
    Ok(node)
}

/// Whether `IN (SELECT …)` may stand in a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subqueries {
    Accepted,
    Refused,
}

/// Which of the two expression grammars is read: `b_expr` stands between BETWEEN and AND.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grammar {
    Full,
    Restricted,
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    terms: usize,
    subqueries: Subqueries,
    /// Subqueries met.
    queries: usize,
    /// The table whose columns are read here: that of the innermost query.
    qualifier: Option<Qualifier>,
}

impl Parser<'_> {
    pub(crate) fn token(&self) -> &Token {
        self.ahead(0)
    }

    /// The token `count` places further; the last one is [`TokenKind::End`] and stays.
    fn ahead(&self, count: usize) -> &Token {
        let last = self.tokens.len() - 1;
        self.tokens.get((self.next + count).min(last)).expect("the token list ends with `End`")
    }

    pub(crate) fn advance(&mut self) -> usize {
        let start = self.token().start;
        self.next += 1;
        start
    }

    fn word_ahead(&self, count: usize) -> &str {
        match &self.ahead(count).kind {
            TokenKind::Word(word) => word,
            _ => "",
        }
    }

    pub(crate) fn word(&self) -> &str {
        self.word_ahead(0)
    }

    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word() == word;
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<(), FilterError> {
        if self.eat_word(word) { Ok(()) } else { Err(self.syntax()) }
    }

    fn is_punct(&self, count: usize, symbol: char) -> bool {
        self.ahead(count).kind == TokenKind::Punct(symbol)
    }

    pub(crate) fn eat(&mut self, symbol: char) -> bool {
        let found = self.is_punct(0, symbol);
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, symbol: char) -> Result<(), FilterError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.syntax()) }
    }

    /// A syntax error at the token that is next.
    pub(crate) fn syntax(&self) -> FilterError {
        let token = self.token();
        let reason = match self.text.get(token.start..token.end) {
            Some(near) if token.kind != TokenKind::End => Reason::Syntax(near.to_owned()),
            _ => Reason::SyntaxAtEnd,
        };
        FilterError::at(token.start + SYNTAX_CURSOR_OFFSET, reason)
    }

    /// For what no shape can have.
    fn unsupported<T>(&self, at: usize, node: &'static str) -> Result<T, FilterError> {
        Err(FilterError::at(at, Reason::Unsupported(node)))
    }

    /// For what Postgres could evaluate.
    fn beyond<T>(&self, at: usize, node: &'static str) -> Result<T, FilterError> {
        Err(FilterError::at(at, Reason::BeyondCore(node)))
    }

    /// After the expression: nothing, or one semicolon.
    fn finish(&mut self) -> Result<(), FilterError> {
        if keywords::begins_clause(self.word()) {
            return Err(FilterError::TrailingClause);
        }
        if self.eat(';') {
            while self.eat(';') {}
            if self.token().kind != TokenKind::End {
                return Err(FilterError::StatementSplit);
            }
        }
        if self.token().kind == TokenKind::End { Ok(()) } else { Err(self.syntax()) }
    }

    fn node(&mut self, at: usize, start: usize, kind: Kind) -> Result<Node, FilterError> {
        let mut node = Node { at, start, depth: 1, kind };
        node.depth += node.children().iter().map(|child| child.depth).max().unwrap_or(0);
        // A canonical text has casts that the clause had not, and must pass the same limits.
        self.terms += usize::from(!matches!(node.kind, Kind::Cast { .. }));
        if node.depth > MAX_DEPTH {
            return Err(FilterError::at(at, Reason::TooDeep));
        }
        if self.terms > MAX_TERMS {
            return Err(FilterError::at(at, Reason::TooManyTerms));
        }
        Ok(node)
    }

    /// An expression of operators that bind at least as strongly as `min`.
    fn expression(&mut self, min: u8, grammar: Grammar) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(FilterError::at(self.token().start, Reason::TooDeep));
        }
        let mut left = self.prefix(grammar)?;
        // The non-associative level whose right operand was just read: meeting it again is an error.
        let mut closed = None;
        while let Some(level) = self.infix_level(grammar) {
            if level < min {
                break;
            }
            if closed == Some(level) {
                return Err(self.syntax());
            }
            let open_ended;
            (left, open_ended) = self.infix(left, level, grammar)?;
            closed = (open_ended && matches!(level, level::IS | level::COMPARISON | level::RANGE))
                .then_some(level);
        }
        self.depth -= 1;
        Ok(left)
    }

    /// How strongly the next token binds what stands before it; `None` where it does not.
    fn infix_level(&self, grammar: Grammar) -> Option<u8> {
        let full = grammar == Grammar::Full;
        match &self.token().kind {
            TokenKind::Op(op) => Some(match op.as_str() {
                "<" | ">" | "=" | "<=" | ">=" | "<>" => level::COMPARISON,
                "+" | "-" => level::ADDITIVE,
                "*" | "/" | "%" => level::MULTIPLICATIVE,
                "^" => level::POWER,
                _ => level::OPERATOR,
            }),
            TokenKind::Cast => Some(level::CAST),
            TokenKind::Word(word) => match word.as_str() {
                "operator" if self.is_punct(1, '(') => Some(level::OPERATOR),
                "is" => Some(level::IS),
                "or" if full => Some(level::OR),
                "and" if full => Some(level::AND),
                "isnull" | "notnull" if full => Some(level::IS),
                "in" | "between" | "like" | "ilike" | "similar" if full => Some(level::RANGE),
                "not" if full && self.negates_range() => Some(level::RANGE),
                "at" if full => Some(level::AT),
                "collate" if full => Some(level::COLLATE),
                "overlaps" if full => Some(level::OPERATOR),
                _ => None,
            },
            _ => None,
        }
    }
}
