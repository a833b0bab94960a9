//! Parses the first operand of an expression: a literal, a column, a prefix operator, parentheses, or a construct with
//! a keyword such as CASE.

use super::super::ast::{Kind, Node, Subscript};
use super::super::keywords;
use super::super::lexer::TokenKind;
use super::{Grammar, Parser, level};
use crate::filter::error::{FilterError, Reason};

impl Parser<'_> {
    pub(super) fn prefix(&mut self, grammar: Grammar) -> Result<Node, FilterError> {
        let at = self.token().start;
        match self.token().kind.clone() {
            TokenKind::Op(op) => {
                self.advance();
                self.sign_or_operator(at, op, grammar)
            }
            TokenKind::Word(word) if word == "not" => {
                if grammar == Grammar::Restricted || self.negates_range() {
                    return Err(self.syntax());
                }
                self.advance();
                let operand = Box::new(self.expression(level::NOT, Grammar::Full)?);
                self.node(at, at, Kind::Not(operand))
            }
            TokenKind::Word(word) if word == "operator" && self.is_punct(1, '(') => {
                let op = self.qualified_operator()?;
                let operand = Box::new(self.expression(level::OPERATOR + 1, grammar)?);
                self.node(at, at, Kind::Unary { op, operand })
            }
            _ => {
                let parenthesized = self.is_punct(0, '(');
                let operand = self.primary()?;
                let whole = parenthesized || matches!(operand.kind, Kind::Column(_) | Kind::Param(_));
                if self.is_punct(0, '[') && !whole {
                    return Err(self.syntax());
                }
                if whole { self.indirection(operand) } else { Ok(operand) }
            }
        }
    }

    fn sign_or_operator(&mut self, at: usize, op: String, grammar: Grammar) -> Result<Node, FilterError> {
        match op.as_str() {
            "+" | "-" => {
                let operand = self.expression(level::SIGN, grammar)?;
                match operand.kind {
                    // A sign is part of the number itself, which decides the number's type.
                    Kind::Number(digits) if op == "-" => {
                        let negated = match digits.strip_prefix('-') {
                            Some(digits) => digits.to_owned(),
                            None => format!("-{digits}"),
                        };
                        self.node(at, at, Kind::Number(negated))
                    }
                    _ => self.node(at, at, Kind::Unary { op, operand: Box::new(operand) }),
                }
            }
            "*" | "/" | "%" | "^" | "<" | ">" | "=" | "<=" | ">=" | "<>" => {
                self.next -= 1;
                Err(self.syntax())
            }
            _ => {
                let operand = Box::new(self.expression(level::OPERATOR + 1, grammar)?);
                self.node(at, at, Kind::Unary { op, operand })
            }
        }
    }

    fn primary(&mut self) -> Result<Node, FilterError> {
        let at = self.token().start;
        let kind = match self.token().kind.clone() {
            TokenKind::Number(digits) => Kind::Number(digits),
            TokenKind::Text(text) => Kind::Text(text),
            TokenKind::Param(number) => Kind::Param(number),
            TokenKind::Bits(bits) => Kind::Bits(bits),
            TokenKind::Punct('(') => return self.parenthesis(at),
            TokenKind::Word(word) => return self.word_primary(at, word),
            TokenKind::Quoted(name) => return self.reference(at, name),
            _ => return Err(self.syntax()),
        };
        self.advance();
        self.node(at, at, kind)
    }

    fn parenthesis(&mut self, at: usize) -> Result<Node, FilterError> {
        self.advance();
        self.refuse_query(at)?;
        let mut inner = self.expression(level::OR, Grammar::Full)?;
        if self.eat(',') {
            let mut fields = vec![inner];
            fields.extend(self.list()?);
            self.expect(')')?;
            return self.node(at, at, Kind::Row(fields));
        }
        self.expect(')')?;
        inner.start = at;
        Ok(inner)
    }

    /// `[…]` and `.field`, in any order.
    fn indirection(&mut self, mut operand: Node) -> Result<Node, FilterError> {
        loop {
            if self.is_punct(0, '[') {
                operand = self.subscripts(operand)?;
            } else if self.eat('.') {
                let (at, start) = (operand.at, operand.start);
                let name = match self.token().kind.clone() {
                    TokenKind::Word(name) | TokenKind::Quoted(name) => name,
                    TokenKind::Op(op) if op == "*" => return self.unsupported(at, "A_Star"),
                    _ => return Err(self.syntax()),
                };
                self.advance();
                operand = self.node(at, start, Kind::Field { operand: Box::new(operand), name })?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// `[1]`, `[1:2]`, `[:2]` and more of them.
    fn subscripts(&mut self, array: Node) -> Result<Node, FilterError> {
        let (at, start) = (array.at, array.start);
        let mut subscripts = Vec::new();
        while self.eat('[') {
            let mut lower = None;
            if !self.is_punct(0, ':') {
                lower = Some(self.expression(level::OR, Grammar::Full)?);
            }
            if self.eat(':') {
                let mut upper = None;
                if !self.is_punct(0, ']') {
                    upper = Some(self.expression(level::OR, Grammar::Full)?);
                }
                subscripts.push(Subscript::Slice(lower, upper));
            } else {
                subscripts.extend(lower.map(Subscript::Index));
            }
            self.expect(']')?;
        }
        self.node(at, start, Kind::Subscript { array: Box::new(array), subscripts })
    }

    /// `[…]` after ARRAY, where rows of more dimensions are brackets in brackets.
    fn array(&mut self, at: usize) -> Result<Node, FilterError> {
        self.expect('[')?;
        let mut elements = Vec::new();
        while !self.eat(']') {
            if !elements.is_empty() {
                self.expect(',')?;
            }
            let inner = self.token().start;
            elements.push(if self.is_punct(0, '[') {
                self.nested_array(inner)?
            } else {
                self.expression(level::OR, Grammar::Full)?
            });
        }
        self.node(at, at, Kind::Array(elements))
    }

    fn nested_array(&mut self, at: usize) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > super::MAX_NESTING {
            return Err(FilterError::at(at, Reason::TooDeep));
        }
        let array = self.array(at);
        self.depth -= 1;
        array
    }

    /// After CASE.
    fn case(&mut self, at: usize) -> Result<Node, FilterError> {
        let mut operand = None;
        if self.word() != "when" {
            operand = Some(Box::new(self.expression(level::OR, Grammar::Full)?));
        }
        let mut arms = Vec::new();
        while self.eat_word("when") {
            let condition = self.expression(level::OR, Grammar::Full)?;
            self.expect_word("then")?;
            arms.push((condition, self.expression(level::OR, Grammar::Full)?));
        }
        let mut otherwise = None;
        if self.eat_word("else") {
            otherwise = Some(Box::new(self.expression(level::OR, Grammar::Full)?));
        }
        if arms.is_empty() {
            return Err(self.syntax());
        }
        self.expect_word("end")?;
        self.node(at, at, Kind::Case { operand, arms, otherwise })
    }

    /// COALESCE, GREATEST, LEAST, NULLIF, ROW: a word and a list.
    fn listed(&mut self, at: usize, word: &str) -> Result<Node, FilterError> {
        self.next += 2;
        let list = if word == "row" && self.is_punct(0, ')') { Vec::new() } else { self.list()? };
        self.expect(')')?;
        let kind = match word {
            "coalesce" => Kind::Coalesce(list),
            "row" => Kind::Row(list),
            "nullif" => match <[Node; 2]>::try_from(list) {
                Ok([left, right]) => Kind::NullIf(Box::new(left), Box::new(right)),
                Err(_) => return Err(self.syntax()),
            },
            _ => Kind::Extreme { greatest: word == "greatest", list },
        };
        self.node(at, at, kind)
    }

    fn word_primary(&mut self, at: usize, word: String) -> Result<Node, FilterError> {
        let called = self.is_punct(1, '(');
        let literal = match word.as_str() {
            "null" => Some(Kind::Null),
            "true" => Some(Kind::Bool(true)),
            "false" => Some(Kind::Bool(false)),
            _ => None,
        };
        if let Some(kind) = literal {
            self.advance();
            return self.node(at, at, kind);
        }
        match word.as_str() {
            "cast" if called => return self.cast(at),
            "exists" | "array" if called => {
                self.next += 2;
                self.refuse_query(at)?;
                return Err(self.syntax());
            }
            "coalesce" | "greatest" | "least" | "nullif" | "row" if called => return self.listed(at, &word),
            "case" => {
                self.advance();
                return self.case(at);
            }
            "array" if self.is_punct(1, '[') => {
                self.advance();
                return self.array(at);
            }
            _ => {}
        }
        if let Some((node, _)) = keywords::construct(&word).filter(|(_, call)| called || !call) {
            return self.unsupported(at, node);
        }
        if let Some(node) = self.typed_literal(at)? {
            return Ok(node);
        }
        if called && keywords::can_name_function(&word) {
            self.advance();
            return self.call(at, word);
        }
        if !keywords::can_name_column(&word) {
            return Err(self.syntax());
        }
        self.reference(at, word)
    }

    /// `CAST(x AS type)`
    fn cast(&mut self, at: usize) -> Result<Node, FilterError> {
        self.next += 2;
        let operand = Box::new(self.expression(level::OR, Grammar::Full)?);
        self.expect_word("as")?;
        let ty = self.type_name()?;
        self.expect(')')?;
        self.node(at, at, Kind::Cast { operand, ty })
    }

    /// `date '2026-01-31'`: a type's name directly before a string.
    fn typed_literal(&mut self, at: usize) -> Result<Option<Node>, FilterError> {
        let before = self.next;
        let Ok(mut ty) = self.type_name() else {
            self.next = before;
            return Ok(None);
        };
        let TokenKind::Text(text) = self.token().kind.clone() else {
            self.next = before;
            return Ok(None);
        };
        // Before a literal `char` is of any length, elsewhere of one character.
        if self.tokens.get(self.next - 1).is_some_and(|token| token.kind != TokenKind::Punct(')')) {
            ty.modifiers.clear();
        }
        let literal = self.advance();
        let text = if ty.name == "interval" { self.interval_fields(at, text)? } else { text };
        let operand = Box::new(self.node(literal, literal, Kind::Text(text))?);
        self.node(at, at, Kind::Cast { operand, ty }).map(Some)
    }

    /// `interval '1' day`: the field says what a bare number counts.
    fn interval_fields(&mut self, at: usize, text: String) -> Result<String, FilterError> {
        let field = self.word().to_owned();
        if !matches!(field.as_str(), "year" | "month" | "day" | "hour" | "minute" | "second") {
            return Ok(text);
        }
        self.advance();
        let number = text.trim();
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || self.word() == "to" {
            return self.beyond(at, "an interval with fields");
        }
        Ok(format!("{number} {field}"))
    }

    /// A column, or the call of a function with a qualified name.
    fn reference(&mut self, at: usize, first: String) -> Result<Node, FilterError> {
        self.advance();
        let mut parts = vec![first];
        while self.is_punct(0, '.') {
            self.advance();
            match self.token().kind.clone() {
                TokenKind::Word(name) | TokenKind::Quoted(name) => parts.push(name),
                TokenKind::Op(op) if op == "*" => return self.unsupported(at, "A_Star"),
                _ => return Err(self.syntax()),
            }
            self.advance();
        }
        if self.is_punct(0, '(') {
            return self.plain_call(at, parts);
        }
        let (column, before) = parts.split_last().expect("there is the first part");
        if self.qualifier.as_ref().is_some_and(|table| table.matches(before)) {
            parts = vec![column.clone()];
        }
        self.node(at, at, Kind::Column(parts))
    }
}
