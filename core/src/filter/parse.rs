//! A Pratt parser for the expressions of Postgres's grammar (`a_expr` of `gram.y`), with its precedence and
//! its non-associative levels. Stack use is bounded by [`MAX_DEPTH`]; chains of AND and OR are flat.

use super::ast::{Kind, Node, Truth};
use super::error::{FilterError, Reason};
use super::keywords;
use super::lexer::{Token, TokenKind, tokenize};
use super::{MAX_DEPTH, MAX_NESTING, MAX_TERMS, SYNTAX_CURSOR_OFFSET};

/// Binding strengths, weakest first, as the `%left`/`%right`/`%nonassoc` lines of the grammar.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    /// Non-associative: IS, ISNULL, NOTNULL.
    pub(super) const IS: u8 = 4;
    /// Non-associative.
    pub(super) const COMPARISON: u8 = 5;
    /// Non-associative: BETWEEN, IN, LIKE, ILIKE.
    pub(super) const RANGE: u8 = 6;
    /// Every operator that has no level of its own.
    pub(super) const OPERATOR: u8 = 8;
    pub(super) const ADDITIVE: u8 = 9;
    pub(super) const MULTIPLICATIVE: u8 = 10;
    pub(super) const POWER: u8 = 11;
    pub(super) const AT: u8 = 12;
    pub(super) const COLLATE: u8 = 13;
    pub(super) const SIGN: u8 = 14;
    pub(super) const CAST: u8 = 16;
}

/// Parses one whole clause.
pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    if let Some(at) = text.find('\0') {
        return Err(FilterError::at(at + SYNTAX_CURSOR_OFFSET, Reason::SyntaxAtEnd));
    }
    let mut parser = Parser { text, tokens: tokenize(text)?, next: 0, depth: 0, terms: 0 };
    let node = parser.expression(level::OR, Grammar::Full)?;
    parser.finish()?;
    Ok(node)
}

