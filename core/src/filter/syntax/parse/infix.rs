//! Operators that stand behind their first operand.

use super::super::ast::{Kind, Node, Truth};
use super::super::keywords;
use super::super::lexer::TokenKind;
use super::{Grammar, Parser, level};
use crate::filter::error::{FilterError, Reason};
use crate::pg::relation::quote_identifier;

impl Parser<'_> {
    /// `NOT` before one of these words belongs to it.
    pub(super) fn negates_range(&self) -> bool {
        matches!(self.word_ahead(1), "in" | "between" | "like" | "ilike" | "similar")
    }

    /// One operator after `left`. The flag tells whether it ended with an operand.
    pub(super) fn infix(
        &mut self,
        left: Node,
        level: u8,
        grammar: Grammar,
    ) -> Result<(Node, bool), FilterError> {
        let start = left.start;
        match self.token().kind.clone() {
            TokenKind::Cast => {
                let at = self.advance();
                let ty = self.type_name()?;
                Ok((self.node(at, start, Kind::Cast { operand: Box::new(left), ty })?, false))
            }
            TokenKind::Op(op) => {
                let at = self.advance();
                self.binary(left, op, at, level, grammar)
            }
            _ => match self.word() {
                "operator" => {
                    let at = self.token().start;
                    let op = self.qualified_operator()?;
                    self.binary(left, op, at, level, grammar)
                }
                "and" | "or" => Ok((self.junction(left, level)?, false)),
                "is" | "isnull" | "notnull" => self.is_test(left, grammar),
                "at" => Ok((self.at_time_zone(left)?, false)),
                "overlaps" => Ok((self.overlaps(left)?, false)),
                "collate" => Ok((self.collate(left)?, false)),
                _ => self.range(left),
            },
        }
    }

    fn binary(
        &mut self,
        left: Node,
        op: String,
        at: usize,
        level: u8,
        grammar: Grammar,
    ) -> Result<(Node, bool), FilterError> {
        if matches!(self.word(), "any" | "all" | "some") {
            return Ok((self.quantified(left, op, at)?, false));
        }
        let right = Box::new(self.expression(level + 1, grammar)?);
        let start = left.start;
        Ok((self.node(at, start, Kind::Binary { op, left: Box::new(left), right })?, true))
    }

    /// `ANY (array)`, `SOME (array)`, `ALL (array)` after an operator.
    fn quantified(&mut self, left: Node, op: String, at: usize) -> Result<Node, FilterError> {
        let all = self.word() == "all";
        self.advance();
        self.expect('(')?;
        self.refuse_query(at)?;
        let array = Box::new(self.expression(level::OR, Grammar::Full)?);
        self.expect(')')?;
        let start = left.start;
        self.node(at, start, Kind::Quantified { op, operand: Box::new(left), array, all })
    }

    fn at_time_zone(&mut self, left: Node) -> Result<Node, FilterError> {
        let at = self.advance();
        if !self.eat_word("time") {
            return self.beyond(at, "AT LOCAL");
        }
        self.expect_word("zone")?;
        let zone = Box::new(self.expression(level::AT + 1, Grammar::Full)?);
        let start = left.start;
        self.node(at, start, Kind::AtTimeZone { operand: Box::new(left), zone })
    }

    /// `OPERATOR(pg_catalog.=)`; with another schema it stays as it is written.
    pub(super) fn qualified_operator(&mut self) -> Result<String, FilterError> {
        self.advance();
        self.expect('(')?;
        let mut schema = None;
        if matches!(self.token().kind, TokenKind::Word(_) | TokenKind::Quoted(_)) {
            let (TokenKind::Word(name) | TokenKind::Quoted(name)) = self.token().kind.clone() else {
                return Err(self.syntax());
            };
            schema = Some(name).filter(|name| name != "pg_catalog");
            self.advance();
            self.expect('.')?;
        }
        let TokenKind::Op(op) = self.token().kind.clone() else { return Err(self.syntax()) };
        self.advance();
        self.expect(')')?;
        Ok(schema.map_or(op.clone(), |schema| format!("OPERATOR({}.{op})", quote_identifier(&schema))))
    }

    /// `left AND …`: all operands of one chain in one node.
    fn junction(&mut self, left: Node, level: u8) -> Result<Node, FilterError> {
        let word = if level == level::AND { "and" } else { "or" };
        let (at, start) = (self.token().start, left.start);
        let mut terms = Vec::new();
        let mut next = left;
        loop {
            match next.kind {
                Kind::And(inner) if level == level::AND => terms.extend(inner),
                Kind::Or(inner) if level == level::OR => terms.extend(inner),
                _ => terms.push(next),
            }
            if !self.eat_word(word) {
                break;
            }
            next = self.expression(level + 1, Grammar::Full)?;
        }
        let kind = if level == level::AND { Kind::And(terms) } else { Kind::Or(terms) };
        self.node(at, start, kind)
    }

    /// What follows IS, and the two one-word spellings.
    fn is_test(&mut self, left: Node, grammar: Grammar) -> Result<(Node, bool), FilterError> {
        let start = left.start;
        let operand = Box::new(left);
        let (word, at) = (self.word().to_owned(), self.advance());
        if word != "is" {
            let kind = Kind::IsNull { operand, negated: word == "notnull" };
            return Ok((self.node(at, start, kind)?, false));
        }
        let negated = self.eat_word("not");
        if self.eat_word("distinct") {
            self.expect_word("from")?;
            let right = Box::new(self.expression(level::IS + 1, grammar)?);
            return Ok((self.node(at, start, Kind::Distinct { left: operand, right, negated })?, true));
        }
        let truth = match self.word() {
            _ if grammar == Grammar::Restricted => return Err(self.syntax()),
            "null" => {
                self.advance();
                return Ok((self.node(at, start, Kind::IsNull { operand, negated })?, false));
            }
            "true" => Truth::True,
            "false" => Truth::False,
            "unknown" => Truth::Unknown,
            "document" => return self.beyond(at, "XmlExpr"),
            "json" => return self.beyond(at, "JsonIsPredicate"),
            "normalized" | "nfc" | "nfd" | "nfkc" | "nfkd" => {
                let form = self.normal_form();
                self.expect_word("normalized")?;
                return Ok((self.node(at, start, Kind::Normalized { operand, form, negated })?, false));
            }
            _ => return Err(self.syntax()),
        };
        self.advance();
        Ok((self.node(at, start, Kind::IsTruth { operand, truth, negated })?, false))
    }

    /// `[NOT] IN | BETWEEN | LIKE | ILIKE`
    fn range(&mut self, left: Node) -> Result<(Node, bool), FilterError> {
        let (at, start) = (self.token().start, left.start);
        let operand = Box::new(left);
        let negated = self.eat_word("not");
        let word = self.word().to_owned();
        self.advance();
        match word.as_str() {
            "in" => {
                self.expect('(')?;
                if self.begins_query() {
                    let query = Box::new(self.query(at)?);
                    return Ok((self.node(at, start, Kind::Member { operand, query, negated })?, false));
                }
                let list = self.list()?;
                self.expect(')')?;
                Ok((self.node(at, start, Kind::In { operand, list, negated })?, false))
            }
            "between" => {
                let symmetric = self.eat_word("symmetric");
                if !symmetric {
                    self.eat_word("asymmetric");
                }
                let low = Box::new(self.expression(level::IS, Grammar::Restricted)?);
                self.expect_word("and")?;
                let high = Box::new(self.expression(level::RANGE + 1, Grammar::Full)?);
                let kind = Kind::Between { operand, low, high, symmetric, negated };
                Ok((self.node(at, start, kind)?, true))
            }
            "like" | "ilike" => {
                let fold_case = word == "ilike";
                if matches!(self.word(), "any" | "all" | "some") {
                    let op = like_operator(fold_case, negated).to_owned();
                    return Ok((self.quantified(*operand, op, at)?, false));
                }
                let pattern = Box::new(self.expression(level::RANGE + 1, Grammar::Full)?);
                let escape = self.escape()?;
                let kind = Kind::Like { operand, pattern, escape, fold_case, negated };
                Ok((self.node(at, start, kind)?, true))
            }
            _ => {
                self.expect_word("to")?;
                let pattern = Box::new(self.expression(level::RANGE + 1, Grammar::Full)?);
                let escape = self.escape()?;
                Ok((self.node(at, start, Kind::Similar { operand, pattern, escape, negated })?, true))
            }
        }
    }

    fn escape(&mut self) -> Result<Option<Box<Node>>, FilterError> {
        if !self.eat_word("escape") {
            return Ok(None);
        }
        Ok(Some(Box::new(self.expression(level::RANGE + 1, Grammar::Full)?)))
    }

    fn normal_form(&mut self) -> Option<&'static str> {
        let form =
            ["NFC", "NFD", "NFKC", "NFKD"].into_iter().find(|form| self.word().eq_ignore_ascii_case(form));
        self.next += usize::from(form.is_some());
        form
    }

    fn collate(&mut self, left: Node) -> Result<Node, FilterError> {
        let (at, start) = (self.advance(), left.start);
        let mut collation = Vec::new();
        loop {
            match self.token().kind.clone() {
                TokenKind::Word(name) if keywords::can_name_column(&name) => collation.push(name),
                TokenKind::Quoted(name) => collation.push(name),
                _ => return Err(self.syntax()),
            }
            self.advance();
            if !self.eat('.') {
                break;
            }
        }
        self.node(at, start, Kind::Collate { operand: Box::new(left), collation })
    }

    fn overlaps(&mut self, left: Node) -> Result<Node, FilterError> {
        let (at, start) = (self.advance(), left.start);
        let right = self.expression(level::OPERATOR + 1, Grammar::Full)?;
        let (Kind::Row(left), Kind::Row(right)) = (left.kind, right.kind) else { return Err(self.syntax()) };
        match <[Node; 4]>::try_from([left, right].concat()) {
            Ok(parts) => self.node(at, start, Kind::Overlaps(Box::new(parts))),
            Err(_) => Err(FilterError::at(at, Reason::RowLength)),
        }
    }

    pub(super) fn list(&mut self) -> Result<Vec<Node>, FilterError> {
        let mut list = vec![self.expression(level::OR, Grammar::Full)?];
        while self.eat(',') {
            list.push(self.expression(level::OR, Grammar::Full)?);
        }
        Ok(list)
    }
}

fn like_operator(fold_case: bool, negated: bool) -> &'static str {
    match (fold_case, negated) {
        (false, false) => "~~",
        (false, true) => "!~~",
        (true, false) => "~~*",
        (true, true) => "!~~*",
    }
}
