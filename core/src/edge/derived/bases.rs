//! Which shapes others are derived of, as the deployment says, and which requests may be derived of them.
//!
//! `issues; public.comments (id, issue, body) where archived = false`: shapes behind semicolons, each a table, perhaps
//! its columns in parentheses, perhaps a clause. One shape per table.

use super::{Derivation, Passed};
use crate::filter::{Fence, NarrowingError};
use crate::pg::QualifiedName;
use crate::protocol::cache_key::{EdgeRequest, RequestClass};
use crate::protocol::identifier::{IdentifierError, parse_columns, parse_table};
use crate::protocol::query::{Query, Value};
use crate::protocol::request::{LogMode, read_definition};
use crate::protocol::{DefinitionRequest, Parameter, Replica};

/// The shapes that others are derived of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bases(Vec<Base>);

/// A shape that others are derived of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub(super) table: QualifiedName,
    pub(super) columns: Option<Vec<String>>,
    pub(super) where_clause: Option<String>,
}

/// A request, and the shape that it may be derived of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    base: &'a Base,
    definition: DefinitionRequest,
}

/// A text that names no shapes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BasesError {
    /// A name cannot be read.
    #[error("`{0}`: {1}")]
    Name(String, IdentifierError),
    /// A clause cannot be read.
    #[error("`{0}`: {1}")]
    Clause(String, NarrowingError),
    /// Behind the table stands something that is no list of columns and no clause.
    #[error("`{0}`: expected a table, perhaps columns in parentheses, perhaps `where` and a clause")]
    Form(String),
    /// A table is named twice.
    #[error("{0} is named twice")]
    Twice(QualifiedName),
}

impl Bases {
    /// Reads the shapes; there are none in a blank text.
    ///
    /// # Errors
    /// [`BasesError`].
    pub fn parse(text: &str) -> Result<Self, BasesError> {
        let mut bases: Vec<Base> = Vec::new();
        for shape in outside_quotes(text, ';').into_iter().map(str::trim).filter(|shape| !shape.is_empty()) {
            let base = Base::parse(shape)?;
            if bases.iter().any(|known| known.table == base.table) {
                return Err(BasesError::Twice(base.table));
            }
            bases.push(base);
        }
        Ok(Self(bases))
    }

    /// The shape that a request may be derived of: it reads the log of a shape of the same table, and not the base itself.
    #[must_use]
    pub fn wanted(&self, request: &EdgeRequest) -> Option<Wanted<'_>> {
        let is_read = matches!(
            request.class(),
            RequestClass::Pointer | RequestClass::Log | RequestClass::Now | RequestClass::Live
        );
        if !is_read || self.0.is_empty() {
            return None;
        }
        let definition = read_definition(request.query()).ok()?;
        let base = self.0.iter().find(|base| base.table == definition.table)?;
        // A log of changes only is read together with subsets, which are the origin's to answer, under its own handles.
        let is_plain = definition.log_mode == LogMode::Full && definition.queryable_columns.is_none();
        let wanted = Wanted { base, definition };
        (is_plain && !wanted.is_base()).then_some(wanted)
    }
}

impl Base {
    /// Reads one shape.
    ///
    /// # Errors
    /// [`BasesError`].
    pub fn parse(text: &str) -> Result<Self, BasesError> {
        let name_error = |error| BasesError::Name(text.to_owned(), error);
        let form_error = || BasesError::Form(text.to_owned());
        let mut quoted = false;
        let ends = text.find(|c: char| {
            quoted ^= c == '"';
            !quoted && (c.is_whitespace() || c == '(')
        });
        let (table, rest) = text.split_at(ends.unwrap_or(text.len()));
        let table = parse_table(table).map_err(name_error)?;
        let rest = rest.trim_start();
        let (columns, rest) = match rest.strip_prefix('(') {
            None => (None, rest),
            Some(rest) => {
                let (names, rest) = outside_quotes_once(rest, ')').ok_or_else(form_error)?;
                let names: Vec<&str> = outside_quotes(names, ',').into_iter().map(str::trim).collect();
                (Some(parse_columns(&names.join(",")).map_err(name_error)?), rest.trim_start())
            }
        };
        let where_clause = match rest.split_at_checked(5) {
            None if rest.is_empty() => None,
            Some((word, clause)) if word.eq_ignore_ascii_case("where") && starts_apart(clause) => {
                Some(clause.trim().to_owned())
            }
            _ => return Err(form_error()),
        };
        let fence = Fence { table: &table, clause: where_clause.as_deref(), params: 0, columns: None };
        fence.check().map_err(|error| BasesError::Clause(text.to_owned(), error))?;
        Ok(Self { table, columns, where_clause })
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &QualifiedName {
        &self.table
    }

    /// The clause that its rows satisfy.
    #[must_use]
    pub fn where_clause(&self) -> Option<&str> {
        self.where_clause.as_deref()
    }

    /// True where it has every column of the table.
    #[must_use]
    pub const fn shows_all(&self) -> bool {
        self.columns.is_none()
    }

    /// The parameters of a request with this shape in the place of the one that is asked for.
    #[must_use]
    pub fn query(&self, asked: &Query) -> Query {
        let mut query = asked.clone();
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let names = |names: &[String]| Value::List(names.iter().cloned().map(Value::Text).collect());
        query.set(Parameter::Table, text(&self.table.to_string()));
        query.set(Parameter::Where, self.where_clause().and_then(text));
        query.set(Parameter::Params, None);
        query.set(Parameter::Columns, self.columns.as_deref().map(names));
        query.set(Parameter::Replica, text(Replica::Full.as_str()));
        query.set(Parameter::Log, None);
        query.set(Parameter::ExperimentalCompaction, None);
        query
    }
}

impl Wanted<'_> {
    /// The shape that it is derived of.
    #[must_use]
    pub const fn base(&self) -> &Base {
        self.base
    }

    /// Makes it, where the base's schema header is this.
    ///
    /// # Errors
    /// [`Passed`].
    pub fn derive(&self, schema: &str) -> Result<Derivation, Passed> {
        Derivation::new(self.base, &self.definition, schema)
    }

    fn is_base(&self) -> bool {
        let Self { base, definition } = self;
        definition.replica == Replica::Full
            && definition.where_clause == base.where_clause
            && definition.columns == base.columns
    }
}

fn starts_apart(text: &str) -> bool {
    text.starts_with(|c: char| c.is_whitespace() || c == '(')
}

/// The parts of a text between the delimiters that stand in no quotes.
fn outside_quotes(text: &str, delimiter: char) -> Vec<&str> {
    let mut quote = None;
    text.split(|c| is_outside(&mut quote, c) && c == delimiter).collect()
}

/// The text before and behind the first delimiter that stands in no quotes.
fn outside_quotes_once(text: &str, delimiter: char) -> Option<(&str, &str)> {
    let mut quote = None;
    let at = text.find(|c| is_outside(&mut quote, c) && c == delimiter)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(delimiter.len_utf8()..)?))
}

/// True for a character that stands in no quotes; a doubled quote ends and begins them.
fn is_outside(quote: &mut Option<char>, c: char) -> bool {
    match *quote {
        None if c == '\'' || c == '"' => *quote = Some(c),
        Some(open) if open == c => *quote = None,
        _ => {}
    }
    quote.is_none()
}