/// Which of the two expression grammars is read: `b_expr` stands between BETWEEN and AND.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grammar {
    Full,
    Restricted,
}

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    pub(super) fn token(&self) -> &Token {
        self.ahead(0)
    }

    /// The token `count` places further; the last one is [`TokenKind::End`] and stays.
    fn ahead(&self, count: usize) -> &Token {
        let last = self.tokens.len() - 1;
        self.tokens.get((self.next + count).min(last)).expect("the token list ends with `End`")
    }

    pub(super) fn advance(&mut self) -> usize {
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

    pub(super) fn word(&self) -> &str {
        self.word_ahead(0)
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word() == word;
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), FilterError> {
        if self.eat_word(word) { Ok(()) } else { Err(self.syntax()) }
    }

    fn is_punct(&self, count: usize, symbol: char) -> bool {
        self.ahead(count).kind == TokenKind::Punct(symbol)
    }

    pub(super) fn eat(&mut self, symbol: char) -> bool {
        let found = self.is_punct(0, symbol);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, symbol: char) -> Result<(), FilterError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.syntax()) }
    }

    /// A syntax error at the token that is next.
    pub(super) fn syntax(&self) -> FilterError {
        let token = self.token();
        let reason = match self.text.get(token.start..token.end) {
            Some(near) if token.kind != TokenKind::End => Reason::Syntax(near.to_owned()),
            _ => Reason::SyntaxAtEnd,
        };
        FilterError::at(token.start + SYNTAX_CURSOR_OFFSET, reason)
    }

    fn unsupported<T>(&self, at: usize, node: &'static str) -> Result<T, FilterError> {
        Err(FilterError::at(at, Reason::Unsupported(node)))
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
                _ => None,
            },
            _ => None,
        }
    }

    /// `NOT` before one of these words belongs to it.
    fn negates_range(&self) -> bool {
        matches!(self.word_ahead(1), "in" | "between" | "like" | "ilike" | "similar")
    }

    /// One operator after `left`. The flag tells whether it ended with an operand.
    fn infix(&mut self, left: Node, level: u8, grammar: Grammar) -> Result<(Node, bool), FilterError> {
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
                "at" => self.unsupported(self.token().start, "AT TIME ZONE"),
                "collate" => self.unsupported(self.token().start, "CollateClause"),
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
            let reason = if matches!(self.word_ahead(2), "select" | "values" | "with") {
                Reason::Sublink
            } else {
                Reason::Unsupported("ANY/ALL")
            };
            return Err(FilterError::at(at, reason));
        }
        let right = Box::new(self.expression(level + 1, grammar)?);
        let start = left.start;
        Ok((self.node(at, start, Kind::Binary { op, left: Box::new(left), right })?, true))
    }

    /// `OPERATOR(pg_catalog.=)`
    fn qualified_operator(&mut self) -> Result<String, FilterError> {
        let at = self.advance();
        self.expect('(')?;
        if matches!(self.token().kind, TokenKind::Word(_) | TokenKind::Quoted(_)) {
            if self.word() != "pg_catalog" {
                return self.unsupported(at, "OPERATOR of another schema than pg_catalog");
            }
            self.advance();
            self.expect('.')?;
        }
        let TokenKind::Op(op) = self.token().kind.clone() else { return Err(self.syntax()) };
        self.advance();
        self.expect(')')?;
        Ok(op)
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
            "document" => return self.unsupported(at, "XmlExpr"),
            "json" => return self.unsupported(at, "JsonIsPredicate"),
            "normalized" | "nfc" | "nfd" | "nfkc" | "nfkd" => {
                let name = "is_normalized".to_owned();
                return Err(FilterError::at(at, Reason::UnknownFunction { name, arity: 1 }));
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
                self.refuse_query(at)?;
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
                if matches!(self.word(), "any" | "all" | "some") {
                    return self.unsupported(at, "ANY/ALL");
                }
                let fold_case = word == "ilike";
                let pattern = Box::new(self.expression(level::RANGE + 1, Grammar::Full)?);
                let mut escape = None;
                if self.eat_word("escape") {
                    escape = Some(Box::new(self.expression(level::RANGE + 1, Grammar::Full)?));
                }
                let kind = Kind::Like { operand, pattern, escape, fold_case, negated };
                Ok((self.node(at, start, kind)?, true))
            }
            _ => self.unsupported(at, "SIMILAR TO"),
        }
    }

    fn refuse_query(&self, at: usize) -> Result<(), FilterError> {
        if matches!(self.word(), "select" | "values" | "with" | "table") {
            return self.unsupported(at, "SubLink");
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Node>, FilterError> {
        let mut list = vec![self.expression(level::OR, Grammar::Full)?];
        while self.eat(',') {
            list.push(self.expression(level::OR, Grammar::Full)?);
        }
        Ok(list)
    }

    fn prefix(&mut self, grammar: Grammar) -> Result<Node, FilterError> {
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
                let operand = self.primary()?;
                if matches!(self.token().kind, TokenKind::Punct('[' | '.')) {
                    return self.unsupported(at, "A_Indirection");
                }
                Ok(operand)
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
            TokenKind::Bits => return Err(FilterError::at(at, Reason::BitString)),
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
        if self.is_punct(0, ',') {
            return self.unsupported(at, "RowExpr");
        }
        self.expect(')')?;
        inner.start = at;
        Ok(inner)
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
            "exists" if called => return self.unsupported(at, "SubLink"),
            "nullif" if called => return Err(FilterError::at(at, Reason::NullIf)),
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
        let Ok(ty) = self.type_name() else {
            self.next = before;
            return Ok(None);
        };
        let TokenKind::Text(text) = self.token().kind.clone() else {
            self.next = before;
            return Ok(None);
        };
        let literal = self.advance();
        let operand = Box::new(self.node(literal, literal, Kind::Text(text))?);
        self.node(at, at, Kind::Cast { operand, ty }).map(Some)
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
            return self.call(at, parts.join("."));
        }
        self.node(at, at, Kind::Column(parts))
    }

    /// `f(…)`, the next token being the parenthesis.
    fn call(&mut self, at: usize, name: String) -> Result<Node, FilterError> {
        self.advance();
        let mut arguments = Vec::new();
        match self.token().kind.clone() {
            TokenKind::Op(op) if op == "*" => return Err(FilterError::at(at, Reason::Aggregation)),
            TokenKind::Word(word) if word == "distinct" || word == "all" => {
                return Err(FilterError::at(at, Reason::Aggregation));
            }
            TokenKind::Word(word) if word == "variadic" => return Err(FilterError::at(at, Reason::Variadic)),
            TokenKind::Punct(')') => {}
            _ => arguments = self.list()?,
        }
        // `substring(t from 1 for 2)` and its like have arguments between words.
        if !self.eat(')') {
            if matches!(self.token().kind, TokenKind::Word(_)) {
                let arity = arguments.len();
                return Err(FilterError::at(at, Reason::UnknownFunction { name, arity }));
            }
            return Err(self.syntax());
        }
        if matches!(self.word(), "over" | "filter" | "within") {
            return Err(FilterError::at(at, Reason::Aggregation));
        }
        self.node(at, at, Kind::Call { name, arguments })
    }
}
