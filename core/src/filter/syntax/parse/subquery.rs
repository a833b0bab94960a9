//! `IN (SELECT columns FROM table [WHERE …])`. Every other clause of a SELECT would make its rows depend on
//! more than single rows of one table.

use super::super::ast::Query;
use super::super::keywords;
use super::super::lexer::TokenKind;
use super::super::subject::Qualifier;
use super::{Grammar, Parser, Subqueries, level};
use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::{MAX_SUBQUERIES, SYNTAX_CURSOR_OFFSET};
use crate::pg::QualifiedName;

/// A column of a select list, before it is known of which table.
struct SelectedColumn {
    name: String,
    /// The table or schema and table written before the column's name.
    before: Vec<String>,
    start: usize,
}

impl SelectedColumn {
    fn of(self, table: &Qualifier) -> Result<String, FilterError> {
        if table.matches(&self.before) {
            return Ok(self.name);
        }
        Err(FilterError::at(self.start + SYNTAX_CURSOR_OFFSET, Reason::NotPlainColumn))
    }
}

impl Parser<'_> {
    pub(super) fn begins_query(&self) -> bool {
        matches!(self.word(), "select" | "values" | "with" | "table")
    }

    /// Where a query follows, it stands in a place that no shape can have it in. `at` is where that is said.
    pub(super) fn refuse_query(&mut self, at: usize) -> Result<(), FilterError> {
        if !self.begins_query() {
            return Ok(());
        }
        self.query(at)?;
        Err(FilterError::at(at, Reason::Sublink))
    }

    /// A query and the parenthesis that closes it.
    pub(super) fn query(&mut self, at: usize) -> Result<Query, FilterError> {
        if self.subqueries == Subqueries::Refused {
            return self.unsupported(at, "SubLink");
        }
        self.queries += 1;
        if self.queries > MAX_SUBQUERIES {
            return Err(FilterError::at(at, Reason::TooManySubqueries));
        }
        if self.word() == "with" {
            return Err(FilterError::SubqueryClauses);
        }
        if !self.eat_word("select") {
            return Err(FilterError::SubqueryTable);
        }
        if matches!(self.word(), "distinct" | "all") {
            return Err(FilterError::SubqueryClauses);
        }
        let selected = self.selected_columns()?;
        let (table, only, alias) = self.single_table()?;
        let qualifier = Qualifier::new(&table, alias);
        let select = selected.into_iter().map(|column| column.of(&qualifier)).collect::<Result<_, _>>()?;
        let mut filter = None;
        if self.eat_word("where") {
            let outer = self.qualifier.replace(qualifier);
            filter = Some(self.expression(level::OR, Grammar::Full)?);
            self.qualifier = outer;
        }
        self.end_of_query()?;
        Ok(Query { select, table, only, filter })
    }

    fn selected_columns(&mut self) -> Result<Vec<SelectedColumn>, FilterError> {
        let mut columns = vec![self.selected_column()?];
        while self.eat(',') {
            columns.push(self.selected_column()?);
        }
        Ok(columns)
    }

    /// A bare column. What it is called in the query's result changes nothing.
    fn selected_column(&mut self) -> Result<SelectedColumn, FilterError> {
        let start = self.token().start;
        let not_plain = || FilterError::at(start + SYNTAX_CURSOR_OFFSET, Reason::NotPlainColumn);
        let mut name = self.name().ok_or_else(not_plain)?;
        let mut before = Vec::new();
        while self.eat('.') {
            before.push(std::mem::replace(&mut name, self.name().ok_or_else(not_plain)?));
        }
        if self.eat_word("as") {
            if !matches!(self.token().kind, TokenKind::Word(_) | TokenKind::Quoted(_)) {
                return Err(self.syntax());
            }
            self.advance();
        } else {
            self.name();
        }
        let ends = match &self.token().kind {
            TokenKind::Punct(',' | ')') | TokenKind::End => true,
            TokenKind::Word(word) => word == "from" || keywords::begins_clause(word),
            _ => false,
        };
        if ends { Ok(SelectedColumn { name, before, start }) } else { Err(not_plain()) }
    }

    /// `FROM [ONLY] table [[AS] alias]`
    fn single_table(&mut self) -> Result<(QualifiedName, bool, Option<String>), FilterError> {
        if !self.eat_word("from") {
            return Err(FilterError::SubqueryTable);
        }
        let only = self.eat_word("only");
        let first = self.name().ok_or(FilterError::SubqueryTable)?;
        let table = if self.eat('.') {
            QualifiedName::new(first, self.name().ok_or_else(|| self.syntax())?)
        } else {
            QualifiedName::new("public", first)
        };
        let named = self.eat_word("as");
        let alias = self.name();
        if alias.is_none() && named {
            return Err(self.syntax());
        }
        let ends = match &self.token().kind {
            TokenKind::Punct(')') | TokenKind::End => true,
            TokenKind::Word(word) => word == "where" || keywords::begins_clause(word),
            _ => false,
        };
        if ends { Ok((table, only, alias)) } else { Err(FilterError::SubqueryTable) }
    }

    fn end_of_query(&mut self) -> Result<(), FilterError> {
        match self.word() {
            "union" | "intersect" | "except" => Err(FilterError::SubqueryTable),
            word if keywords::begins_clause(word) => Err(FilterError::SubqueryClauses),
            _ => self.expect(')'),
        }
    }

    /// An identifier, if one is next.
    fn name(&mut self) -> Option<String> {
        let name = match &self.token().kind {
            TokenKind::Word(word) if keywords::can_name_column(word) => word.clone(),
            TokenKind::Quoted(name) => name.clone(),
            _ => return None,
        };
        self.advance();
        Some(name)
    }
}
