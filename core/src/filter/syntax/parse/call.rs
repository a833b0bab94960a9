//! Calls of functions, with the words that some take between their arguments.

use super::super::ast::{Kind, Node};
use super::super::lexer::TokenKind;
use super::{Grammar, Parser, level};
use crate::filter::error::{FilterError, Reason};

impl Parser<'_> {
    /// `f(…)` by a bare word, the next token being the parenthesis. Some words have a grammar of their own.
    pub(super) fn call(&mut self, at: usize, word: String) -> Result<Node, FilterError> {
        match word.as_str() {
            "extract" => self.extract(at),
            "position" => self.position(at),
            "substring" => self.substring(at),
            "trim" => self.trim(at),
            _ => self.plain_call(at, vec![word]),
        }
    }

    /// `"f"(…)`, `s.f(…)`
    pub(super) fn plain_call(&mut self, at: usize, name: Vec<String>) -> Result<Node, FilterError> {
        self.expect('(')?;
        let (mut arguments, mut variadic) = (Vec::new(), false);
        match self.token().kind.clone() {
            TokenKind::Op(op) if op == "*" => return Err(FilterError::at(at, Reason::Aggregation)),
            TokenKind::Word(word) if word == "distinct" || word == "all" => {
                return Err(FilterError::at(at, Reason::Aggregation));
            }
            TokenKind::Punct(')') => {}
            _ => variadic = self.arguments(&mut arguments)?,
        }
        // `overlay(t placing …)` and its like have words between their arguments.
        if !self.eat(')') {
            if matches!(self.token().kind, TokenKind::Word(_)) {
                let (name, arity) = (name.join("."), arguments.len());
                return Err(FilterError::at(at, Reason::UnknownFunction { name, arity }));
            }
            return Err(self.syntax());
        }
        if matches!(self.word(), "over" | "filter" | "within") {
            return Err(FilterError::at(at, Reason::Aggregation));
        }
        self.node(at, at, Kind::Call { name, arguments, variadic })
    }

    /// Whether the last of them stands for several.
    fn arguments(&mut self, arguments: &mut Vec<Node>) -> Result<bool, FilterError> {
        loop {
            let variadic = self.eat_word("variadic");
            arguments.push(self.expression(level::OR, Grammar::Full)?);
            if variadic || !self.eat(',') {
                return Ok(variadic);
            }
        }
    }

    /// A call in the words of the grammar.
    fn worded_call(&mut self, at: usize, name: &str, arguments: Vec<Node>) -> Result<Node, FilterError> {
        self.node(at, at, Kind::Call { name: vec![name.to_owned()], arguments, variadic: false })
    }

    /// `extract(field FROM x)`
    fn extract(&mut self, at: usize) -> Result<Node, FilterError> {
        self.expect('(')?;
        let start = self.token().start;
        let field = match self.token().kind.clone() {
            TokenKind::Word(field) | TokenKind::Quoted(field) | TokenKind::Text(field) => field,
            _ => return Err(self.syntax()),
        };
        self.advance();
        let field = self.node(start, start, Kind::Text(field))?;
        self.expect_word("from")?;
        let operand = self.expression(level::OR, Grammar::Full)?;
        self.expect(')')?;
        self.worded_call(at, "extract", vec![field, operand])
    }

    /// `position(part IN whole)`; as a plain call the whole comes first.
    fn position(&mut self, at: usize) -> Result<Node, FilterError> {
        self.expect('(')?;
        let mut arguments = vec![self.expression(level::OR, Grammar::Restricted)?];
        if self.eat_word("in") {
            arguments.insert(0, self.expression(level::OR, Grammar::Restricted)?);
        } else {
            while self.eat(',') {
                arguments.push(self.expression(level::OR, Grammar::Full)?);
            }
        }
        self.expect(')')?;
        self.worded_call(at, "position", arguments)
    }

    /// `substring(t FROM start FOR length)`, each part of which may be missing.
    fn substring(&mut self, at: usize) -> Result<Node, FilterError> {
        self.expect('(')?;
        let mut arguments = self.list()?;
        let (mut from, mut length) = (None, None);
        loop {
            if from.is_none() && self.eat_word("from") {
                from = Some(self.expression(level::OR, Grammar::Full)?);
            } else if length.is_none() && self.eat_word("for") {
                length = Some(self.expression(level::OR, Grammar::Full)?);
            } else {
                break;
            }
        }
        if !self.is_punct(0, ')') {
            return self.beyond(at, "SUBSTRING by a pattern");
        }
        self.advance();
        if from.is_none() && length.is_some() {
            from = Some(self.node(at, at, Kind::Number("1".to_owned()))?);
        }
        arguments.extend(from.into_iter().chain(length));
        self.worded_call(at, "substring", arguments)
    }

    /// `trim([BOTH | LEADING | TRAILING] [characters] [FROM] t)`
    fn trim(&mut self, at: usize) -> Result<Node, FilterError> {
        self.expect('(')?;
        let side = match self.word() {
            "leading" => "ltrim",
            "trailing" => "rtrim",
            _ => "btrim",
        };
        if matches!(self.word(), "leading" | "trailing" | "both") {
            self.advance();
        }
        let mut arguments = Vec::new();
        if self.word() != "from" {
            arguments = self.list()?;
        }
        if self.eat_word("from") {
            let characters = std::mem::replace(&mut arguments, self.list()?);
            arguments.extend(characters);
        }
        self.expect(')')?;
        self.worded_call(at, side, arguments)
    }
}
